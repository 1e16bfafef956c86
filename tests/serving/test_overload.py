"""The endpoint when there is too much, when it takes too long, and when clients leave."""

import asyncio
import base64
import json
import logging
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from beholder.serving.preprocess import made_picture
from beholder.serving.service import LostReplicaError

Ask = Callable[..., httpx.Response]
Endpoint = Callable[..., FastAPI]
FILES = [("files", ("a.png", made_picture()))]
MEDIA = {"data": base64.b64encode(made_picture()).decode()}
JSON = {"Content-Type": "application/json"}
HELD = ("beholder_queue_bytes", "")


class Slow:
    """Stands in for the scorer: holds each batch until it is let go."""

    def __init__(self, app: FastAPI) -> None:
        service = app.state.service
        self._inner = service.score_batch
        self._gate = threading.Event()
        self.begun = asyncio.Event()
        self.items: list[str] = []
        service.score_batch = self

    def __call__(self, scorer: Any, items: Sequence[Any], tasks: Any) -> list[dict[str, Any]]:
        self.items += [name for name, _ in items]
        self.begun._loop.call_soon_threadsafe(self.begun.set)  # type: ignore[attr-defined]
        assert self._gate.wait(20)
        return self._inner(scorer, items, tasks)

    def let_go(self) -> None:
        self._gate.set()


@asynccontextmanager
async def client_of(app: FastAPI):
    async with asyncio.timeout(30):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            yield client


