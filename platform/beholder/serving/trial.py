"""A scorer on trial: it scores a share of the traffic beside the one that answers.

Nothing of it reaches a client: the candidate gets pixels that were scored already, a few groups at
a time, and what it says is kept as pairs of means. They are what an operator looks at before the
candidate takes the scorer's place (:mod:`beholder.evaluation.succession`).
"""

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from beholder.evaluation.succession import (
    Succession,
    SuccessionConfig,
    compare_scorers,
    judge,
)
from beholder.logs import event

log = logging.getLogger(__name__)

MOST_RUNNING = 4
"""Groups that a replica of the ingress has the candidate score at once; others are let go, so that
a slow candidate takes no memory and holds nobody up."""
KEPT = 20_000
"""Newest pairs a task that a replica of the ingress keeps."""
FEWEST = 10
"""Pairs below which nothing is compared."""

Scale = tuple[float, float]
Answers = Sequence[Mapping[str, Any]]


@dataclass
class Pairs:
    """Both scorers' means of the same media, as one replica of the ingress has seen them.

    Attributes:
        means: by task, the scorer's mean and the candidate's.
        scales: by task, both scales.
        fingerprints: the scorer's and the candidate's; None before the first pair.
        skipped: groups of the share that were let go, because the candidate was behind.
        failed: groups that it did not score.
    """

    means: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    scales: dict[str, tuple[Scale, Scale]] = field(default_factory=dict)
    fingerprints: tuple[str, str] | None = None
    skipped: int = 0
    failed: int = 0

    def add(self, answers: Answers, candidates: Answers) -> None:
        """Takes what both said of a group's items; either may have failed with some."""
        for ours, theirs in zip(answers, candidates, strict=True):
            prints = (ours["fingerprint"], theirs["fingerprint"])
            if prints != self.fingerprints:  # one of them was replaced: older pairs are of no use
                self.means, self.scales, self.fingerprints = {}, {}, prints
            old, new = ours.get("scores") or {}, theirs.get("scores") or {}
            for task in old.keys() & new.keys():
                means = self.means.setdefault(task, deque(maxlen=KEPT))
                means.append((old[task]["mean"], new[task]["mean"]))
                self.scales[task] = (tuple(old[task]["scale"]), tuple(new[task]["scale"]))


class Trial:
    """Has a candidate score what has been scored.

    Args:
        share: of the groups, 0..1.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._random = random.Random()
        self._running: set[asyncio.Task[None]] = set()
        self.pairs = Pairs()

    def follow(self, answers: Answers, ask: Callable[[], Awaitable[Answers]]) -> None:
        """Asks the candidate about a group that has its answers, if it is one of the share.

        Args:
            answers: the scorer's.
            ask: asks the candidate; not called where the group is let go.
        """
        if self._random.random() >= self._share:
            return
        if len(self._running) >= MOST_RUNNING:
            self.pairs.skipped += 1
            return
        task = asyncio.create_task(self._pair(answers, ask))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _pair(self, answers: Answers, ask: Callable[[], Awaitable[Answers]]) -> None:
        try:
            theirs = await ask()
        except Exception as error:  # Whatever a candidate dies of, no client hears of it.
            self.pairs.failed += 1
            event(log, "candidate.failed", error=f"{type(error).__name__}: {error}")
            return
        self.pairs.add(answers, theirs)


class TrialTask(BaseModel):
    """Both scorers in one task."""

    items: int = Field(description="that both have scored")
    ready: bool = Field(description="whether each of the endpoint's criteria holds")
    reasons: list[str] = Field(description="a sentence for each criterion that does not")
    found: Succession | None = Field(
        None, description="agreement, rank churn, and the map from the old means to the new"
    )


class TrialAnswer(BaseModel):
    """What the traffic since the endpoint's last update says of its candidate."""

    fingerprint: str | None = Field(None, description="of the scorer that answers")
    candidate: str | None = Field(None, description="the candidate's")
    ready: bool = Field(description="whether it may take the scorer's place in all tasks")
    skipped: int = Field(description="groups that were let go, because it was behind")
    failed: int = Field(description="groups that it did not score")
    tasks: dict[str, TrialTask] = Field(description="by name, those that both have scored")


def verdict(replicas: Iterable[Pairs], config: SuccessionConfig) -> TrialAnswer:
    """What the pairs of all replicas say of the candidate.

    Of two scorers each, those with the most pairs count: while an endpoint is updated, not all of
    its replicas have the same.
    """
    told = list(replicas)
    weights: Counter[tuple[str, str]] = Counter()
    for one in told:
        if one.fingerprints is not None:
            weights[one.fingerprints] += sum(map(len, one.means.values()))
    prints = weights.most_common(1)[0][0] if weights else None
    same = [one for one in told if prints is not None and one.fingerprints == prints]
    names = sorted({task for one in same for task in one.means})
    tasks = {task: _of_task(task, same, config) for task in names}
    return TrialAnswer(
        fingerprint=prints[0] if prints else None,
        candidate=prints[1] if prints else None,
        ready=bool(tasks) and all(task.ready for task in tasks.values()),
        skipped=sum(one.skipped for one in told),
        failed=sum(one.failed for one in told),
        tasks=tasks,
    )


def _of_task(task: str, told: Sequence[Pairs], config: SuccessionConfig) -> TrialTask:
    pairs = np.array([pair for one in told for pair in one.means.get(task, ())])  # (N, 2)
    if len(pairs) < FEWEST:
        reason = f"{len(pairs)} items have scores of both, {config.min_items:,} are asked for"
        return TrialTask(items=len(pairs), ready=False, reasons=[reason])
    old, new = next(one.scales[task] for one in told if task in one.scales)
    found = compare_scorers(pairs[:, 0], pairs[:, 1], old, new)
    missed = [one.sentence for one in judge(found, config) if not one.ok]
    return TrialTask(items=found.count, ready=not missed, reasons=missed, found=found)
