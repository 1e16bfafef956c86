"""The webhook against a real server on loopback: it posts once and never raises."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from beholder.catalog.webhook import notify


class Handler(BaseHTTPRequestHandler):
    received: list[tuple[str, dict]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, json.loads(body)))
        status = int(self.path.removeprefix("/").partition("?")[0])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield serving
        serving.shutdown()


def address(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_the_summary_arrives_once(server: ThreadingHTTPServer) -> None:
    assert notify(address(server, "200"), {"snapshot": "2026-11-20.0", "scored": 12})
    assert Handler.received == [("/200", {"snapshot": "2026-11-20.0", "scored": 12})]


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refusal_is_logged_without_the_secret(
    server: ThreadingHTTPServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "beholder"):
        assert not notify(address(server, f"{status}?token=secret"), {"a": 1})
    assert len(Handler.received) == 1  # a redirect is not followed
    (record,) = caplog.records
    assert record.fields["reason"] == f"status {status}"
    assert "secret" not in str(record.fields)


@pytest.mark.parametrize("url", ["no address", "ftp://127.0.0.1/x", "file:///etc/passwd", ""])
def test_what_is_no_address_is_logged(url: str) -> None:
    assert not notify(url, {})


def test_nobody_there_and_nobody_answering() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes a connection, says nothing
        port = silent.getsockname()[1]
        assert not notify(f"http://127.0.0.1:{port}/", {}, timeout_s=0.2)
    assert not notify(f"http://127.0.0.1:{port}/", {}, timeout_s=0.2)
