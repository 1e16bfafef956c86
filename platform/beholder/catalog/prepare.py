"""From a run's committed chunks to the next snapshot's files: written, and seen by nobody yet.

Tonight's rows are split into the state's buckets on scratch disk. A bucket that they change gets a
delta of just these rows, or, where its deltas would grow beyond a fifth of its base, a new base.
Every try writes files of its own names, so a try that dies leaves nothing but garbage.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.buckets import Buckets, query
from beholder.catalog.layout import Layout
from beholder.catalog.record import KEYS, CatalogError, File, Record
from beholder.catalog.snapshot import Snapshot, latest
from beholder.catalog.state_files import store_file
from beholder.catalog.tables import ITEMS, SCORES

DELTA_SHARE = 0.2
"""Rows in a bucket's deltas, of those in its base, beyond which it gets a new base."""
MOST_FILES = 32
"""Files of a bucket beyond which it gets a new base: a reader opens them all."""
WRITERS = 4
"""Buckets in work, and in memory, at a time."""


@dataclass(frozen=True)
class DoneChunk:
    """A chunk that was committed.

    Attributes:
        planned: the item ids that the plan put into it.
        rows: its data file's, of schema :data:`~beholder.catalog.tables.CHUNK`; known to be those
            that were committed.
        uri: of the data file, for messages.
    """

    planned: pa.ChunkedArray
    rows: pa.Table
    uri: str


def prepare(
    layout: Layout,
    draft: Record,
    parent: Snapshot | None,
    chunks: Iterable[DoneChunk],
    settled: Iterable[pa.Table] = (),
) -> Record:
    """Writes the files of the next snapshot.

    Args:
        layout: of the catalog.
        draft: the snapshot's record, without files.
        parent: the snapshot that the run was planned against.
        chunks: all of the plan's, in its order; taken one by one.
        settled: new rows of the state for items that the run doesn't look at, of schema
            :data:`~beholder.catalog.tables.ITEMS`.

    Returns:
        The draft with its files; its counts say also what became of the items that the run looked
        at: ``scored``, ``failed``, or ``failed_stale``, whose older scores stand.

    Raises:
        CatalogError: a data file has other items than the plan.
        StorageError: the storage can't be used.
    """
    assert draft.parent == (parent.record.id if parent else None)
    assert parent is None or parent.record.buckets == draft.buckets
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        items = Buckets(Path(scratch) / "items", draft.buckets, "item_id", ITEMS)
        scores = Buckets(Path(scratch) / "scores", draft.buckets, "sha256", SCORES)
        for table in settled:
            items.add(table)
        for chunk in chunks:
            _check(chunk)
            counts.update(_outcomes(chunk.rows))
            stays = pa.repeat(False, chunk.rows.num_rows)
            items.add(chunk.rows.append_column("removed", stays))
            scores.add(_score_rows(chunk.rows, draft))
        state = _State(layout, draft, parent)
        files = {
            "items": state.write("items", items),
            "scores": state.write("scores", scores),
        }
    return draft.model_copy(update={**files, "counts": {**draft.counts, **counts}})


@dataclass(frozen=True)
class _State:
    """The state that tonight's rows are put on."""

    layout: Layout
    draft: Record
    parent: Snapshot | None

    def write(self, table: str, rows: Buckets) -> dict[int, tuple[File, ...]]:
        """The files of all buckets that are not empty."""

        def one(bucket: int) -> tuple[File, ...]:
            return self._write(table, bucket, rows.read(bucket))

        with ThreadPoolExecutor(WRITERS) as writers:
            found = writers.map(one, range(self.draft.buckets))
            return {bucket: files for bucket, files in enumerate(found) if files}

    def _write(self, table: str, bucket: int, rows: pa.Table) -> tuple[File, ...]:
        files = self.parent.record.files(table).get(bucket, ()) if self.parent else ()
        if not rows.num_rows:
            return files
        rows = latest(rows, KEYS[table])
        changes = rows.num_rows + sum(file.rows for file in files[1:])
        if files and changes <= DELTA_SHARE * files[0].rows and len(files) < MOST_FILES:
            return (*files, self._store(table, bucket, rows, deltas=True))
        if self.parent is not None:
            old = self.parent.state(table, bucket)
            rows = latest(pa.concat_tables([old, rows]), KEYS[table])
        if table == "items":
            rows = rows.filter(pc.invert(rows["removed"]))
        else:
            rows = rows.filter(pc.equal(rows["fingerprint"], self.draft.fingerprint))
        return (self._store(table, bucket, rows, deltas=False),) if rows.num_rows else ()

    def _store(self, table: str, bucket: int, rows: pa.Table, deltas: bool) -> File:
        uri = self.layout.state(table, bucket, f"{self.draft.id}-{uuid4().hex[:12]}")
        return store_file(self.layout, uri, rows, deltas)


def _check(chunk: DoneChunk) -> None:
    """Raises unless a chunk's rows are of the items that were planned, each once."""
    planned, found = chunk.planned.combine_chunks(), chunk.rows["item_id"].combine_chunks()
    if found.equals(planned):
        return
    different = query(
        "select coalesce(p.item_id, f.item_id) as item_id, p.n is null as foreign_one, "
        "f.n > p.n as doubled from (select item_id, count(*) as n from planned group by all) p "
        "full join (select item_id, count(*) as n from found group by all) f using (item_id) "
        "where p.n is distinct from f.n order by item_id limit 1",
        planned=pa.table({"item_id": planned}),
        found=pa.table({"item_id": found}),
    ).to_pylist()
    for fault in different:
        what = "is not in its plan" if fault["foreign_one"] else "is not in it"
        what = "is in it more than once" if fault["doubled"] else what
        raise CatalogError(
            f"{chunk.uri}: item '{fault['item_id']}' {what}: nothing is published; remove this "
            "file and its commit record, and run the date again"
        )


def _outcomes(rows: pa.Table) -> dict[str, int]:
    failed = pc.and_(pc.equal(rows["state"], "stale"), rows["failure_code"].is_valid())
    counted = pc.if_else(failed, "failed_stale", rows["state"]).value_counts()
    return {one["values"]: one["counts"] for one in counted.to_pylist()}


def _score_rows(rows: pa.Table, draft: Record) -> pa.Table:
    """A chunk's scores, a row for each hash and task."""
    scores = rows["scores"].combine_chunks()
    flat = pa.Table.from_struct_array(scores.flatten())
    owners = rows["sha256"].take(pc.list_parent_indices(scores))
    constant = {"fingerprint": draft.fingerprint, "run": draft.id}
    columns = {n: pa.repeat(pa.scalar(v), flat.num_rows) for n, v in constant.items()}
    columns |= {"sha256": owners} | {n: flat[n] for n in flat.column_names}
    return pa.table({name: columns[name] for name in SCORES.names}, schema=SCORES)
