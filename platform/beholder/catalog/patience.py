"""A store's bad moments waited out: a night must not end because of one."""

import io
import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from beholder.logs import event
from beholder.media.storage import (
    REMOVALS,
    StorageError,
    Trouble,
    explained,
    open_filesystem,
    remove_files,
    trouble_of,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Before each further try, up to half more or less of it, beyond what the client repeats itself."""

_PASSING = {Trouble.THROTTLED, Trouble.TIMEOUT, Trouble.UNREACHABLE}


def patiently(call: Callable[[], T]) -> T:
    """What a call gives that uses storage, tried again while the trouble is one that passes.

    Raises:
        StorageError: the trouble is of another kind, as a missing object or a write conflict,
            or has lasted.
    """
    for wait in WAITS_S:
        try:
            return call()
        except StorageError as error:
            if trouble(error) not in _PASSING:
                raise
            event(log, "storage.waits", seconds=wait, reason=str(error))
        time.sleep(wait * random.uniform(0.5, 1.5))  # drivers must not come back all at once
    return call()


def delete(uris: Sequence[str]) -> None:
    """Removes objects, each request as :func:`patiently` does; one that isn't there is no error.

    Raises:
        StorageError: the storage can't be used; some may be gone.
    """
    for at in range(0, len(uris), REMOVALS):
        patiently(partial(remove_files, uris[at : at + REMOVALS]))


class PatientFile(io.RawIOBase):
    """An object to be read piece by piece, each piece as :func:`patiently` does; not thread-safe.

    Args:
        uri: of the object.

    Raises:
        StorageError: it is missing, or the storage can't be used; so do its methods.
    """

    def __init__(self, uri: str) -> None:
        super().__init__()
        self._uri = uri
        self._file: Any = patiently(self._opened)

    def _opened(self) -> Any:
        filesystem, path = open_filesystem(self._uri)
        with explained(self._uri):
            return filesystem.open(path, "rb")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new place, in bytes."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """The place, in bytes."""
        return int(self._file.tell())

    def read(self, size: int | None = -1) -> bytes:
        """At most so many bytes from the place on; all that follow if none or -1."""
        place = self._file.tell()

        def once() -> bytes:
            with explained(self._uri):
                self._file.seek(place)
                return bytes(self._file.read(-1 if size is None else size))

        return patiently(once)

    def readinto(self, buffer: Any) -> int:
        """How many bytes were put into the buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Lets the object go."""
        if not self.closed:
            self._file.close()
        super().close()


def trouble(error: StorageError) -> Trouble | None:
    """What was wrong with the storage; None where the sentence itself is all there is."""
    return trouble_of(error.__cause__) if error.__cause__ is not None else None
