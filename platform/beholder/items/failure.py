"""Why an item has no score: a closed set of codes, each with its retry policy."""

from dataclasses import dataclass
from enum import StrEnum


class FailureCode(StrEnum):
    """Every reason for which an item can end without a score."""

    FETCH_NOT_FOUND = "fetch.not_found"
    FETCH_DENIED = "fetch.denied"
    FETCH_TIMEOUT = "fetch.timeout"
    FETCH_THROTTLED = "fetch.throttled"
    FETCH_UNAVAILABLE = "fetch.unavailable"
    FETCH_CHANGED = "fetch.changed"
    FETCH_UNSUPPORTED = "fetch.unsupported"
    DECODE_EMPTY = "decode.empty"
    DECODE_TRUNCATED = "decode.truncated"
    DECODE_UNSUPPORTED = "decode.unsupported"
    DECODE_TIMEOUT = "decode.timeout"
    DECODE_CRASHED = "decode.crashed"
    LIMIT_PIXELS = "limit.pixels"
    LIMIT_BYTES = "limit.bytes"
    LIMIT_DURATION = "limit.duration"
    VIDEO_NO_FRAMES = "video.no_frames"
    VIDEO_TIMEOUT = "video.timeout"
    TASK_UNSUPPORTED = "task.unsupported"
    ANSWER_UNPARSABLE = "answer.unparsable"
    MODEL_NAN = "model.nan"


@dataclass(frozen=True)
class Retry:
    """How often a failure is tried, and how long to wait.

    Attributes:
        attempts: tries in all; 1 means never again.
        backoff_s: seconds before the second try; doubled before each further one.
    """

    attempts: int = 1
    backoff_s: float = 0.0


NEVER = Retry()
RETRY: dict[FailureCode, Retry] = dict.fromkeys(FailureCode, NEVER) | {
    FailureCode.FETCH_TIMEOUT: Retry(3, 0.5),
    FailureCode.FETCH_THROTTLED: Retry(5, 0.5),
    FailureCode.FETCH_UNAVAILABLE: Retry(4, 0.5),
    FailureCode.DECODE_CRASHED: Retry(2, 0.0),
}
"""Retry policy by code: what is the store's fault is tried again, what is the item's is not."""


@dataclass(frozen=True)
class Failure:
    """An item's end without a score.

    Attributes:
        code: the reason.
        message: one sentence with the offending value, for a person.
        attempts: how often it was tried.
        bytes_read: bytes fetched before it failed.
    """

    code: FailureCode
    message: str
    attempts: int = 1
    bytes_read: int = 0


class ItemError(Exception):
    """Carries a :class:`Failure` up to whoever turns it into a row; never ends a job."""

    def __init__(self, code: FailureCode, message: str, bytes_read: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.failure = Failure(code, message, bytes_read=bytes_read)

    def __reduce__(self) -> tuple[type["ItemError"], tuple[FailureCode, str, int]]:
        # Exceptions cross process borders by their arguments; ours differ from the text.
        return ItemError, (self.failure.code, self.failure.message, self.failure.bytes_read)
