"""Object storage for jobs: S3 and the local disk under one set of calls.

Every failure is one sentence with the URI and the remedy. Keys are never put into messages.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import fsspec

from beholder.errors import UserError

CONNECT_S = 2
READ_S = 20
ATTEMPTS = 3
CONNECTIONS = 64
REMOVALS = 1000
"""Objects that one request may remove."""


class StorageError(UserError):
    """Storage that can't be used: one sentence that names the URI and the remedy."""


class Trouble(Enum):
    """What went wrong in a store, whichever library said so."""

    OBJECT_MISSING = "object missing"
    BUCKET_MISSING = "bucket missing"
    DENIED = "denied"
    NO_KEYS = "no keys"
    CHANGED = "changed"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    OTHER = "other"


_CODES = {
    "NoSuchBucket": Trouble.BUCKET_MISSING,
    "NoSuchKey": Trouble.OBJECT_MISSING,
    "PreconditionFailed": Trouble.CHANGED,
    "SlowDown": Trouble.THROTTLED,
    "Throttling": Trouble.THROTTLED,
    "RequestLimitExceeded": Trouble.THROTTLED,
    "RequestTimeout": Trouble.TIMEOUT,
    # Said of one of several objects, these come without a status.
    "InternalError": Trouble.UNREACHABLE,
    "AccessDenied": Trouble.DENIED,
}
_STATUSES = {
    401: Trouble.DENIED,
    403: Trouble.DENIED,
    404: Trouble.OBJECT_MISSING,
    408: Trouble.TIMEOUT,
    412: Trouble.CHANGED,
    429: Trouble.THROTTLED,
}


def open_filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URI, and the URI's path on it.

    S3's endpoint, keys and region come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION; without keys botocore's own
    chain (profile, instance role) is asked. One S3 client serves all threads of a process and
    a forked child opens its own; listings are never cached. A server that takes no connection
    is given up after about 10 s.

    Args:
        uri: ``s3://bucket/key``, ``file:///path`` (percent-encoded) or a plain path.

    Raises:
        StorageError: another scheme, or an ``s3://`` URI without a bucket.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return fsspec.filesystem("file", auto_mkdir=True), str(Path(uri).absolute())
    if scheme == "file":
        path = unquote(rest.removeprefix("localhost"))
        return fsspec.filesystem("file", auto_mkdir=True), path
    if scheme != "s3":
        raise StorageError(f"{uri}: '{scheme}' is no storage: use s3://, file:// or a path")
    if not rest.partition("/")[0]:
        raise StorageError(f"{uri} names no bucket: write s3://bucket/key")
    with explained(uri), _opening:
        return _s3(os.getpid(), *_s3_settings()), rest


def read_bytes(uri: str) -> bytes:
    """An object's content.

    Raises:
        StorageError: it is missing, or the storage can't be used.
    """
    fs, path = open_filesystem(uri)
    with explained(uri):
        return bytes(fs.cat_file(path))


def write_bytes(uri: str, data: bytes) -> None:
    """Writes an object whole or not at all; one that is there is replaced.

    Raises:
        StorageError: the storage can't be used.
    """
    fs, path = open_filesystem(uri)
    with explained(uri):
        if is_s3(uri):
            fs.pipe_file(path, data)
            return
        unfinished = f"{path}.{uuid4().hex}.part"
        try:
            fs.pipe_file(unfinished, data)
            Path(unfinished).replace(path)
        finally:
            Path(unfinished).unlink(missing_ok=True)


def exists(uri: str) -> bool:
    """Whether there is an object, or a folder with something in it.

    Raises:
        StorageError: the storage can't be used; a missing bucket counts as that.
    """
    fs, path = open_filesystem(uri)
    with explained(uri):
        try:
            fs.info(path)
        except FileNotFoundError:
            if is_s3(uri):
                _check_bucket(fs, uri)
            return False
        return True


def list_files(uri: str) -> list[str]:
    """The URIs of all files below a folder, at any depth, sorted; none if it isn't there.

    Raises:
        StorageError: the storage can't be used; a missing bucket counts as that.
    """
    fs, path = open_filesystem(uri)
    with explained(uri):
        there = fs.find(path, detail=True)
        # A folder that was emptied may be listed as itself.
        found = sorted(name for name, about in there.items() if about["type"] == "file")
        if not found and is_s3(uri):
            _check_bucket(fs, uri)
    return [f"s3://{name}" if is_s3(uri) else name for name in found]


def remove_files(uris: Sequence[str]) -> None:
    """Removes files, at most :data:`REMOVALS` of one bucket; one that isn't there is no error.

    Raises:
        StorageError: the storage can't be used or keeps one of them; others may be gone.
    """
    assert len(uris) <= REMOVALS
    for uri in uris if not is_s3(uris[0]) else ():
        fs, path = open_filesystem(uri)
        with explained(uri), suppress(FileNotFoundError):
            fs.rm_file(path)
    if is_s3(uris[0]):
        _remove_objects(uris)


def _remove_objects(uris: Sequence[str]) -> None:
    """In one request, whose answer names what was kept; s3fs's own call doesn't look at that."""
    from botocore.exceptions import ClientError

    fs, _ = open_filesystem(uris[0])
    keys = {uri.removeprefix("s3://").partition("/")[2]: uri for uri in uris}
    wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    with explained(uris[0]):
        answer = fs.call_s3("delete_objects", Bucket=_bucket(uris[0]), Delete=wanted)
    for kept in answer.get("Errors", []):
        with explained(keys[kept["Key"]]):
            raise ClientError({"Error": kept}, "DeleteObjects")


