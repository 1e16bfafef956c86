"""Expected ranks against sums over all pairs, against draws, and binned against exact."""

import math

import numpy as np
import pytest

from beholder.opinions import thurstone
from beholder.ranking import (
    Field,
    FieldSlice,
    StdNodes,
    best_first,
    binned_expected_rank,
    exact_expected_rank,
    expectation,
    expected_rank,
)

FORMS = pytest.mark.parametrize("form", [exact_expected_rank, binned_expected_rank, expected_rank])


def by_hand(mean: np.ndarray, std: np.ndarray, i: int) -> float:
    """``1 + sum_{j != i} P(j > i)`` by the error function of the standard library."""
    rank = 1.0
    for j in range(len(mean)):
        if j != i:
            spread = math.hypot(std[i], std[j])
            difference = mean[j] - mean[i]
            if spread > 0:
                rank += (1 + math.erf(difference / spread / math.sqrt(2))) / 2
            else:
                rank += 0.5 if difference == 0 else float(difference > 0)
    return rank


def sampled(mean: np.ndarray, std: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.array([0.5 + thurstone(mean, mean[i], std, std[i]).sum() for i in rows])


def test_a_published_pair() -> None:
    # DeQA-Score Eq. 6 with means 4 and 3, stds .6 and .8: P = .84134.
    assert exact_expected_rank([4, 3], [0.6, 0.8]) == pytest.approx([1.15866, 1.84134], abs=5e-6)


def test_exact_is_the_sum_over_all_others(lists, name: str) -> None:
    mean, std = lists(name, 60)
    wanted = [by_hand(mean, std, i) for i in range(60)]
    np.testing.assert_allclose(exact_expected_rank(mean, std), wanted, atol=1e-10)


def test_exact_does_not_depend_on_chunks(lists, monkeypatch: pytest.MonkeyPatch) -> None:
    mean, std = lists("normal", 101)
    whole = exact_expected_rank(mean, std)
    monkeypatch.setattr(expectation, "CHUNK", 7 * 101)
    assert exact_expected_rank(mean, std).tolist() == whole.tolist()
    monkeypatch.setattr(expectation, "CHUNK", 1)
    assert exact_expected_rank(mean, std).tolist() == whole.tolist()


def test_it_is_the_average_rank_of_draws() -> None:
    rng = np.random.default_rng(0)
    mean, std = np.array([1.0, 1.2, 3.0, 2.9, 2.0]), np.array([0.1, 1.0, 0.5, 2.0, 0.0])
    draws = rng.normal(mean, std, (200_000, 5))
    ranks = 1 + (draws[:, None, :] > draws[:, :, None]).sum(axis=2)
    # The std of the average is below 2 / sqrt(200,000) = 0.0045.
    np.testing.assert_allclose(exact_expected_rank(mean, std), ranks.mean(axis=0), atol=0.015)


@pytest.mark.parametrize("n", [1, 2, 10, 1_000])
def test_binned_is_within_its_bound(lists, name: str, n: int) -> None:
    mean, std = lists(name, n)
    error = binned_expected_rank(mean, std) - exact_expected_rank(mean, std)
    assert np.abs(error).max() <= 0.005 * n


def test_binned_is_within_its_bound_in_long_lists(lists, name: str) -> None:
    n = 20_000
    mean, std = lists(name, n)
    ranks = binned_expected_rank(mean, std)
    # The extremes of both, and what lies between.
    rows = np.random.default_rng(0).permutation(n)[:100]
    rows = np.concatenate([rows, np.argsort(mean)[[0, -1]], np.argsort(std)[[0, -1]]])
    assert np.abs(ranks[rows] - sampled(mean, std, rows)).max() <= 0.005 * n
    # All ranks together have a sum that is known.
    assert abs(ranks.mean() - (n + 1) / 2) <= 0.005 * n


@pytest.mark.parametrize("name", ["normal", "clusters", "few_values", "steps_between_nodes"])
def test_each_step_keeps_its_share_of_the_bound(lists, name: str, monkeypatch) -> None:
    """With two of the three made fine, the third errs by no more than the file's head says."""
    n = 1_000
    mean, std = lists(name, n)
    exact = exact_expected_rank(mean, std)
    steps = {"BLOCK_SHARE": 0.05, "NODE_SHARE": 0.05, "STD_STEP": 0.5}
    bounds = {"BLOCK_SHARE": 0.05, "NODE_SHARE": 0.05, "STD_STEP": 2 * 0.326 * 0.5**2 / 8}
    fine = {"BLOCK_SHARE": 1e-7, "NODE_SHARE": 1e-3, "STD_STEP": 0.02}
    for coarse, value in steps.items():
        for key in steps:
            monkeypatch.setattr(expectation, key, value if key == coarse else fine[key])
        error = np.abs(binned_expected_rank(mean, std) - exact).max() / n
        rest = 2 * 0.326 * fine["STD_STEP"] ** 2 / 8 + 1.1e-3
        assert error <= bounds[coarse] + rest, coarse


@pytest.mark.parametrize("name", ["normal", "clusters", "few_values"])
@pytest.mark.parametrize("cuts", [[1], [300, 301, 900]])
def test_a_list_in_slices_is_within_the_bound(lists, name: str, cuts: list[int]) -> None:
    """As a list on disk is: its slices by mean are looked at one by one, its rows in any parts."""
    n = 10_000
    mean, std = lists(name, n)
    order = np.lexsort((std, mean))
    nodes = StdNodes.of(std)
    weights = sum(nodes.weights(part) for part in np.array_split(std, 7))
    slices = [
        FieldSlice.of(mean[rows], std[rows], nodes, weights)
        for rows in np.split(order, cuts)
        if len(rows)
    ]
    field = Field(nodes, weights, slices)
    rows = np.random.default_rng(0).permutation(n)[:100]
    ranks = field.expected_rank(mean[rows], std[rows])
    assert np.abs(ranks - sampled(mean, std, rows)).max() <= 0.005 * n
    one_by_one = [field.expected_rank(mean[[i]], std[[i]])[0] for i in rows[:5]]
    assert ranks[:5].tolist() == one_by_one


def test_blocks_stand_at_their_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certain opinions show a block's whole error: half of its 100 rows, not all."""
    monkeypatch.setattr(expectation, "BLOCK_SHARE", 0.1)
    monkeypatch.setattr(expectation, "NODE_SHARE", 1e-9)
    mean = np.random.default_rng(0).normal(size=1_000)
    error = binned_expected_rank(mean, np.zeros(1_000)) - exact_expected_rank(mean, np.zeros(1_000))
    assert 45 <= np.abs(error).max() <= 51


def test_the_shares_add_up_to_the_bound() -> None:
    t, p = np.linspace(0, 9, 2_001)[:, None], np.linspace(0, 1, 501)
    phi = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    curvature = np.abs(p**2 * t * phi * (1 - t * t) - 2 * p * (1 - p) * t * phi).max()
    assert curvature == pytest.approx(0.326, abs=5e-4)
    stds = 2 * curvature * expectation.STD_STEP**2 / 8
    assert stds + expectation.BLOCK_SHARE + expectation.NODE_SHARE <= expectation.ERROR_BOUND


def test_the_curvature_is_that_of_the_probability() -> None:
    u = np.linspace(-6, 6, 4_001)
    for difference in (0.3, 1.0, 2.0, 5.0):
        for other in (0.0, 0.1, 1.0):
            above = thurstone(difference, 0, np.exp(u), other)
            second = np.diff(above, 2) / (u[1] - u[0]) ** 2
            assert np.abs(second).max() <= 0.326


def test_the_cost_of_pairs_does_not_grow_with_n(lists, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = []

    def counted(*arguments: np.ndarray) -> np.ndarray:
        found = thurstone(*arguments)
        pairs[-1] += found.size
        return found

    monkeypatch.setattr(expectation, "thurstone", counted)
    for n in (20_000, 200_000):
        pairs.append(0)
        expected_rank(*lists("normal", n))
        assert pairs[-1] < 20_000**2 / 5
    assert pairs[1] < 1.5 * pairs[0]
    pairs.append(0)
    expected_rank(*lists("normal", expectation.EXACT_LIMIT))
    assert pairs[2] == expectation.EXACT_LIMIT**2


def test_a_list_is_binned_only_where_that_is_less_work(lists, monkeypatch) -> None:
    """Stds over orders of magnitude have many nodes: 10,000 candidates are fewer pairs exactly."""
    pairs = []

    def counted(*arguments: np.ndarray) -> np.ndarray:
        found = thurstone(*arguments)
        pairs.append(found.size)
        return found

    monkeypatch.setattr(expectation, "thurstone", counted)
    expected_rank(*lists("many_magnitudes", 6_000))
    assert sum(pairs) == 6_000**2
    pairs.clear()
    expected_rank(*lists("equal_stds", 6_000))
    assert sum(pairs) < 6_000**2


@FORMS
def test_a_permutation_of_the_input_permutes_the_ranks(form, lists, name: str) -> None:
    mean, std = lists(name, 300)
    shuffle = np.random.default_rng(1).permutation(300)
    assert form(mean[shuffle], std[shuffle]).tolist() == form(mean, std)[shuffle].tolist()


@FORMS
def test_equal_candidates_have_equal_ranks(form, lists) -> None:
    mean, std = lists("normal", 400)
    ranks = form(np.repeat(mean, 3), np.repeat(std, 3))
    assert np.array_equal(ranks[::3], ranks[1::3])
    assert np.array_equal(ranks[::3], ranks[2::3])


@FORMS
def test_another_unit_changes_nothing(form, lists) -> None:
    mean, std = lists("normal", 400)
    moved = form(16 * mean - 100, 16 * std)
    np.testing.assert_allclose(moved, form(mean, std), atol=1e-8)


@FORMS
def test_turning_the_scale_round_turns_the_ranks(form, lists, name: str) -> None:
    mean, std = lists(name, 500)
    mirrored = 501 - form(-mean, std)
    atol = 1e-8 if form is not binned_expected_rank else 0.01 * 500
    np.testing.assert_allclose(form(mean, std), mirrored, atol=atol)


@FORMS
def test_certain_opinions_are_ranked_by_mean(form) -> None:
    assert form([3, 1, 2, 1], np.zeros(4)).tolist() == [1, 3.5, 2, 3.5]
    assert form(np.full(7, 0.1), np.zeros(7)).tolist() == [4] * 7
    assert form([], []).tolist() == []
    assert form([2], [0.5]).tolist() == [1]


def test_uncertainty_pulls_to_the_middle() -> None:
    mean = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    sure, unsure = (exact_expected_rank(mean, np.full(5, s)) for s in (0.1, 3.0))
    assert unsure[0] > sure[0] and unsure[4] < sure[4]
    assert best_first(-unsure).tolist() == [0, 1, 2, 3, 4]
    # One of equal mean who is less sure is no better or worse against his equals ...
    assert exact_expected_rank([1, 1], [0.1, 2]).tolist() == [1.5, 1.5]
    # ... but among lower ones he loses.
    first, second, *_ = exact_expected_rank([2, 2, 1, 1, 1], [0.1, 2, 0.1, 0.1, 0.1])
    assert first < second


@FORMS
@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([1, np.nan], [1, 1], "mean of row 1 is nan"),
        ([1, np.inf], [1, 1], "mean of row 1 is inf"),
        ([1, 2, 3], [1, -0.5, 1], "std of row 1 is -0.5"),
        ([1, 2], [1, np.inf], "std of row 1 is inf"),
        ([1, 2], [1, np.nan], "row 1 is a point"),
        ([1, 2], [1], r"\(2,\) means and \(1,\) stds"),
        ([[1, 2]], [[1, 2]], "one mean a candidate"),
    ],
)
def test_refusals(form, mean: list, std: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        form(mean, std)
