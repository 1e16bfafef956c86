"""From planned rows to plan files: a row group a chunk, items with likely equal bytes in one."""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beholder.catalog.buckets import conform
from beholder.catalog.layout import Layout
from beholder.catalog.patience import PatientFile, patiently, trouble
from beholder.catalog.record import DamagedError, Stored
from beholder.catalog.tables import PLANNED
from beholder.media.storage import StorageError, Trouble, write_bytes

FILE_CHUNKS = 128
"""Chunks a file: whoever reads one chunk reads the file's footer first, about 1 kB a chunk."""

_FEW_VALUES = ("kind", "owner", "segment", "state", "change", "run")


class DamagedPlanError(DamagedError):
    """A plan, or a file of one, that is not what was written."""


class Chunk(NamedTuple):
    """Where a chunk of a plan is.

    Attributes:
        number: of the chunk; unique in its run.
        path: of the plan's Parquet file, below the catalog's root; of schema
            :data:`~beholder.catalog.tables.PLANNED`.
        group: the row group there.
        rows: items in it.
    """

    number: int
    path: str
    group: int
    rows: int


class PlanFile(Stored):
    """A file of a plan."""

    path: str
    """below the catalog's root"""
    first: int
    """number of its first row group, counted through all files"""
    groups: tuple[int, ...]
    """rows of each row group, which are chunks where the file holds planned rows"""

    unreached: tuple[int, ...] = ()
    """of these row groups, those before which the run was stopped: they count as not there"""

    @property
    def reached(self) -> tuple[int, ...]:
        """The row groups that count."""
        return tuple(group for group in range(len(self.groups)) if group not in self.unreached)


@contextmanager
def plan_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """A plan's file, to read row groups from.

    Raises:
        DamagedPlanError: it is gone, or not what was written.
        StorageError: it can't be read.
    """
    try:
        with (
            PatientFile(uri) as file,
            pq.ParquetFile(file, page_checksum_verification=True) as parquet,
        ):
            yield parquet
    except StorageError as error:  # what the store says of itself is no damage
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        raise damaged(uri, error.__cause__) from error
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise damaged(uri, error) from error


def damaged(uri: str, reason: object) -> DamagedPlanError:
    """What to say of a plan, or of a file of one, in a run's folder."""
    run = uri.rsplit("/plan", 1)[0]
    return DamagedPlanError(
        f"{uri} is damaged or gone ({' '.join(str(reason).split())}): put the version that was "
        f"written back, or remove {run}/ and run the same command again, which plans and scores "
        "anew"
    )


def cut(rows: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Chunks of at most ``size`` rows, numbered from 0 in column ``chunk``, of schema ``PLANNED``.

    Neighbours with one ``twin`` are not parted unless there are more of them than a chunk holds.

    Args:
        rows: columns of ``PLANNED`` without ``chunk``, with ``twin`` and ``twins``, as
            :meth:`beholder.catalog.survey.Survey.taken_rows` gives them.
        size: largest number of rows in a chunk.
    """
    cutter = _Cutter(size)
    waiting = PLANNED.empty_table()
    for table in rows:
        numbers = cutter.numbers(table)
        numbered = conform(table.append_column("chunk", pa.array(numbers)), PLANNED)
        waiting = pa.concat_tables([waiting, numbered]).combine_chunks()
        *whole, waiting = _runs(waiting)
        yield from whole
    if waiting.num_rows:
        yield waiting


class _Cutter:
    """Numbers the chunks over batches of rows."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chunk, self._used = 0, 0
        self._twin: int | None = None

    def numbers(self, table: pa.Table) -> NDArray[np.int32]:
        """The chunk of each row, int32 (rows,)."""
        numbers = np.empty(table.num_rows, np.int32)
        pairs = zip(table["twin"].to_pylist(), table["twins"].to_pylist(), strict=True)
        for at, (twin, twins) in enumerate(pairs):
            starts = twin is None or twin != self._twin
            room = self._size - self._used
            if room < (min(twins, self._size) if starts else 1):
                self._chunk, self._used = self._chunk + 1, 0
            self._used += 1
            self._twin = twin
            numbers[at] = self._chunk
        return numbers


def _runs(table: pa.Table) -> list[pa.Table]:
    """The table cut where ``chunk`` changes."""
    edges = np.flatnonzero(np.diff(table["chunk"].to_numpy())) + 1
    bounds = [0, *edges.tolist(), table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(bounds)]


def write_groups(
    groups: Iterable[pa.Table], of_file: int, layout: Layout, uri: Callable[[int], str]
) -> tuple[PlanFile, ...]:
    """Writes tables as row groups, ``of_file`` to a file.

    Args:
        groups: at least one row each.
        of_file: row groups a file.
        layout: of the catalog.
        uri: of a file, by its number.

    Raises:
        StorageError: the storage can't be used.
    """
    files: list[PlanFile] = []
    first = 0
    parts = iter(groups)
    while some := list(islice(parts, of_file)):
        name = uri(len(files))
        data = _encoded(some)
        patiently(functools.partial(write_bytes, name, data))
        sizes = tuple(table.num_rows for table in some)
        files.append(PlanFile(path=layout.relative(name), first=first, groups=sizes))
        first += len(some)
    return tuple(files)


def _encoded(groups: list[pa.Table]) -> bytes:
    schema = groups[0].schema
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=[name for name in _FEW_VALUES if name in schema.names],
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=group.num_rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data
