"""Quality beside a relevance that the caller knows: by weight, or behind a quality floor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from beholder.opinions import Point, Rating
from beholder.ranking.candidates import Array

DIGITS = 12
"""Of a blend, without which two that are equal might differ by their rounding."""


@dataclass(frozen=True)
class Weighted:
    """``weight * quality + (1 - weight) * relevance``, both as percentiles of the list.

    Attributes:
        weight: of quality in [0, 1]; 0 orders by relevance and 1 by quality.

    Raises:
        ValueError: the weight lies outside.
    """

    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(
                f"the weight of quality is {self.weight:g} and must lie in [0, 1]: 0 orders by "
                "relevance alone"
            )

    def blended(self, quality: ArrayLike, relevance: ArrayLike) -> Array:
        """What the list is ordered by, in (0, 1); higher is better. (n,).

        Args:
            quality: in any unit, higher is better. (n,).
            relevance: in any unit, higher is better. (n,).
        """
        ours, theirs = percentiles(quality), percentiles(relevance)
        blend = self.weight * ours + (1 - self.weight) * theirs
        return np.round(blend, DIGITS)


@dataclass(frozen=True)
class QualityFloor:
    """Candidates below a quality go behind all others; relevance orders both groups.

    Attributes:
        minimum: the quality that is good enough, in the unit of the scores' scale.
        probability: with what probability, in (0, 1], a rater gives the minimum or more, by the
            full distribution; None asks that the mean reaches it. On levels only whole ones
            count: a minimum of 3.2 asks for level 4.

    Raises:
        ValueError: the minimum is not finite, or the probability lies outside.
    """

    minimum: float
    probability: float | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.minimum):
            raise ValueError(f"the quality floor is {self.minimum} and must be finite")
        if self.probability is not None and not 0 < self.probability <= 1:
            raise ValueError(
                f"the floor's probability is {self.probability:g} and must lie in (0, 1]: leave "
                "it out to ask for the mean"
            )

    def passed(self, ratings: Sequence[Rating]) -> NDArray[np.bool_]:
        """Which of n candidates, on one scale, are good enough. (n,).

        Raises:
            ValueError: the minimum lies outside the scale, or a probability is asked of a point.
        """
        for row, one in enumerate(ratings):
            if self.probability is not None and isinstance(one, Point):
                raise ValueError(
                    f"the floor's probability needs a spread and row {row} is a point (mean "
                    f"{float(one.mean):g}): a regression score has no spread, ask for the mean"
                )
        return np.array([bool(self.reached(one)) for one in ratings], dtype=bool)

    def reached(self, ratings: Rating) -> NDArray[np.bool_]:
        """The same of a stack of any shape (...).

        Raises:
            ValueError: the minimum lies outside the scale.
            NoSpreadError: a probability is asked of points.
        """
        scale = ratings.scale
        if not scale.minimum <= self.minimum <= scale.maximum:
            raise ValueError(
                f"the quality floor {self.minimum:g} lies outside the scores' scale "
                f"[{scale.minimum:g}, {scale.maximum:g}]: give it in that unit"
            )
        if self.probability is None:
            return np.asarray(ratings.mean >= self.minimum)
        above = ratings.probs[..., ratings.support >= self.minimum].sum(axis=-1)
        # Probabilities of a softmax add up to within some 1e-7.
        return np.asarray(above >= self.probability - 1e-6)


def percentiles(values: ArrayLike) -> Array:
    """Each value's place in its list: the part below it, half of its ties counted. (n,) in (0, 1).

    Ranks and not z-scores, since the caller's relevance is in an unknown unit, often with a long
    tail, where one outlier would decide how much all others' relevance counts. The price: two
    neighbours are 1 / n apart however close they are, and a value's place depends on the list.
    """
    v = np.asarray(values, dtype=np.float64)
    return (rankdata(v, method="average") - 0.5) / max(1, len(v))


def check_relevance(relevance: ArrayLike, count: int) -> Array:
    """The caller's relevance as numbers. (n,).

    Raises:
        ValueError: there isn't one an item, or one is not finite.
    """
    found = np.asarray(relevance, dtype=np.float64)
    if found.shape != (count,):
        raise ValueError(
            f"relevance has shape {found.shape} for {count} scores: give one number a score"
        )
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found)))
        raise ValueError(f"the relevance of row {row} is {found[row]} and must be finite")
    return found
