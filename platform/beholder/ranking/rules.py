"""Rules by which opinions are put in order, best first."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.ranking.candidates import Array, Candidates
from beholder.ranking.expectation import expected_rank

DEFAULT_Z = 1.0
"""How many stds below its mean a candidate is taken at: 84% of a Gaussian lie above 1."""


class Rule(StrEnum):
    """What a candidate is ordered by."""

    MEAN = "mean"
    """The expected score, in the scale's unit."""
    LOWER_BOUND = "lower_bound"
    """:func:`lower_bound`, in the scale's unit: of two equal means the surer one is first."""
    EXPECTED_RANK = "expected_rank"
    """:func:`beholder.ranking.expected_rank`, 1 to n, where lower is better."""

    @classmethod
    def _missing_(cls, value: object) -> "Rule":
        raise ValueError(f"there is no rule '{value}': order by one of {[str(r) for r in cls]}")


def lower_bound(candidates: Candidates, z: float = DEFAULT_Z) -> Array:
    """``mean - z std``, the score that a candidate has at least with some certainty. (n,).

    The std is that of the opinion, so it speaks of raters and not of the scorer's own error: with
    z = 1 about 84% of raters would give as much or more. A quantile of the distribution would say
    the same without a Gaussian, but on five levels it has five values, and a list of thousands
    would be five heaps of ties.

    Args:
        candidates: with spreads.
        z: stds below the mean, 0 (the mean) or more; 1.645 for 95%, 2.326 for 99%.

    Raises:
        ValueError: z is negative or not finite, or a candidate has no spread.
    """
    if not 0 <= z < np.inf:
        raise ValueError(f"z is {z:g} and must be finite and 0 or more: 1 asks for 84% certainty")
    return candidates.mean - z * candidates.spread(f"'{Rule.LOWER_BOUND}'")


def rule_values(candidates: Candidates, rule: Rule | str, z: float = DEFAULT_Z) -> Array:
    """What each candidate is ordered by, in the unit that :class:`Rule` states. (n,).

    Args:
        candidates: of one scorer and one scale.
        rule: one of :class:`Rule`, or its name.
        z: of the lower bound; the other rules ignore it.

    Raises:
        ValueError: there is no such rule, or it needs a spread that a candidate hasn't got.
    """
    rule = Rule(rule)
    if rule is Rule.MEAN:
        return candidates.mean
    if rule is Rule.LOWER_BOUND:
        return lower_bound(candidates, z)
    return expected_rank(candidates.mean, candidates.spread(f"'{rule}'"))


def goodness(values: Array, rule: Rule | str) -> Array:
    """A rule's values turned so that higher is better. (n,)."""
    return -values if Rule(rule) is Rule.EXPECTED_RANK else values


def best_first(*keys: ArrayLike, tie_break: ArrayLike | None = None) -> NDArray[np.int64]:
    """Positions in descending order of the first key; ties by the next, then as they came.

    Args:
        keys: numbers, higher is better. (n,) each.
        tie_break: where all keys are equal the smaller comes first, such as an item's id; input
            order by default. (n,).

    Returns:
        Positions in the input, the best first. (n,).

    Raises:
        ValueError: lengths differ, or a key is NaN.
    """
    columns = [np.asarray(key, dtype=np.float64) for key in keys]
    for column in columns:
        if np.isnan(column).any():
            row = int(np.argmax(np.isnan(column)))
            raise ValueError(f"row {row} is nan, which has no place in an order: leave it out")
    by = [-column for column in columns]
    if tie_break is not None:
        by.append(np.asarray(tie_break))
    for column in by:
        if column.shape != by[0].shape:
            raise ValueError(
                f"keys and tie-break have shapes {[c.shape for c in by]}: give each candidate one"
            )
    return np.lexsort(by[::-1])  # the last is the first key; stable


def order(
    candidates: Candidates,
    rule: Rule | str = Rule.MEAN,
    z: float = DEFAULT_Z,
    tie_break: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Positions of the candidates, the best first. (n,).

    Arguments and errors as in :func:`rule_values` and :func:`best_first`.
    """
    return best_first(goodness(rule_values(candidates, rule, z), rule), tie_break=tie_break)
