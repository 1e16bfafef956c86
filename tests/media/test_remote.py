"""Fetching over TLS from a real local server whose authority the test makes itself."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from beholder.items import FailureCode, ItemError
from beholder.media import Limits
from beholder.media.remote import RemoteClient, RemoteHost

NAME = "images.example.com"  # no resolver leads from here to this machine
PHOTO = bytes(range(256)) * 1000
UNTIL_CUT = 200
"""Pieces that a dripping server sends, 20 a second, if nobody stops it: ten seconds."""


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        with suppress(OSError):
            getattr(self, f"_{self.path.partition('?')[0][1:].split('/')[0]}")()

    def _photo(self) -> None:
        self._answer(200, PHOTO, {"Content-Length": str(len(PHOTO))})

    def _chunked(self) -> None:
        body = b"".join(b"%x\r\n%b\r\n" % (1000, PHOTO[:1000]) for _ in range(256)) + b"0\r\n\r\n"
        self._answer(200, body, {"Transfer-Encoding": "chunked"})

    def _short(self) -> None:
        self._answer(200, PHOTO[:1000], {"Content-Length": str(len(PHOTO))})

    def _unsized(self) -> None:
        self._answer(200, PHOTO, {})
        assert isinstance(self.connection, ssl.SSLSocket)
        self.connection.unwrap()  # TLS's own good-bye, which vouches for the end

    def _cut(self) -> None:
        self._answer(200, PHOTO, {})

    def _lies(self) -> None:
        self._answer(200, b"", {"Content-Length": "1000000000000"})

    def _gzip(self) -> None:
        self._answer(200, b"x", {"Content-Length": "1", "Content-Encoding": "gzip"})

    def _redirect(self) -> None:
        self._answer(302, b"", {"Location": "/photo", "Content-Length": "0"})

    def _status(self) -> None:
        self._answer(int(self.path.split("/")[2][:3]), b"", {"Content-Length": "0"})

    def _drip(self) -> None:
        self._answer(200, b"", {"Content-Length": "1000"})
        self._drop_by_drop(b"x")

    def _drip_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._drop_by_drop(b"X-Slow: 1\r\n")

    def _drip_unsized(self) -> None:
        self._answer(200, b"", {})
        self._drop_by_drop(b"x")

    def _noise(self) -> None:
        self.wfile.write(b"\x00\xff" * 50 + b"\r\n")

    def _drop_by_drop(self, drop: bytes) -> None:
        for _ in range(UNTIL_CUT):
            self.wfile.write(drop)
            time.sleep(0.05)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def _certificate(
    name: str, names: list[str], issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, signing = issuer or (subject, key)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(n) for n in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signing, hashes.SHA256()), key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``ca.pem`` and, for ``NAME`` only, ``server.pem`` with its key."""
    folder = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    root, root_key = _certificate("a test's authority", [], None)
    server, key = _certificate(NAME, [NAME], (root.subject, root_key))
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.pem").write_bytes(key.private_bytes(pem, *plain) + server.public_bytes(pem))
    return folder


