"""Parquet files that records name with their hashes, read and written whole."""

import hashlib
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from beholder.catalog.layout import Layout
from beholder.catalog.patience import patiently
from beholder.catalog.record import DamagedError, File
from beholder.media.storage import read_bytes, write_bytes


def read_file(layout: Layout, file: File, columns: Sequence[str] | None = None) -> pa.Table:
    """A state file's rows, in some of its columns or in all.

    Raises:
        DamagedError: it is not the file that was written.
        StorageError: it can't be read.
    """
    remedy = "restore it, or roll back to a snapshot that doesn't name it"
    data = read_checked(layout.absolute(file.path), file.sha256, remedy)
    return pq.read_table(pa.BufferReader(data), columns=columns)


def read_checked(uri: str, sha256: str, remedy: str) -> bytes:
    """The bytes of a file that a record names.

    Args:
        uri: of the file.
        sha256: as recorded, hexadecimal.
        remedy: for whoever finds it changed.

    Raises:
        DamagedError: it is not the file that was written.
        StorageError: it can't be read.
    """
    data = patiently(lambda: read_bytes(uri))
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DamagedError(
            f"{uri}: its sha256 is {found}, not {sha256} as recorded: it was changed or damaged; "
            f"{remedy}"
        )
    return data


def store_file(layout: Layout, uri: str, rows: pa.Table, deltas: bool) -> File:
    """Writes rows under a name that nothing has; what a record says of them.

    Raises:
        StorageError: the storage can't be used.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    patiently(lambda: write_bytes(uri, data))
    return File(
        path=layout.relative(uri),
        rows=rows.num_rows,
        sha256=hashlib.sha256(data).hexdigest(),
        deltas=deltas,
    )
