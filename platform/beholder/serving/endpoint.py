"""The endpoint as an ASGI application, whatever runs it and wherever its scorer is."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Route

from beholder.items import Item
from beholder.logs import event
from beholder.serving.admission import Admission, Place
from beholder.serving.body_limit import BodyLimit, declared_bytes
from beholder.serving.catalog_scores import CatalogScores
from beholder.serving.config import ServeConfig
from beholder.serving.keys import KeyGate
from beholder.serving.metrics import RequestMetrics, exposition
from beholder.serving.observed import Observed, log, note, problem, request_id
from beholder.serving.openapi import DESCRIPTION, DOCS_FILES, OPEN_PATHS, TEXT, refusals, score_body
from beholder.serving.page import PATHS, add_page
from beholder.serving.preprocess import expected_frames
from beholder.serving.rank_route import add_rank_routes
from beholder.serving.requests import RequestError, read_request
from beholder.serving.schemas import (
    LimitsOut,
    ReadyAnswer,
    ScoreAnswer,
    ScorerOut,
    ScorersAnswer,
)
from beholder.serving.service import About, Answered, LostReplicaError, ScoringService, Tasks
from beholder.serving.trial import TrialAnswer, verdict

READY = "/v1/ready"
FRESH_S = 10.0
"""Seconds for which a scored picture shows that the endpoint is ready."""
READY_S = 5.0
LOST_RETRY_S = 5
"""Seconds after which a dead replica's successor is likely there."""


def make_endpoint(
    config: ServeConfig, service: ScoringService, metrics: RequestMetrics, echo_id: bool = True
) -> FastAPI:
    """The application: routes, error shapes, and the guards in front of them.

    Args:
        config: limits and keys.
        service: what scores.
        metrics: where requests are counted; the service tells of them among others'.
        echo_id: whether answers carry the request's id; Serve's proxy adds it by itself.
    """
    routes = Endpoint(config, service, metrics)
    bearer = HTTPBearer(auto_error=False, description="an API key; checked by the gate")
    api = FastAPIOffline(
        redoc_url=None,
        static_url=DOCS_FILES,
        title="Beholder",
        summary="Rates pictures and videos as people do, with distributions.",
        description=DESCRIPTION,
        telemetry={"tracing": False},  # it would begin a trace of its own beside Serve's
    )
    guarded = APIRouter(
        dependencies=[Security(bearer)] if config.key_hashes else [],
        responses=refusals(401) if config.key_hashes else {},
    )
    add_score_routes(guarded, routes, config)
    catalog = CatalogScores(config.catalog, config.catalog_refresh_s) if config.catalog else None
    add_rank_routes(guarded, routes, catalog, config)
    api.include_router(guarded)
    add_readiness(api, routes)
    add_page(api)
    api.add_exception_handler(RequestError, _refused)
    api.add_exception_handler(HTTPException, _http_error)
    api.add_middleware(BodyLimit, limit=config.max_body_bytes)
    if config.key_hashes:  # Added later, it stands in front of what was added before.
        known = OPEN_PATHS | {READY, *PATHS}
        api.add_middleware(KeyGate, hashes=config.key_hashes, open_paths=known)
        event(log, "api_keys.on", known=len(config.key_hashes))
    else:
        event(log, "api_keys.off", meaning="whoever reaches the port is let in; see key_hashes")
    routed = (one for one in (*api.routes, *guarded.routes) if isinstance(one, Route))
    paths = frozenset(route.path for route in routed)
    api.add_middleware(Observed, metrics=metrics, echo=echo_id, paths=paths)
    return api


def add_score_routes(api: APIRouter, routes: "Endpoint", config: ServeConfig) -> None:
    """Scores, the scorers and metrics; the candidate, where one is on trial."""
    api.post(
        "/v1/score",
        summary="Score pictures and short videos",
        response_model=ScoreAnswer,
        response_model_exclude_none=True,
        responses=refusals(400, 408, 413, 415, 429, 500, 503, 504),
        openapi_extra=score_body(config.max_items),
    )(routes.score)
    api.get(
        "/v1/scorers",
        summary="The scorers behind this endpoint, and its limits",
        responses=refusals(429, 500, 503, 504),
    )(routes.scorers)
    if config.candidate is not None:
        api.get(
            "/v1/candidate",
            summary="The scorer on trial beside the one that answers",
            responses=refusals(429, 500),
        )(routes.candidate)
    api.get(
        "/metrics",
        summary="Counts of all replicas in Prometheus' text format",
        response_class=Response,
        responses=TEXT | refusals(429, 500),
    )(routes.metrics)


def add_readiness(api: FastAPI, routes: "Endpoint") -> None:
    """Readiness, which asks for no key: whoever asks is a load balancer."""
    api.get(
        READY,
        summary="Whether a picture can be scored",
        responses=refusals(429, 500, 503),
    )(routes.ready)


