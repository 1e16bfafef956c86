"""Who is let in: a bound on frames and bytes, asked before a body is read and while it is."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import Message

from beholder.serving.requests import RequestError

WINDOW_S = 30.0
"""Seconds over which the drain rate is measured."""
LONGEST_RETRY_S = 60


class Admission:
    """Counts what a replica of the endpoint has in flight.

    A request is let in while the frames ahead of it stay below their limit, so what is in flight
    exceeds ``max_frames`` by less than one request. Bytes count as they arrive and never exceed
    ``max_bytes``: who announces many and sends none keeps nobody out.

    Args:
        max_frames: in flight, waiting and being scored.
        max_bytes: of request bodies in memory.
        clock: seconds, monotonic.
    """

    def __init__(
        self, max_frames: int, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.frames = 0
        self.bytes = 0
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._clock = clock
        self._busy_since: float | None = None
        self._drained: deque[tuple[float, int]] = deque()

    @contextmanager
    def enter(self, size: int | None) -> Iterator["Place"]:
        """A place in the queue while the context lasts, however it ends.

        Args:
            size: bytes that the body is said to have, which must fit but aren't booked; None
                where nobody knows.

        Raises:
            RequestError: 429, with the seconds after which to come again.
        """
        self._check_frames()
        self._check_bytes(1 if size is None else size)
        place = Place(self)
        try:
            yield place
        finally:
            self._leave(place)

    def hold(self, place: "Place", size: int) -> None:
        """See :meth:`Place.hold`."""
        self._check_bytes(size)
        self.bytes += size
        place.bytes += size

    def claim(self, place: "Place", frames: int) -> None:
        """See :meth:`Place.claim`."""
        self._check_frames()
        if self.frames == 0:
            self._busy_since = self._clock()
            self._drained.clear()
        self.frames += frames
        place.frames += frames

    def _leave(self, place: "Place") -> None:
        self.bytes -= place.bytes
        self.frames -= place.frames
        if place.scored:
            self._drained.append((self._clock(), place.scored))

    def retry_after_s(self) -> int:
        """Whole seconds in which what is in flight is done, at the rate of late; 1 to 60."""
        now = self._clock()
        while self._drained and self._drained[0][0] < now - WINDOW_S:
            self._drained.popleft()
        done = sum(frames for _, frames in self._drained)
        if self._busy_since is None or not done:
            return 1
        # No longer than it has been busy: an idle endpoint isn't a slow one.
        seconds = max(min(WINDOW_S, now - self._busy_since), 1e-3)
        return min(LONGEST_RETRY_S, max(1, math.ceil(self.frames * seconds / done)))

    def _check_frames(self) -> None:
        if self.frames >= self._max_frames:
            raise self._refusal(f"{self.frames} frames in flight, of at most {self._max_frames}")

    def _check_bytes(self, size: int) -> None:
        if self.bytes + size > self._max_bytes:
            held = f"{self.bytes} bytes of bodies in memory, of at most {self._max_bytes}"
            raise self._refusal(f"{held}, and no room for {size} more")

    def _refusal(self, full: str) -> RequestError:
        seconds = self.retry_after_s()
        message = f"the endpoint has {full}: come again in {seconds} s"
        return RequestError(429, message, retry_after_s=seconds)


class Place:
    """One request's part of what is in flight."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.bytes = 0
        self.frames = 0
        self.scored = 0

    def hold(self, size: int) -> None:
        """Takes bytes that have arrived.

        Raises:
            RequestError: 429: they don't fit beside what others hold.
        """
        self._admission.hold(self, size)

    def reading(self, request: Request, stall_s: float) -> Request:
        """The request, whose body this place holds as it is read.

        Reading raises 429 for what doesn't fit, and 408 where no byte comes for ``stall_s``.
        """

        async def held() -> Message:
            try:
                async with asyncio.timeout(stall_s):
                    message = await request.receive()
            except TimeoutError:
                stalled = f"no byte of the body came for {stall_s:g} s: send it without a pause"
                raise RequestError(408, stalled) from None
            self.hold(len(message.get("body", b"")))
            return message

        return Request(request.scope, held)

    def claim(self, frames: int) -> None:
        """Takes frames, once the request's items are known.

        Raises:
            RequestError: 429: others took what was left meanwhile.
        """
        self._admission.claim(self, frames)

    def done(self, frames: int) -> None:
        """Says how many frames were scored: the drain rate comes from it."""
        self.scored += frames