@pytest.fixture(scope="module")
def port(authority: Path) -> Iterator[int]:
    """Where the server listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        server.handle_error = lambda *_: None  # clients that hang up are what is tested
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority / "ca.pem"))


Client = Callable[..., RemoteClient]


@pytest.fixture
def client(port: int, trust: ssl.SSLContext) -> Client:
    """``client(name, **options)``: one that finds every name on this machine."""

    def make(name: str = NAME, **options: object) -> RemoteClient:
        host = RemoteHost(name=name, port=port, private=True)
        settings = {"trust": trust, "resolve": lambda *_: ["127.0.0.1"], "timeout_s": 5, **options}
        return RemoteClient([host], **settings)

    return make


def failure_of(client: RemoteClient, uri: str, limits: Limits | None = None) -> ItemError:
    with pytest.raises(ItemError) as caught:
        client.fetch(uri, limits or Limits())
    return caught.value


@pytest.mark.parametrize("path", ["photo", "chunked", "unsized"])
def test_the_bytes_arrive_whole(client: Client, port: int, path: str) -> None:
    fetched = client().fetch(f"https://{NAME}:{port}/{path}", Limits())
    assert len(fetched.data) == 256_000
    assert fetched.data[:1000] == PHOTO[:1000]
    assert len(fetched.sha256) == 64 and fetched.etag is None


def test_the_name_is_asked_for_and_the_path_goes_as_it_is(client: Client, port: int) -> None:
    client().fetch(f"https://IMAGES.example.com:{port}/photo/a%20b/../c?sig=%2F&x=1?y", Limits())
    seen = _Server.seen[-1]
    assert seen["path"] == "/photo/a%20b/../c?sig=%2F&x=1?y"
    assert seen["host"] == f"{NAME}:{port}"
    assert not {"authorization", "cookie", "referer"} & set(seen)


def test_the_standard_port_goes_without_saying() -> None:
    assert RemoteHost(name=NAME).authority == NAME
    assert RemoteHost(name=NAME, port=80, scheme="http").authority == NAME
    assert RemoteHost(name=NAME, port=80).authority == f"{NAME}:80"


def test_the_environments_proxy_is_not_used(
    client: Client, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert client().fetch(f"https://{NAME}:{port}/photo", Limits()).data == PHOTO


def test_a_certificate_for_another_name_is_refused(client: Client, port: int) -> None:
    error = failure_of(client("other.example.com"), f"https://other.example.com:{port}/photo")
    assert error.failure.code is FailureCode.FETCH_DENIED
    assert "other.example.com" in error.failure.message


def test_an_unknown_authority_is_refused(client: Client, port: int) -> None:
    before = len(_Server.seen)
    stranger = client(trust=ssl.create_default_context())
    error = failure_of(stranger, f"https://{NAME}:{port}/photo")
    assert error.failure.code is FailureCode.FETCH_DENIED
    assert len(_Server.seen) == before, "nothing was asked of it"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("redirect", FailureCode.FETCH_DENIED),
        ("gzip", FailureCode.FETCH_UNSUPPORTED),
        ("noise", FailureCode.FETCH_UNAVAILABLE),
        ("short", FailureCode.FETCH_UNAVAILABLE),
        ("cut", FailureCode.FETCH_UNAVAILABLE),
        ("status/201", FailureCode.FETCH_UNSUPPORTED),
        ("status/206", FailureCode.FETCH_UNSUPPORTED),
        ("status/304", FailureCode.FETCH_DENIED),
        ("status/400", FailureCode.FETCH_UNSUPPORTED),
        ("status/401", FailureCode.FETCH_DENIED),
        ("status/403", FailureCode.FETCH_DENIED),
        ("status/404", FailureCode.FETCH_NOT_FOUND),
        ("status/410", FailureCode.FETCH_NOT_FOUND),
        ("status/408", FailureCode.FETCH_TIMEOUT),
        ("status/429", FailureCode.FETCH_THROTTLED),
        ("status/503", FailureCode.FETCH_THROTTLED),
        ("status/500", FailureCode.FETCH_UNAVAILABLE),
        ("status/599", FailureCode.FETCH_UNAVAILABLE),
    ],
)
def test_what_is_not_the_object_has_a_code(
    client: Client, port: int, path: str, code: FailureCode
) -> None:
    uri = f"https://{NAME}:{port}/{path}"
    failure = failure_of(client(), f"{uri}?signature=secret").failure
    assert failure.code is code
    assert uri in failure.message and "secret" not in failure.message
    assert failure.bytes_read == {"short": 1000, "cut": len(PHOTO)}.get(path, 0)


def test_a_redirect_is_not_followed(client: Client, port: int) -> None:
    before = len(_Server.seen)
    failure_of(client(), f"https://{NAME}:{port}/redirect")
    assert [seen["path"] for seen in _Server.seen[before:]] == ["/redirect"]


@pytest.mark.parametrize(("path", "read"), [("photo", 0), ("lies", 0), ("unsized", 1)])
def test_bytes_above_the_limit_are_not_kept(
    client: Client, port: int, path: str, read: int
) -> None:
    limits = Limits(max_bytes=100_000)
    failure = failure_of(client(), f"https://{NAME}:{port}/{path}", limits).failure
    assert failure.code is FailureCode.LIMIT_BYTES
    assert read <= failure.bytes_read <= limits.max_bytes + 2**16
    exact = Limits(max_bytes=len(PHOTO))
    assert client().fetch(f"https://{NAME}:{port}/photo", exact).data == PHOTO


@pytest.mark.parametrize("path", ["drip", "drip_head", "drip_unsized"])
def test_a_host_that_keeps_dripping_is_cut_off(client: Client, port: int, path: str) -> None:
    start = time.monotonic()
    error = failure_of(client(timeout_s=0.4), f"https://{NAME}:{port}/{path}")
    assert error.failure.code is FailureCode.FETCH_TIMEOUT
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_that_says_nothing_is_cut_off(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # its backlog accepts
        port = silent.getsockname()[1]
        host = RemoteHost(name=NAME, port=port, scheme=scheme, private=True)
        client = RemoteClient([host], timeout_s=0.3, resolve=lambda *_: ["127.0.0.1"])
        error = failure_of(client, f"{scheme}://{NAME}:{port}/photo")
    assert error.failure.code is FailureCode.FETCH_TIMEOUT


def test_a_resolver_that_hangs_is_left_behind(client: Client, port: int) -> None:
    release = threading.Event()

    def hang(*_: object) -> list[str]:
        release.wait()
        return ["127.0.0.1"]

    error = failure_of(client(timeout_s=0.2, resolve=hang), f"https://{NAME}:{port}/photo")
    release.set()
    assert error.failure.code is FailureCode.FETCH_TIMEOUT


def test_a_name_that_leads_nowhere_is_tried_again_later(client: Client, port: int) -> None:
    def unknown(*_: object) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    error = failure_of(client(resolve=unknown), f"https://{NAME}:{port}/photo")
    assert error.failure.code is FailureCode.FETCH_UNAVAILABLE


def test_the_next_address_is_tried(client: Client, port: int) -> None:
    two = client(resolve=lambda *_: ["127.0.0.2", "127.0.0.1"])  # nobody listens on the first
    assert two.fetch(f"https://{NAME}:{port}/photo", Limits()).data == PHOTO
    none = client(resolve=lambda *_: ["127.0.0.2"])
    error = failure_of(none, f"https://{NAME}:{port}/photo")
    assert error.failure.code is FailureCode.FETCH_UNAVAILABLE


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "a..b", "example.com.", "-a.com", "a-.com", "EXAMPLE.com", "a_b.com", "ü.com"),
        *("example.com\n", "example.com:443", "https://example.com", "example.com/", "a.0x7f"),
        *("127.0.0.1", "2130706433", "0x7f000001", "127.1", "::1", "[::1]", "x" * 64, "*.a.com"),
    ],
)
def test_what_is_no_name_can_not_be_allowed(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        RemoteHost(name=name)


def test_the_systems_resolver_finds_this_machine(port: int, trust: ssl.SSLContext) -> None:
    """Up to the handshake: the server has no certificate for this name."""
    client = RemoteClient([RemoteHost(name="localhost", port=port, private=True)], trust=trust)
    error = failure_of(client, f"https://localhost:{port}/photo")
    assert "certificate" in error.failure.message
    strict = RemoteClient([RemoteHost(name="localhost", port=port)], trust=trust)
    assert "not public" in failure_of(strict, f"https://localhost:{port}/photo").failure.message
