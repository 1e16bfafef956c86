"""A night's manifest as its files, each of a known version, read in batches and never whole."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beholder.catalog.patience import PatientFile, patiently
from beholder.catalog.record import Stored
from beholder.catalog.tables import ITEM_FIELDS
from beholder.items import ManifestError, check_rows
from beholder.media.storage import (
    StorageError,
    Trouble,
    explain,
    explained,
    is_s3,
    list_files,
    open_filesystem,
    trouble_of,
)

BATCH_ROWS = 65_536
READERS = 16
"""Files that are looked at side by side."""
_HIDDEN = re.compile(r"/[_.]")  # what Spark and others leave beside their files
MANIFEST = pa.schema(ITEM_FIELDS[:8])
"""The columns of a manifest that a catalog keeps; one that a file lacks is null."""


class ManifestFile(Stored):
    """One Parquet file as it was."""

    uri: str
    version: str
    """its ETag in S3; its size and time of change on a disk"""
    rows: int


class ManifestFiles(Stored):
    """A manifest's files, in the order of their names."""

    uri: str
    """the file or folder that was asked for"""
    files: tuple[ManifestFile, ...]
    """what was there"""

    @classmethod
    def find(cls, uri: str) -> "ManifestFiles":
        """The files of a manifest as they are now.

        Args:
            uri: of a Parquet file, or of a folder whose ``.parquet`` files at any depth are the
                manifest. Names that start with ``_`` or ``.`` don't count.

        Raises:
            ManifestError: the folder holds none, a file is no Parquet, or lacks a column.
            StorageError: there is nothing, or the storage can't be used.
        """
        with ThreadPoolExecutor(READERS) as readers:
            files = tuple(readers.map(_look, _names(uri)))
        if not files:
            raise ManifestError(
                f"manifest {uri} is a folder without .parquet files: name a file or another folder"
            )
        return cls(uri=uri, files=files)

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.rows for file in self.files)

    @property
    def version(self) -> str:
        """One short name for all files' names and versions."""
        text = "\n".join(f"{file.uri} {file.version}" for file in self.files)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check_unmoved(self) -> None:
        """Refuses a manifest that is not what :meth:`find` saw.

        Raises:
            ManifestError: a file came, went or changed; the message names it.
        """
        names = _names(self.uri)
        with ThreadPoolExecutor(READERS) as readers:
            now = dict(zip(names, readers.map(_version, names), strict=True))
        was = {file.uri: file.version for file in self.files}
        for name in sorted(now.keys() | was.keys()):
            if now.get(name) != was.get(name):
                raise ManifestError(
                    f"manifest {self.uri}: {name} has changed since it was first looked at: run "
                    "again when nothing writes to it, or put the earlier version back"
                )

    def batches(self) -> Iterator[pa.Table]:
        """Checked rows in columns :data:`MANIFEST` and ``row``, at most a batch in memory.

        ``row`` counts through all files. That ids are unique is left to the caller.

        Raises:
            ManifestError: see :func:`beholder.items.check_rows`; or a file can't be read.
            StorageError: the storage can't be used.
        """
        row = 0
        for file in self.files:
            for table in _batches(file.uri):
                numbers = pa.arange(row, row + table.num_rows)
                yield table.append_column("row", numbers)
                row += table.num_rows

    def place(self, row: int) -> str:
        """Where a row stands, for a person: ``row 7 of s3://lists/part-3.parquet``, from 1 on."""
        for file in self.files:
            if row < file.rows:
                return f"row {row + 1} of {file.uri}"
            row -= file.rows
        raise AssertionError(row)


def _names(uri: str) -> list[str]:
    folder = uri.rstrip("/")
    path = open_filesystem(folder)[1]
    if not patiently(lambda: _is_folder(folder)):
        return [uri]
    return [
        name
        for name in patiently(lambda: list_files(folder))
        if name.endswith(".parquet") and not _HIDDEN.search(name[name.index(path) + len(path) :])
    ]


def _is_folder(uri: str) -> bool:
    fs, path = open_filesystem(uri)
    with explained(uri):
        return bool(fs.isdir(path))


def _info(uri: str) -> dict[str, Any]:
    fs, path = open_filesystem(uri)
    with explained(uri):
        found: dict[str, Any] = fs.info(path)
    return found


def _version(uri: str) -> str:
    info = patiently(lambda: _info(uri))
    return info["ETag"].strip('"') if is_s3(uri) else f"{info['size']}-{info['mtime']}"


def _look(uri: str) -> ManifestFile:
    """A file's version and size; its columns are checked before any row is read."""
    version = _version(uri)
    with _opened(uri) as file:
        check_rows(file.schema_arrow.empty_table(), uri)
        return ManifestFile(uri=uri, version=version, rows=file.metadata.num_rows)


def _batches(uri: str) -> Iterator[pa.Table]:
    with _opened(uri) as file:
        there = [name for name in MANIFEST.names if name in file.schema_arrow.names]
        before = 0
        for group in range(file.num_row_groups):
            # Group by group: Arrow keeps the encoded bytes of all groups that one call reads.
            for part in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=there):
                yield _conformed(check_rows(pa.Table.from_batches([part]), uri, before=before))
                before += part.num_rows


def _conformed(table: pa.Table) -> pa.Table:
    for field in MANIFEST:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(MANIFEST.names)


@contextmanager
def _opened(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file; whatever goes wrong while it is read is said of its URI."""
    try:
        with PatientFile(uri) as file, pq.ParquetFile(file) as parquet:
            yield parquet
    except (ManifestError, StorageError):
        raise
    except Exception as error:  # Each of Arrow, s3fs and aiohttp has its own families.
        if trouble_of(error) is not Trouble.OTHER:
            raise StorageError(explain(uri, error)) from error
        reason = " ".join(str(error).split())
        raise ManifestError(
            f"manifest {uri} can't be read as Parquet ({reason}): write it anew, or name another"
        ) from error
