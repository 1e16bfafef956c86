"""Tables larger than memory: split by a key's bucket on scratch disk, joined bucket by bucket.

::

    with tempfile.TemporaryDirectory() as scratch:
        manifest = Buckets(Path(scratch) / "manifest", buckets, "item_id")
        for batch in batches:
            manifest.add(batch)
        for bucket in range(buckets):
            query("select ... from a join b using (item_id)", a=manifest.read(bucket), b=...)

All rows of a key are in one bucket, so what holds bucket by bucket holds for the whole. Memory is
that of one bucket and of what waits to be spilled.
"""

import atexit
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.tables import BUCKET_SQL

SPILL_BYTES = 32 * 2**20
MEMORY_LIMIT = "256MB"
"""A bucket needs less; what sorts a whole catalog goes through scratch disk, however large, so that
a night's memory doesn't grow with it."""
THREADS = 2
_SMALLER = pa.ipc.IpcWriteOptions(compression="lz4")
"""Of spills: a whole catalog's would be written faster than a disk takes it, and readers wait."""


def query(sql: str, **tables: pa.Table) -> pa.Table:
    """What DuckDB answers about Arrow tables.

    One DuckDB serves the process, with ``MEMORY_LIMIT`` for all queries together, ``THREADS``
    threads and its overflow on scratch disk; any thread may ask.

    Args:
        sql: one query, which names the tables by their keywords and sees no others.
        tables: Arrow tables, read in place.

    Returns:
        The answer, in DuckDB's types; :func:`conform` gives it a schema.
    """
    with _duckdb().cursor() as cursor:
        for name, table in tables.items():
            cursor.register(name, table)
        return cursor.sql(sql).to_arrow_table()


def stream(sql: str, rows: int, **tables: pa.Table) -> Iterator[pa.Table]:
    """What :func:`query` answers, in tables of at most ``rows`` rows, one in memory at a time."""
    with _duckdb().cursor() as cursor:
        for name, table in tables.items():
            cursor.register(name, table)
        for batch in cursor.sql(sql).to_arrow_reader(rows):
            yield pa.Table.from_batches([batch])


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table's columns in a schema's order and types; it may have more, which are left out."""
    return table.select(schema.names).cast(schema)


def bucket_numbers(keys: pa.ChunkedArray | pa.Array, buckets: int) -> pa.Array:
    """The bucket of each key, int32; 0 for nulls."""
    number = BUCKET_SQL.format(key="key", buckets=buckets)
    sql = f"select coalesce({number}, 0)::integer as bucket from keys"
    return query(sql, keys=pa.table({"key": keys}))["bucket"].combine_chunks()


def split(table: pa.Table, numbers: pa.Array) -> Iterator[tuple[int, pa.Table]]:
    """A table's rows by their numbers, ascending, in the order in which they stand."""
    order = pc.sort_indices(numbers)  # stable, as Arrow promises
    table, numbers = table.take(order), numbers.take(order)
    start = 0
    for run in pc.value_counts(numbers):
        number, count = run["values"].as_py(), run["counts"].as_py()
        yield number, table.slice(start, count)
        start += count


class Buckets:
    """Rows split by a key's bucket, in the order in which they came.

    Rows wait in memory and are spilled together, a record batch a bucket, to one Arrow file: a
    catalog of any size needs no more open files than a small one.

    Args:
        folder: on scratch disk, made here; the caller removes it.
        buckets: how many.
        key: the column that decides.
        schema: of the rows; None takes the first table's.
    """

    def __init__(
        self, folder: Path, buckets: int, key: str, schema: pa.Schema | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.buckets = buckets
        self.schema = schema
        self._folder = folder
        self._key = key
        self._counts = [0] * buckets
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._turn = threading.Lock()
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._written = 0
        # Of each bucket the record batches with its rows, by file, of which adding after reading
        # begins another, and number.
        self._places: list[list[tuple[int, int]]] = [[] for _ in range(buckets)]
        self._readers: list[pa.ipc.RecordBatchFileReader] = []

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Takes rows.

        Raises:
            KeyError: a column of the first rows is missing.
        """
        table = pa.table(rows)
        if self.schema is None:
            self.schema = table.schema.remove_metadata()
        with self._turn:
            self._waiting.append(conform(table, self.schema))
            self._waiting_bytes += table.nbytes
            if self._waiting_bytes >= SPILL_BYTES:
                self._spill()

    def rows(self, bucket: int) -> int:
        """How many rows a bucket has."""
        with self._turn:
            self._spill()
            return self._counts[bucket]

    def read(self, bucket: int) -> pa.Table:
        """A bucket's rows; none before any were added and without a schema is an error.

        Any thread may read.
        """
        assert self.schema is not None, "neither rows nor a schema were given"
        with self._turn:
            self._spill()
            self._close()
            found = [self._readers[file].get_batch(at) for file, at in self._places[bucket]]
        return pa.Table.from_batches(found, self.schema)

    def _spill(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._waiting_bytes = [], 0
        numbers = bucket_numbers(table[self._key], self.buckets)
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._path(), table.schema, options=_SMALLER)
            self._written = 0
        for bucket, rows in split(table, numbers):
            self._counts[bucket] += rows.num_rows
            (batch,) = rows.combine_chunks().to_batches()
            self._writer.write_batch(batch)
            self._places[bucket].append((len(self._readers), self._written))
            self._written += 1

    def _close(self) -> None:
        """Makes what was spilled readable."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        # Not memory-mapped: pages that were read would count as ours until the end.
        self._readers.append(pa.ipc.open_file(pa.OSFile(self._path())))

    def _path(self) -> str:
        return str(self._folder / f"{len(self._readers):06d}.arrow")


def _scratch() -> str:
    """Where DuckDB may spill, not there yet: most processes never do, and Ray kills its workers.

    DuckDB lets others read what it makes, so it is below a folder of this user's alone.
    """
    parent = Path(tempfile.gettempdir()) / f"beholder-{os.getuid()}"
    parent.mkdir(0o700, exist_ok=True)
    about = parent.lstat()
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
    if not ours or about.st_mode & 0o077:
        parent = Path(tempfile.mkdtemp(prefix="beholder-"))
    return str(parent / f"duckdb-{uuid4().hex}")


@lru_cache(maxsize=1)
def _duckdb() -> duckdb.DuckDBPyConnection:
    scratch = _scratch()
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "threads": THREADS,
            "temp_directory": scratch,
            "python_enable_replacements": False,  # a query sees what it was given
        }
    )
