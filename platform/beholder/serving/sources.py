"""What a request's URIs may name: objects in allowed buckets and on allowed hosts, nothing else.

A request comes from somebody who may see less than this process can. So its URIs never name
files, and of S3 and HTTPS only what the operator has listed.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from beholder.items import FailureCode, ItemError
from beholder.media.fetch import Fetched, fetch
from beholder.media.limits import Limits
from beholder.media.remote import MAX_URI, RemoteClient, shown

BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
FOLDER = rf"{BUCKET}(/[^/\\]+)*"
"""A bucket, or a folder in it, as ``allowed_buckets`` lists them."""

_S3_SENTENCES = {
    FailureCode.FETCH_NOT_FOUND: "there is no such object: check bucket and key",
    FailureCode.FETCH_DENIED: "the endpoint may not read it: ask whoever runs it",
    FailureCode.FETCH_TIMEOUT: "the store gives no answer in time: try it later",
    FailureCode.FETCH_THROTTLED: "the store asks for fewer requests: try it later",
    FailureCode.FETCH_UNAVAILABLE: "the store can't be used: try it later",
}
"""In place of the store's own, which name its address and the keys' variables."""


class Sources:
    """Fetches what requests name; thread-safe.

    Args:
        buckets: allowed ones, each ``bucket`` or ``bucket/folder``; a folder allows what is
            below it, at any depth.
        remote: knows the allowed hosts.
    """

    def __init__(self, buckets: Sequence[str], remote: RemoteClient) -> None:
        self._folders = tuple(f"{bucket.strip('/')}/" for bucket in buckets)
        self._remote = remote

    def fetch(self, source: str | Path | bytes, limits: Limits, etag: str | None = None) -> Fetched:
        """An item's bytes; a :data:`~beholder.media.stage.Fetcher`.

        Args:
            source: bytes that came with the request, or a URI that was named in it.
            limits: ``max_bytes``.
            etag: None: requests name no versions.

        Raises:
            ItemError: ``fetch.unsupported`` for a URI of another form, a path included;
                ``fetch.denied`` for what is not allowed; otherwise what the store or the host
                does. Of a refused URI nothing is fetched or resolved.
        """
        assert etag is None, "requests name no versions"
        if isinstance(source, bytes):
            return fetch(source, limits)
        uri = str(source)
        if len(uri) <= MAX_URI and uri.isprintable():
            if uri.startswith("s3://"):
                return self._from_s3(uri, limits)
            if uri.startswith(("https://", "http://")):
                return self._remote.fetch(uri, limits)
        raise ItemError(
            FailureCode.FETCH_UNSUPPORTED,
            f"{shown(uri)} can't be fetched: name s3://bucket/key or https://host/path in at most "
            f"{MAX_URI} printable characters, or send the bytes",
        )

    def _from_s3(self, uri: str, limits: Limits) -> Fetched:
        path = uri.removeprefix("s3://")
        bucket, _, key = path.partition("/")
        # Also as a sloppy store would read it: nothing may climb out of an allowed folder.
        steps = {*key.split("/"), *unquote(key).split("/")}
        if not re.fullmatch(BUCKET, bucket) or steps & {"", ".", ".."} or "\\" in unquote(key):
            raise ItemError(
                FailureCode.FETCH_UNSUPPORTED,
                f"{shown(uri)} is no plain object: write s3://bucket/key without empty or dot "
                "steps and without a backslash",
            )
        if not path.startswith(self._folders):
            raise ItemError(
                FailureCode.FETCH_DENIED,
                f"{shown(uri)} is in no allowed bucket or folder: send the bytes or ask for the "
                "bucket to be allowed",
            )
        try:
            return fetch(uri, limits)
        except ItemError as error:
            code = error.failure.code
            if code not in _S3_SENTENCES:
                raise
            message = f"{shown(uri)}: {_S3_SENTENCES[code]}"
            raise ItemError(code, message, error.failure.bytes_read) from error
