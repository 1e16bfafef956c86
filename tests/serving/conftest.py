"""The endpoint in this process: its application with an engine that scores here and now."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from beholder.config import validate_config
from beholder.media import DecoderPool
from beholder.scoring import Scorer
from beholder.serving.config import ServeConfig
from beholder.serving.endpoint import Asked, make_endpoint, sources_of
from beholder.serving.sources import Sources


class NearEngine:
    """What the engine behind Serve does, without Serve."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    async def about(self) -> dict[str, Any]:
        return {
            "fingerprint": self._scorer.fingerprint,
            "pixels": self._scorer.backbone.spec.pixels,
            "tasks": {name: list(task.kinds) for name, task in self._scorer.tasks.items()},
        }

    async def score(self, asked: Asked) -> dict[str, Any]:
        staged, item_id, tasks = asked
        return self._scorer.score_staged([(item_id, staged)], tasks)[0].as_dict()


@pytest.fixture(scope="session")
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool(1) as pool:
        yield pool


Endpoint = Callable[..., FastAPI]


@pytest.fixture(scope="session")
def endpoint(small_scorer: Scorer, decoders: DecoderPool) -> Endpoint:
    """``endpoint(sources, **config)`` gives the application."""

    def make(sources: Sources | None = None, **config: Any) -> FastAPI:
        settings = validate_config(ServeConfig, {"scorer": "none", **config}, "serve config")
        engine = NearEngine(small_scorer)
        return make_endpoint(settings, engine, decoders, sources or sources_of(settings))

    return make


Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def ask() -> Ask:
    """``ask(app, "POST", "/v1/score", json=...)`` gives the answer; an exception is raised."""

    def one(app: FastAPI, method: str, path: str, **request: Any) -> httpx.Response:
        async def talk() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **request)

        return asyncio.run(talk())

    return one


Listening = Callable[[ASGIApp], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def listening() -> Listening:
    """``with listening(app) as url`` serves an application on a port of its own."""

    @contextmanager
    def serve(app: ASGIApp) -> Iterator[str]:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # a connection made before the server runs waits for it
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

    return serve
