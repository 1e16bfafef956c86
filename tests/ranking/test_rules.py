"""Orders by rule: what is refused, how ties fall, and what a lower bound means."""

import numpy as np
import pytest
from scipy.stats import norm

from beholder.opinions import Point, Scale, ScoreDistribution
from beholder.ranking import (
    DEFAULT_Z,
    Candidates,
    Rule,
    best_first,
    exact_expected_rank,
    lower_bound,
    order,
    rule_values,
)

LEVELS = np.arange(1.0, 6.0)
STACK = ScoreDistribution(
    LEVELS,
    np.array(
        [
            [0, 0.1, 0.8, 0.1, 0],  # 3, sure
            [0.5, 0, 0, 0, 0.5],  # 3, torn
            [0, 0, 0.7, 0.3, 0],  # 3.3
            [0.2, 0, 0, 0, 0.8],  # 4.2, torn
        ]
    ),
    Scale(1, 5),
)
MIXED = Candidates(np.array([3.0, 4.0, 2.0]), np.array([0.5, np.nan, 0.5]))


def test_each_rule_has_its_own_order() -> None:
    candidates = Candidates.of(STACK)
    assert order(candidates, "mean").tolist() == [3, 2, 0, 1]
    assert order(candidates, "lower_bound").tolist() == [2, 3, 0, 1]
    assert order(candidates, "lower_bound", z=2).tolist() == [2, 0, 3, 1]
    # Of equal means below the others', the torn one beats them more often.
    assert order(candidates, Rule.EXPECTED_RANK).tolist() == [3, 2, 1, 0]


def test_candidates_of_a_stack_are_its_means_and_stds() -> None:
    candidates = Candidates.of(STACK)
    np.testing.assert_allclose(candidates.mean, [3, 3, 3.3, 4.2])
    np.testing.assert_allclose(candidates.std, [0.2**0.5, 2, 0.21**0.5, 1.6])
    assert len(candidates) == 4


def test_values_are_what_the_rules_say() -> None:
    mean, std = np.random.default_rng(0).uniform(1, 2, (2, 50))
    candidates = Candidates(mean, std)
    assert rule_values(candidates, "mean").tolist() == mean.tolist()
    assert rule_values(candidates, "lower_bound", z=2).tolist() == (mean - 2 * std).tolist()
    exact = exact_expected_rank(mean, std)
    assert rule_values(candidates, "expected_rank").tolist() == exact.tolist()
    # The best has the smallest rank, and the largest of all else.
    assert order(candidates, "expected_rank")[0] == exact.argmin()


def test_a_lower_bound_is_a_quantile_of_the_gaussian() -> None:
    candidates = Candidates(np.array([3.0]), np.array([0.5]))
    assert lower_bound(candidates, 1.645) == pytest.approx(norm.ppf(0.05, 3, 0.5), abs=1e-4)
    share = norm.sf(lower_bound(candidates)[0], 3, 0.5)
    assert share == pytest.approx(0.8413, abs=1e-4)
    assert DEFAULT_Z == 1


def test_a_lower_bound_at_z_0_is_the_mean() -> None:
    mean, std = np.random.default_rng(0).uniform(0, 5, (2, 100))
    candidates = Candidates(mean, std)
    assert lower_bound(candidates, 0).tolist() == mean.tolist()
    assert order(candidates, "lower_bound", z=0).tolist() == order(candidates).tolist()


def test_five_levels_have_five_quantiles() -> None:
    """Why the lower bound is no quantile: it can't tell most of a list apart."""
    rng = np.random.default_rng(0)
    stack = ScoreDistribution(LEVELS, rng.dirichlet(np.ones(5), 1000), Scale(1, 5))
    assert len(np.unique(stack.quantile(0.16))) <= 5
    assert len(np.unique(lower_bound(Candidates.of(stack)))) == 1000


@pytest.mark.parametrize("rule", list(Rule))
def test_a_constant_changes_no_order_and_a_permutation_permutes_it(rule: Rule) -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.integers(0, 1000, 200) / 64, rng.integers(1, 100, 200) / 64
    _, first = np.unique(np.stack([mean, std]), axis=1, return_index=True)
    mean, std = mean[first], std[first]
    found = order(Candidates(mean, std), rule)
    assert sorted(found.tolist()) == list(range(len(mean)))
    assert order(Candidates(mean + 512, std), rule).tolist() == found.tolist()
    shuffle = rng.permutation(len(mean))
    shuffled = order(Candidates(mean[shuffle], std[shuffle]), rule)
    values = rule_values(Candidates(mean, std), rule)
    assert values[shuffle][shuffled].tolist() == values[found].tolist()


@pytest.mark.parametrize("rule", list(Rule))
def test_ties_keep_the_order_of_the_input(rule: Rule) -> None:
    mean, std = np.tile([2.0, 4.0, 3.0], 40), np.tile([0.5, 0.5, 0.5], 40)
    found = order(Candidates(mean, std), rule).tolist()
    assert found == [*range(1, 120, 3), *range(2, 120, 3), *range(0, 120, 3)]


def test_ties_by_a_key() -> None:
    assert best_first([1, 2, 1, 2], tie_break=["d", "c", "b", "a"]).tolist() == [3, 1, 2, 0]
    assert best_first([1, 1, 1], tie_break=[3, 1, 2]).tolist() == [1, 2, 0]
    assert best_first([1, 1, 1], [2, 3, 2], tie_break=[3, 1, 2]).tolist() == [1, 2, 0]
    assert best_first([1, 2, 1], [9, 0, 8]).tolist() == [1, 0, 2]
    assert best_first([-np.inf, 0, np.inf]).tolist() == [2, 1, 0]


def test_points_are_ordered_by_mean_alone() -> None:
    points = Candidates.of(Point(np.array([3.0, 3.0]), Scale(1, 5)))
    assert points.std is None
    assert order(Candidates(np.array([1.0, 3.0, 2.0]))).tolist() == [1, 2, 0]
    assert order(MIXED).tolist() == [1, 0, 2]
    for rule in (Rule.LOWER_BOUND, Rule.EXPECTED_RANK):
        with pytest.raises(ValueError, match=f"'{rule}' needs a spread and row 0 is a point"):
            order(points, rule)
        with pytest.raises(ValueError, match=r"row 1 is a point \(mean 4\).*order by mean"):
            order(MIXED, rule)


def test_a_certain_opinion_is_no_point() -> None:
    sure = ScoreDistribution(LEVELS, np.eye(5), Scale(1, 5))
    for rule in Rule:
        assert order(Candidates.of(sure), rule).tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("z", [-1, np.nan, np.inf])
def test_a_z_out_of_range_is_refused(z: float) -> None:
    with pytest.raises(ValueError, match=f"z is {z:g}"):
        lower_bound(Candidates.of(STACK), z)


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match=r"no rule 'best'.*'mean', 'lower_bound'"):
        order(Candidates.of(STACK), "best")
    with pytest.raises(ValueError, match="row 1 is nan"):
        best_first([1, np.nan])
    with pytest.raises(ValueError, match=r"row 0 is nan"):
        best_first([1, 2], [np.nan, 1])
    with pytest.raises(ValueError, match="give each candidate one"):
        best_first([1, 2], tie_break=[1])
    with pytest.raises(ValueError, match="one row a candidate"):
        Candidates.of(STACK[0])
    with pytest.raises(ValueError, match=r"mean of row 1 is nan"):
        Candidates(np.array([1, np.nan]))
