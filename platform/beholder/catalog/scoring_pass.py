"""A plan's chunks through Ray Data: read, fetch and decode, score, commit, each exactly once.

Ray may lose actors and nodes and does their work again; this process may be killed and started
again. Chunks whose record is there are not touched, and no more chunks are begun than
there are workers, so that is what a dead driver's successor does twice at most.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from beholder.catalog.chunk_rows import Gathering, ScoreChunk
from beholder.catalog.chunks import Chunk, damaged, plan_parquet
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease
from beholder.catalog.ledger import Commit, commit, committed
from beholder.catalog.session import say_if_short
from beholder.catalog.stages import BATCH_BYTES, Decode
from beholder.errors import UserError
from beholder.logs import Progress, event
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.places import Places

log = logging.getLogger(__name__)

SEGMENT = 4096
"""Chunks that one Ray Data execution takes: a million items at 256 a chunk. A longer run starts
its actors anew after each, so that the driver's memory doesn't grow with the catalog."""
READERS = 2
"""Read tasks side by side. They take no CPU: where actors hold all of them, blocks that a dead
node took along can still be read again."""
DECODE_CPUS = 0.5
ACTOR_DEATHS = 3
"""Engine actors that may die one after the other while they start (a node short of memory), and
deaths of actors that one batch may see before the run stops: a batch that kills them will. Ray
isn't told of the latter: it counts each call to a dead node, several in the seconds before it
takes the node for dead."""
STALL_S = 3600.0
"""Without any row for so long Ray gives up: longer than the slowest chunk of videos takes."""

PATIENCE_S = 600.0
"""How long a chunk waits at the gate before it goes in anyway."""


@dataclass(frozen=True)
class Crew:
    """Who works.

    Attributes:
        decoders: decode actors, half a CPU each.
        scorers: scoring actors, at least and at most.
        cpus: of a scoring actor.
        gpus: of a scoring actor.
    """

    decoders: int = 1
    scorers: tuple[int, int] = (1, 1)
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """What is to be done to chunks.

    Attributes:
        layout: of the catalog.
        run: whose chunks they are.
        scorer: URI of the scorer's folder.
        fingerprint: of that scorer, as the plan has it.
        pixels: what its backbone wants to see.
        tasks: which of its tasks; None for all that fit an item's kind.
        limits: on each item.
        decode_seconds: that decoding an item may take.
        places: where items may be.
    """

    layout: Layout
    run: RunId
    scorer: str
    fingerprint: str
    pixels: PixelSpec
    tasks: tuple[str, ...] | None = None
    limits: Limits = Limits()  # noqa: RUF009
    decode_seconds: float = 60.0
    places: Places = Places()  # noqa: RUF009


def score_chunks(
    chunks: Sequence[Chunk],
    assignment: Assignment,
    crew: Crew,
    lease: Lease,
    until: float | None = None,
) -> dict[int, Commit]:
    """Scores and commits all chunks that are not committed.

    Args:
        chunks: of the plan, in the order in which they shall be begun.
        assignment: what is to be done to them.
        crew: who works; Ray must be connected.
        lease: of the run's date.
        until: Unix time after which no more is committed; None for no end.

    Returns:
        The commit records by chunk, those of earlier drivers included. Without ``until`` there
        is one for each chunk.

    Raises:
        LeaseLostError: another driver has taken the date over.
        StorageError: the storage can't be used.
        UserError: the scorer is another one by now, or Ray has given up.
    """
    done: dict[int, Commit] = {}
    late = False

    def over() -> bool:
        return until is not None and time.time() >= until

    parts = [chunks[at : at + SEGMENT] for at in range(0, len(chunks), SEGMENT)]
    with Progress(sum(chunk.rows for chunk in chunks), "score") as bar:
        for part in parts:
            records = committed(assignment.layout, assignment.run, [c.number for c in part])
            if late and not records:
                break  # no driver has come as far
            done |= records
            if records:
                event(log, "chunks were committed before", chunks=len(records), of=len(part))
            bar.advance(sum(record.rows for record in records.values()))
            left = [chunk for chunk in part if chunk.number not in records]
            late = late or (bool(left) and over())
            for number, rows, seconds in _finished(left, assignment, crew) if not late else ():
                if late := over():
                    break
                done[number] = commit(
                    assignment.layout, assignment.run, number, rows, seconds, lease
                )
                bar.advance(rows.num_rows)
    missing = [chunk.number for chunk in chunks if chunk.number not in done]
    if missing and not late:
        raise UserError(
            f"{len(missing)} of {len(chunks)} chunks came out incomplete, the first is "
            f"{missing[0]}: what is committed stands, run the same date again"
        )
    return done


def _finished(
    chunks: Sequence[Chunk], assignment: Assignment, crew: Crew
) -> Iterator[tuple[int, pa.Table, float]]:
    """Whole chunks as they come: number, rows, seconds of scoring."""
    if not chunks:
        return
    least = crew.scorers[0]
    say_if_short(DECODE_CPUS * crew.decoders + crew.cpus * least, crew.gpus * least)
    # Beside this process: on a node of the workers it would take the run along when that dies.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    kept: Any = ray.remote(num_cpus=0)(Gate)
    gate = kept.options(scheduling_strategy=here).remote(crew.decoders + crew.scorers[1])
    gathering = Gathering({chunk.number: chunk.rows for chunk in chunks})
    try:
        for table in _rows(chunks, assignment, crew, gate):
            for number, rows, seconds in gathering.add(table):
                yield number, rows, seconds
                gate.leave.remote(number)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, UserError):
            raise cause from error
        reason = str(error).strip().splitlines()[-1]
        event(log, "ray.failed", error=str(error))
        raise UserError(
            f"Ray gave up on run {assignment.run} ({reason}): what is committed stands, run the "
            "same date again once the cluster is well"
        ) from error
    finally:
        ray.kill(gate)


def _rows(
    chunks: Sequence[Chunk], assignment: Assignment, crew: Crew, gate: Any
) -> Iterable[pa.Table]:
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = BATCH_BYTES
    context.max_consecutive_actor_init_deaths = ACTOR_DEATHS
    context.execution_no_progress_timeout_s = STALL_S
    context.raise_original_map_exception = True  # a UserError of an actor's is one of ours
    with ray.data.DataContext.current(context):
        decoded = ray.data.read_datasource(
            PlanSource(assignment.layout, chunks),
            num_cpus=0,
            concurrency=READERS,
            override_num_blocks=len(chunks),
        ).map_batches(
            DecodeChunk,
            fn_constructor_args=(
                assignment.pixels,
                assignment.limits,
                assignment.decode_seconds,
                assignment.places,
                gate,
            ),
            batch_size=None,
            batch_format="pyarrow",
            # One at a time: behind a chunk that waits at the gate none may stand that is inside.
            compute=ray.data.ActorPoolStrategy(size=crew.decoders, max_tasks_in_flight_per_actor=1),
            num_cpus=DECODE_CPUS,
        )
        scored = decoded.map_batches(
            ScoreBatch,
            fn_constructor_args=(
                gate,
                str(assignment.run),
                assignment.fingerprint,
                assignment.scorer,
                assignment.tasks,
                "cuda" if crew.gpus else "cpu",
                max(1, int(crew.cpus)),
            ),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=crew.scorers[0], max_size=crew.scorers[1]),
            num_cpus=crew.cpus,
            num_gpus=crew.gpus or None,
        )
        return scored.iter_batches(batch_size=None, batch_format="pyarrow")


class PlanSource(ray.data.Datasource):
    """Chunks of a plan, a read task and a block each.

    Args:
        layout: of the catalog.
        chunks: which, in order.
    """

    def __init__(self, layout: Layout, chunks: Sequence[Chunk]) -> None:
        super().__init__()
        self._layout = layout
        self._chunks = chunks

    def estimate_inmemory_data_size(self) -> int | None:
        """Unknown: it is small."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ray.data.ReadTask]:
        """One a chunk, however many are asked for: what is decoded together was planned so."""
        return [
            ray.data.ReadTask(
                functools.partial(_read, self._layout, chunk),
                ray.data.block.BlockMetadata(
                    num_rows=chunk.rows, size_bytes=None, exec_stats=None, input_files=None
                ),
            )
            for chunk in self._chunks
        ]


