"""Where a manifest's items may be: a list of folders, and nothing is opened outside of them.

Whoever writes a manifest may see less than the process that reads it: without a wall, a row could
name a file of that machine, whose picture would then stand in the night's report.
"""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from beholder.items import FailureCode, ItemError
from beholder.media.fetch import Fetched, fetch
from beholder.media.limits import Limits
from beholder.media.storage import is_s3, open_filesystem

REMEDY = "add its folder to allowed_places, or name one that is listed"


class Places:
    """Fetches what is in allowed folders; thread-safe, and may be pickled.

    Args:
        folders: ``s3://bucket``, ``s3://bucket/folder``, ``/folder`` or ``file:///folder``; each
            allows what is below it, at any depth. None at all: whatever the keys reach in S3, and
            no file.
    """

    def __init__(self, folders: Sequence[str] = ()) -> None:
        self._any_bucket = not folders
        self._s3 = tuple(f"{folder.rstrip('/')}/" for folder in folders if is_s3(folder))
        self._disk = tuple(folder for folder in folders if not is_s3(folder))

    def fetch(self, source: str | Path | bytes, limits: Limits, etag: str | None = None) -> Fetched:
        """An item's bytes; a :data:`~beholder.media.stage.Fetcher`.

        Raises:
            ItemError: ``fetch.denied`` for what is elsewhere, of which nothing is opened;
                otherwise as :func:`~beholder.media.fetch.fetch`.
        """
        if not isinstance(source, bytes) and not self._allow(str(source)):
            raise ItemError(FailureCode.FETCH_DENIED, f"{source} is in no allowed place: {REMEDY}")
        return fetch(source, limits, etag)

    def _allow(self, uri: str) -> bool:
        if is_s3(uri):
            # Also as a sloppy store would read it: nothing may climb out of an allowed folder.
            climbs = {".", ".."} & {*uri.split("/"), *unquote(uri).split("/")}
            return self._any_bucket or (uri.startswith(self._s3) and not climbs)
        if "://" in uri and not uri.startswith("file://"):
            return True  # `fetch` opens no such thing, and says so
        try:
            here = _real(uri)
            return any(here.is_relative_to(_real(folder)) for folder in self._disk)
        except (OSError, ValueError, RuntimeError):  # a NUL in it, links in a circle
            return False


def _real(uri: str) -> Path:
    return Path(open_filesystem(uri)[1]).resolve()
