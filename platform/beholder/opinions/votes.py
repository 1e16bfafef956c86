"""Vote histograms: how many people gave each score."""

import numpy as np
from numpy.typing import ArrayLike

from beholder.opinions.distribution import ScoreDistribution
from beholder.opinions.scale import Scale


def vote_distribution(votes: ArrayLike, support: ArrayLike) -> ScoreDistribution:
    """Histograms as distributions, whose mean and std are the items' mos and std.

    The std is that of the votes themselves, ``sqrt(sum f (s - mos)^2)``; a sample std, with
    n - 1 below, is larger by ``sqrt(n / (n-1))``.

    Args:
        votes: counts or fractions, one row an item. (N, K).
        support: the scores that could be given, ascending (AVA: 1..10). (K,).

    Returns:
        N distributions on the scale from the first to the last score.

    Raises:
        ValueError: shapes don't match, a vote is negative or not finite, a row has no votes, or
            the support has fewer than two scores or isn't ascending.
    """
    counts = np.asarray(votes, dtype=np.float64)
    scores = np.asarray(support, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < 2:
        raise ValueError(f"votes need a row of at least two scores, got shape {scores.shape}")
    if counts.ndim != 2 or counts.shape[1] != len(scores):
        raise ValueError(
            f"votes of shape {counts.shape} must be rows of {len(scores)}, one count a score"
        )
    wrong = ~np.isfinite(counts) | (counts < 0)
    if np.any(wrong):
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"row {row} has {counts[row, column]:g} votes for {scores[column]:g}: counts must be "
            "finite and not negative, correct or leave out the row"
        )
    totals = counts.sum(axis=1, keepdims=True)
    if not np.all(totals > 0):
        raise ValueError(f"row {int(np.argmin(totals > 0))} has no votes at all: leave it out")
    return ScoreDistribution(scores, counts / totals, Scale(float(scores[0]), float(scores[-1])))


def onto_levels(distribution: ScoreDistribution, k: int) -> ScoreDistribution:
    """The same opinions on K equally spaced scores: targets for K words or score tokens.

    A score between two of the new ones gives each a share by its distance, so the mean stays
    exactly; the std grows by at most half a step. Scores that coincide keep their probability.

    Args:
        distribution: on any ascending support within its scale. (..., L).
        k: how many scores, at least 2.

    Returns:
        Support ``linspace(minimum, maximum, K)`` of the same scale. (..., K).

    Raises:
        ValueError: K is below 2.
    """
    if k < 2:
        raise ValueError(f"a scale needs at least two levels, got {k}")
    positions = distribution.scale.to_unit(distribution.support) * (k - 1)  # 0..K-1, (L,)
    shares = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(k)))  # (L, K)
    support = np.linspace(distribution.scale.minimum, distribution.scale.maximum, k)
    return ScoreDistribution(support, distribution.probs @ shares, distribution.scale)
