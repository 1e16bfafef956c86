"""A plan whose run was stopped: what it did not reach is left out, as if it had been planned so."""

import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.buckets import Buckets
from beholder.catalog.changes import not_reached
from beholder.catalog.chunks import PlanFile, write_groups
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.plan import Plan, comparable, read_rows
from beholder.catalog.selection import Tally
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.survey import state_of
from beholder.catalog.tables import PLANNED


def cut_short(
    layout: Layout, plan: Plan, done: Collection[int], parent: Snapshot | None, reason: str
) -> Plan:
    """The plan as far as it was carried out.

    Args:
        layout: of the catalog.
        plan: of the run.
        done: the chunks that are committed.
        parent: the snapshot that the plan starts from.
        reason: why it was stopped, as ``deadline``, for ``tally.left_out``.

    Returns:
        The plan with only these chunks, with further ``settled`` files, and with a tally in which
        what was not reached is ``stale`` or ``left_out``.

    Raises:
        StorageError: the storage can't be used.
    """
    counts = _Unseen(plan.tally)
    run = RunId.parse(plan.run)
    with tempfile.TemporaryDirectory() as scratch:
        rest = Buckets(Path(scratch), plan.buckets, "item_id", PLANNED)
        for chunk, rows in zip(plan.chunks(), read_rows(layout, plan.files), strict=True):
            if chunk.number in done:
                counts.see(rows)
            else:
                rest.add(rows)
        attempt = uuid4().hex[:8]
        settled = write_groups(
            counts.settle(rest, plan, parent),
            1,
            layout,
            lambda number: layout.plan_file(run, attempt, f"unreached-{number:06d}"),
        )
    return plan.model_copy(
        update={
            "files": tuple(_reached(file, done) for file in plan.files),
            "settled": (*plan.settled, *settled),
            "tally": counts.tally(reason),
        }
    )


def _reached(file: PlanFile, done: Collection[int]) -> PlanFile:
    missing = (group for group in range(len(file.groups)) if file.first + group not in done)
    return file.model_copy(update={"unreached": tuple(missing)})


class _Unseen:
    """Moves items in a tally from those that are looked at to those that are not."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._moved = {name: Counter[str]() for name in ("counts", "kinds", "retried")}
        self._segments = Counter(tally.left_segments)
        self._absent = list(tally.absent)
        self._oldest: Any = None

    def see(self, rows: pa.Table) -> None:
        """Rows that were looked at."""
        oldest = pc.min(rows["created_at"]).as_py()
        if oldest is not None:
            self._oldest = oldest if self._oldest is None else min(oldest, self._oldest)

    def settle(self, rest: Buckets, plan: Plan, parent: Snapshot | None) -> Iterator[pa.Table]:
        """Counts rows that were not reached, and yields the state's rows for them."""
        for bucket in range(plan.buckets):
            state = state_of(parent, bucket)
            settled, counts = not_reached(
                rest.read(bucket), state, plan.run, comparable(parent, plan)
            )
            for group in counts.to_pylist():
                self._move(group, bucket)
            if settled.num_rows:
                yield settled

    def _move(self, group: dict[str, Any], bucket: int) -> None:
        n = group["n"]
        self._moved["counts"][group["change"]] -= n
        self._moved["counts"]["stale" if group["kept"] else "left_out"] += n
        self._moved["kinds"][group["kind"]] -= n
        if group["code"] is not None:
            self._moved["retried"][group["code"]] -= n
        self._segments[group["segment"] or ""] += n
        self._absent[bucket] += n if group["absent"] else 0

    def tally(self, reason: str) -> Tally:
        """The tally now."""
        left = -sum(self._moved["kinds"].values())
        changed = {
            name: {key: n + by[key] for key, n in getattr(self._tally, name).items()}
            for name, by in self._moved.items()
        }
        changed["retried"] = {code: n for code, n in changed["retried"].items() if n}
        reasons = Counter(self._tally.left_out) + Counter({reason: left})
        return self._tally.model_copy(
            update={
                **changed,
                "left_out": dict(reasons),
                "left_segments": dict(self._segments),
                "oldest_taken": self._oldest and self._oldest.isoformat(),
                "absent": tuple(self._absent),
            }
        )
