"""Equal-interval rating levels: a number to a word and back (Q-Align, section 3 and Eq. 1 to 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.opinions.scale import Scale

LEVEL_WORDS = ("bad", "poor", "fair", "good", "excellent")
"""The five words of ITU-T P.800, worst first, as in Q-Align."""


class LevelRule(StrEnum):
    """On which side a score that lies exactly on an edge falls."""

    RIGHT_CLOSED = "right_closed"
    """``m + (i-1)/K R < s <= m + i/K R`` (Q-Align Eq. 1); s = m is the lowest level."""
    LEFT_CLOSED = "left_closed"
    """``m + (i-1)/K R <= s < m + i/K R``; s = M is the highest level (the released SPAQ labels)."""


def trimmed_range(scores: ArrayLike) -> tuple[Scale, NDArray[np.bool_]]:
    """The released labels' range for KonIQ and LSVQ, and the rows that they keep.

    With the N scores sorted as z, ``k = N // 1000``, ``m = z[k]`` and ``M = z[-k]``; rows
    outside ``[m, M)`` are dropped (KonIQ's 10,073 rows give
    [6.6849, 85.3563]). Below 1,000 rows k is 0: the range is the set's own minimum and
    maximum, and nothing is dropped.

    Returns:
        The scale, and a mask of shape (N,) that is true where a row is kept.
    """
    z = np.asarray(scores, dtype=np.float64)
    k = len(z) // 1000
    ordered = np.sort(z)
    scale = Scale(float(ordered[k]), float(ordered[-k] if k else ordered[-1]))
    kept = (z >= scale.minimum) & (z < scale.maximum) if k else np.ones(len(z), dtype=bool)
    return scale, kept


@dataclass(frozen=True)
class Levels:
    """K equal bins over a scale, named by words from worst to best.

    Attributes:
        scale: the set's own scale, or the range that its labels were cut over.
        words: K level words, worst first.
        rule: the side that an edge belongs to.
    """

    scale: Scale
    words: Sequence[str] = LEVEL_WORDS
    rule: LevelRule = LevelRule.RIGHT_CLOSED

    def index(self, scores: ArrayLike) -> NDArray[np.int64]:
        """Level indices 0..K-1, worst first (Eq. 1). Same shape as ``scores``.

        Scores outside the scale take the nearest level.

        Raises:
            ValueError: a score is not finite.
        """
        s = np.asarray(scores, dtype=np.float64)
        if not np.all(np.isfinite(s)):
            raise ValueError("scores must be finite to become levels")
        k = len(self.words)
        edges = self.scale.minimum + np.arange(1, k) * self.scale.width / k
        side: Literal["left", "right"] = "left" if self.rule is LevelRule.RIGHT_CLOSED else "right"
        return np.searchsorted(edges, s, side=side).astype(np.int64)

    def word(self, score: float) -> str:
        """The level word of one score."""
        return self.words[int(self.index(score))]

    def centres(self) -> NDArray[np.float64]:
        """The K bin centres on the set's own scale. Shape (K,)."""
        k = len(self.words)
        return self.scale.minimum + (np.arange(k) + 0.5) * self.scale.width / k

    def invert(self, scores: ArrayLike, through: str = "centres") -> NDArray[np.float64]:
        """Level scores on 1..K mapped back to the set's own scale, the inverse of the labels.

        ``centres``: ``m + (S - 0.5) / K * R``, for one-hot labels, whose words stand for the
        middle of a bin. ``ends``: ``m + (S - 1) / (K - 1) * R``, for soft labels, whose first
        and last words stand for the scale's ends.

        Raises:
            ValueError: ``through`` is neither.
        """
        s = np.asarray(scores, dtype=np.float64)
        k = len(self.words)
        if through == "centres":
            return self.scale.minimum + (s - 0.5) / k * self.scale.width
        if through == "ends":
            return self.scale.minimum + (s - 1) / (k - 1) * self.scale.width
        raise ValueError(f"unknown inverse map {through!r}: use 'centres' or 'ends'")
