"""What Serve's proxies do to a request before anything else.

They are told of :func:`middlewares` by ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH``, see
``serve_apps/local.yaml``, and must be able to import this package.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from beholder.serving.observed import known_id

ID = b"x-request-id"
SERVES_OWN = frozenset(
    {
        b"serve-multiplexed-model-id",
        b"x-session-id",
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
    }
)
"""By these Serve's proxies let a client choose replicas and time limits, and have a request go on
when its client is gone. Written with hyphens: Serve takes underscores for the same."""
TRACE = frozenset({b"traceparent", b"tracestate"})


def middlewares() -> list[Middleware]:
    """For Serve's proxies: their own part, which reads and echoes the id, comes after these."""
    return [Middleware(CleanHeaders)]


class CleanHeaders:
    """ASGI middleware: one ``X-Request-ID``, as everything behind it shall know the request.

    Serve's proxy answers 500 itself to an id that isn't UTF-8, and echoes what it was sent.

    Args:
        app: what it is around.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with the headers that are left."""
        if scope["type"] in ("http", "websocket"):
            headers = scope["headers"]
            told = next((value for name, value in headers if name == ID), b"")
            kept = [(ID, known_id(told.decode("latin-1")).encode())]
            kept += [(name, value) for name, value in headers if _passes(name, value)]
            scope = {**scope, "headers": kept}
        await self._app(scope, receive, send)


def _passes(name: bytes, value: bytes) -> bool:
    if name in TRACE:
        return value.isascii()
    return name != ID and name.replace(b"_", b"-") not in SERVES_OWN
