"""``POST /v1/rank``: stored scores, catalog items and media in one order."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from scipy.special import ndtri

from beholder.items import Item
from beholder.ranking import DEFAULT_Z, Candidates, QualityFloor, Rule, blended_order, rule_values
from beholder.serving.admission import Place
from beholder.serving.catalog_scores import ItemScores
from beholder.serving.config import ServeConfig
from beholder.serving.observed import note
from beholder.serving.openapi import rank_body, refusals
from beholder.serving.rank_requests import (
    RankAnswer,
    RankedOut,
    RankRequest,
    read_rank_request,
)
from beholder.serving.rated import Rated
from beholder.serving.requests import RequestError, item_of
from beholder.serving.service import Answered, Tasks


class Host(Protocol):
    """What the route asks of the endpoint that it is part of; see its methods of these names."""

    def admitted(self, request: Request) -> AbstractContextManager[Place]:
        """A place in the queue."""

    def until(self, begun: float, status: int, what: str) -> AbstractAsyncContextManager[None]:
        """Ends its block when the request's time is over."""

    async def check_tasks(self, tasks: Sequence[str], scorer: str = "") -> None:
        """Refuses what isn't served."""

    async def score_items(
        self, place: Place, items: Sequence[Item], tasks: Tasks, scorer: str = ""
    ) -> Answered:
        """Has items scored."""


def add_rank_routes(
    api: APIRouter, host: Host, catalog: ItemScores | None, config: ServeConfig
) -> None:
    """Adds ``/v1/rank``.

    Args:
        api: what holds the guarded routes.
        host: lets requests in, and scores candidates that are media.
        catalog: for candidates that are items; None refuses them.
        config: limits on candidates and, of these, media, and the body's time.
    """
    route = RankRoute(host, catalog, config.max_candidates, config.max_items, config.stall_s)
    api.post(
        "/v1/rank",
        summary="Order candidates by their distributions",
        response_model=RankAnswer,
        response_model_exclude_none=True,
        responses=refusals(400, 408, 413, 415, 429, 500, 503, 504),
        openapi_extra=rank_body(config.max_candidates),
    )(route.rank)


@dataclass(frozen=True)
class RankRoute:
    """See :func:`add_rank_routes`."""

    host: Host
    catalog: ItemScores | None
    max_candidates: int
    max_items: int
    stall_s: float

    async def rank(self, request: Request) -> JSONResponse:
        """Orders candidates, the best first; ties keep the order of the request.

        A candidate is a stored score (as `/v1/score` answered it, with its fingerprint), the id of
        an item of the published catalog, or media that are scored now. All of one request must
        come from one scorer. Order by `mean`, by `lower_bound` (what some part of the raters give
        at least), or by `expected_rank`; beside a `relevance` of yours by a `weight` or behind a
        quality `floor`. `pairwise` asks for P(A > B) of some pairs. What has no place (an unknown
        or failed item, a point where a spread is needed) is in `left_out` with a code and harms no
        other. Items are those of one snapshot, which the answer names.
        """
        begun = time.monotonic()
        with self.host.admitted(request) as place:
            async with self.host.until(begun, 408, "the body did not arrive"):
                body = await place.reading(request, self.stall_s).body()
                kind = request.headers.get("content-type", "")
                asked = await asyncio.to_thread(read_rank_request, kind, body, self.max_candidates)
            note(items=len(asked.candidates), read_s=time.monotonic() - begun)
            async with self.host.until(begun, 504, "the candidates were not ranked"):
                rated = Rated(asked.names(), asked.task)
                snapshot = await self._add_items(asked, rated)
                await self._add_media(place, asked, rated)
                answer = await asyncio.to_thread(_ranked, asked, rated)
        if snapshot is not None:
            answer["snapshot"] = snapshot
        return JSONResponse(answer)

    async def _add_items(self, asked: RankRequest, rated: Rated) -> str | None:
        named = {p: one.item for p, one in enumerate(asked.candidates) if one.item is not None}
        if not named:
            return None
        if self.catalog is None:
            first = next(iter(named.values()))
            raise RequestError(
                400, f"item '{first}' is of a catalog and this endpoint has none: send its scores"
            )
        record, found = await self.catalog.find(list(named.values()), asked.task)
        await asyncio.to_thread(rated.add_items, record, found, list(named))
        return record.snapshot

    async def _add_media(self, place: Place, asked: RankRequest, rated: Rated) -> None:
        media = {p: one.media for p, one in enumerate(asked.candidates) if one.media is not None}
        if not media:
            return
        if len(media) > self.max_items:
            raise RequestError(
                413, f"{len(media)} media in a request: send at most {self.max_items}"
            )
        items = [item_of(one, rated.names[position]) for position, one in media.items()]
        await self.host.check_tasks((asked.task,), asked.scorer)
        answered = await self.host.score_items(place, items, (asked.task,), asked.scorer)
        rated.add_answers(dict(zip(media, answered.answers, strict=True)))


def _ranked(asked: RankRequest, rated: Rated) -> dict[str, Any]:
    """The answer, but for the snapshot."""
    rated.add_stored(
        {
            position: (one.fingerprint, one.scores)
            for position, one in enumerate(asked.candidates)
            if one.scores is not None and one.fingerprint is not None
        }
    )
    fingerprint, scale = rated.common()
    rule = Rule(asked.rule)
    if rule is not Rule.MEAN:
        rated.leave_out_points(f"'{rule}'")
    blend = asked.blend.blend() if asked.blend else None
    passed = np.ones(len(rated.names), dtype=bool)
    if isinstance(blend, QualityFloor):
        passed = rated.passed(blend)
    at = rated.places()
    z = DEFAULT_Z if asked.confidence is None else float(ndtri(asked.confidence))
    values = rule_values(Candidates(rated.mean[at], rated.std[at]), rule, z)
    relevance = None
    if blend is not None:
        relevance = np.array([asked.candidates[position].relevance for position in at.tolist()])
    first, values = blended_order(values, rule, relevance, blend, passed[at], None)
    ranking = [
        RankedOut.model_construct(
            id=rated.names[position],
            position=position,
            rank=rank,
            value=value,
            mean=mean,
            std=None if np.isnan(std) else std,
            below_floor=not reached if isinstance(blend, QualityFloor) else None,
        )
        for rank, (position, value, mean, std, reached) in enumerate(
            zip(
                at[first].tolist(),
                values.tolist(),
                rated.mean[at[first]].tolist(),
                rated.std[at[first]].tolist(),
                passed[at[first]].tolist(),
                strict=True,
            ),
            1,
        )
    ]
    places = {name: position for position, name in enumerate(rated.names)}
    answer = RankAnswer(
        task=asked.task,
        rule=asked.rule,
        fingerprint=fingerprint,
        scale=(scale.minimum, scale.maximum) if scale else None,
        ranking=ranking,
        left_out=rated.left_out(),
        pairwise=[rated.pair(places[a], places[b]) for a, b in asked.pairwise],
    )
    return answer.model_dump(mode="json", exclude_none=True)
