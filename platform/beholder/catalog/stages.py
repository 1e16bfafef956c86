"""The two stages of every pass over media, as Ray Data callables: decode, then look.

``Decode`` fetches and decodes on CPUs in killable processes; only uint8 leaves it. ``Score`` runs
the model. Training's feature cache uses the same ``Decode``.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from beholder.catalog.patience import patiently
from beholder.catalog.rows import score_rows
from beholder.items import Failure, FailureCode, Item
from beholder.items import Score as ItemScore
from beholder.media.fetch import Fetched
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.pool import DecoderPool
from beholder.media.stage import Fetcher, Stage, Staged
from beholder.scoring import load_scorer, tasks_by_kind

STAGED = pa.schema(
    [
        ("staged_kind", pa.string()),
        ("frames", pa.list_(pa.int32())),  # of each clip; empty where it failed
        ("seconds", pa.list_(pa.float64())),
        ("coverage", pa.float64()),
        ("bytes_read", pa.int64()),
        ("sha256", pa.string()),  # null where they were not fetched whole
        ("etag", pa.string()),  # that the store gave with them
        ("settled", pa.string()),  # `known` or `twin`: scored already, so there are no pixels
        ("pixels", pa.large_binary()),  # uint8 (sum of frames, S, S, 3)
        ("failure_code", pa.string()),
        ("failure_message", pa.string()),
        ("attempts", pa.int32()),
    ]
)

PREFIX = "staged."
"""Before our columns, so that a manifest may have a ``sha256`` or ``seconds`` of its own."""

FETCHES = 8
"""Items that a decode actor fetches side by side."""
AHEAD_BYTES = 256 * 2**20
"""Encoded bytes that it fetches ahead of decoding, at least an item."""
TYPICAL_BYTES = 4 * 2**20
"""What an item counts for whose size the manifest doesn't say."""
BATCH_BYTES = 32 * 2**20
"""Pixels above which rows are handed on: 53 pictures of 448 x 448, or one video."""