def copy_tree(local_dir: str | Path, uri: str) -> None:
    """Copies all files below a local folder to a URI, which keeps their relative paths.

    Raises:
        StorageError: the folder isn't there, or the storage can't be used.
    """
    root = Path(local_dir)
    if not root.is_dir():
        raise StorageError(f"{root} is no folder, so nothing can be copied to {uri}")
    fs, base = open_filesystem(uri)
    with explained(uri):
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            fs.put_file(str(path), f"{base.rstrip('/')}/{path.relative_to(root).as_posix()}")


def fetch_tree(
    uri: str, local_dir: str | Path, wanted: Callable[[str], bool] = lambda _: True
) -> Path:
    """Copies files below a URI into a local folder, and returns that folder.

    Args:
        uri: of the folder.
        local_dir: where its files go, by their relative paths.
        wanted: tells by a file's URI whether it is copied.

    Raises:
        StorageError: there is nothing, a key would leave the folder, or the storage can't be
            used.
    """
    root = Path(local_dir)
    fs, base = open_filesystem(uri)
    base = base.rstrip("/")
    files = list_files(uri)
    if not files:
        raise StorageError(f"{uri} holds no files: check the URI")
    with explained(uri):
        for file in filter(wanted, files):
            path = file.removeprefix("s3://")
            target = root / path.removeprefix(base).lstrip("/")
            if ".." in target.relative_to(root).parts:
                raise StorageError(f"{file} would be written outside of {root}: rename the object")
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.get_file(path, str(target))
    return root


def is_s3(uri: str) -> bool:
    """Whether a URI names an object in S3."""
    return uri.startswith("s3://")


def trouble_of(error: BaseException) -> Trouble:
    """What an exception of fsspec, s3fs, botocore or the operating system means."""
    from botocore import exceptions as boto

    cause = error if isinstance(error, boto.ClientError) else error.__cause__
    if isinstance(cause, boto.ClientError):
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        known = _CODES.get(_code(cause)) or _STATUSES.get(status)
        return known or (Trouble.UNREACHABLE if status >= 500 else Trouble.OTHER)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return Trouble.NO_KEYS
    if isinstance(error, TimeoutError | boto.ConnectTimeoutError | boto.ReadTimeoutError):
        return Trouble.TIMEOUT
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Trouble.OBJECT_MISSING
    if isinstance(error, PermissionError):
        return Trouble.DENIED
    unreachable = (boto.ConnectionError, boto.HTTPClientError, ConnectionError)
    # A connection that breaks in the middle of a body is aiohttp's to report.
    if isinstance(error, unreachable) or type(error).__module__.startswith("aiohttp"):
        return Trouble.UNREACHABLE
    return Trouble.OTHER


def explain(uri: str, error: BaseException) -> str:
    """One sentence: what is wrong with a URI and what to do about it."""
    return _sentence(uri, trouble_of(error), error)


def _sentence(uri: str, trouble: Trouble, error: BaseException) -> str:
    if not is_s3(uri):
        return {
            Trouble.OBJECT_MISSING: f"{uri} does not exist: check the path",
            Trouble.DENIED: f"{uri} can't be accessed: check its permissions",
        }.get(trouble, f"{uri} can't be used: {error}")
    bucket = _bucket(uri)
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "AWS").rpartition("@")[2]
    cause = error.__cause__ or error
    return {
        Trouble.OBJECT_MISSING: f"{uri} does not exist at {endpoint}: check the URI",
        Trouble.BUCKET_MISSING: f"{uri}: bucket '{bucket}' does not exist at {endpoint}: create "
        "it or correct the URI",
        Trouble.DENIED: f"{uri}: {endpoint} denies access ({_code(cause)}): check "
        f"AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights on bucket '{bucket}'",
        Trouble.NO_KEYS: f"{uri}: there are no keys for {endpoint}: set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY",
        Trouble.CHANGED: f"{uri} is not the version that was asked for: list it again",
        Trouble.THROTTLED: f"{uri}: {endpoint} asks for fewer requests ({_code(cause)}): lower "
        "the concurrency",
        Trouble.TIMEOUT: f"{uri}: {endpoint} gives no answer in time: check AWS_ENDPOINT_URL and "
        "the network",
        Trouble.UNREACHABLE: f"{uri}: {endpoint} can't be reached or fails "
        f"({_code(cause)}): check AWS_ENDPOINT_URL and the server",
    }.get(trouble, f"{uri} can't be used at {endpoint}: {type(error).__name__}: {error}")


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns whatever a store raises into a :class:`StorageError` about the URI."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (OSError, ValueError, BotoCoreError, ClientError, aiohttp.ClientError) as error:
        raise StorageError(explain(uri, error)) from error


_opening = threading.Lock()


def _s3_settings() -> tuple[str | None, ...]:
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return (*(os.environ.get(key) or None for key in keys), region)


@lru_cache(maxsize=8)
def _s3(
    pid: int,
    key: str | None,
    secret: str | None,
    token: str | None,
    endpoint: str | None,
    region: str | None,
) -> fsspec.AbstractFileSystem:
    """A connected client; ``pid`` keeps a forked child from using its parent's."""
    fs = fsspec.filesystem(
        "s3",
        key=key,
        secret=secret,
        token=token,
        endpoint_url=endpoint,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "max_pool_connections": CONNECTIONS,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    fs.retries = 2  # botocore repeats requests; this repeats bodies that broke off.
    fs.connect()
    return fs


def _check_bucket(fs: fsspec.AbstractFileSystem, uri: str) -> None:
    """Asks for the URI's bucket: that a key isn't there doesn't tell whether the bucket is."""
    try:
        fs.call_s3("head_bucket", Bucket=_bucket(uri))
    except FileNotFoundError as error:
        raise StorageError(_sentence(uri, Trouble.BUCKET_MISSING, error)) from error


def _bucket(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[0]


def _code(error: BaseException) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