def _read(layout: Layout, chunk: Chunk) -> list[pa.Table]:
    rows = read_planned(layout, chunk)
    return [rows.append_column("position", pa.array(np.arange(chunk.rows), pa.int32()))]


def read_planned(layout: Layout, chunk: Chunk) -> pa.Table:
    """A chunk's rows as they were planned.

    Raises:
        DamagedPlanError: it is not what was written.
        StorageError: it can't be read.
    """
    uri = layout.absolute(chunk.path)
    with plan_parquet(uri) as parquet:
        rows = parquet.read_row_group(chunk.group)
    if rows.num_rows != chunk.rows or set(rows["chunk"].to_pylist()) != {chunk.number}:
        reason = f"row group {chunk.group} is not chunk {chunk.number} of {chunk.rows} items"
        raise damaged(uri, reason)
    return rows


class Gate:
    """An actor that lets only so many chunks be begun and not yet committed, and counts tries.

    Ray Data itself decodes as far ahead as its object store has room, and all of that would be
    lost with the driver. Nobody waits for ever: where a node has died, the chunk that would let
    others in may stand behind one that waits.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._begun: set[int] = set()
        self._tries: defaultdict[int, Counter[tuple[str, int]]] = defaultdict(Counter)
        self._changed = asyncio.Condition()

    async def enter(self, chunk: int) -> None:
        """Returns when the chunk may be begun; at once if it was, by an actor that has died."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._room(chunk), PATIENCE_S)
        self._begun.add(chunk)

    async def _room(self, chunk: int) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: chunk in self._begun or len(self._begun) < self._width
            )
            self._begun.add(chunk)

    async def tries(self, stage: str, chunk: int, position: int) -> int:
        """How often a stage has by now begun the batch of a chunk that starts there."""
        self._tries[chunk][stage, position] += 1
        return self._tries[chunk][stage, position]

    async def leave(self, chunk: int) -> None:
        """The chunk is committed."""
        async with self._changed:
            self._begun.discard(chunk)
            self._tries.pop(chunk, None)  # or they would grow with the catalog
            self._changed.notify_all()


