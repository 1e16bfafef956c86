"""What a scorer says of one item."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from beholder.items.failure import Failure, FailureCode
from beholder.opinions import Point, Rating, Scale, ScoreDistribution


@dataclass(frozen=True)
class Score:
    """One item's scores by task, or its failure.

    Attributes:
        item_id: the item's key.
        fingerprint: of the scorer; scores of different fingerprints are never compared.
        tasks: a distribution a task, or a point; empty where there is a failure.
        mass: probability that the full softmax puts on the readout's tokens, by task, 0..1.
            It falls when the model stops answering with a level (DeQA-Score, Table A2). Empty
            where a readout has no tokens.
        clips: a video's ratings clip by clip, by task; one clip for a picture.
        coverage: the part of the video's seconds that was looked at, 0..1.
        failure: why there is no score.
        attributes: named attributes where the scorer has them.
        text: what the scorer wrote, where it writes.
    """

    item_id: str
    fingerprint: str
    tasks: Mapping[str, Rating] = field(default_factory=dict)
    mass: Mapping[str, float] = field(default_factory=dict)
    clips: Mapping[str, tuple[Rating, ...]] = field(default_factory=dict)
    coverage: float = 1.0
    failure: Failure | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form: the one that the command line, rows and HTTP answers share."""
        answer: dict[str, Any] = {"item_id": self.item_id, "fingerprint": self.fingerprint}
        if self.failure is not None:
            answer["failure"] = {
                "code": str(self.failure.code),
                "message": self.failure.message,
                "attempts": self.failure.attempts,
                "bytes_read": self.failure.bytes_read,
            }
            return answer
        answer["coverage"] = self.coverage
        answer["scores"] = {
            task: {
                **rating.as_dict(),
                "mass": self.mass.get(task),
                "clips": [float(clip.mean) for clip in self.clips[task]],
            }
            for task, rating in self.tasks.items()
        }
        return answer

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` wrote, clips as points: only their means are written.

        Raises:
            AttributeError, KeyError, TypeError, ValueError: it is not what ``as_dict`` writes.
        """
        failure, scores = told.get("failure"), told.get("scores") or {}
        if failure is not None:
            failure = Failure(**{**failure, "code": FailureCode(failure["code"])})
        return cls(
            item_id=told["item_id"],
            fingerprint=told["fingerprint"],
            tasks={task: _rating(one) for task, one in scores.items()},
            mass={task: one["mass"] for task, one in scores.items() if one.get("mass") is not None},
            clips={
                task: tuple(Point(np.array(mean), Scale(*one["scale"])) for mean in one["clips"])
                for task, one in scores.items()
            },
            coverage=told.get("coverage", 1.0),
            failure=failure,
            attributes=told.get("attributes") or {},
            text=told.get("text"),
        )


def _rating(told: Mapping[str, Any]) -> Rating:
    scale = Scale(*told["scale"])
    if told.get("probs") is None:
        return Point(np.array(told["mean"]), scale)
    return ScoreDistribution(np.array(told["support"]), np.array(told["probs"]), scale)
