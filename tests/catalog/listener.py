"""Who is told by a webhook."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Listener(ThreadingHTTPServer):
    """Takes what is posted to it, and answers as its path says."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                size = int(handler.headers["Content-Length"])
                self.posted.append(json.loads(handler.rfile.read(size)))
                handler.send_response(int(handler.path.removeprefix("/")))
                handler.end_headers()

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        super().__init__(("127.0.0.1", 0), Handler)
