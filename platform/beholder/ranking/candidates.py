"""What stands in one ordering: opinions of one scorer, of one task, on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beholder.items import Score
from beholder.opinions import Point, Rating, ScoreDistribution

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """n opinions as Gaussians, or as points where nothing is known of their spread.

    Attributes:
        mean: in the unit of one scale. (n,).
        std: in that unit, (n,); 0 is a certain opinion and NaN a point, of which no spread is
            known. None where all are points.

    Raises:
        ValueError: shapes don't match, a mean is not finite, or a std is negative or infinite.
    """

    mean: Array
    std: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", np.asarray(self.mean, dtype=np.float64))
        if self.mean.ndim != 1:
            raise ValueError(f"means have shape {self.mean.shape}: give one mean a candidate")
        _check_rows(np.isfinite(self.mean), self.mean, "mean", "finite")
        if self.std is None:
            return
        object.__setattr__(self, "std", np.asarray(self.std, dtype=np.float64))
        if self.std.shape != self.mean.shape:
            raise ValueError(
                f"{self.mean.shape} means and {self.std.shape} stds: give one std a candidate"
            )
        known = (self.std >= 0) & (self.std < np.inf)
        _check_rows(known | np.isnan(self.std), self.std, "std", "finite and 0 or more")

    @classmethod
    def of(cls, stack: Rating) -> "Candidates":
        """Mean and std of n distributions, (n, K), or n points, (n,)."""
        if isinstance(stack, Point):
            return cls(stack.mean)
        if stack.probs.ndim != 2:
            raise ValueError(
                f"probabilities have shape {stack.probs.shape}: give one row a candidate"
            )
        return cls(stack.mean, stack.std)

    def __len__(self) -> int:
        """How many candidates there are."""
        return len(self.mean)

    def spread(self, wanted_by: str) -> Array:
        """The stds, for a rule that can't do without. (n,).

        Raises:
            ValueError: a candidate is a point; ``wanted_by`` names what asked.
        """
        std = np.full_like(self.mean, np.nan) if self.std is None else self.std
        if not np.isnan(std).any():
            return std
        row = int(np.argmax(np.isnan(std)))
        raise ValueError(
            f"{wanted_by} needs a spread and row {row} is a point (mean {self.mean[row]:g}): "
            "a regression score has no spread, order by mean"
        )


@dataclass(frozen=True)
class LeftOut:
    """A score that stands in no ordering.

    Attributes:
        position: in the input.
        item_id: the item's key.
        reason: the failure's code and message, or that the task is missing.
    """

    position: int
    item_id: str
    reason: str


@dataclass(frozen=True)
class Gathered:
    """Scores that may be compared with each other.

    Attributes:
        positions: in the input, ascending. (n,).
        ratings: of these positions, on one scale; n of them.
        left_out: the other positions, ascending.
    """

    positions: NDArray[np.int64]
    ratings: tuple[Rating, ...]
    left_out: tuple[LeftOut, ...]

    def candidates(self) -> Candidates:
        """Means and stds."""
        found = self.ratings
        std = [np.nan if isinstance(one, Point) else float(one.std) for one in found]
        return Candidates(np.array([float(one.mean) for one in found]), np.array(std))

    def stack(self) -> ScoreDistribution:
        """The n distributions in one, for :func:`beholder.ranking.probability_matrix`. (n, K).

        Raises:
            ValueError: there are none, one is a point, or supports differ.
        """
        if not self.ratings:
            raise ValueError("none of the scores can be compared: see what was left out and why")
        self.candidates().spread("P(A > B)")
        first = self.ratings[0]
        for row, other in enumerate(self.ratings):
            if not np.array_equal(other.support, first.support):
                raise ValueError(
                    f"rows 0 and {row} have the supports {first.support.tolist()} and "
                    f"{other.support.tolist()}: score both with one scorer"
                )
        probs = np.stack([one.probs for one in self.ratings])
        return ScoreDistribution(first.support, probs, first.scale)


def gather(scores: Sequence[Score], task: str) -> Gathered:
    """What can be ordered by a task, and what can't and why.

    Args:
        scores: one an item, of one scorer; what is left out may come from another.
        task: such as ``quality``.

    Raises:
        ValueError: scores come from two scorers, or lie on two scales.
    """
    kept: list[int] = []
    left_out: list[LeftOut] = []
    for position, score in enumerate(scores):
        reason = _reason(score, task)
        if reason is None:
            kept.append(position)
        else:
            left_out.append(LeftOut(position, score.item_id, reason))
    _check_comparable([scores[position] for position in kept], task)
    found = tuple(scores[position].tasks[task] for position in kept)
    return Gathered(np.array(kept, dtype=np.int64), found, tuple(left_out))


def _reason(score: Score, task: str) -> str | None:
    if score.failure is not None:
        return f"{score.failure.code}: {score.failure.message}"
    if task not in score.tasks:
        return f"no score for task '{task}', only for {sorted(score.tasks)}"
    return None


def _check_comparable(scores: Sequence[Score], task: str) -> None:
    if not scores:
        return
    first = scores[0]
    for score in scores[1:]:
        if score.fingerprint != first.fingerprint:
            raise ValueError(
                f"items '{first.item_id}' and '{score.item_id}' were scored by two scorers "
                f"({first.fingerprint} and {score.fingerprint}): score both with one"
            )
        here, there = first.tasks[task].scale, score.tasks[task].scale
        if here != there:
            raise ValueError(
                f"items '{first.item_id}' and '{score.item_id}' have '{task}' on two scales "
                f"({here} and {there}): score both with one scorer"
            )


def _check_rows(good: NDArray[np.bool_], values: Array, name: str, bound: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(
            f"the {name} of row {row} is {values[row]:g} and must be {bound}: leave out rows "
            "without a score"
        )
