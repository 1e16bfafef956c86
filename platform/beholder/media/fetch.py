"""An item's encoded bytes, from wherever they are."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fsspec.asyn import sync

from beholder.items import FailureCode, ItemError
from beholder.media import storage
from beholder.media.limits import Limits
from beholder.media.storage import StorageError, Trouble

_CODES = {
    Trouble.OBJECT_MISSING: FailureCode.FETCH_NOT_FOUND,
    Trouble.BUCKET_MISSING: FailureCode.FETCH_NOT_FOUND,
    Trouble.DENIED: FailureCode.FETCH_DENIED,
    Trouble.NO_KEYS: FailureCode.FETCH_DENIED,
    Trouble.CHANGED: FailureCode.FETCH_CHANGED,
    Trouble.THROTTLED: FailureCode.FETCH_THROTTLED,
    Trouble.TIMEOUT: FailureCode.FETCH_TIMEOUT,
    Trouble.UNREACHABLE: FailureCode.FETCH_UNAVAILABLE,
    Trouble.OTHER: FailureCode.FETCH_UNAVAILABLE,
}


@dataclass(frozen=True)
class Fetched:
    """Encoded bytes.

    Attributes:
        data: all of them.
        sha256: their hash, in hex.
        etag: the store's version of them, without quotes; None outside of S3.
    """

    data: bytes
    sha256: str
    etag: str | None = None


def fetch(source: str | Path | bytes, limits: Limits, etag: str | None = None) -> Fetched:
    """Reads an item, but no more of it than the limit.

    Args:
        source: bytes, a path, ``file://`` or ``s3://``. Nothing else is opened, above all no
            HTTP: what a manifest names must not reach into the network that it is read in.
        limits: ``max_bytes``.
        etag: the version that it must be. S3 is asked for just that version; for bytes and
            files it is compared with their MD5, which is what S3 calls an object that was
            uploaded in one part.

    Raises:
        ItemError: a ``fetch.*`` code or ``limit.bytes``, with a message that names the source.
    """
    wanted = etag.strip('"') if etag else None
    if isinstance(source, bytes):
        _check_size(len(source), limits, "the bytes")
        return _local(source, wanted, "the bytes")
    uri = str(source)
    scheme, separator, _ = uri.partition("://")
    if separator and scheme not in ("s3", "file"):
        raise ItemError(
            FailureCode.FETCH_UNSUPPORTED,
            f"{uri}: '{scheme}' can't be fetched: use s3://, file:// or a path",
        )
    try:
        if storage.is_s3(uri):
            return _from_s3(uri, limits, wanted)
        return _local(_from_file(uri, limits), wanted, uri)
    except ItemError:
        raise
    except StorageError as error:
        cause = error.__cause__
        code = _CODES[storage.trouble_of(cause)] if cause else FailureCode.FETCH_UNSUPPORTED
        raise ItemError(code, str(error)) from error
    except Exception as error:  # Each of s3fs, aiobotocore and aiohttp has its own families.
        raise ItemError(_CODES[storage.trouble_of(error)], storage.explain(uri, error)) from error


def _from_file(uri: str, limits: Limits) -> bytes:
    fs, path = storage.open_filesystem(uri)
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise ItemError(
            FailureCode.FETCH_UNSUPPORTED, f"{uri} is a folder or a device: name a regular file"
        )
    _check_size(status.st_size, limits, uri)
    file: IO[bytes]
    with fs.open(path, "rb") as file:
        data = file.read(limits.max_bytes + 1)
    _check_size(len(data), limits, uri)  # It may have grown since.
    return data


def _local(data: bytes, wanted: str | None, name: str) -> Fetched:
    if wanted is not None:
        found = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if found != wanted:
            raise ItemError(
                FailureCode.FETCH_CHANGED,
                f"{name}: the content's MD5 is {found}, not the etag {wanted}: list it again",
                len(data),
            )
    return Fetched(data, hashlib.sha256(data).hexdigest())


def _from_s3(uri: str, limits: Limits, wanted: str | None) -> Fetched:
    fs, path = storage.open_filesystem(uri)
    bucket, _, key = path.partition("/")
    if not key:
        raise ItemError(FailureCode.FETCH_UNSUPPORTED, f"{uri} names no object in the bucket")
    condition = {"IfMatch": f'"{wanted}"'} if wanted else {}
    # One request an item, where fsspec's open() takes one for the size and one for the bytes.
    answer: dict[str, Any] = fs.call_s3("get_object", Bucket=bucket, Key=key, **condition)
    data: bytes = sync(fs.loop, _body, answer, limits, uri)
    return Fetched(data, hashlib.sha256(data).hexdigest(), answer["ETag"].strip('"'))


async def _body(answer: dict[str, Any], limits: Limits, uri: str) -> bytes:
    async with answer["Body"] as body:
        _check_size(answer["ContentLength"], limits, uri)
        data: bytes = await body.read()
        return data


def _check_size(size: int, limits: Limits, name: str) -> None:
    if size > limits.max_bytes:
        raise ItemError(
            FailureCode.LIMIT_BYTES,
            f"{name}: {size} bytes are above the limit of {limits.max_bytes}: shrink it or raise "
            "the limit",
        )
