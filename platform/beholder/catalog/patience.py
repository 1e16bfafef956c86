"""A store's bad moments waited out: a night must not end because of one."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from beholder.media.storage import StorageError, Trouble, trouble_of

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
        time.sleep(wait * random.uniform(0.5, 1.5))  # drivers must not come back all at once
    return call()


def trouble(error: StorageError) -> Trouble | None:
    """What was wrong with the storage; None where the sentence itself is all there is."""
    return trouble_of(error.__cause__) if error.__cause__ is not None else None
