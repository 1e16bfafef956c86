"""What a run has done: a chunk's rows in one file, and the record that makes them the chunk's.

The file is written first, under a name that no other attempt has; the record is written once, by
``create``. A chunk is done when its record is there, whoever wrote it, and a file that no record
names is nothing.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease
from beholder.catalog.patience import patiently, trouble
from beholder.catalog.record import DamagedError
from beholder.catalog.tables import CHUNK
from beholder.media.conditional import WriteConflictError, create
from beholder.media.storage import StorageError, Trouble, read_bytes, write_bytes

READERS = 32
"""Records that are asked for side by side."""


@dataclass(frozen=True)
class Commit:
    """A chunk's commit record.

    Attributes:
        chunk: its number in the plan.
        run: whose chunk it is.
        epoch: of the driver that wrote it.
        path: of its data file, relative to the catalog's root.
        rows: in that file, one an item.
        bytes_sha256: of the file.
        scored: items with scores of this run.
        failed: items without, or with an older one's.
        known: items whose bytes had scores already, here or from another night.
        seconds: that scoring actors spent on it.
        at: Unix time of the commit.
    """

    chunk: int
    run: str
    epoch: int
    path: str
    rows: int
    bytes_sha256: str
    scored: int
    failed: int
    known: int
    seconds: float
    at: float


_COMMIT = TypeAdapter(Commit)


class DamagedChunkError(DamagedError):
    """A data file that is not what its record says, or a record that says nothing."""


def commit(
    layout: Layout, run: RunId, chunk: int, rows: pa.Table, seconds: float, lease: Lease
) -> Commit:
    """Makes rows the chunk's, unless it has some already.

    Args:
        layout: of the catalog.
        run: of the plan.
        chunk: its number in the plan.
        rows: of schema :data:`~beholder.catalog.tables.CHUNK`, an item each, in plan's order.
        seconds: that scoring actors spent on it.
        lease: of the run's date; checked before each of the two writes.

    Returns:
        The record that stands: ours, or that of a driver that was first, whose rows are of the
        same items.

    Raises:
        LeaseLostError: another driver works on the date.
        StorageError: the storage can't be used.
    """
    lease.check()
    sink = pa.BufferOutputStream()
    pq.write_table(rows.cast(CHUNK), sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    uri = layout.data(run, chunk, f"{lease.epoch:04d}-{uuid4().hex[:8]}")
    patiently(lambda: write_bytes(uri, data))
    new = pc.is_valid(rows["scores"])
    failed = pc.is_valid(rows["failure_code"])
    record = Commit(
        chunk=chunk,
        run=str(run),
        epoch=lease.epoch,
        path=layout.relative(uri),
        rows=rows.num_rows,
        bytes_sha256=hashlib.sha256(data).hexdigest(),
        scored=pc.sum(new).as_py() or 0,
        failed=pc.sum(failed).as_py() or 0,
        known=pc.sum(pc.invert(pc.or_(new, failed))).as_py() or 0,
        seconds=round(seconds, 4),
        at=round(time.time(), 3),
    )
    lease.check()
    name = layout.commit(run, chunk)
    try:
        patiently(lambda: create(name, json.dumps(asdict(record)).encode()))
    except WriteConflictError:
        lease.check()
        return _read(layout, run, chunk)
    return record


def _read(layout: Layout, run: RunId, chunk: int) -> Commit:
    uri = layout.commit(run, chunk)
    data = patiently(lambda: read_bytes(uri))
    try:
        found = _COMMIT.validate_json(data)
    except ValidationError as error:
        raise _no_record(uri, error.errors()[0]["msg"]) from error
    if (found.run, found.chunk) != (str(run), chunk):
        raise _no_record(uri, f"it is of chunk {found.chunk} of {found.run}")
    return found


def _no_record(uri: str, reason: str) -> DamagedChunkError:
    return DamagedChunkError(
        f"{uri} is not the commit record that belongs there ({reason}): remove it and run the "
        "date again"
    )


def committed(layout: Layout, run: RunId, chunks: Iterable[int]) -> dict[int, Commit]:
    """The records of those chunks that are done, by chunk; each is asked for by its name.

    Raises:
        DamagedChunkError: one is no record, or of another chunk.
        StorageError: the storage can't be used.
    """

    def one(chunk: int) -> Commit | None:
        try:
            return _read(layout, run, chunk)
        except StorageError as error:
            if trouble(error) is not Trouble.OBJECT_MISSING:
                raise
            return None

    with ThreadPoolExecutor(READERS) as readers:
        return {found.chunk: found for found in readers.map(one, chunks) if found is not None}


def read_chunk(layout: Layout, record: Commit) -> pa.Table:
    """A committed chunk's rows.

    Raises:
        DamagedChunkError: the file is gone, isn't the one that was committed, or has other rows.
        StorageError: it can't be read.
    """
    uri = layout.absolute(record.path)
    name = layout.commit(RunId.parse(record.run), record.chunk)
    remedy = f"put that file back, or remove {name} and run the date again, which scores it anew"
    try:
        data = patiently(lambda: read_bytes(uri))
    except StorageError as error:
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        raise DamagedChunkError(f"{uri} is gone, though it was committed: {remedy}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != record.bytes_sha256:
        raise DamagedChunkError(
            f"{uri}: its sha256 is {found}, not {record.bytes_sha256} as it was committed: {remedy}"
        )
    try:
        rows = pq.read_table(pa.BufferReader(data)).cast(CHUNK)
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DamagedChunkError(f"{uri} holds no chunk's rows ({reason}): {remedy}") from error
    if rows.num_rows != record.rows:
        said = f"{rows.num_rows} rows, not {record.rows}"
        raise DamagedChunkError(f"{uri} holds {said} as it was committed: {remedy}")
    return rows