def values(text: str) -> dict[tuple[str, str], float]:
    """Samples by name and the one label that matters."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = next((v for k, v in sample.labels.items() if k in ("status", "code")), "")
            found[sample.name, label] = sample.value
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)  # nothing tells when: it happens inside of the application


def slow(app: FastAPI) -> Slow:
    one = Slow(app)
    one.begun._loop = asyncio.get_running_loop()  # type: ignore[attr-defined]
    return one


def test_beyond_the_queue_a_request_is_refused_before_its_body_is_read(
    loop: asyncio.Runner, endpoint: Endpoint
) -> None:
    app = endpoint(max_queue_frames=2)

    async def body() -> None:
        engine = slow(app)
        async with client_of(app) as client:
            first = asyncio.create_task(client.post("/v1/score", files=FILES * 2))
            await engine.begun.wait()
            read = 0

            async def stream():
                nonlocal read
                read += 1
                yield b"x"

            refused = await client.post("/v1/score", content=stream(), headers=JSON)
            assert refused.status_code == 429 and read == 0
            assert int(refused.headers["Retry-After"]) >= 1
            assert "2 frames in flight, of at most 2: come again" in refused.json()["error"]
            engine.let_go()
            assert (await first).status_code == 200
            assert (await client.post("/v1/score", files=FILES)).status_code == 200

    loop.run(body())


def test_bodies_in_memory_are_bounded(loop: asyncio.Runner, endpoint: Endpoint) -> None:
    app = endpoint(max_body_bytes=10_000, max_queue_bytes=15_000)

    async def body() -> None:
        engine = slow(app)
        async with client_of(app) as client:
            padded = [*FILES, ("files", ("b", b"x" * 8000))]
            first = asyncio.create_task(client.post("/v1/score", files=padded))
            await engine.begun.wait()
            assert (await client.post("/v1/score", files=padded)).status_code == 429
            small = asyncio.create_task(client.post("/v1/score", files=FILES))
            await until(lambda: app.state.service.batcher.waiting_frames == 1)
            engine.let_go()
            assert [(await one).status_code for one in (first, small)] == [200, 200]

    loop.run(body())


@pytest.mark.parametrize("path", ["/v1/score", "/v1/rank"])
def test_a_body_that_no_longer_fits_is_refused_within_it(
    loop: asyncio.Runner, endpoint: Endpoint, path: str
) -> None:
    app = endpoint(max_body_bytes=10_000, max_queue_bytes=10_000)

    async def body() -> None:
        engine = slow(app)
        async with client_of(app) as client:
            first = asyncio.create_task(
                client.post("/v1/score", content=padded(8_000), headers=JSON)
            )
            await engine.begun.wait()
            read = 0

            async def stream() -> AsyncIterator[bytes]:
                nonlocal read
                for _ in range(9):
                    read += 1
                    yield b" " * 900

            refused = await client.post(path, content=stream(), headers=JSON)
            assert refused.status_code == 429 and read == 3
            assert int(refused.headers["Retry-After"]) >= 1
            assert (
                "the endpoint has 9800 bytes of bodies in memory, of at most 10000, "
                "and no room for 900 more: come again in 1 s" in refused.json()["error"]
            )
            assert values((await client.get("/metrics")).text)[HELD] == 8_000
            headers = {**JSON, "Content-Length": "2001"}
            refused = await client.post(path, content=stream(), headers=headers)
            assert refused.status_code == 429 and read == 3, "refused at the door"
            engine.let_go()
            assert (await first).status_code == 200
            assert values((await client.get("/metrics")).text)[HELD] == 0

    loop.run(body())


@pytest.mark.parametrize("declared", [{}, {"Content-Length": "6000"}])
def test_bodies_that_arrive_together_stay_within_the_bound(
    loop: asyncio.Runner, endpoint: Endpoint, declared: dict[str, str]
) -> None:
    app = endpoint(max_body_bytes=10_000, max_queue_bytes=15_000)

    async def body() -> None:
        engine, seen = slow(app), []
        everybody_came = asyncio.Barrier(8)
        async with client_of(app) as client:

            async def stream() -> AsyncIterator[bytes]:
                await everybody_came.wait()
                for start in range(0, 6_000, 500):
                    yield padded(6_000)[start : start + 500]
                    seen.append(values((await client.get("/metrics")).text)[HELD])

            sent = [
                asyncio.create_task(
                    client.post("/v1/score", content=stream(), headers={**JSON, **declared})
                )
                for _ in range(8)
            ]
            await until(lambda: sum(one.done() for one in sent) == 6)
            engine.let_go()
            answers = await asyncio.gather(*sent)
            assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 6
            assert all("Retry-After" in one.headers for one in answers if one.status_code == 429)
            assert 14_000 < max(seen) <= 15_000
            assert values((await client.get("/metrics")).text)[HELD] == 0

    loop.run(body())


def padded(size: int) -> bytes:
    """A request for one score, of so many bytes."""
    return json.dumps({"items": [MEDIA]}).encode().ljust(size)


SAYS_NO_MORE = {
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a length": b"Content-Length: %d\r\n\r\n{" % 2**26,
}


@pytest.mark.parametrize("rest", SAYS_NO_MORE.values(), ids=SAYS_NO_MORE)
@pytest.mark.parametrize("path", ["score", "rank"])
def test_silent_clients_keep_nobody_out(
    endpoint: Endpoint, listening: Callable[..., Any], path: str, rest: bytes
) -> None:
    """At the limits as they come, four bodies may have all the bytes that there are."""
    words = b"POST /v1/%s HTTP/1.1\r\nHost: here\r\n" % path.encode()
    words += b"Content-Type: application/json\r\n" + rest
    with ExitStack() as stack:
        url = httpx.URL(stack.enter_context(listening(endpoint())))
        http = stack.enter_context(httpx.Client(base_url=url))
        for _ in range(4):
            silent = socket.create_connection((url.host, url.port or 80))
            stack.enter_context(silent)
            silent.sendall(words)
        ends = time.monotonic() + 10
        while values(http.get("/metrics").text)[HELD] != 4:  # each has its one byte in memory
            assert time.monotonic() < ends
        assert http.post("/v1/score", files=FILES).status_code == 200
        asked = {"task": "quality", "candidates": [{"id": "a", "media": MEDIA}]}
        ranked = http.post("/v1/rank", json=asked)
        assert ranked.status_code == 200, ranked.text


def test_a_video_counts_with_the_frames_that_it_may_have(
    loop: asyncio.Runner, endpoint: Endpoint
) -> None:
    app = endpoint(max_queue_frames=100, max_seconds=120)

    async def body() -> None:
        engine = slow(app)
        async with client_of(app) as client:
            video = ("files", ("v.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(100)))
            first = asyncio.create_task(client.post("/v1/score", files=[*FILES, video]))
            await engine.begun.wait()
            assert (await client.post("/v1/score", files=FILES)).status_code == 429
            engine.let_go()
            assert (await first).status_code == 200

    loop.run(body())


def test_a_request_that_takes_too_long_is_given_up_and_frees_its_place(
    loop: asyncio.Runner, endpoint: Endpoint
) -> None:
    app = endpoint(request_s=0.3, max_queue_frames=2)

    async def body() -> None:
        engine = slow(app)
        async with client_of(app) as client:
            both = [client.post("/v1/score", files=FILES) for _ in range(2)]
            late = await asyncio.gather(*both)
            assert [answer.status_code for answer in late] == [504, 504]
            assert "within 0.3 s" in late[0].json()["error"]
            dropped = 2 - len(engine.items)
            engine.let_go()
            await until(lambda: app.state.service.batcher.waiting_frames == 0)
            app.state.service.score_batch = engine._inner
            assert (await client.post("/v1/score", files=FILES)).status_code == 200
            assert dropped == 1, "the one that had not begun was never scored"

    loop.run(body())


def test_a_body_that_does_not_arrive_is_given_up(loop: asyncio.Runner, endpoint: Endpoint) -> None:
    app = endpoint(request_s=0.1)

    async def body() -> None:
        async def stalled():
            yield b"{"
            await asyncio.sleep(20)

        async with client_of(app) as client:
            answer = await client.post("/v1/score", content=stalled(), headers=JSON)
            assert answer.status_code == 408 and "did not arrive" in answer.json()["error"]

    loop.run(body())


def test_a_client_that_leaves_frees_its_place(
    loop: asyncio.Runner, endpoint: Endpoint, ask: Ask
) -> None:
    """Serve's proxy cancels a request whose connection is closed, and so does this test."""
    app = endpoint(max_queue_frames=2)

    async def body() -> None:
        engine = slow(app)
        async with client_of(app) as client:
            first = asyncio.create_task(client.post("/v1/score", files=FILES))
            await engine.begun.wait()
            leaves = asyncio.create_task(client.post("/v1/score", files=FILES))
            await until(lambda: app.state.service.batcher.waiting_frames == 1)
            assert (await client.post("/v1/score", files=FILES)).status_code == 429
            leaves.cancel()
            await asyncio.gather(leaves, return_exceptions=True)
            assert app.state.service.batcher.waiting_frames == 0
            stays = asyncio.create_task(client.post("/v1/score", files=FILES))
            await until(lambda: app.state.service.batcher.waiting_frames == 1)
            engine.let_go()
            assert [(await one).status_code for one in (first, stays)] == [200, 200]
            assert len(engine.items) == 2

    loop.run(body())
    told = values(ask(app, "GET", "/metrics").text)
    assert told["beholder_requests_total", "499"] == 1
    assert told["beholder_requests_total", "429"] == 1


