"""Scores of a ranked snapshot by item id, from its look-up files on this machine's disk.

::

    lookup = Lookup(layout, find_ranks(layout, snapshot))
    found = lookup.find(["a.jpg", "b.jpg"], "quality", read_tombstones(layout))

A file is fetched when an id of its bucket is first asked for, checked against the record's sha256,
and mapped: what is read of it are the pages that a binary search touches.
"""

import hashlib
import tempfile
import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beholder.catalog.layout import Layout
from beholder.catalog.rank_record import RankRecord, read_part
from beholder.catalog.tombstones import COLUMNS, Tombstones

FETCHES = 8
"""Files that are fetched side by side."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What a snapshot knows of n item ids, for one task.

    Attributes:
        mean: NaN without a score. (n,).
        std: NaN without a score, and for a point. (n,).
        probs: NaN without a score; None where look-up files hold none. (n, K).
        reasons: why there is no score, by position: ``unknown`` for an id that the snapshot
            hasn't got, a failure's code, or ``unscored`` where the task doesn't fit the item.
    """

    mean: Array
    std: Array
    probs: Array | None
    reasons: dict[int, str]


class Lookup:
    """The look-up files of one snapshot; thread-safe.

    Their copies, which have no names, go when nobody holds the object any more: an answer that has
    begun ends on the snapshot that it began with.

    Args:
        layout: of the catalog.
        record: of the snapshot's ranks.
    """

    def __init__(self, layout: Layout, record: RankRecord) -> None:
        self.record = record
        self._layout = layout
        self._mapped: dict[int, pa.RecordBatch] = {}
        self._turns = {bucket: threading.Lock() for bucket in record.lookup}

    def mapped(self) -> list[int]:
        """Buckets that are here already."""
        return sorted(self._mapped)

    def fetch(self, buckets: Iterable[int]) -> None:
        """Fetches the files of some buckets that are not here yet.

        Raises:
            CatalogError: one is not the file that was written.
            StorageError: one can't be read.
        """
        lacking = [b for b in buckets if b in self.record.lookup and b not in self._mapped]
        if lacking:
            with ThreadPoolExecutor(FETCHES) as fetches:
                list(fetches.map(self._fetch, lacking))

    def _fetch(self, bucket: int) -> None:
        with self._turns[bucket]:
            if bucket in self._mapped:
                return
            data = read_part(self._layout, self.record.lookup[bucket])
            # Mapped, it stays without its name: a replica that is killed leaves nothing behind.
            with tempfile.NamedTemporaryFile(prefix="beholder-lookup-") as file:
                file.write(data)
                file.flush()
                self._mapped[bucket] = pa.ipc.open_file(pa.memory_map(file.name)).get_batch(0)

    def find(self, ids: Sequence[str], task: str, erased: Tombstones) -> Found:
        """Scores of some items.

        Args:
            ids: in any order; one may be asked for twice.
            task: one of the record's.
            erased: whose items are unknown, though files of before their erasure have them.

        Raises:
            CatalogError: a file is not the one that was written.
            StorageError: one can't be read.
        """
        about = self.record.tasks[task]
        by_bucket: dict[int, list[int]] = {}
        for position, item_id in enumerate(ids):
            by_bucket.setdefault(_bucket(item_id, self.record.buckets), []).append(position)
        self.fetch(by_bucket)
        mean, std = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        probs = np.full((len(ids), len(about.support)), np.nan) if about.support else None
        reasons: dict[int, str] = {}
        for bucket, positions in by_bucket.items():
            batch = self._mapped.get(bucket)
            places = [-1 if batch is None else _place(batch["item_id"], ids[p]) for p in positions]
            reasons |= {p: "unknown" for p, at in zip(positions, places, strict=True) if at < 0}
            there = [p for p, at in zip(positions, places, strict=True) if at >= 0]
            if batch is None or not there:
                continue
            rows = batch.take(pa.array([at for at in places if at >= 0]))
            if erased:
                hidden = erased.hidden(pa.table({name: rows[name] for name in COLUMNS.values()}))
                reasons |= {p: "unknown" for p, gone in zip(there, hidden, strict=True) if gone}
                there = [p for p, gone in zip(there, hidden, strict=True) if not gone]
                rows = rows.filter(pa.array(~hidden))
            mean[there], std[there] = _floats(rows[f"{task}.mean"]), _floats(rows[f"{task}.std"])
            if probs is not None:
                lists = rows[f"{task}.probs"]
                probs[there] = _floats(lists.values).reshape(-1, probs.shape[1])
            states, codes = rows["state"].to_pylist(), rows["failure_code"].to_pylist()
            for position, state, code in zip(there, states, codes, strict=True):
                if np.isnan(mean[position]):
                    reasons[position] = code if state == "failed" else "unscored"
        return Found(mean, std, probs, reasons)


def _bucket(item_id: str, buckets: int) -> int:
    """As :data:`~beholder.catalog.tables.BUCKET_SQL` says."""
    digest = hashlib.md5(item_id.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") % buckets


def _place(ids: pa.Array, item_id: str) -> int:
    """The row of an id, -1 where it isn't. Arrow has no search in sorted strings."""
    at = bisect_left(ids, item_id, key=lambda one: one.as_py())
    return at if at < len(ids) and ids[at].as_py() == item_id else -1


def _floats(values: pa.Array) -> Array:
    found: Array = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return found