class Endpoint:
    """Takes requests apart, lets them in or not, and has their items scored.

    Args:
        config: limits.
        service: what scores.
        metrics: where it is counted.
    """

    def __init__(
        self, config: ServeConfig, service: ScoringService, metrics: RequestMetrics
    ) -> None:
        self._config = config
        self._service = service
        self._metrics = metrics
        self._admission = Admission(config.max_queue_frames, config.max_queue_bytes)
        self._about: dict[str, About] | None = None
        self._scored_at = -FRESH_S
        metrics.queue_frames.set_function(lambda: self._admission.frames)
        metrics.queue_bytes.set_function(lambda: self._admission.bytes)

    async def scorers(self) -> ScorersAnswer:
        """Fingerprint, tasks and scale of the scorer, and what a request may cost."""
        async with self.until(time.monotonic(), 504, "the scorer did not start"):
            known = await self._known()
        scorers = [
            ScorerOut(
                name=name,
                fingerprint=about.fingerprint,
                readout=about.readout,
                scale=about.scale,
                tasks=about.tasks,
            )
            for name, about in known.items()
        ]
        limits = self._config.model_dump(include=set(LimitsOut.model_fields))
        return ScorersAnswer(scorers=scorers, limits=LimitsOut(**limits))

    async def ready(self) -> ReadyAnswer:
        """Answers 200 once a picture was scored in the last seconds, a client's or a golden one.

        An engine starts to answer only when it has scored its scorer's golden panel as recorded.
        """
        try:
            async with asyncio.timeout(READY_S):
                about = (await self._known())[""]
                if not self._is_fresh() and about.golden is not None:
                    item = Item("golden", about.golden)
                    answered = await self._service.score([item], None, request_id())
                    self._look_at(answered)
        except (TimeoutError, LostReplicaError):
            message = "no picture could be scored: the endpoint starts, or its replicas are lost"
            raise RequestError(503, message, retry_after_s=LOST_RETRY_S) from None
        if not self._is_fresh() and about.golden is not None:
            raise RequestError(503, "the golden picture has no score: see the log", LOST_RETRY_S)
        return ReadyAnswer(ready=True, fingerprint=about.fingerprint)

    async def candidate(self) -> TrialAnswer:
        """What the traffic says of the scorer that is on trial, and whether it is ready.

        To make the switch, put its folder in the scorer's place and deploy again.
        """
        trial = self._config.candidate
        assert trial is not None
        return await asyncio.to_thread(verdict, await self._service.pairs(), trial.criteria)

    async def metrics(self) -> Response:
        """Requests by status, items by code, seconds by stage, queues and batches."""
        return Response(exposition(await self._service.metrics()), media_type=CONTENT_TYPE_LATEST)

    async def score(self, request: Request) -> dict[str, Any]:
        """Answers each item with its distributions or its failure; a bad item harms no other.

        Send `multipart/form-data` with any number of `files` and `tasks`, or JSON whose items
        are base64 or URIs. 429 and 503 say in `Retry-After` when to come again; 504 is a request
        that took longer than the endpoint's `request_s`, of which nothing is told.
        """
        begun = time.monotonic()
        with self.admitted(request) as place:
            async with self.until(begun, 408, "the body did not arrive"):
                arriving = place.reading(request, self._config.stall_s)
                wanted = await read_request(arriving, self._config.max_items)
            note(items=len(wanted.items), read_s=time.monotonic() - begun)
            self._metrics.stages({"read": time.monotonic() - begun})
            async with self.until(begun, 504, "the items were not scored"):
                await self.check_tasks(wanted.tasks, wanted.scorer)
                answered = await self.score_items(
                    place, wanted.items, wanted.tasks or None, wanted.scorer
                )
        return {"items": answered.answers}

    def admitted(self, request: Request) -> AbstractContextManager[Place]:
        """A place in the queue for a request whose body hasn't been read yet.

        Raises:
            RequestError: on entering: 429, with the seconds after which to come again.
        """
        return self._admission.enter(declared_bytes(request.scope))

    @asynccontextmanager
    async def until(self, begun: float, status: int, what: str) -> AsyncIterator[None]:
        """Ends its block when the request has lasted for ``request_s``.

        Raises:
            RequestError: with ``status``; 503 where replicas died.
        """
        left = begun + self._config.request_s - time.monotonic()
        try:
            async with asyncio.timeout(left):
                yield
        except TimeoutError:
            message = f"{what} within {self._config.request_s:g} s: send fewer or smaller items"
            raise RequestError(status, message) from None
        except LostReplicaError:
            message = f"the items' replica died, twice: come again in {LOST_RETRY_S} s"
            raise RequestError(503, message, LOST_RETRY_S) from None

    async def check_tasks(self, tasks: Sequence[str], scorer: str = "") -> None:
        """Refuses tasks that the scorer doesn't have, and a scorer that the endpoint doesn't.

        Raises:
            RequestError: 400, naming one.
        """
        known_scorers = await self._known()
        if scorer not in known_scorers:
            named = ", ".join(f"'{name}'" for name in known_scorers if name)
            remedy = f"ask for {named}, or leave it out" if named else "leave it out"
            raise RequestError(400, f"this endpoint has no scorer '{scorer}': {remedy}")
        about = known_scorers[scorer]
        for task in tasks:
            if task not in about.tasks:
                known = " or ".join(about.tasks)
                raise RequestError(400, f"this scorer has no task '{task}': ask for {known}")

    async def score_items(
        self, place: Place, items: Sequence[Item], tasks: Tasks, scorer: str = ""
    ) -> Answered:
        """Has items scored in an admitted request's place, and counts them.

        Raises:
            RequestError: 429: others took the place meanwhile.
            LostReplicaError: see :meth:`ScoringService.score`.
        """
        limits = self._config.limits()
        place.claim(sum(expected_frames(item, limits) for item in items))
        answered = await self._service.score(items, tasks, request_id(), scorer)
        place.done(answered.frames)
        self._look_at(answered)
        self._metrics.answers(answered.answers)
        self._metrics.stages(answered.seconds)
        failed = sum("failure" in answer for answer in answered.answers)
        seconds = {f"{stage}_s": value for stage, value in answered.seconds.items()}
        note(failed=failed, frames=answered.frames, **seconds)
        return answered

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._scored_at < FRESH_S

    def _look_at(self, answered: Answered) -> None:
        if any("scores" in answer for answer in answered.answers):
            self._scored_at = time.monotonic()

    async def _known(self) -> dict[str, About]:
        if self._about is None:
            self._about = await self._service.about()
        return self._about


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return problem(error.status, str(error), error.headers)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), error.headers)
