"""What the routes ask of whatever scores: replicas behind Serve, or this process in a test."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from prometheus_client import Metric

from beholder.items import Failure, Item
from beholder.media.stage import Staged
from beholder.serving.trial import Pairs

Tasks = tuple[str, ...] | None
"""The tasks that are asked for; None for all that fit an item."""


class About(NamedTuple):
    """What the routes need to know of the scorer.

    Attributes:
        fingerprint: scores are compared within one only.
        readout: its name.
        scale: [minimum, maximum] of the means.
        tasks: by name, the kinds of media that it rates.
        golden: encoded media that the scorer is known to rate, None where there are none.
    """

    fingerprint: str
    readout: str
    scale: tuple[float, float]
    tasks: dict[str, list[str]]
    golden: bytes | None


class StagedGroup(NamedTuple):
    """Some items' pixels or failures, as they travel from a preprocessing replica to an engine.

    Attributes:
        items: id and what became of it, in the request's order.
        seconds: that preprocessing took, waiting for a decoder included.
    """

    items: list[tuple[str, Staged | Failure]]
    seconds: float


class Answered(NamedTuple):
    """Some items' answers.

    Attributes:
        answers: one an item, in order, as :meth:`beholder.items.Score.as_dict` writes it.
        frames: that were scored.
        seconds: by stage: ``preprocess``; ``queue``, waiting for a batch; ``engine``, in batches.
    """

    answers: list[dict[str, Any]]
    frames: int
    seconds: dict[str, float]


class LostReplicaError(Exception):
    """A replica died with a request: as often as it was tried."""


class ScoringService(Protocol):
    """Scores items, in this process or in others."""

    async def about(self) -> dict[str, About]:
        """Of the scorer, by the empty name, and of its adapters by theirs.

        Answers once the scorer is loaded and has scored its golden panel.

        Raises:
            LostReplicaError: who was asked died.
        """

    async def score(
        self, items: Sequence[Item], tasks: Tasks, request_id: str, adapter: str = ""
    ) -> Answered:
        """An answer an item, in order; cancelling it drops what has not begun.

        Args:
            items: to be scored.
            tasks: that are asked for.
            request_id: for logs.
            adapter: name of the adapter that scores; empty for the scorer itself.

        Raises:
            LostReplicaError: nobody lived long enough to answer.
        """

    async def pairs(self) -> list[Pairs]:
        """What each process has seen of the candidate."""

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        """Name and metric families of every process that has some."""
