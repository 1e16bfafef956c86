"""Every pair of a short list: the probability that one beats the other."""

from beholder.opinions import Rating, ScoreDistribution, thurstone
from beholder.ranking.candidates import Array, Candidates

PAIRWISE_LIMIT = 200
"""The longest list whose pairs are worked out: 40,000 numbers, more than a person reads."""


def probability_matrix(stack: Rating) -> Array:
    """P(A > B) + P(A = B) / 2 of all pairs, from the full distributions.

    Args:
        stack: n distributions on one scale. (n, K).

    Returns:
        Row beats column; opposite entries sum to 1 and the diagonal is 1/2. (n, n).

    Raises:
        ValueError: the distributions are points, or there are more than :data:`PAIRWISE_LIMIT`.
    """
    Candidates.of(stack).spread("P(A > B)")
    _check_length(len(stack))
    row = ScoreDistribution(stack.support, stack.probs[:, None], stack.scale)
    column = ScoreDistribution(stack.support, stack.probs[None], stack.scale)
    return _complementary(row.probability_above(column))


def gaussian_matrix(candidates: Candidates) -> Array:
    """P(A > B) of all pairs of Gaussians, by :func:`beholder.opinions.thurstone`.

    Result and errors as in :func:`probability_matrix`.
    """
    mean, std = candidates.mean, candidates.spread("P(A > B)")
    _check_length(len(mean))
    return _complementary(thurstone(mean[:, None], mean, std[:, None], std))


def _check_length(count: int) -> None:
    if count > PAIRWISE_LIMIT:
        raise ValueError(
            f"the pairs of {count} candidates are too many, {PAIRWISE_LIMIT} is the most: take "
            "the head of the list, or order by expected rank"
        )


def _complementary(above: Array) -> Array:
    """Takes out what opposite entries miss 1 by, where probabilities add up to 1 only nearly."""
    return above + (1 - above - above.T) / 2
