"""The endpoint in this process: its application with an engine that scores here and now."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from prometheus_client import Metric
from starlette.types import ASGIApp

from beholder.config import validate_config
from beholder.items import Item
from beholder.media import DecoderPool
from beholder.media.stage import Stage
from beholder.scoring import Scorer
from beholder.serving.app import score_batch, sources_of
from beholder.serving.batching import FrameBatcher, Score
from beholder.serving.config import ServeConfig
from beholder.serving.endpoint import make_endpoint
from beholder.serving.golden import about_scorer
from beholder.serving.metrics import EngineMetrics, RequestMetrics
from beholder.serving.preprocess import Preprocessor
from beholder.serving.service import About, Answered, Tasks
from beholder.serving.trial import Pairs, Trial


class NearService:
    """What the replicas behind Serve do, in this process: the same parts without the handles.

    Attributes:
        score_batch: what scores a batch; a test may put a fault into its place.
    """

    def __init__(self, scorer: Scorer, stage: Stage, metrics: RequestMetrics, frames: int) -> None:
        self._scorer = scorer
        self.adapters: dict[str, Scorer] = {}
        self.trial = Trial(share=0.0)
        self._metrics = metrics
        self.score_batch: Score = score_batch
        self._preprocessor = Preprocessor(stage, 50.0)
        self._engine = EngineMetrics()
        self.batcher = FrameBatcher(
            lambda *asked: self.score_batch(*asked), frames, 0.0, self._engine.batch
        )

    async def about(self) -> dict[str, About]:
        scorers = {"": self._scorer, **self.adapters}
        return {name: about_scorer(scorer) for name, scorer in scorers.items()}

    async def score(
        self, items: Sequence[Item], tasks: Tasks, request_id: str, adapter: str = ""
    ) -> Answered:
        scorer = self.adapters[adapter] if adapter else self._scorer
        return await self.batcher.submit(scorer, await self._preprocessor.stage(items), tasks)

    async def pairs(self) -> list[Pairs]:
        return [self.trial.pairs]

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        registries = (self._metrics.registry, self._engine.registry)
        return [("here", [m for registry in registries for m in registry.collect()])]


@pytest.fixture(scope="session")
def decoders() -> Iterator[DecoderPool]:
    with DecoderPool(1) as pool:
        yield pool


Endpoint = Callable[..., FastAPI]


@pytest.fixture(scope="session")
def endpoint(small_scorer: Scorer, decoders: DecoderPool) -> Endpoint:
    """``endpoint(**config)`` gives the application; its ``state.service`` is what it asks."""

    def make(**config: Any) -> FastAPI:
        if "request_s" in config:  # in proportion, as a config asks for
            parts = {"timeout_s": config["request_s"] / 3, "fetch_s": config["request_s"] / 6}
            config = {**parts, **config}
        settings = validate_config(ServeConfig, {"scorer": "none", **config}, "serve config")
        pixels = small_scorer.backbone.spec.pixels
        stage = Stage(pixels, settings.limits(), decoders, sources_of(settings).fetch)
        metrics = RequestMetrics()
        service = NearService(small_scorer, stage, metrics, settings.batch_frames)
        api = make_endpoint(settings, service, metrics)
        api.state.service = service
        return api

    return make


Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.Runner]:
    """The one event loop that the applications live in: their batches wait in it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def ask(loop: asyncio.Runner) -> Ask:
    """``ask(app, "POST", "/v1/score", json=...)`` gives the answer."""

    def one(app: FastAPI, method: str, path: str, **request: Any) -> httpx.Response:
        async def talk() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, **request)

        return loop.run(talk())

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