def test_a_lost_replica_is_503_and_an_error_500(
    endpoint: Endpoint, ask: Ask, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    app = endpoint()

    async def lost(*_: Any) -> None:
        raise LostReplicaError

    monkeypatch.setattr(app.state.service, "score", lost)
    answer = ask(app, "POST", "/v1/score", files=FILES)
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
    assert ask(app, "GET", "/v1/ready").status_code == 503

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("private")

    monkeypatch.setattr(app.state.service, "score", broken)
    monkeypatch.setattr(logging.getLogger("beholder"), "propagate", True)
    with caplog.at_level(logging.INFO, "beholder"):
        answer = ask(app, "POST", "/v1/score", files=FILES, headers={"X-Request-ID": "abc"})
    assert answer.status_code == 500 and "private" not in answer.text
    assert answer.json()["request_id"] == "abc"
    (said,) = [record for record in caplog.records if record.getMessage() == "request.failed"]
    assert said.fields == {"request_id": "abc"} and said.exc_info


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("abc-123", "abc-123"),
        ("x" * 100, "x" * 64),
        (b"a\x7f\xffb", "ab"),
        ("", None),
        (b"\xff\xfe", None),
    ],
)
def test_every_answer_and_its_log_line_carry_the_requests_id(
    endpoint: Endpoint,
    ask: Ask,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: Any,
    given: Any,
    kept: str | None,
) -> None:
    app = endpoint()
    monkeypatch.setattr(logging.getLogger("beholder"), "propagate", True)
    for method, path, status in (("GET", "/v1/scorers", 200), ("GET", "/none", 404)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "beholder"):
            answer = ask(app, method, path, headers={"X-Request-ID": given})
        assert answer.status_code == status
        one = answer.headers["X-Request-ID"]
        assert one == kept or (kept is None and len(one) == 32)
        assert answer.json().get("request_id", one) == one
        (said,) = [record for record in caplog.records if record.getMessage() == "request"]
        assert said.fields["request_id"] == one
        assert said.fields["path"] == (path if status == 200 else "other")


