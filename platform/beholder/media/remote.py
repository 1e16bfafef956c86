"""One object over HTTPS from a host that is allowed by name, and from nowhere else.

Whoever sends a URI must not be able to make this process talk to anything but the hosts that its
operator named: not to another port, not to an inner network that a name leads to, not to where a
redirect points. So a URI must match a strict grammar, its host must be on the list, the name is
resolved once, every address is checked, and the connection goes to the checked address
itself. Proxies of the environment are not used.
"""

import hashlib
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from beholder.config import JobConfig
from beholder.items import FailureCode, ItemError
from beholder.media.addresses import is_private, is_public
from beholder.media.exchange import expired, get, until
from beholder.media.fetch import Fetched
from beholder.media.limits import Limits

MAX_URI = 2048
RESOLVERS = 4
_PORTS = {"https": 443, "http": 80}
_PCHAR = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}"
_URI = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    rf"(?P<path>(?:/(?:{_PCHAR})*)?)(?P<query>(?:\?(?:{_PCHAR}|\?)*)?)"
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A last part that is a number makes an address of the whole (WHATWG URL, "ends in a number").
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$|0x[0-9a-f]*$){_LABEL}")

Resolve = Callable[[str, int], Sequence[str]]


class RemoteHost(JobConfig):
    """A host whose objects may be fetched."""

    name: str = Field(max_length=253, description="its DNS name in lower case; no address")
    port: int = Field(443, ge=1, le=65535, description="the only port that is spoken to")
    scheme: Literal["https", "http"] = Field("https", description="http has no protection at all")
    private: bool = Field(
        False, description="whether the name may lead to an inner network or this machine"
    )

    @property
    def authority(self) -> str:
        """What the Host line says: the port only where it does not go without saying."""
        return self.name if self.port == _PORTS[self.scheme] else f"{self.name}:{self.port}"

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("write a DNS name in lower case, without scheme, port or path")
        return name


class _Target(NamedTuple):
    """A URI that may be asked for: its host, and what the request line names."""

    host: RemoteHost
    path: str
    uri: str


class RemoteClient:
    """Fetches from allowed hosts; thread-safe.

    Args:
        hosts: the allowed ones.
        timeout_s: seconds that one object may take, from the name to the last byte.
        connect_s: seconds that one address may take to accept a connection.
        trust: whose certificates are believed; the system's authorities by default.
        resolve: gives a name's addresses; the system's resolver by default.
    """

    def __init__(
        self,
        hosts: Sequence[RemoteHost],
        timeout_s: float = 10.0,
        connect_s: float = 3.0,
        trust: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._hosts: dict[tuple[str, str, int], RemoteHost] = {
            (host.scheme, host.name, host.port): host for host in hosts
        }
        self._timeout_s = timeout_s
        self._connect_s = connect_s
        self._trust = trust or ssl.create_default_context()
        self._resolve = resolve or _system_resolve
        # The system's resolver knows no time limit: it is left behind in a thread of its own.
        self._resolvers = ThreadPoolExecutor(RESOLVERS, "resolve")

    def fetch(self, uri: str, limits: Limits) -> Fetched:
        """An object's bytes, but no more of them than the limit.

        Args:
            uri: ``https://host/path``, ASCII, without user, fragment or backslash; the host as
                a name, the port left out or the allowed one.
            limits: ``max_bytes``.

        Raises:
            ItemError: ``fetch.unsupported`` for a URI of another form; ``fetch.denied`` for
                a host, port, address, redirect or certificate that is not allowed;
                ``fetch.timeout``, ``fetch.unavailable``, ``fetch.throttled``, ``fetch.not_found``
                or ``limit.bytes`` for what the host does. No message names an address.
        """
        target = self._target(uri)
        deadline = time.monotonic() + self._timeout_s
        addresses = self._addresses(target, deadline)
        connection = self._connect(target, addresses, deadline)
        with until(deadline, connection, target.uri):
            data = get(connection, target.host.authority, target.path, target.uri, limits)
        return Fetched(data, hashlib.sha256(data).hexdigest())

    def _target(self, uri: str) -> _Target:
        match = _URI.fullmatch(uri) if len(uri) <= MAX_URI else None
        name = match["host"].lower() if match else ""
        if match is None or len(name) > 253 or not _NAME.fullmatch(name):
            raise ItemError(
                FailureCode.FETCH_UNSUPPORTED,
                f"{shown(uri)} is no plain HTTPS address: write https://name/path in ASCII, "
                "percent-encoded, without user, fragment or a numeric host",
            )
        scheme = match["scheme"]
        port = int(match["port"] or _PORTS[scheme])
        host = self._hosts.get((scheme, name, port))
        if host is None:
            raise ItemError(
                FailureCode.FETCH_DENIED,
                f"{shown(uri)}: {scheme}://{name}:{port} is no allowed host: send the bytes or "
                "ask for the host to be allowed",
            )
        return _Target(host, (match["path"] or "/") + match["query"], shown(uri))

    def _addresses(self, target: _Target, deadline: float) -> Sequence[str]:
        host = target.host
        future = self._resolvers.submit(self._resolve, host.name, host.port)
        try:
            addresses = future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            future.cancel()
            raise expired(target.uri) from error
        except OSError as error:
            raise ItemError(
                FailureCode.FETCH_UNAVAILABLE, f"{target.uri}: '{host.name}' can't be resolved"
            ) from error
        for address in addresses:
            if not is_public(address) and not (host.private and is_private(address)):
                raise ItemError(
                    FailureCode.FETCH_DENIED,
                    f"{target.uri}: '{host.name}' leads to an address that is not public: host it "
                    "elsewhere or allow the host as private",
                )
        return addresses

    def _connect(self, target: _Target, addresses: Sequence[str], deadline: float) -> socket.socket:
        failed: OSError | None = None
        for address in addresses:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                return self._open(address, target.host, min(self._connect_s, left))
            except OSError as error:
                failed = error
        if failed is None or isinstance(failed, TimeoutError):
            raise expired(target.uri) from failed
        raise ItemError(
            FailureCode.FETCH_UNAVAILABLE, f"{target.uri}: '{target.host.name}' takes no connection"
        ) from failed

    def _open(self, address: str, host: RemoteHost, patience_s: float) -> socket.socket:
        """Connects to a numeric address, so that nothing is resolved a second time."""
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            connection.settimeout(patience_s)
            connection.connect((address, host.port))
            connection.settimeout(None)  # From here on the deadline watches.
            if host.scheme == "http":
                return connection
            # A body without a length ends with the connection: as TLS says, or it was cut.
            return self._trust.wrap_socket(
                connection,
                server_hostname=host.name,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
        except OSError:
            connection.close()
            raise


def shown(uri: str) -> str:
    """A URI for a message: without its query, which may hold a signature, and not too long."""
    text = ascii(uri.partition("?")[0])[1:-1]
    return text if len(text) <= 200 else f"{text[:197]}..."


def _system_resolve(name: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
