"""Refuses a request's body before it is buffered."""

from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beholder.serving.observed import problem

MOST_DIGITS = 18
"""Of a length that is looked at; what is longer is too long for everybody."""


def declared_bytes(scope: Scope) -> int | None:
    """What a request's ``Content-Length`` says; None where it is missing or no number."""
    text = dict(scope["headers"]).get(b"content-length", b"")
    if not text.isdigit():
        return None
    return int(text) if len(text) <= MOST_DIGITS else 10**MOST_DIGITS


class _TooLargeError(Exception):
    pass


class BodyLimit:
    """ASGI middleware: 413 as soon as a body is, or says it is, larger than the limit.

    Args:
        app: what it guards.
        limit: bytes of a request, all its items together.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts what comes in; a body without a length is cut off when it gets too long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (declared_bytes(scope) or 0) > self._limit:
            await self._refuse(scope, receive, send)
            return
        read, started = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if read > self._limit and not started:
                return  # what the application says of its broken-off reading
            started = True
            await send(message)

        with suppress(_TooLargeError):
            await self._app(scope, counted, noted)
        if read > self._limit and not started:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the body is larger than {self._limit} bytes: send fewer or smaller items"
        await problem(413, message)(scope, receive, send)
