"""Reads a catalog as it was after one night, whatever is published meanwhile.

::

    snapshot = open_snapshot("s3://bucket/catalog")  # the one that HEAD names, pinned
    snapshot.connect().sql(
        "select segment, task, avg(mean) from items join scores using (sha256) group by all"
    )
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.buckets import Buckets, query
from beholder.catalog.head import lost_record, read_head, refuse_lost_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.patience import trouble
from beholder.catalog.record import KEYS, CatalogError, DamagedError, Record, find_record
from beholder.catalog.state_files import read_file
from beholder.catalog.tables import ITEM_FIELDS, ITEMS, SCORE_VALUES, SCORES
from beholder.catalog.tombstones import Tombstones, read_tombstones
from beholder.catalog.views import create_views
from beholder.media.storage import StorageError, Trouble

ROWS = pa.schema([*ITEM_FIELDS, pa.field("fingerprint", pa.string()), *SCORE_VALUES])
"""Columns of :meth:`Snapshot.rows`."""


@dataclass(frozen=True)
class Snapshot:
    """What a record names; it need not be published.

    Erased items are not in it, whatever its files still hold. It knows of erasures before it was
    first read; open it again to see less.

    Attributes:
        layout: of its catalog.
        record: what it is.
        erasures: ids of those that count; None for all that hold when it is first read.
    """

    layout: Layout
    record: Record
    erasures: tuple[str, ...] | None = None

    @cached_property
    def id(self) -> RunId:
        """Its name."""
        return RunId.parse(self.record.id)

    @cached_property
    def erased(self) -> Tombstones:
        """What it doesn't show."""
        return read_tombstones(self.layout, self.erasures)

    def items(self, bucket: int) -> pa.Table:
        """The items of a bucket; columns :data:`~beholder.catalog.tables.ITEM_FIELDS`.

        Raises:
            CatalogError: a file is not the one that was written.
            StorageError: one can't be read.
        """
        found = self.state("items", bucket)
        return found.filter(pc.invert(found["removed"])).drop_columns("removed")

    def scores(self, bucket: int) -> pa.Table:
        """The scores of a bucket, under the snapshot's fingerprint.

        Columns are :data:`~beholder.catalog.tables.SCORES`; raises as :meth:`items` does.
        """
        found = self.state("scores", bucket)
        return found.filter(pc.equal(found["fingerprint"], self.record.fingerprint))

    def state(self, table: str, bucket: int) -> pa.Table:
        """A bucket's last row of each key: removed items and other fingerprints are there, too.

        Scores of an erased item's bytes may be: without the item they are nobody's.
        """
        parts = self._files(table, bucket)
        if len(parts) != 1:
            schema = ITEMS if table == "items" else SCORES
            parts = [latest(pa.concat_tables([schema.empty_table(), *parts]), KEYS[table])]
        return self.erased.without(parts[0]) if table == "items" else parts[0]

    def _files(self, table: str, bucket: int) -> list[pa.Table]:
        """A bucket's files, those of the record as it is by now where an erasure replaced some."""
        files = self.record.files(table).get(bucket, ())
        try:
            return [read_file(self.layout, file) for file in files]
        except StorageError as error:
            now = find_record(self.layout, self.id)
            replaced = now is not None and now.files(table).get(bucket, ()) != files
            if trouble(error) is not Trouble.OBJECT_MISSING:
                raise
            if now is None or not replaced:
                raise DamagedError(
                    f"snapshot {self.id} names a file that is gone ({error}): restore it, or roll "
                    "back to a snapshot that doesn't name it"
                ) from None
            return [read_file(self.layout, file) for file in now.files(table).get(bucket, ())]

    def rows(self) -> Iterator[pa.Table]:
        """Every item with its scores, in tables of bounded size; columns :data:`ROWS`.

        A row for each item and task; an item without scores has one, whose score columns are
        null. Items are joined with the scores of their bytes through scratch disk.
        """
        buckets = self.record.buckets
        with tempfile.TemporaryDirectory() as scratch:
            by_bytes = Buckets(Path(scratch), buckets, "sha256", pa.schema(ITEM_FIELDS))
            for bucket in range(buckets):
                items = self.items(bucket)
                failed = pc.equal(items["state"], "failed")
                by_bytes.add(items.filter(pc.invert(failed)))
                if pc.any(failed).as_py():
                    yield _joined(items.filter(failed), SCORES.empty_table())
            for bucket in range(buckets):
                if by_bytes.rows(bucket):
                    yield _joined(by_bytes.read(bucket), self.scores(bucket))

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB of its own with the views ``items`` and ``scores``, to be joined by ``sha256``.

        Scores belong to bytes, and ``scores`` has also those of bytes that no item has any more.
        Files are read when a query asks, and of them only its columns; their hashes are not
        checked. One that an erasure has replaced meanwhile is missed by name: connect again.
        """
        connection = duckdb.connect()
        create_views(connection, self.layout, self.record, self.erased)
        return connection


def open_snapshot(root: str, snapshot: str | None = None) -> Snapshot:
    """A snapshot of a catalog.

    Args:
        root: URI of the catalog's folder.
        snapshot: its id; None takes the one that HEAD names now.

    Raises:
        CatalogError: there is none, or its record is not one.
        StorageError: the storage can't be used.
    """
    layout, head = Layout(root.rstrip("/")), None
    if snapshot is None:
        head = read_head(layout)
        if head is None:
            refuse_lost_head(layout)
            raise CatalogError(
                f"{root} has no published snapshot: check the URI, or run jobs/score_catalog.py"
            )
        snapshot = head.snapshot
    found = find_record(layout, RunId.parse(snapshot))
    if found is None and head is not None:
        raise lost_record(layout, head)
    if found is None:
        raise CatalogError(f"{root} has no snapshot {snapshot}: it was never made, or collected")
    return Snapshot(layout, found)


def latest(rows: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """The last row of each key, ordered by key."""
    numbered = _numbered(rows, *keys)
    names = ", ".join(keys)
    sql = f"select max(place) as place from numbered group by {names} order by {names}"
    return rows.take(query(sql, numbered=numbered)["place"])


def _joined(items: pa.Table, scores: pa.Table) -> pa.Table:
    """Items with their scores; an item without any has one row."""
    places = query(
        "select i.place as item, s.place as score from items i left join scores s using (sha256) "
        "order by item, score",
        items=_numbered(items, "sha256"),
        scores=_numbered(scores, "sha256"),
    )
    left, right = items.take(places["item"]), scores.take(places["score"])
    columns = {n: left[n] if n in items.column_names else right[n] for n in ROWS.names}
    return pa.table(columns, schema=ROWS)


def _numbered(table: pa.Table, *columns: str) -> pa.Table:
    """Some columns and ``place``, by which rows are taken: lists need not go through DuckDB."""
    places = pa.array(np.arange(table.num_rows))
    return table.select(columns).append_column("place", places)
