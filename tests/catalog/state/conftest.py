"""Nights as a driver makes them, without Ray and a scorer: rows in, a snapshot out."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beholder.catalog.head import publish, read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.prepare import DoneChunk, prepare
from beholder.catalog.record import Record
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.catalog.tables import CHUNK, ITEMS

TASKS = ("aesthetics", "quality")


class Nights:
    """Makes a catalog's snapshots from rows.

    Args:
        root: of the catalog.
        buckets: of it.
    """

    def __init__(self, root: str, buckets: int = 3) -> None:
        self.layout = Layout(root)
        self.buckets = buckets

    def scored(self, item: str, run: str, sha256: str, value: float, **fields: Any) -> dict:
        """A chunk's row; the value is of its first task's mean."""
        means = [value + number for number, _ in enumerate(TASKS)]
        scores = [
            {"task": task, "mean": mean, "probs": [0.25, 0.75], "scale": [1.0, 5.0], "mass": 1.0}
            for task, mean in zip(TASKS, means, strict=True)
        ]
        return self.known(item, run, sha256, scores=scores, **fields)

    def known(self, item: str, run: str, sha256: str, **fields: Any) -> dict:
        """A chunk's row of an item whose bytes have scores already."""
        row = {"item_id": item, "uri": f"s3://b/{item}", "kind": "image", "sha256": sha256}
        return row | {"state": "scored", "attempts": 1, "run": run, "etag": sha256[:4]} | fields

    def failed(self, item: str, run: str, **fields: Any) -> dict:
        """A chunk's row of an item that failed."""
        code = {"state": "failed", "failure_code": "fetch.timeout", "failure_message": "late"}
        row = {"item_id": item, "uri": f"s3://b/{item}", "kind": "image", "attempts": 3}
        return row | code | {"run": run} | fields

    def prepare(
        self,
        run: str,
        rows: Sequence[dict],
        settled: Iterable[dict] = (),
        parent: str | None = "HEAD",
        fingerprint: str = "f1",
        chunk: int = 4,
    ) -> Record:
        """A snapshot that nobody sees yet, from its parent's."""
        before = self._parent(parent)
        draft = Record(
            id=run,
            parent=before and before.record.id,
            created_at=datetime.now(UTC),
            buckets=self.buckets,
            scorer="s3://b/scorer",
            fingerprint=fingerprint,
            tasks={"image": TASKS},
            manifest={"uri": "s3://b/manifest.parquet", "version": "1"},
            config={},
            counts={"new": len(rows)},
        )
        chunks = (self.chunk(rows[at : at + chunk]) for at in range(0, len(rows), chunk))
        settled = [pa.Table.from_pylist([{"removed": False} | s for s in settled], schema=ITEMS)]
        return prepare(self.layout, draft, before, chunks, settled)

    def chunk(self, rows: Sequence[dict]) -> DoneChunk:
        """Committed rows."""
        table = pa.Table.from_pylist(list(rows), schema=CHUNK)
        return DoneChunk(table["item_id"], table, "data/00000000-x.parquet")

    def night(self, run: str, rows: Sequence[dict], **how: Any) -> Snapshot:
        """A published snapshot."""
        record = self.prepare(run, rows, **how)
        publish(self.layout, record, "driver")
        return Snapshot(self.layout, record)

    def _parent(self, parent: str | None) -> Snapshot | None:
        if parent == "HEAD":
            return open_snapshot(self.layout.root) if read_head(self.layout) else None
        return None if parent is None else open_snapshot(self.layout.root, parent)


@pytest.fixture
def nights(tmp_path: Path) -> Callable[..., Nights]:
    """``nights(name)`` is an empty catalog, on disk unless it has a root."""

    def made(name: str = "catalog", root: str | None = None, **how: Any) -> Nights:
        return Nights(root or str(tmp_path / name), **how)

    return made


@pytest.fixture
def contents() -> Callable[[Snapshot], tuple[list, list]]:
    """All items and scores of a snapshot, sorted, as plain Python."""

    def read(snapshot: Snapshot) -> tuple[list, list]:
        buckets = range(snapshot.record.buckets)
        items = [row for b in buckets for row in snapshot.items(b).to_pylist()]
        scores = [row for b in buckets for row in snapshot.scores(b).to_pylist()]
        return (
            sorted(items, key=lambda row: row["item_id"]),
            sorted(scores, key=lambda row: (row["sha256"], row["task"])),
        )

    return read


@pytest.fixture
def run_id() -> Callable[[int], str]:
    """The n-th night's name."""
    return lambda night: str(RunId(f"2026-{night // 28 + 1:02d}-{night % 28 + 1:02d}"))
