"""What no client of good will sends: no 5xx, no hang, no fetch, and the next one is served."""

import asyncio
import base64
import io
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import av
import httpx
import pytest
from fastapi import FastAPI

from beholder.items import FailureCode

from .canary import Canary, canary
from .hostile import JSON, WHOLE, bodies, media, polyglots
from .test_ssrf import URIS

Ask = Callable[..., httpx.Response]
Endpoint = Callable[..., FastAPI]


@pytest.fixture(scope="module")
def listener() -> Iterator[Canary]:
    with canary() as one:
        yield one


def test_the_corpus_has_more_than_200_bodies_beside_cuts_and_chance() -> None:
    kinds = Counter(body.kind for body in bodies())
    assert sum(n for kind, n in kinds.items() if kind not in ("truncated", "by chance")) > 200
    assert len(kinds) >= 15 and min(kinds.values()) >= 2


@pytest.mark.parametrize("path", ["/v1/score", "/v1/rank"])
def test_no_hostile_body_is_the_servers_fault(ask: Ask, endpoint: Endpoint, path: str) -> None:
    app = endpoint(max_items=8, request_s=5)  # who hangs gets 408 or 504
    for body in bodies():
        headers = {"Content-Type": body.content_type.encode("latin-1")}
        if body.encoding:
            headers["Content-Encoding"] = body.encoding.encode()
        answer = ask(app, "POST", path, content=body.content, headers=headers)
        assert answer.status_code in (200, 400, 413, 415), (body.kind, body.content[:80])
        expected = {"items"} if answer.status_code == 200 else {"error", "request_id"}
        assert set(answer.json()) == expected, (body.kind, body.content[:80])
        assert len(answer.content) < 300_000, "nobody's megabytes come back"


@pytest.fixture(scope="module")
def video() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_hostile_media_fail_alone(
    ask: Ask, endpoint: Endpoint, video: bytes, listener: Canary
) -> None:
    app = endpoint(max_pixels=1_000_000, request_s=60)
    files = {"good video": video, **media(video, listener.port), **polyglots()}
    items = [{"data": base64.b64encode(data).decode(), "id": name} for name, data in files.items()]
    begun = time.monotonic()
    answer = ask(app, "POST", "/v1/score", json={"items": items})
    assert time.monotonic() - begun < 30
    assert answer.status_code == 200, answer.text
    told = {item["item_id"]: item for item in answer.json()["items"]}
    assert list(told) == list(files)
    scored = {name for name, item in told.items() if "scores" in item}
    assert scored - {"video with its samples elsewhere"} == {"good video", *polyglots()}
    codes = {item["failure"]["code"] for item in told.values() if "failure" in item}
    assert codes <= set(FailureCode) and len(codes) >= 3
    assert all(code.startswith(("decode.", "limit.", "video.")) for code in codes)
    assert " at 0x" not in answer.text, "nobody is told where things lie in memory"
    sent = [("files", (name, data)) for name, data in files.items()]
    again = ask(app, "POST", "/v1/score", files=sent).json()["items"]
    assert [item.get("failure") for item in again] == [i.get("failure") for i in told.values()]
    assert listener.visits == 0


def test_the_ssrf_corpus_gets_failures_and_reaches_nothing(
    ask: Ask, endpoint: Endpoint, listener: Canary
) -> None:
    hosts = [{"name": "images.example.com"}, {"name": "media.internal", "private": True}]
    app = endpoint(allowed_hosts=hosts, allowed_buckets=["media", "shared/public"], request_s=10)
    uris = [uri.replace("{port}", str(listener.port)) for uri in URIS]
    for start in range(0, len(uris), 64):
        items = [{"uri": uri, "id": str(at)} for at, uri in enumerate(uris[start : start + 64])]
        answer = ask(app, "POST", "/v1/score", json={"items": items})
        assert answer.status_code == 200, answer.text
        for uri, item in zip(uris[start:], answer.json()["items"], strict=False):
            assert item["failure"]["code"] in ("fetch.unsupported", "fetch.denied"), uri
            assert "127.0.0.1" in uri or "127.0.0.1" not in item["failure"]["message"]
    assert listener.visits == 0


# --- on a socket --------------------------------------------------------------------------------