class DecodeChunk(Decode):
    """:class:`~beholder.catalog.stages.Decode` of whole chunks, no two of which look twice at
    the same bytes, and only of those that the gate lets in.
    """

    def __init__(
        self, spec: PixelSpec, limits: Limits, timeout_s: float, places: Places, gate: Any
    ) -> None:
        super().__init__(spec, limits, settle=True, timeout_s=timeout_s, fetcher=places.fetch)
        self._gate = gate

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """As :class:`~beholder.catalog.stages.Decode`, for one whole chunk."""
        ray.get(self._gate.enter.remote(rows["chunk"][0].as_py()))
        _try(self._gate, "decoding", rows)
        yield from super().__call__(rows)


class ScoreBatch(ScoreChunk):
    """:class:`~beholder.catalog.chunk_rows.ScoreChunk`, which doesn't begin a batch for ever.

    Args:
        gate: that counts.
        about: as :class:`~beholder.catalog.chunk_rows.ScoreChunk` takes it.
    """

    def __init__(self, gate: Any, *about: Any) -> None:
        super().__init__(*about)
        self._gate = gate

    def __call__(self, rows: pa.Table) -> pa.Table:
        """As :class:`~beholder.catalog.chunk_rows.ScoreChunk`."""
        _try(self._gate, "scoring", rows)
        return super().__call__(rows)


def _try(gate: Any, stage: str, rows: pa.Table) -> None:
    """Returns where so few actors have died at a batch that it may be tried."""
    chunk, position, item = (rows[name][0].as_py() for name in ("chunk", "position", "item_id"))
    if ray.get(gate.tries.remote(stage, chunk, position)) > 1 + ACTOR_DEATHS:
        raise UserError(
            f"{1 + ACTOR_DEATHS} actors died one after the other while {stage} chunk {chunk} from "
            f"item '{item}' on: give them more memory, or look into Ray's logs for what ends "
            "them, and run the same date again; what is committed stands"
        )