def test_readiness_scores_a_picture_and_needs_no_key(endpoint: Endpoint, ask: Ask) -> None:
    app = endpoint(key_hashes=["a" * 64])
    assert ask(app, "GET", "/metrics").status_code == 401
    answer = ask(app, "GET", "/v1/ready")
    assert answer.status_code == 200 and answer.json()["ready"] is True

    def empty(scorer: Any, items: Any, tasks: Any) -> list[dict[str, Any]]:
        return [{"item_id": name, "failure": {"code": "model.nan"}} for name, _ in items]

    broken = endpoint()
    broken.state.service.score_batch = empty
    answer = ask(broken, "GET", "/v1/ready")
    assert answer.status_code == 503 and "golden picture" in answer.json()["error"]


def test_the_scorer_and_its_limits_are_told(
    endpoint: Endpoint, ask: Ask, small_scorer: Any
) -> None:
    told = ask(endpoint(max_items=7), "GET", "/v1/scorers").json()
    (scorer,) = told["scorers"]
    assert scorer == {
        "name": "",
        "fingerprint": small_scorer.fingerprint,
        "readout": "levels",
        "scale": [1.0, 5.0],
        "tasks": {"quality": ["image", "video"], "aesthetics": ["image"]},
    }
    assert told["limits"]["max_items"] == 7 and told["limits"]["request_s"] == 60


def test_requests_items_stages_and_batches_are_counted(endpoint: Endpoint, ask: Ask) -> None:
    app = endpoint(max_body_bytes=2**20)
    files = [*FILES, *FILES, ("files", ("bad", b"<html>"))]
    assert ask(app, "POST", "/v1/score", files=files).status_code == 200
    assert ask(app, "POST", "/v1/score", content=b"").status_code == 415
    assert ask(app, "POST", "/v1/score", content=b"x" * (2**20 + 1)).status_code == 413
    assert ask(app, "GET", "/v1/none").status_code == 404
    answer = ask(app, "GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    for path, status in (("/v1/score", 413), ("other", 404)):  # even if it is refused by a guard
        assert re.search(rf'path="{path}"[^}}]*status="{status}"[^}}]*}} 1.0', answer.text)
    told = values(answer.text)
    assert told["beholder_requests_total", "200"] == 1
    assert told["beholder_requests_total", "415"] == 1
    assert told["beholder_items_total", "ok"] == 2
    assert told["beholder_items_total", "decode.unsupported"] == 1
    assert told["beholder_batch_frames_sum", ""] == 2
    assert told["beholder_queue_frames", ""] == 0
    stages = [line for line in answer.text.splitlines() if "beholder_stage_seconds_count" in line]
    assert len(stages) == 4 and all(line.endswith(" 1.0") for line in stages)