HEAD = b"POST /v1/score HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
FORM = b"POST /v1/score HTTP/1.1\r\nHost: here\r\nContent-Type: multipart/form-data; boundary=B\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SILENT = {
    "a body that does not come": HEAD + b"Content-Length: 100\r\n\r\n",
    "a length that is too long": HEAD + b"Content-Length: 100\r\n\r\n{}",
    "a form that stops": FORM + b"Content-Length: 1000\r\n\r\n" + WHOLE[:60],
    "chunks without an end": HEAD + CHUNKED + b"2\r\n{}\r\n",
    "a chunk that stops": HEAD + CHUNKED + b"ff\r\n{",
    "a body to be asked for": HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
}
"""Clients that say no more; they are told so once their time is over."""

WRONG = {
    "a length that is too short": HEAD + b'Content-Length: 2\r\n\r\n{}{"items": []}',
    "a length of another kind": HEAD + b"Content-Length: x\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "a hexadecimal length": HEAD + b"Content-Length: 0x2\r\n\r\n{}",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length beyond all": HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n{}",
    "a length above the limit": HEAD + b"Content-Length: 9999999999\r\n\r\n{}",
    "a length of digits": HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}",
    "a length and chunks": HEAD + b"Content-Length: 2\r\n" + CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "chunks of no size": HEAD + CHUNKED + b"x\r\n{}\r\n0\r\n\r\n",
    "chunks of a negative size": HEAD + CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n",
    "chunks of a huge size": HEAD + CHUNKED + b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "an unknown transfer encoding": HEAD + b"Transfer-Encoding: x\r\n\r\n{}",
    "a folded header": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a null in a header": HEAD + b"X: \0\r\nContent-Length: 2\r\n\r\n{}",
    "a header of a megabyte": HEAD + b"X: " + b"x" * 2**20 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "ten thousand headers": HEAD + b"X: x\r\n" * 10_000 + b"Content-Length: 2\r\n\r\n{}",
    "no version": b"POST /v1/score\r\n\r\n",
    "another version": HEAD.replace(b"1.1", b"9.9") + b"Content-Length: 2\r\n\r\n{}",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "mail": b"EHLO here\r\nMAIL FROM:<a@b>\r\n",
    "nothing": b"",
}
"""Clients that close their side after this."""


def say(url: str, words: bytes, close: bool) -> bytes:
    """What a server answers until it closes, or has answered once."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=15) as connection:
        told = b""
        try:
            connection.sendall(words)
            if close:
                connection.shutdown(socket.SHUT_WR)
            while b"request_id" not in told and (some := connection.recv(2**16)):
                told += some
        except (ConnectionResetError, BrokenPipeError):
            pass
        return told


@pytest.fixture(scope="module")
def app(endpoint: Endpoint) -> FastAPI:
    return endpoint(request_s=1, max_body_bytes=10_000, max_queue_bytes=10_000)


@pytest.fixture(scope="module")
def url(app: FastAPI, listening: Callable[..., Any]) -> Iterator[str]:
    with listening(app) as here:
        yield here


@pytest.fixture
def free(url: str) -> Iterator[None]:
    """Fails if a test's clients keep a byte: this body needs all that there are."""
    yield
    body = b'{"items": [{"data": "AAAA"}]}'.ljust(10_000)
    answer = httpx.post(f"{url}/v1/score", content=body, headers={"Content-Type": JSON})
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("words", SILENT.values(), ids=SILENT.keys())
def test_who_says_no_more_is_told_so_and_gives_the_place_back(url: str, words: bytes) -> None:
    told = say(url, words, close=False)
    assert b" 408 " in told and b"the body did not arrive within 1 s" in told


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("words", [*SILENT.values(), *WRONG.values()], ids=[*SILENT, *WRONG])
def test_what_is_no_request_is_no_fault_of_the_server(url: str, words: bytes) -> None:
    begun = time.monotonic()
    told = say(url, words, close=True)
    assert time.monotonic() - begun < 10
    for line in told.splitlines():
        assert not (line.startswith(b"HTTP/1") and b" 5" in line[:13]), told[:300]
        assert not (line.startswith(b"HTTP/1") and b" 200" in line[:13]), told[:300]


@pytest.mark.parametrize("length", [b"9" * 5000, b"9" * 19, "²".encode("latin-1"), b"-1", b"1_0"])
def test_a_length_that_is_no_number_counts_as_none(app: FastAPI, length: bytes) -> None:
    """Some servers let such a header through."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    scope = {"type": "http", "method": "POST", "path": "/v1/score", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "root_path": "", "scheme": "http"}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == (413 if length.startswith(b"9") else 400)
