"""Who is told by a webhook."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Listener(ThreadingHTTPServer):
    """Takes what is posted to it, and answers as its path says."""

    def __init__(self) -> None:
        posted: list[dict[str, Any]] = []
        self.posted = posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                posted.append(json.loads(self.rfile.read(size)))
                self.send_response(int(self.path.removeprefix("/")))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
