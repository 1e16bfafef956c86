"""Scoring through Serve's handles: preprocessing, then an engine, and once more if one died."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import Metric
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle

from beholder.items import Item
from beholder.serving.service import About, Answered, LostReplicaError, Tasks
from beholder.serving.trial import Pairs, Trial

TRIES = 2
METRICS_S = 2.0


class ScoringReplicas:
    """A :class:`~beholder.serving.service.ScoringService` behind handles.

    Between deployments pixels go by reference, which is Serve's default, through the object store
    and not through here: the engine's call takes the preprocessing's response as it is. Or they
    go by gRPC, which takes small requests sooner, and through here.

    Args:
        preprocess: handle of the preprocessing deployment.
        engine: handle of the engine's.
        ingress: handle of the deployment that this is part of.
        group_items: items of a call, at most: while one group is scored the next is decoded.
        adapters: about each, by name.
        candidate: handle of the engine on trial, if there is one.
        share: of the groups that it scores, too.
    """

    def __init__(
        self,
        preprocess: DeploymentHandle,
        engine: DeploymentHandle,
        ingress: DeploymentHandle,
        group_items: int,
        adapters: Mapping[str, About],
        candidate: DeploymentHandle | None = None,
        share: float = 0.0,
    ) -> None:
        self._ingress = ingress
        self._preprocess = preprocess
        self._engine = engine
        self._group_items = group_items
        self._adapters = adapters
        self._candidate = candidate
        self._adapted: dict[str, DeploymentHandle] = {}
        self.trial = Trial(share)

    async def about(self) -> dict[str, About]:
        """As :meth:`beholder.serving.service.ScoringService.about`."""
        try:
            return {"": await self._engine.about.remote(), **self._adapters}
        except Exception as error:
            if not is_loss(error):
                raise
            raise LostReplicaError from error

    async def score(
        self, items: Sequence[Item], tasks: Tasks, request_id: str, adapter: str = ""
    ) -> Answered:
        """As :meth:`beholder.serving.service.ScoringService.score`."""
        size = self._group_items
        groups = [items[start : start + size] for start in range(0, len(items), size)]
        if len(groups) == 1:
            return await self._group(groups[0], tasks, request_id, adapter)
        running = [asyncio.create_task(self._group(g, tasks, request_id, adapter)) for g in groups]
        try:
            answered = await asyncio.gather(*running)
        except BaseException:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise
        seconds = {name: max(a.seconds[name] for a in answered) for name in answered[0].seconds}
        answers = [answer for a in answered for answer in a.answers]
        return Answered(answers, sum(a.frames for a in answered), seconds)

    async def _group(
        self, items: Sequence[Item], tasks: Tasks, request_id: str, adapter: str
    ) -> Answered:
        lost: BaseException | None = None
        for _ in range(TRIES):
            calls = [self._preprocess.stage.remote(items, request_id)]
            try:
                # By gRPC Serve's router would ask a dead replica's response for its pixels for
                # ever, so they are awaited here; they come through here anyway.
                staged = calls[0] if calls[0].by_reference else await calls[0]
                engine = self._engine_of(adapter)
                calls.append(engine.score.remote(staged, tasks, request_id, adapter))
                answered: Answered = await calls[-1]
            except asyncio.CancelledError:
                for call in calls:
                    call.cancel()
                raise
            except Exception as error:
                if not is_loss(error):
                    raise
                lost = error
                continue
            if self._candidate is not None and not adapter:
                asked = partial(_answers, self._candidate, staged, tasks, request_id)
                self.trial.follow(answered.answers, asked)
            return answered
        raise LostReplicaError from lost

    def _engine_of(self, adapter: str) -> DeploymentHandle:
        """A handle that goes to an engine that has the adapter loaded, where one has."""
        if not adapter:
            return self._engine
        if adapter not in self._adapted:
            self._adapted[adapter] = self._engine.options(multiplexed_model_id=adapter)
        return self._adapted[adapter]

    async def pairs(self) -> list[Pairs]:
        """As :meth:`beholder.serving.service.ScoringService.pairs`."""
        return await _told(self._ingress, "pairs")

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        """Families of every replica that answers."""
        engines = (self._engine, self._candidate)
        handles = (self._ingress, *(one for one in engines if one is not None))
        told = await asyncio.gather(*(_told(one, "families") for one in handles))
        return [one for some in told for one in some]


async def _answers(
    engine: DeploymentHandle, staged: Any, tasks: Tasks, request_id: str
) -> list[dict[str, Any]]:
    answered: Answered = await engine.score.remote(staged, tasks, request_id, "")
    return answered.answers


async def _told(handle: DeploymentHandle, method: str) -> list[Any]:
    """What a method says on every replica that answers."""
    asked = handle.broadcast(method)
    told = await asked.results_async(timeout_s=METRICS_S, return_exceptions=True)
    return [one for one in told if not isinstance(one, BaseException)]


def is_loss(error: BaseException) -> bool:
    """Whether a call failed because a replica, or what it had made, is gone.

    Serve itself tries another replica only while a call has not been taken by one.
    """
    return any(isinstance(one, RayActorError | ObjectLostError) for one in _causes(error))


def _causes(error: Any) -> Iterator[BaseException]:
    """An error and what it came from, through Ray's wrappers as well."""
    seen = 0
    while isinstance(error, BaseException) and seen < 10:
        yield error
        inner = error.cause if isinstance(error, RayTaskError) else None
        error = inner or error.__cause__
        seen += 1
