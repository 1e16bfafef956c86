"""One GET on a socket that stands already, under a deadline and a limit of bytes."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from beholder.items import FailureCode, ItemError
from beholder.media.limits import Limits

CHUNK = 2**16
_STATUSES = {
    401: FailureCode.FETCH_DENIED,
    403: FailureCode.FETCH_DENIED,
    404: FailureCode.FETCH_NOT_FOUND,
    408: FailureCode.FETCH_TIMEOUT,
    410: FailureCode.FETCH_NOT_FOUND,
    429: FailureCode.FETCH_THROTTLED,
    503: FailureCode.FETCH_THROTTLED,
}


@contextmanager
def until(deadline: float, connection: socket.socket, uri: str) -> Iterator[None]:
    """Cuts a connection at the deadline, wherever it stands, and closes it at the end.

    A time limit on each read would not do: a host that sends a byte a second keeps it.

    Args:
        deadline: by :func:`time.monotonic`, seconds.
        connection: connected, in TLS or not.
        uri: what messages call it.

    Raises:
        ItemError: ``fetch.timeout`` at the deadline; ``fetch.denied`` for a certificate that is
            not believed; ``fetch.unavailable`` for whatever else breaks on a connection.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            # Not TLS's own shutdown, which takes the state from under whoever is reading.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (ItemError, OSError, ValueError, http.client.HTTPException) as error:
        raise (expired(uri) if late.is_set() else _explained(error, uri)) from error
    else:
        if late.is_set():
            raise expired(uri)  # What was cut may pass for a body without a length.
    finally:
        timer.cancel()
        timer.join()
        connection.close()


def get(connection: socket.socket, authority: str, path: str, uri: str, limits: Limits) -> bytes:
    """Asks for an object and reads it whole.

    Args:
        connection: connected; TLS has yet to shake hands.
        authority: the host, and the port where it has to be said.
        path: of the request line, with the query.
        uri: what messages call it.
        limits: ``max_bytes``.

    Raises:
        ItemError: ``fetch.denied`` for a redirect, which is never followed; ``fetch.unsupported``
            for a compressed body; ``limit.bytes``; ``fetch.unavailable`` for a body that is
            shorter than it was said to be; for other answers than 200 the code that fits.
        OSError, ValueError, HTTPException: the connection breaks off, or speaks no HTTP.
    """
    if isinstance(connection, ssl.SSLSocket):
        connection.do_handshake()
    exchange = http.client.HTTPConnection(authority)
    exchange.sock = connection
    # identity: nothing that unfolds to more than it says it is.
    headers = {"Host": authority, "Accept-Encoding": "identity", "Connection": "close"}
    exchange.request("GET", path, headers=headers)
    with exchange.getresponse() as response:
        _check_answer(response, uri)
        if response.length is not None and response.length > limits.max_bytes:
            raise _too_large(uri, str(response.length), 0, limits)
        return _read(response, uri, limits)


def expired(uri: str) -> ItemError:
    """What becomes of an item whose time is up."""
    return ItemError(FailureCode.FETCH_TIMEOUT, f"{uri} did not arrive in time: try it later")


def _check_answer(response: http.client.HTTPResponse, uri: str) -> None:
    status = response.status
    if 300 <= status < 400:
        raise ItemError(
            FailureCode.FETCH_DENIED,
            f"{uri} redirects to another place: send the URI of the object itself",
        )
    if status != 200:
        other = FailureCode.FETCH_UNAVAILABLE if status >= 500 else FailureCode.FETCH_UNSUPPORTED
        raise ItemError(
            _STATUSES.get(status, other),
            f"{uri}: the host answers {status}: check the URI and who may read it",
        )
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ItemError(
            FailureCode.FETCH_UNSUPPORTED,
            f"{uri} is sent compressed, though that was not asked for: store it as it is",
        )


def _read(response: http.client.HTTPResponse, uri: str, limits: Limits) -> bytes:
    data = bytearray()
    with suppress(OSError, ValueError, http.client.HTTPException):
        while piece := response.read1(CHUNK):
            data += piece
            if len(data) > limits.max_bytes:
                raise _too_large(uri, f"more than {limits.max_bytes}", len(data), limits)
        if not response.length:  # The standard library says nothing of a body that is too short.
            return bytes(data)
    raise ItemError(
        FailureCode.FETCH_UNAVAILABLE,
        f"{uri} broke off after {len(data)} bytes: try it later",
        len(data),
    )


def _explained(error: Exception, uri: str) -> ItemError:
    if isinstance(error, ItemError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        return ItemError(
            FailureCode.FETCH_DENIED,
            f"{uri}: the host's certificate is not believed ({error.verify_message}): renew it",
        )
    return ItemError(
        FailureCode.FETCH_UNAVAILABLE,
        f"{uri}: the connection broke off or speaks no HTTP ({type(error).__name__}): try it later",
    )


def _too_large(uri: str, size: str, read: int, limits: Limits) -> ItemError:
    message = f"{uri}: {size} bytes are above the limit of {limits.max_bytes}: shrink it"
    return ItemError(FailureCode.LIMIT_BYTES, message, read)
