"""The Serve application: an HTTP ingress that decodes, and an engine that scores in batches."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from beholder.items import Failure, Item
from beholder.media.pool import DecoderPool
from beholder.media.stage import Stage, Staged
from beholder.scoring import load_scorer, outline_scorer
from beholder.serving.body_limit import BodyLimit
from beholder.serving.config import ServeConfig
from beholder.serving.schemas import MULTIPART, Problem, ScoreAnswer, ScoreRequest

api = FastAPI(
    title="Beholder",
    summary="Rates pictures and videos as people do, with distributions.",
    description="Compare scores only between answers of one fingerprint.",
)


class RequestError(Exception):
    """A request that is refused as a whole, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


api.add_middleware(BodyLimit)


@api.exception_handler(RequestError)
async def _refused(_: Request, error: RequestError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, error.status)


@api.exception_handler(HTTPException)
async def _http_error(_: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


# Above the deployments: Serve copies a class with the names it knows at that moment.
def _json_items(body: bytes) -> tuple[list[Item], list[str]]:
    try:
        asked = ScoreRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            400, f"the JSON body is not a score request: {where} {first['msg']}"
        ) from error
    items = []
    for position, media in enumerate(asked.items):
        name = media.id or f"item-{position}"
        try:
            items.append(Item(name, base64.b64decode(media.data, validate=True)))
        except (binascii.Error, ValueError) as error:
            raise RequestError(400, f"item '{name}' is not base64: {error}") from error
    return items, list(asked.tasks or ())


@serve.deployment(max_ongoing_requests=256)
class Engine:
    """Holds the scorer; gathers items of concurrent requests into batches."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = ServeConfig.model_validate(config)
        torch.set_num_threads(settings.threads)
        self._scorer = load_scorer(settings.scorer, settings.device)
        self.score.set_max_batch_size(settings.batch_items)  # type: ignore[attr-defined]
        self.score.set_batch_wait_timeout_s(settings.batch_wait_s)  # type: ignore[attr-defined]

    def about(self) -> dict[str, Any]:
        """What the ingress needs to know of the scorer."""
        return {
            "fingerprint": self._scorer.fingerprint,
            "pixels": self._scorer.backbone.spec.pixels,
            "tasks": {name: list(task.kinds) for name, task in self._scorer.tasks.items()},
        }

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def score(
        self, asked: list[tuple[Staged | Failure, str, tuple[str, ...] | None]]
    ) -> list[dict[str, Any]]:
        """One answer an item; requests for different tasks share a batch of their own kind."""
        return await asyncio.to_thread(self._score, asked)

    def _score(
        self, asked: Sequence[tuple[Staged | Failure, str, tuple[str, ...] | None]]
    ) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = [{}] * len(asked)
        for tasks in {some for _, _, some in asked}:
            here = [i for i, (_, _, some) in enumerate(asked) if some == tasks]
            staged = [(asked[i][1], asked[i][0]) for i in here]
            for index, score in zip(here, self._scorer.score_staged(staged, tasks), strict=True):
                answers[index] = score.as_dict()
        return answers


@serve.deployment(max_ongoing_requests=64)
@serve.ingress(api)
class Ingress:
    """Takes requests apart, decodes in killable processes, and asks the engine."""

    def __init__(self, engine: DeploymentHandle, config: dict[str, Any]) -> None:
        self._config = ServeConfig.model_validate(config)
        self._engine = engine
        self._pool = DecoderPool(self._config.decoders, self._config.timeout_s)
        self._about: dict[str, Any] | None = None

    async def _scorer(self) -> dict[str, Any]:
        if self._about is None:
            self._about = await self._engine.about.remote()
        return self._about

    @api.get("/v1/scorers", summary="The scorer behind this endpoint")
    async def scorers(self) -> dict[str, Any]:
        """Fingerprint and tasks of the scorer; answers once it is loaded."""
        about = await self._scorer()
        return {"scorers": [{"fingerprint": about["fingerprint"], "tasks": about["tasks"]}]}

    @api.post(
        "/v1/score",
        summary="Score pictures and short videos",
        response_model=ScoreAnswer,
        response_model_exclude_none=True,
        responses={400: {"model": Problem}, 413: {"model": Problem}, 415: {"model": Problem}},
        openapi_extra=MULTIPART,
    )
    async def score(self, request: Request) -> dict[str, Any]:
        """Answers each item with its distributions or its failure; a bad item harms no other.

        Send `multipart/form-data` with any number of `files` and `tasks`, or JSON with base64.
        """
        items, tasks = await self._read(request)
        about = await self._scorer()
        for task in tasks or ():
            if task not in about["tasks"]:
                known = " or ".join(about["tasks"])
                raise RequestError(400, f"this scorer has no task '{task}': ask for {known}")
        stage = Stage(about["pixels"], self._config.limits(), self._pool)

        async def one(item: Item) -> dict[str, Any]:
            staged = await asyncio.to_thread(stage.stage, item)
            return await self._engine.score.remote((staged, item.item_id, tasks))

        return {"items": await asyncio.gather(*(one(item) for item in items))}

    async def _read(self, request: Request) -> tuple[list[Item], tuple[str, ...] | None]:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind == "multipart/form-data":
            items, tasks = await self._multipart(request)
        elif kind == "application/json":
            items, tasks = _json_items(await request.body())
        else:
            raise RequestError(
                415, f"content type '{kind}' is not read: send multipart/form-data or JSON"
            )
        if not items:
            raise RequestError(400, "the request has no items: send at least one file")
        if len(items) > self._config.max_items:
            raise RequestError(
                413, f"{len(items)} items in a request: send at most {self._config.max_items}"
            )
        return items, tuple(tasks) if tasks else None

    async def _multipart(self, request: Request) -> tuple[list[Item], list[str]]:
        limit = self._config.max_items + 16
        try:
            form = await request.form(max_files=limit, max_fields=64)
        except (MultiPartException, HTTPException) as error:
            said = error.message if isinstance(error, MultiPartException) else error.detail
            raise RequestError(
                400, f"the multipart body can't be read: {said}: send files as form fields 'files'"
            ) from error
        items = []
        for position, file in enumerate(form.getlist("files")):
            if not isinstance(file, UploadFile):
                raise RequestError(400, "form field 'files' holds text: send files in it")
            items.append(Item(file.filename or f"item-{position}", await file.read()))
        return items, [str(task) for task in form.getlist("tasks")]


def build(config: ServeConfig) -> serve.Application:
    """The application for ``serve.run`` or a Serve config file.

    Raises:
        ScorerError: the scorer's folder is not usable; checked here, not on a replica.
    """
    outline_scorer(config.scorer)
    settings = config.model_dump(mode="json")
    resources = {"num_cpus": config.threads, "num_gpus": int(config.device.startswith("cuda"))}
    engine = Engine.options(ray_actor_options=resources).bind(settings)  # type: ignore[attr-defined]
    return Ingress.bind(engine, settings)  # type: ignore[attr-defined]
