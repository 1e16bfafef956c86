"""Scores to an ordering: what the command line, the catalog and the endpoint call."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.items import Score
from beholder.ranking.blend import QualityFloor, Weighted, check_relevance
from beholder.ranking.candidates import Array, LeftOut, gather
from beholder.ranking.rules import DEFAULT_Z, Rule, best_first, goodness, rule_values


@dataclass(frozen=True)
class Ranking:
    """An ordering of n of the given scores, the best first.

    Attributes:
        order: positions in the input. (n,).
        item_ids: of these positions.
        values: by what they are ordered, in the same order: the rule's value (see :class:`Rule`;
            an expected rank ascends, all else descends), the blend in (0, 1) with
            :class:`Weighted`, the relevance with :class:`QualityFloor`. (n,).
        below_floor: how many at the end missed the quality floor; 0 without one.
        left_out: scores that could not be ordered, as they came.
    """

    order: NDArray[np.int64]
    item_ids: tuple[str, ...]
    values: Array
    below_floor: int
    left_out: tuple[LeftOut, ...]


def rank(
    scores: Sequence[Score],
    task: str,
    rule: Rule | str = Rule.MEAN,
    relevance: ArrayLike | None = None,
    blend: Weighted | QualityFloor | None = None,
    z: float = DEFAULT_Z,
    tie_break: ArrayLike | None = None,
) -> Ranking:
    """Orders scores by a task, on their own or beside a relevance.

    Percentiles and expected ranks are those among the scores that can be ordered.

    Args:
        scores: of one scorer.
        task: such as ``quality``.
        rule: what quality is: ``mean``, ``lower_bound`` or ``expected_rank``.
        relevance: one number a score in any unit, higher is more relevant; also for scores that
            will be left out. (N,).
        blend: how relevance counts; given with it, and only then. Equal blends, and equal
            relevances with a floor, are ordered by quality.
        z: stds below the mean, for the lower bound.
        tie_break: a key a score, the smaller first, where all else is equal; input order by
            default. (N,).

    Raises:
        ValueError: scores of two scorers or scales, a rule that needs a spread over points,
            relevance without blend or blend without, or a value out of range.
    """
    if (relevance is None) != (blend is None):
        given, missing = ("relevance", "blend") if blend is None else ("blend", "relevance")
        raise ValueError(f"{given} is given without {missing}: give both or neither")
    rule = Rule(rule)
    gathered = gather(scores, task)
    at = gathered.positions
    ties = None if tie_break is None else _check_ties(tie_break, len(scores))[at]
    values = rule_values(gathered.candidates(), rule, z)
    passed = np.ones(len(at), dtype=bool)
    if relevance is not None:
        relevance = check_relevance(relevance, len(scores))[at]
        if isinstance(blend, QualityFloor):
            passed = blend.passed(gathered.ratings)
    first, values = blended_order(values, rule, relevance, blend, passed, ties)
    return Ranking(
        order=at[first],
        item_ids=tuple(scores[position].item_id for position in at[first]),
        values=values,
        below_floor=int((~passed).sum()),
        left_out=gathered.left_out,
    )


def blended_order(
    values: Array,
    rule: Rule,
    relevance: ArrayLike | None,
    blend: Weighted | QualityFloor | None,
    passed: NDArray[np.bool_],
    tie_break: ArrayLike | None = None,
) -> tuple[NDArray[np.int64], Array]:
    """The order of n candidates whose rule's values are known.

    Args:
        values: of the rule, in its unit. (n,).
        rule: that they are of.
        relevance: one a candidate, with a blend. (n,).
        blend: how it counts.
        passed: who reaches a quality floor; all where there is none. (n,).
        tie_break: as :func:`rank` takes it. (n,).

    Returns:
        Positions, the best first, (n,), and by what they are ordered, in that order. (n,).
    """
    quality = goodness(values, rule)
    if relevance is None:
        first = best_first(quality, tie_break=tie_break)
        return first, values[first]
    values = np.asarray(relevance, dtype=np.float64)
    if isinstance(blend, Weighted):
        values = blend.blended(quality, values)
    first = best_first(passed, values, quality, tie_break=tie_break)
    return first, values[first]


def _check_ties(tie_break: ArrayLike, count: int) -> NDArray[np.generic]:
    found = np.asarray(tie_break)
    if found.shape != (count,):
        raise ValueError(
            f"the tie-break has shape {found.shape} for {count} scores: give one key a score"
        )
    return found