class Decode:
    """Adds pixels, or the reason why there are none, to rows with ``item_id, uri, kind``.

    Args:
        spec: what the backbone wants to see.
        limits: on each item.
        settle: leave out what needs no look: bytes of a sha256 that the row's ``known_sha256``
            or ``likely_sha256`` names, and bytes that an earlier row of the same call has under
            the same kind.
        timeout_s: seconds that decoding one item may take.
        fetcher: gives the bytes; None as :class:`~beholder.media.stage.Stage` has it.
    """

    def __init__(
        self,
        spec: PixelSpec,
        limits: Limits,
        settle: bool = False,
        timeout_s: float = 60.0,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._stage = Stage(spec, limits, DecoderPool(1, timeout_s), fetcher)
        self._settle = settle
        self._fetching = ThreadPoolExecutor(FETCHES)

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        """The rows in their order with their pixels, or their failures, some at a time."""
        made: list[dict[str, Any]] = []
        start = held = 0
        known = zip(
            *(_column(rows, name) for name in ("known_sha256", "likely_sha256")), strict=True
        )
        earlier: dict[tuple[str, str | None], Failure | None] = {}
        for at, ((item, fetched), its) in enumerate(zip(self._fetched(rows), known, strict=True)):
            made.append(self._row(item, fetched, its, earlier))
            held += len(made[-1].get("pixels", b""))
            if held >= BATCH_BYTES:
                yield _with(rows.slice(start, len(made)), made)
                start, held, made = at + 1, 0, []
        if made or not rows.num_rows:
            yield _with(rows.slice(start), made)

    def _fetched(self, rows: pa.Table) -> Iterator[tuple[Item, Fetched | Failure]]:
        """Items in their order; the next ones are on their way meanwhile."""
        columns = (_column(rows, name) for name in ("item_id", "uri", "kind", "etag", "size"))
        ahead: deque[tuple[Item, int, Future[Fetched | Failure]]] = deque()
        waiting = 0
        for item_id, uri, kind, etag, size in zip(*columns, strict=True):
            item, size = Item(item_id, uri, kind, etag), size or TYPICAL_BYTES
            while ahead and (len(ahead) == 2 * FETCHES or waiting + size > AHEAD_BYTES):
                first, its_size, found = ahead.popleft()
                waiting -= its_size
                yield first, found.result()
            ahead.append((item, size, self._fetching.submit(self._stage.fetch, item)))
            waiting += size
        while ahead:
            first, _, found = ahead.popleft()
            yield first, found.result()

    def _row(
        self,
        item: Item,
        fetched: Fetched | Failure,
        known: tuple[str | None, ...],
        earlier: dict[tuple[str, str | None], Failure | None],
    ) -> dict[str, Any]:
        if isinstance(fetched, Failure):
            return _failed(fetched)
        bytes_ = {"sha256": fetched.sha256, "etag": fetched.etag, "bytes_read": len(fetched.data)}
        if self._settle and fetched.sha256 in known:
            misnamed = self._stage.misnamed(item, fetched)
            return _failed(misnamed) | bytes_ if misnamed else _settled("known") | bytes_
        key = (fetched.sha256, item.kind)
        if self._settle and key in earlier:
            failure = earlier[key]
            return _failed(failure) | bytes_ if failure else _settled("twin") | bytes_
        staged = self._stage.decode(item, fetched)
        earlier[key] = staged if isinstance(staged, Failure) else None
        return (_failed(staged) if isinstance(staged, Failure) else _pixels(staged)) | bytes_


def _column(rows: pa.Table, name: str) -> list[Any]:
    return rows[name].to_pylist() if name in rows.column_names else [None] * rows.num_rows


def _with(rows: pa.Table, made: list[dict[str, Any]]) -> pa.Table:
    table = pa.Table.from_pylist(made, schema=STAGED)
    for name in STAGED.names:
        rows = rows.append_column(PREFIX + name, table[name])
    return rows


def _failed(failure: Failure) -> dict[str, Any]:
    return {
        "frames": [],
        "failure_code": str(failure.code),
        "failure_message": failure.message,
        "attempts": failure.attempts,
        "bytes_read": failure.bytes_read,
    }


def _settled(how: Literal["known", "twin"]) -> dict[str, Any]:
    return {"frames": [], "settled": how, "attempts": 1}


def _pixels(item: Staged) -> dict[str, Any]:
    return {
        "staged_kind": item.kind,
        "frames": [len(clip) for clip in item.clips],
        "seconds": list(item.seconds),
        "coverage": item.coverage,
        "pixels": b"".join(clip.tobytes() for clip in item.clips),
        "attempts": 1,
    }


def staged_rows(rows: pa.Table, size: int) -> list[tuple[str, Staged | Failure]]:
    """What :class:`Decode` put into its columns, as the scorer takes it; nothing is settled."""
    found: list[tuple[str, Staged | Failure]] = []
    ours = {PREFIX + name: name for name in STAGED.names} | {"item_id": "item_id"}
    for batch in rows.select(list(ours)).rename_columns(list(ours.values())).to_batches():
        pixels = batch["pixels"]
        some = batch.drop_columns(["pixels"]).to_pylist()
        for at, row in enumerate(some):
            if row["failure_code"] is not None:
                code, message = FailureCode(row["failure_code"]), row["failure_message"]
                failure = Failure(code, message, row["attempts"], row["bytes_read"])
                found.append((row["item_id"], failure))
                continue
            flat = np.frombuffer(pixels[at].as_buffer(), dtype=np.uint8)
            frames = flat.reshape(-1, size, size, 3)
            clips = tuple(np.split(frames, np.cumsum(row["frames"])[:-1]))
            staged = Staged(
                item_id=row["item_id"],
                kind=row["staged_kind"],
                clips=clips,
                seconds=tuple(row["seconds"]),
                coverage=row["coverage"],
                sha256=row["sha256"],
                bytes_read=row["bytes_read"],
            )
            found.append((row["item_id"], staged))
    return found


class Score:
    """Rows with pixels to score rows, one an item and task.

    Args:
        scorer: URI of the scorer's folder.
        tasks: which; None for all that fit an item's kind.
        device: ``cpu`` or ``cuda``.
        threads: of the model on a CPU.
    """

    def __init__(
        self, scorer: str, tasks: tuple[str, ...] | None, device: str, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        self._scorer = patiently(lambda: load_scorer(scorer, device))
        self._tasks = tasks

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score rows."""
        carried = rows.select([n for n in rows.column_names if not n.startswith(PREFIX)])
        by_kind = tasks_by_kind(self._scorer.tasks, self._tasks)
        return score_rows(carried, self._look(rows), by_kind)

    def _look(self, rows: pa.Table) -> Sequence[ItemScore]:
        """A score a row, in order; none may be settled."""
        size = self._scorer.backbone.spec.pixels.size
        return self._scorer.score_staged(staged_rows(rows, size), self._tasks)
