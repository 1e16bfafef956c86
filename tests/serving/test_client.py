"""Both clients, against a real server and against faults."""

import asyncio
import copy
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from beholder.errors import UserError
from beholder.items import FailureCode, Item, Score
from beholder.opinions import Scale, ScoreDistribution
from beholder.scoring import Scorer
from beholder.serving import client as module
from beholder.serving.client import AsyncClient, Client
from beholder.serving.exchanges import ENVIRONMENT, TRIES, EndpointError

KEY = "a-key-for-tests"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
HALVES = ScoreDistribution(np.array([1.0, 2.0]), np.array([0.5, 0.5]), Scale(1, 2))


@pytest.fixture(scope="module")
def url(endpoint: Callable[..., FastAPI], listening: Callable) -> Iterator[str]:
    with listening(endpoint(key_hashes=[HASH])) as here:
        yield here


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client waited for, without the waiting."""
    waited: list[float] = []

    async def awaited(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=awaited))
    return waited


class Faulty:
    """An endpoint that gives each of these answers once, then good ones; keeps the requests."""

    def __init__(self, *faults: httpx.Response | Exception, limits: dict | None = None) -> None:
        self.faults = list(faults)
        self.limits = limits or {}
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        if request.url.path == "/v1/scorers":
            return httpx.Response(200, json={"scorers": [{"tasks": {}}], "limits": self.limits})
        if request.url.path == "/v1/rank":
            return httpx.Response(200, json={"order": []})
        body = request.content
        uris = json.loads(body)["items"] if body.startswith(b"{") else []
        count = len(uris) or body.count(b'name="files"')
        told = Score("x", "f", {"quality": HALVES}, clips={"quality": (HALVES,)}).as_dict()
        return httpx.Response(200, json={"items": [told] * count})

    def client(self, **settings: Any) -> Client:
        return Client(transport=httpx.MockTransport(self), **settings)


def behind_a_proxy(app: ASGIApp, *faults: Response) -> ASGIApp:
    """The application behind something that first gives these answers in its place."""
    left = list(faults)

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        answers = left.pop(0) if left and scope["type"] == "http" else app
        await answers(scope, receive, send)

    return proxy


def waiting(url: str, *asked: Any) -> list[Score]:
    """What the client gets for this."""
    with Client(url) as client:
        return client.score(*asked)


def awaiting(url: str, *asked: Any) -> list[Score]:
    """What the asynchronous client gets for this."""

    async def talk() -> list[Score]:
        async with AsyncClient(url) as client:
            return await client.score(*asked)

    return asyncio.run(talk())


both = pytest.mark.parametrize("asks", [waiting, awaiting])


def busy(after: str | None = None, status: int = 429) -> httpx.Response:
    return httpx.Response(status, headers={"Retry-After": after} if after else {}, json={})


def check(found: list[Score], expected: list[Score]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.fingerprint == other.fingerprint
        assert set(one.tasks) == set(other.tasks)
        for task, rating in other.tasks.items():
            assert isinstance(one.tasks[task], ScoreDistribution)
            assert one.tasks[task].probs == pytest.approx(rating.probs, abs=1e-5)


def test_paths_bytes_and_items_are_scored_as_by_the_scorer(
    url: str, photos: dict[str, bytes], small_scorer: Scorer, tmp_path: Path
) -> None:
    names = ["coffee.png", 'a "quoted" name\n.png', "ü 🖼.png", "<img src=x onerror=alert(1)>"]
    paths = [tmp_path / name.replace("/", "_") for name in names]
    for path, data in zip(paths, photos.values(), strict=True):
        path.write_bytes(data)
    sent = [*paths[:2], str(paths[2]), Item("mine", photos["china"]), photos["coffee"], b"<html>"]
    with Client(url, KEY) as client:
        found = client.score(sent)
        (quality,) = client.score(sent[:1], ["quality"])
        (scorer,) = client.scorers()
    assert [one.item_id for one in found] == [*map(str, paths[:3]), "mine", "item-4", "item-5"]
    check(found[:5], small_scorer.score([*photos.values(), photos["coffee"]]))
    assert found[5].failure is not None and not found[5].tasks
    assert found[5].failure.code is FailureCode.DECODE_UNSUPPORTED
    assert set(quality.tasks) == {"quality"}
    assert scorer["fingerprint"] == small_scorer.fingerprint


def test_the_asynchronous_client_says_the_same(
    endpoint: Callable[..., FastAPI], photos: dict[str, bytes], small_scorer: Scorer
) -> None:
    async def talk() -> list[Score]:
        transport = httpx.ASGITransport(endpoint())
        async with AsyncClient(transport=transport) as client:
            uri = "s3://nowhere/x.png"
            first, second = await asyncio.gather(
                client.score([*photos.values(), uri]), client.score([photos["rocket"]])
            )
            return first + second

    found = asyncio.run(talk())
    failed = found.pop(len(photos))
    assert failed.item_id == "s3://nowhere/x.png"
    assert failed.failure is not None and failed.failure.code is FailureCode.FETCH_DENIED
    check(found, small_scorer.score([*photos.values(), photos["rocket"]]))


def test_a_key_comes_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with Client(url) as client, pytest.raises(EndpointError, match="no valid API key") as caught:
        client.scorers()
    assert caught.value.status == 401
    monkeypatch.setenv(ENVIRONMENT, KEY)
    with Client(url) as client:
        assert client.scorers()
    with Client(url, key="") as client, pytest.raises(EndpointError):
        client.scorers()


def test_a_refusal_is_one_sentence(url: str) -> None:
    with Client(url, KEY) as client, pytest.raises(EndpointError, match="no task 'beauty'") as one:
        client.score([b"x"], ["beauty"])
    assert one.value.status == 400 and "\n" not in str(one.value)
    assert KEY not in str(one.value)


@both
def test_an_adapter_is_asked_for_by_name(
    endpoint: Callable[..., FastAPI],
    listening: Callable,
    small_scorer: Scorer,
    photos: dict[str, bytes],
    asks: Callable[..., list[Score]],
) -> None:
    backbone = copy.deepcopy(small_scorer.backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.01)
    other = Scorer(backbone, small_scorer.readout, small_scorer.tasks, small_scorer.prompt)
    api = endpoint()
    api.state.service.adapters["mobile"] = other
    sent = [photos["coffee"], "s3://nowhere/x.png"]
    with listening(api) as here:
        for name, scorer in {"": small_scorer, "mobile": other}.items():
            found = asks(here, sent, ["quality"], name)
            check(found[:1], scorer.score(sent[:1], ["quality"]))
        for one in sent:
            with pytest.raises(EndpointError, match="no scorer 'desktop': ask for 'mobile'"):
                asks(here, [one], (), "desktop")


def test_long_lists_keep_to_the_endpoints_limits() -> None:
    faulty = Faulty(limits={"max_items": 3, "max_body_bytes": 10_000})
    sizes = [10, 10, 10, 10, 4000, 4000, 10]
    sent = [*(b"x" * size for size in sizes), "s3://a/b", "https://a/c", b"y"]
    found = faulty.client().score(sent, ["quality"])
    assert len(found) == len(sent) and found[7].item_id == "s3://a/b"
    posts = [request for request in faulty.asked if request.method == "POST"]
    counts = [post.content.count(b'name="files"') for post in posts]
    assert counts == [3, 2, 2, 0, 1]
    assert all(len(post.content) <= 10_000 for post in posts)
    assert json.loads(posts[3].content) == {
        "items": [{"uri": "s3://a/b"}, {"uri": "https://a/c"}],
        "tasks": ["quality"],
    }
    assert faulty.client().score([]) == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_endpoint_is_given_the_time_it_asks_for(pauses: list[float], status: int) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    faulty = Faulty(*(busy(after, status) for after in ("7", soon, past, "0")))
    assert faulty.client().scorers()
    assert pauses == [7, pytest.approx(30, abs=2), 0, 0]
    assert len(faulty.asked) == 5


def test_without_a_word_pauses_grow(pauses: list[float]) -> None:
    faults = [busy(), busy("soon"), httpx.ConnectError("gone"), httpx.ReadError("gone")]
    assert Faulty(*faults).client().scorers()
    for pause, most in zip(pauses, [0.5, 1, 2, 4], strict=True):
        assert most / 2 <= pause <= most


@both
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_proxy_that_lost_its_replica_is_asked_again(
    endpoint: Callable[..., FastAPI],
    listening: Callable,
    pauses: list[float],
    photos: dict[str, bytes],
    asks: Callable[..., list[Score]],
    status: int,
) -> None:
    lost = PlainTextResponse("Internal Server Error", status)
    told = Response('{"message": "no upstream"}', status, media_type="application/json")
    with listening(behind_a_proxy(endpoint(), lost, told)) as here:
        (score,) = asks(here, [photos["coffee"]])
    assert "quality" in score.tasks
    for pause, most in zip(pauses, [0.5, 1], strict=True):
        assert most / 2 <= pause <= most


def test_an_upload_is_sent_again_whole(pauses: list[float]) -> None:
    faulty = Faulty()
    client = faulty.client()
    client.scorers()
    faulty.faults = [httpx.ReadError("gone"), busy("1")]
    client.score([b"abc" * 1000])
    bodies = [request.content for request in faulty.asked if request.method == "POST"]
    assert len(bodies) == 3 and len(set(bodies)) == 1 and b"abc" * 1000 in bodies[0]


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (busy("1"), "busy, also after"),
        (httpx.Response(503, json={"error": "come again"}), "503: the endpoint is busy"),
        (httpx.ConnectError("refused"), "can't be reached"),
        (
            httpx.Response(500, text="Internal\nServer \x1b Error" + "x" * 1000),
            r"answered 500: 'Internal Server \\x1b Errorx{1,99}' is no answer of a Beholder "
            "endpoint, also after 6 tries: check the URL, and that the endpoint runs$",
        ),
        (httpx.Response(504), "'Gateway Timeout' is no answer"),
    ],
)
def test_patience_ends(pauses: list[float], fault: Any, sentence: str) -> None:
    faulty = Faulty(*[fault] * TRIES)
    with pytest.raises(EndpointError, match=sentence):
        faulty.client().scorers()
    assert len(faulty.asked) == TRIES and len(pauses) == TRIES - 1


def test_a_pause_longer_than_allowed_is_an_error(pauses: list[float]) -> None:
    with pytest.raises(EndpointError, match="in 61 s, longer than max_wait_s"):
        Faulty(busy("61")).client().scorers()
    assert pauses == []
    assert Faulty(busy("61")).client(max_wait_s=61).scorers()


@pytest.mark.parametrize("status", [400, 404, 413, 500, 502, 504])
def test_what_is_no_matter_of_time_is_not_repeated(pauses: list[float], status: int) -> None:
    told = {"error": "no: change it", "request_id": "abc"}
    faulty = Faulty(httpx.Response(status, json=told))
    with pytest.raises(EndpointError, match=f"{status}: no: change it") as caught:
        faulty.client().scorers()
    assert len(faulty.asked) == 1 and pauses == []
    assert (caught.value.status, caught.value.request_id) == (status, "abc")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(404, text="<html>"),
        httpx.Response(501, text="Unsupported method"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"items": []}),
        httpx.Response(200, json={"items": [{"item_id": "x", "fingerprint": "f", "scores": 3}]}),
        httpx.Response(302, headers={"Location": "http://elsewhere.example"}),
        httpx.Response(200, json={"items": [{"item_id": "x", "failure": {"code": "new.code"}}]}),
    ],
)
def test_an_answer_of_something_else_is_named(answer: httpx.Response) -> None:
    faulty = Faulty()
    client = faulty.client()
    client.scorers()
    faulty.faults = [answer]
    with pytest.raises(EndpointError, match="endpoint") as caught:
        client.score([b"x"])
    assert "\n" not in str(caught.value)


def test_the_asynchronous_client_has_the_same_patience(pauses: list[float]) -> None:
    async def talk(faulty: Faulty) -> list[Score]:
        async with AsyncClient(transport=httpx.MockTransport(faulty)) as client:
            return await client.score([b"x", b"y"])

    found = asyncio.run(talk(Faulty(busy("3"), httpx.ConnectError("gone"))))
    assert len(found) == 2 and pauses[0] == 3 and 0.5 <= pauses[1] <= 1


def test_a_ranking_is_passed_on() -> None:
    faulty = Faulty()
    with faulty.client() as client:
        assert client.rank([{"item": "a"}], task="quality", scorer="mobile") == {"order": []}
    asked = {"candidates": [{"item": "a"}], "task": "quality", "scorer": "mobile"}
    assert json.loads(faulty.asked[0].content) == asked


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"url": "ftp://a"}, "no URL of an endpoint"),
        ({"url": "localhost:8000"}, "write http://host:port"),
        ({"url": "http://me:secret@host"}, "password"),
        ({"key": "secret\nX: y"}, "no header can"),
        ({"key": "schlüssel"}, "no header can"),
    ],
)
def test_what_can_never_work_is_said_at_once(wrong: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        Client(**wrong)
    assert "secret" not in str(caught.value) and "schlüssel" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [("none.jpg", "none.jpg can't be read"), (io.BytesIO(b"x"), "BytesIO"), (".", "directory")],
)
def test_a_file_that_is_none_is_named(item: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Faulty().client().score([item])


@both
@pytest.mark.parametrize(
    ("items", "tasks", "sentence"),
    [
        ([b"x"], "quality", r"tasks is one text, 'quality': .*, \['quality'\]$"),
        ("coffee.jpg", (), "items is one item, 'coffee.jpg': send a list"),
        (Path("coffee.jpg"), (), "items is one item, 'coffee.jpg': send a list"),
        (Item("mine", b"x"), (), "items is one item, 'mine': send a list"),
        (b"PNG", (), "items is one item, encoded bytes: send a list"),
    ],
)
def test_one_where_a_list_belongs_is_refused_unasked(
    asks: Callable[..., list[Score]], items: Any, tasks: Any, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):  # nobody is there to be asked
        asks("http://nowhere.invalid", items, tasks)
