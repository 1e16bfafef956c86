"""The body limit, on a real HTTP server."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from beholder.serving.body_limit import BodyLimit

LIMIT = 1000


async def _length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@pytest.fixture(scope="module")
def url(listening: Callable) -> Iterator[str]:
    app = Starlette(routes=[Route("/", _length, methods=["POST"])])
    with listening(BodyLimit(app, LIMIT)) as here:
        yield f"{here}/"


def test_a_body_within_the_limit_arrives_whole(url: str) -> None:
    assert httpx.post(url, content=b"x" * LIMIT).text == str(LIMIT)


def test_a_declared_body_above_it_is_refused(url: str) -> None:
    answer = httpx.post(url, content=b"x" * (LIMIT + 1))
    assert answer.status_code == 413
    assert "larger than 1000 bytes" in answer.json()["error"]


def test_a_body_without_a_length_is_refused_when_it_gets_too_long(url: str) -> None:
    answer = httpx.post(url, content=(b"x" * 100 for _ in range(20)))
    assert answer.status_code == 413
    assert httpx.post(url, content=(b"x" * 100 for _ in range(10))).text == "1000"
