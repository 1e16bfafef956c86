"""Writes that succeed for one of several writers: by If-None-Match and If-Match on S3.

On a disk the same by hard links and a lock, between processes of one machine. What is written
must tell writers apart (a run's id, an epoch): when an answer is lost on the way and the request
is repeated, the store says that the object is there, and only its content says whether it is
ours.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from beholder.media.storage import (
    StorageError,
    Trouble,
    explained,
    is_s3,
    open_filesystem,
    trouble_of,
)


class WriteConflictError(StorageError):
    """Somebody else wrote first; nothing of ours is there."""


def create(uri: str, data: bytes) -> str:
    """Writes an object that must not be there yet, whole or not at all.

    Returns:
        Its version, for :func:`replace`.

    Raises:
        WriteConflictError: it is there, with other content.
        StorageError: the storage can't be used.
    """
    return _write(uri, data, None)


def replace(uri: str, data: bytes, version: str) -> str:
    """Writes an object over the version of it that the caller has read.

    Returns:
        Its new version.

    Raises:
        WriteConflictError: it is of another version, or gone.
        StorageError: the storage can't be used.
    """
    return _write(uri, data, version)


def read_version(uri: str) -> tuple[bytes, str]:
    """An object's content and the version of just that content.

    Raises:
        StorageError: it is missing, or the storage can't be used.
    """
    fs, path = open_filesystem(uri)
    with explained(uri):
        if not is_s3(uri):
            data = Path(path).read_bytes()
            return data, _digest(data)
        bucket, _, key = path.partition("/")
        answer = fs.call_s3("get_object", Bucket=bucket, Key=key)
        return _body(fs, answer), str(answer["ETag"])


def _write(uri: str, data: bytes, version: str | None) -> str:
    fs, path = open_filesystem(uri)
    with explained(uri):
        if not is_s3(uri):
            written = _write_file(Path(path), data, version)
        else:
            written = _put(fs, path, data, version)
    if written is not None:
        return written
    if version is None or _exists(uri):
        found, there = read_version(uri)
        if found == data:  # our own write, whose answer was lost
            return there
    wanted = "a new object" if version is None else f"version {version}"
    raise WriteConflictError(f"{uri} is not {wanted} any more: another writer was first")


def _put(fs: Any, path: str, data: bytes, version: str | None) -> str | None:
    """The new version; None where the store refuses the condition."""
    bucket, _, key = path.partition("/")
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    try:
        answer = fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
    except Exception as error:
        missing = version is not None and trouble_of(error) is Trouble.OBJECT_MISSING
        if missing or trouble_of(error) is Trouble.CHANGED:
            return None
        raise
    return str(answer["ETag"])


def _write_file(path: Path, data: bytes, version: str | None) -> str | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.part")
    unfinished.write_bytes(data)
    try:
        if version is None:
            try:
                os.link(unfinished, path)
            except FileExistsError:
                return None
            return _digest(data)
        with _locked(path):
            if not path.is_file() or _digest(path.read_bytes()) != version:
                return None
            unfinished.replace(path)
            return _digest(data)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _exists(uri: str) -> bool:
    fs, path = open_filesystem(uri)
    with explained(uri):
        return bool(fs.exists(path))


def _body(fs: Any, answer: dict[str, Any]) -> bytes:
    from fsspec.asyn import sync

    return bytes(sync(fs.loop, answer["Body"].read))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
