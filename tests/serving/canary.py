"""A listener that nobody should come to."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ANSWER = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/x\r\nContent-Length: 0\r\n\r\n"


class Canary:
    """A listener that counts who comes, and sends everybody on to a place of choice."""

    def __init__(self) -> None:
        self.visits = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.redirects_to = self.port
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                if self._closing.is_set():
                    return
                self.visits += 1
                connection.settimeout(1)
                with suppress(OSError):
                    connection.recv(2**16)
                    connection.sendall(ANSWER % self.redirects_to)

    def close(self) -> None:
        self._closing.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._socket.close()


@contextmanager
def canary() -> Iterator[Canary]:
    one = Canary()
    try:
        yield one
    finally:
        one.close()
