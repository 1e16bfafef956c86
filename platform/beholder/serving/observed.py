"""Around every request: its id, a line in the log, its counts, and an answer whatever happens."""

import asyncio
import contextvars
import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beholder.logs import event
from beholder.serving.metrics import RequestMetrics

log = logging.getLogger(__name__)

MAX_ID = 64
GONE = 499
"""The status in log and counts of a request whose client went away."""

_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")
_notes: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("notes")


def request_id() -> str:
    """The id of the request that is being answered."""
    return _request_id.get()


def known_id(told: str) -> str:
    """The id of a request that came with this one: its first 64 printable characters, or made."""
    one = "".join(c for c in told if c.isascii() and c.isprintable()).strip()[:MAX_ID].strip()
    return one or uuid.uuid4().hex


def note(**fields: Any) -> None:
    """Adds fields to the request's line in the log."""
    _notes.get().update(fields)


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A refusal as every route words it, see :class:`beholder.serving.schemas.Problem`."""
    return JSONResponse({"error": message, "request_id": request_id()}, status, headers)


class Observed:
    """ASGI middleware: outermost, so that refusals of the other guards are seen as well.

    Log lines of all processes that a request passes carry its id (:func:`known_id`), and Serve's
    own traces and logs do.

    Args:
        app: what it is around.
        metrics: where requests are counted.
        echo: whether answers carry the id; Serve's proxy adds it by itself.
        paths: that are told apart; every other one is ``other``.
    """

    def __init__(
        self, app: ASGIApp, metrics: RequestMetrics, echo: bool, paths: frozenset[str]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; an exception that nobody handled becomes a 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        one = known_id(Headers(scope=scope).get("x-request-id", ""))
        _request_id.set(one)
        notes: dict[str, Any] = {}
        _notes.set(notes)
        begun, status = time.monotonic(), GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._echo:
                    MutableHeaders(scope=message)["X-Request-ID"] = one
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            status = GONE
        except asyncio.CancelledError:
            status = GONE
            raise
        except Exception:
            log.exception("request.failed", extra={"fields": {"request_id": one}})
            if status != GONE:  # The answer is on its way: all that is left is to break it off.
                raise
            message = "the endpoint failed: report the request's id, its log says more"
            await problem(500, message)(scope, receive, noted)
        finally:
            seconds = time.monotonic() - begun
            self._note(scope, status, seconds, notes)

    def _note(self, scope: Scope, status: int, seconds: float, notes: dict[str, Any]) -> None:
        # By name and not by the route that was found: a guard may have refused before.
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.request(path, status, seconds)
        event(
            log,
            "request",
            request_id=request_id(),
            method=scope["method"],
            path=path,
            status=status,
            seconds=seconds,
            **notes,
        )
