"""Scoring through Serve's handles: preprocessing, then an engine, and once more if one died."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError
from ray.serve.handle import DeploymentHandle

from beholder.items import Item
from beholder.serving.service import About, Answered, LostReplicaError, Tasks

TRIES = 2
METRICS_S = 2.0


class ScoringReplicas:
    """A :class:`~beholder.serving.service.ScoringService` behind handles.

    Pixels don't pass through here: the engine's call takes the preprocessing's response as it is,
    Serve waits for it before it chooses an engine, and the engine fetches it from the object store.

    Args:
        preprocess: handle of the preprocessing deployment.
        engine: handle of the engine's.
        ingress: handle of the deployment that this is part of.
        group_items: items of a call, at most: while one group is scored the next is decoded.
    """

    def __init__(
        self,
        preprocess: DeploymentHandle,
        engine: DeploymentHandle,
        ingress: DeploymentHandle,
        group_items: int,
    ) -> None:
        self._ingress = ingress
        self._preprocess = preprocess
        self._engine = engine
        self._group_items = group_items

    async def about(self) -> About:
        """As :meth:`beholder.serving.service.ScoringService.about`."""
        about: About = await self._engine.about.remote()
        return about

    async def score(self, items: Sequence[Item], tasks: Tasks, request_id: str) -> Answered:
        """As :meth:`beholder.serving.service.ScoringService.score`."""
        size = self._group_items
        groups = [items[start : start + size] for start in range(0, len(items), size)]
        if len(groups) == 1:
            return await self._group(groups[0], tasks, request_id)
        running = [asyncio.create_task(self._group(g, tasks, request_id)) for g in groups]
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

    async def _group(self, items: Sequence[Item], tasks: Tasks, request_id: str) -> Answered:
        lost: BaseException | None = None
        for _ in range(TRIES):
            staged = self._preprocess.stage.remote(items, request_id)
            answer = self._engine.score.remote(staged, tasks, request_id)
            try:
                answered: Answered = await answer
                return answered
            except asyncio.CancelledError:
                staged.cancel()
                answer.cancel()
                raise
            except Exception as error:
                if not is_loss(error):
                    raise
                lost = error
        raise LostReplicaError from lost

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        """Families of every replica that answers."""
        handles = (self._ingress, self._engine)
        return [one for some in await asyncio.gather(*map(_families, handles)) for one in some]


async def _families(handle: DeploymentHandle) -> list[tuple[str, list[Metric]]]:
    asked = handle.broadcast("families")
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
