"""The mathematics of order: mean, lower bound, expected rank, P(A > B), relevance."""

from beholder.ranking.blend import QualityFloor, Weighted
from beholder.ranking.candidates import Candidates, Gathered, LeftOut, gather
from beholder.ranking.expectation import (
    EXACT_LIMIT,
    Field,
    FieldSlice,
    StdNodes,
    binned_expected_rank,
    exact_expected_rank,
    expected_rank,
)
from beholder.ranking.pairwise import gaussian_matrix, probability_matrix
from beholder.ranking.ranking import Ranking, blended_order, rank
from beholder.ranking.rules import (
    DEFAULT_Z,
    Rule,
    best_first,
    goodness,
    lower_bound,
    order,
    rule_values,
)

__all__ = [
    "DEFAULT_Z",
    "EXACT_LIMIT",
    "Candidates",
    "Field",
    "FieldSlice",
    "Gathered",
    "LeftOut",
    "QualityFloor",
    "Ranking",
    "Rule",
    "StdNodes",
    "Weighted",
    "best_first",
    "binned_expected_rank",
    "blended_order",
    "exact_expected_rank",
    "expected_rank",
    "gather",
    "gaussian_matrix",
    "goodness",
    "lower_bound",
    "order",
    "probability_matrix",
    "rank",
    "rule_values",
]
