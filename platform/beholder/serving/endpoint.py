"""The endpoint as an ASGI application, whatever runs it and wherever its engine is."""

import asyncio
import logging
from typing import Any, Protocol

from fastapi import FastAPI, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from beholder.items import Failure, Item
from beholder.logs import event
from beholder.media.pool import DecoderPool
from beholder.media.remote import RemoteClient
from beholder.media.stage import Stage, Staged
from beholder.serving.body_limit import BodyLimit
from beholder.serving.config import ServeConfig
from beholder.serving.keys import KeyGate
from beholder.serving.page import PATHS, add_page
from beholder.serving.requests import RequestError, read_request
from beholder.serving.schemas import MULTIPART, Problem, ScoreAnswer
from beholder.serving.sources import Sources

log = logging.getLogger(__name__)

Asked = tuple[Staged | Failure, str, tuple[str, ...] | None]
"""An item's pixels or why there are none, its id, and the tasks; None for all that fit it."""


class ScoringEngine(Protocol):
    """What scores, in this process or another."""

    async def about(self) -> dict[str, Any]:
        """The scorer's ``fingerprint``, ``pixels`` (a PixelSpec) and ``tasks`` with their kinds."""

    async def score(self, asked: Asked) -> dict[str, Any]:
        """One item's answer, as :meth:`beholder.items.Score.as_dict` writes it."""


def sources_of(config: ServeConfig) -> Sources:
    """What the requests to an endpoint may name."""
    return Sources(config.allowed_buckets, RemoteClient(config.allowed_hosts, config.fetch_s))


def make_endpoint(
    config: ServeConfig, engine: ScoringEngine, pool: DecoderPool, sources: Sources
) -> FastAPI:
    """The application: routes, error shapes, and the guards in front of them."""
    routes = Endpoint(config, engine, pool, sources)
    bearer = HTTPBearer(auto_error=False, description="an API key; checked by the gate")
    api = FastAPI(
        title="Beholder",
        summary="Rates pictures and videos as people do, with distributions.",
        description="Compare scores only between answers of one fingerprint.",
        dependencies=[Security(bearer)] if config.key_hashes else [],
        responses={401: {"model": Problem}} if config.key_hashes else {},
    )
    api.get("/v1/scorers", summary="The scorer behind this endpoint")(routes.scorers)
    api.post(
        "/v1/score",
        summary="Score pictures and short videos",
        response_model=ScoreAnswer,
        response_model_exclude_none=True,
        responses={400: {"model": Problem}, 413: {"model": Problem}, 415: {"model": Problem}},
        openapi_extra=MULTIPART,
    )(routes.score)
    add_page(api)
    api.add_exception_handler(RequestError, _refused)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_middleware(BodyLimit, limit=config.max_body_bytes)
    if config.key_hashes:  # Added last, it stands in front of everything.
        api.add_middleware(KeyGate, hashes=config.key_hashes, open_paths=frozenset(PATHS))
        event(log, "api_keys.on", known=len(config.key_hashes))
    else:
        event(log, "api_keys.off", meaning="whoever reaches the port is let in; see key_hashes")
    return api


class Endpoint:
    """Takes requests apart, decodes in killable processes, and asks the engine."""

    def __init__(
        self, config: ServeConfig, engine: ScoringEngine, pool: DecoderPool, sources: Sources
    ) -> None:
        self._config = config
        self._engine = engine
        self._pool = pool
        self._sources = sources
        self._about: dict[str, Any] | None = None

    async def scorers(self) -> dict[str, Any]:
        """Fingerprint and tasks of the scorer; answers once it is loaded."""
        about = await self._scorer()
        return {"scorers": [{"fingerprint": about["fingerprint"], "tasks": about["tasks"]}]}

    async def score(self, request: Request) -> dict[str, Any]:
        """Answers each item with its distributions or its failure; a bad item harms no other.

        Send `multipart/form-data` with any number of `files` and `tasks`, or JSON whose items
        are base64 or URIs.
        """
        items, tasks = await read_request(request, self._config.max_items)
        about = await self._scorer()
        for task in tasks:
            if task not in about["tasks"]:
                known = " or ".join(about["tasks"])
                raise RequestError(400, f"this scorer has no task '{task}': ask for {known}")
        stage = Stage(about["pixels"], self._config.limits(), self._pool, self._sources.fetch)

        async def one(item: Item) -> dict[str, Any]:
            staged = await asyncio.to_thread(stage.stage, item)
            return await self._engine.score((staged, item.item_id, tasks or None))

        return {"items": await asyncio.gather(*(one(item) for item in items))}

    async def _scorer(self) -> dict[str, Any]:
        if self._about is None:
            self._about = await self._engine.about()
        return self._about


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    return JSONResponse({"error": str(error)}, error.status)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)
