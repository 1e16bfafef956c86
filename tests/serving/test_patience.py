"""Who is waited for, and for how long: a decoder that hangs, and a body that stands still."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI

from beholder.media import DecoderPool, pool
from beholder.media.stage import Stage
from beholder.scoring import Scorer
from beholder.serving import preprocess
from beholder.serving.config import ServeConfig
from beholder.serving.preprocess import Preprocessor, made_picture

from .test_overload import HELD, values

Endpoint = Callable[..., FastAPI]
HANGING = b"hangs"
BOOT = """
import sys, threading
sys.path.append(sys.argv[3])
from beholder.media import decoder

healthy = decoder.decode

def hanging(request):
    if request.data.endswith(b"hangs"):
        threading.Event().wait()
    return healthy(request)

decoder.decode = hanging
decoder.main(int(sys.argv[1]), float(sys.argv[2]))
"""


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], DecoderPool]]:
    """Pools of one decoder that never ends with what ends in HANGING."""
    monkeypatch.setattr(pool, "BOOT", BOOT)
    with ExitStack() as stack:
        yield lambda seconds: stack.enter_context(DecoderPool(1, seconds))


@pytest.mark.parametrize("name", ["local", "cluster"])
def test_an_item_that_hangs_costs_no_other_its_answer(
    endpoint: Endpoint,
    ask: Callable[..., httpx.Response],
    hanging: Callable[[float], DecoderPool],
    small_scorer: Scorer,
    project: Any,
    name: str,
) -> None:
    """A full request at a tenth of a shipped config's times, with one decoder for all of it."""
    told = yaml.safe_load((project / "serve_apps" / f"{name}.yaml").read_text())
    shipped = ServeConfig.model_validate(told["applications"][0]["args"])
    tenths = {one: getattr(shipped, one) / 10 for one in ("request_s", "timeout_s", "fetch_s")}
    app = endpoint(max_items=shipped.max_items, **tenths)
    limits = shipped.limits()
    decoders = hanging(tenths["timeout_s"])
    stage = Stage(small_scorer.backbone.spec.pixels, limits, decoders)
    app.state.service._preprocessor = Preprocessor(stage, shipped.item_s() / 10)
    files = [("files", (str(at), made_picture())) for at in range(shipped.max_items)]
    files[0] = ("files", ("hangs", made_picture() + HANGING))
    ask(app, "POST", "/v1/score", files=files[1:2])  # the decoder has started
    answer = ask(app, "POST", "/v1/score", files=files)
    assert answer.status_code == 200, answer.text
    first, *others = answer.json()["items"]
    assert first["failure"]["code"] == "decode.timeout"
    assert len(others) == shipped.max_items - 1 and all("scores" in one for one in others)


@pytest.mark.parametrize(("hang", "healthy"), [(3, 13), (16, 0)])
def test_several_that_hang_take_less_and_less_and_the_request_is_answered(
    endpoint: Endpoint,
    ask: Callable[..., httpx.Response],
    hanging: Callable[[float], DecoderPool],
    small_scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
    hang: int,
    healthy: int,
) -> None:
    """Three at ``timeout_s`` each would take longer than the request may."""
    monkeypatch.setattr(preprocess, "LEAST_S", 0.5)
    times = {"request_s": 14, "timeout_s": 5, "fetch_s": 2.5}
    config = ServeConfig(scorer="none", **times)
    app = endpoint(**times)
    stage = Stage(small_scorer.backbone.spec.pixels, config.limits(), hanging(5))
    app.state.service._preprocessor = Preprocessor(stage, config.item_s())
    files = [("files", ("hangs", made_picture() + HANGING))] * hang
    files += [("files", ("fine", made_picture()))] * healthy
    answer = ask(app, "POST", "/v1/score", files=files)
    assert answer.status_code == 200, answer.text
    answers = answer.json()["items"]
    failures = [one["failure"] for one in answers[:hang]]
    assert {one["code"] for one in failures} == {"decode.timeout"}
    assert failures[0]["message"] == "decoding took longer than 5 s and was stopped"
    assert all("scores" in one for one in answers[hang:])
    if not healthy:
        assert "no decoder was free for it within 12.5 s: send it" in failures[-1]["message"]


HEAD = b"POST /v1/%s HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("path", ["score", "rank"])
def test_bodies_that_stop_on_the_way_give_their_room_back(
    endpoint: Endpoint, listening: Callable[..., Any], path: str
) -> None:
    size = 100_000
    app = endpoint(stall_s=2, max_body_bytes=size, max_queue_bytes=4 * size)
    begun = HEAD % path.encode() + b"Content-Length: %d\r\n\r\n" % size + b" " * (size - 1)
    with ExitStack() as stack:
        url = httpx.URL(stack.enter_context(listening(app)))
        http = stack.enter_context(httpx.Client(base_url=url))
        address = (url.host, url.port or 80)
        stopped = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(4)]
        for one in stopped:
            one.sendall(begun)
        ends = time.monotonic() + 5
        while values(http.get("/metrics").text)[HELD] < 4 * (size - 1):
            assert time.monotonic() < ends
        full = http.post("/v1/score", files=[("files", ("a.png", made_picture()))])
        assert full.status_code == 429
        for one in stopped:
            said = one.recv(2**16)
            assert b" 408 " in said and b"no byte of the body came for 2 s" in said
        assert values(http.get("/metrics").text)[HELD] == 0
        again = http.post("/v1/score", files=[("files", ("a.png", made_picture()))])
        assert again.status_code == 200


def test_a_slow_body_that_keeps_coming_is_read(
    endpoint: Endpoint, listening: Callable[..., Any]
) -> None:
    body = b'{"items": [{"data": "AAAA"}]}'

    def dripping() -> Iterator[bytes]:
        for start in range(0, len(body), 3):
            time.sleep(0.15)  # a slow line is what this is about
            yield body[start : start + 3]

    with listening(endpoint(stall_s=0.75)) as url:
        begun = time.monotonic()
        headers = {"Content-Type": "application/json"}
        answer = httpx.post(f"{url}/v1/score", content=dripping(), headers=headers)
        assert answer.status_code == 200, answer.text
        assert time.monotonic() - begun > 1.4
