"""A distribution over scores: what every readout reads and everything above it uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from beholder.opinions.point import Point
from beholder.opinions.scale import Scale


@dataclass(frozen=True)
class ScoreDistribution:
    """Probabilities over a fixed set of scores.

    Attributes:
        support: the K scores in ascending order, in the unit of ``scale``. Shape (K,).
        probs: probabilities, the last axis is the support's and sums to 1. Shape (..., K).
        scale: the scale that the support lies on.

    Raises:
        ValueError: shapes don't match, the support is not ascending, a probability is
            negative or not finite, or a row doesn't sum to 1 within 1e-4.
    """

    support: NDArray[np.float64]
    probs: NDArray[np.float64]
    scale: Scale

    def __post_init__(self) -> None:
        object.__setattr__(self, "support", np.asarray(self.support, dtype=np.float64))
        object.__setattr__(self, "probs", np.asarray(self.probs, dtype=np.float64))
        if self.support.ndim != 1 or self.probs.shape[-1:] != self.support.shape:
            raise ValueError(
                f"probs of shape {self.probs.shape} don't fit a support of shape "
                f"{self.support.shape}: the last axis must be the support's"
            )
        if np.any(np.diff(self.support) <= 0):
            raise ValueError(f"the support must be ascending, got {self.support.tolist()}")
        if not np.all(np.isfinite(self.probs)) or np.any(self.probs < 0):
            raise ValueError("probabilities must be finite and not negative")
        sums = self.probs.sum(axis=-1)
        if np.any(np.abs(sums - 1) > 1e-4):
            worst = float(sums.flat[int(np.argmax(np.abs(sums - 1)))])
            raise ValueError(f"probabilities must sum to 1, a row sums to {worst:.6g}")

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Expected score, Q-Align's Eq. 4. Shape (...)."""
        return self.probs @ self.support

    @cached_property
    def std(self) -> NDArray[np.float64]:
        """``sqrt(sum p (w - mean)^2)``, DeQA-Score's predicted spread. Shape (...)."""
        deviation = self.support - self.mean[..., None]
        return np.sqrt((self.probs * deviation**2).sum(axis=-1))

    @cached_property
    def entropy(self) -> NDArray[np.float64]:
        """``-sum p ln p`` in nats; 0 where one score is certain, ln K where all are equal."""
        p = self.probs
        logs = np.log(np.where(p > 0, p, 1.0))
        return -(p * logs).sum(axis=-1)

    def quantile(self, q: float) -> NDArray[np.float64]:
        """The smallest score whose cumulative probability reaches ``q`` in (0, 1]. Shape (...)."""
        if not 0 < q <= 1:
            raise ValueError(f"a quantile must lie in (0, 1], got {q}")
        cumulative = self.probs.cumsum(axis=-1)
        index = (cumulative >= q - 1e-12).argmax(axis=-1)
        # The last column can miss 1 by rounding; argmax of nothing is 0, so mend it.
        index = np.where(cumulative[..., -1] < q - 1e-12, len(self.support) - 1, index)
        return self.support[index]

    def probability_above(self, other: "Rating") -> NDArray[np.float64]:
        """P(A > B) + P(A = B) / 2 for independent draws A of self and B of ``other``.

        Raises:
            ValueError: the two distributions are on different scales, or ``other`` is a point.
        """
        if self.scale != other.scale:
            raise ValueError(
                f"can't compare scores on {self.scale} with scores on {other.scale}: "
                "map both to one scale first"
            )
        greater = self.support[:, None] > other.support[None, :]
        equal = self.support[:, None] == other.support[None, :]
        kernel = greater + 0.5 * equal  # (K, L)
        return np.einsum("...k,kl,...l->...", self.probs, kernel, other.probs)

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form of one distribution."""
        return {
            "mean": float(self.mean),
            "std": float(self.std),
            "entropy": float(self.entropy),
            "support": self.support.tolist(),
            "probs": self.probs.tolist(),
            "scale": [self.scale.minimum, self.scale.maximum],
        }

    def __len__(self) -> int:
        """How many distributions there are (1 where ``probs`` has one axis)."""
        return 1 if self.probs.ndim == 1 else self.probs.shape[0]

    def __getitem__(self, index: int) -> "ScoreDistribution":
        """One row of a stack of distributions."""
        return ScoreDistribution(self.support, self.probs[index], self.scale)


Rating = ScoreDistribution | Point
"""What is read at a slot. Both have a mean, a scale, ``as_dict``, a length and rows; the rest is
for distributions, and a point refuses it."""


@overload
def mixture(parts: Sequence[ScoreDistribution], weights: Sequence[float]) -> ScoreDistribution: ...


@overload
def mixture(parts: Sequence[Rating], weights: Sequence[float]) -> Rating: ...


def mixture(parts: Sequence[Rating], weights: Sequence[float]) -> Rating:
    """The weighted mixture of distributions on one support: a video's clips by their duration.

    Points become the point of their weighted mean. Weights are non-negative and need not sum to
    1; where all are 0 the parts count equally.

    Raises:
        ValueError: there are no parts, supports or scales differ, or points and distributions
            are mixed.
    """
    if not parts:
        raise ValueError("a mixture needs at least one distribution")
    first = parts[0]
    for part in parts[1:]:
        if part.scale != first.scale or not _alike(part, first):
            raise ValueError("a mixture needs distributions on one scale and one support")
    w = np.asarray(weights, dtype=np.float64)
    w = np.full(len(parts), 1 / len(parts)) if w.sum() == 0 else w / w.sum()
    if isinstance(first, Point):
        means = sum(weight * part.mean for weight, part in zip(w, parts, strict=True))
        return Point(np.asarray(means), first.scale)
    probs = sum(weight * part.probs for weight, part in zip(w, parts, strict=True))
    return ScoreDistribution(first.support, np.asarray(probs), first.scale)


def _alike(one: Rating, other: Rating) -> bool:
    if isinstance(one, Point) or isinstance(other, Point):
        return isinstance(one, Point) and isinstance(other, Point)
    return np.array_equal(one.support, other.support)
