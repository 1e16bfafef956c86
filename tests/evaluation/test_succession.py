"""One scorer in another's place: known expectations, a map that keeps shares, verdicts."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from beholder.evaluation import succession as module
from beholder.evaluation.correlations import krcc, plcc, srcc
from beholder.evaluation.succession import (
    CalibrationMap,
    SuccessionConfig,
    calibration_map,
    compare_scorers,
    judge,
    rank_churn,
    succession_table,
)

SCALE = (1.0, 5.0)


def scores(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two scorers' means on 1..5; the second has noise of its own and is more lenient."""
    rng = np.random.default_rng(seed)
    old = 1 + 4 * rng.beta(4, 3, size=count)
    return old, np.clip(1.5 + 0.8 * (old - 1) + noise * rng.normal(size=count), 1, 5)


def test_a_scorer_in_its_own_place_changes_nothing() -> None:
    old, _ = scores(500, 0.1)
    found = compare_scorers(old, old, SCALE, SCALE)
    assert (found.count, found.shift, found.w1, found.residual) == (500, 0, 0, 0)
    for agreement in (found.srcc, found.plcc, found.krcc):
        assert agreement.value == pytest.approx(1)
    assert found.churn == rank_churn(old, old)
    assert (found.churn.bands, found.churn.displacement) == (0, 0)
    assert all(leave == 0 for _, leave in found.churn.top)
    assert all(c.ok for c in judge(found, SuccessionConfig(min_items=500)))


def test_the_same_scores_on_another_scale_are_the_same_scores() -> None:
    old, new = scores(800, 0.2)
    here, there = (
        compare_scorers(old, new, SCALE, SCALE),
        compare_scorers(old, 25 * (new - 1), SCALE, (0, 100)),
    )
    assert there.churn == here.churn
    assert (there.shift, there.w1) == (pytest.approx(here.shift), pytest.approx(here.w1))
    assert there.srcc == here.srcc
    assert there.residual == pytest.approx(25 * here.residual)


def test_agreement_is_that_of_the_correlations_and_lies_in_its_interval() -> None:
    old, new = scores(2000, 0.3)
    found = compare_scorers(old, new, SCALE, SCALE, clusters=np.arange(2000) // 4)
    for agreement, statistic in ((found.srcc, srcc), (found.plcc, plcc), (found.krcc, krcc)):
        assert agreement.value == statistic(new, old)
        assert agreement.interval.low < agreement.value < agreement.interval.high
    # Fisher's z: 1.96 standard errors of a Pearson correlation of independent Gaussian pairs.
    z = np.arctanh(found.plcc.value)
    low, high = np.tanh([z - 1.96 / np.sqrt(1997), z + 1.96 / np.sqrt(1997)])
    width = found.plcc.interval.high - found.plcc.interval.low
    assert width == pytest.approx(high - low, rel=0.3)
    assert found.w1 == pytest.approx(wasserstein_distance((old - 1) / 4, (new - 1) / 4))


def test_owners_whose_items_are_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(40), 50)
    old = 3 + rng.normal(size=40)[owner] + 0.1 * rng.normal(size=2000)
    new = old + rng.normal(size=40)[owner]
    alone, together = (compare_scorers(old, new, SCALE, SCALE, who) for who in (None, owner))
    wide, narrow = together.srcc.interval, alone.srcc.interval
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_many_rows_are_sampled_for_the_interval_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 1000)
    old, new = scores(8000, 0.3)
    found = compare_scorers(old, new, SCALE, SCALE)
    low, high = found.srcc.interval
    assert low < srcc(new, old) == found.srcc.value < high
    some = compare_scorers(old[:1000], new[:1000], SCALE, SCALE).srcc.interval
    assert high - low == pytest.approx(some.high - some.low, rel=0.3)
    assert found.srcc == compare_scorers(old, new, SCALE, SCALE).srcc


def test_churn_without_relation_and_in_reverse() -> None:
    """Independent ranks: E|U - V| = 1/3; reversed ones: the footrule's largest value N^2 / 2."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=200_000), rng.normal(size=200_000)
    found = rank_churn(first, second)
    assert [share for share, _ in found.top] == [0.01, 0.1]
    assert [leave for _, leave in found.top] == pytest.approx([0.99, 0.9], abs=0.01)
    assert found.bands == pytest.approx(0.9, abs=0.005)
    assert found.displacement == pytest.approx(1 / 3, abs=0.003)
    back = rank_churn(first, -first)
    assert back.displacement == pytest.approx(1 / 2, abs=1e-4)
    assert all(leave == 1 for _, leave in back.top)


def test_churn_by_hand() -> None:
    old = np.arange(10, 0, -1.0)
    new = old.copy()
    new[[0, 4]] = new[[4, 0]]  # first and fifth change places
    found = rank_churn(old, new)
    assert found.top == ((0.01, 1.0), (0.1, 1.0))
    assert found.bands == 0.2
    assert found.displacement == pytest.approx(8 / 10 / 10)


def test_ties_keep_their_order() -> None:
    assert rank_churn([3, 3, 3, 3], [2, 2, 2, 2]).displacement == 0


def test_a_threshold_moved_along_the_map_keeps_its_share() -> None:
    old, new = scores(5000, 0.4)
    mapped = calibration_map(old, new)
    for threshold in (1.8, 2.5, 3.3, 4.2):
        share = np.mean(old >= threshold)
        assert np.mean(new >= mapped(threshold)) == pytest.approx(share, abs=0.006)
    assert (np.diff(mapped(np.linspace(0, 6, 200))) >= 0).all()
    assert mapped(0.0) == new.min() and mapped(9.0) == new.max()


def test_the_map_of_a_monotone_change_is_that_change() -> None:
    old, _ = scores(5000, 0)
    found = compare_scorers(old, old**2 / 5, SCALE, SCALE)
    grid = np.linspace(1.5, 4.5, 20)
    np.testing.assert_allclose(found.calibration(grid), grid**2 / 5, atol=0.01)
    assert found.residual < 0.01
    assert found.srcc.value == pytest.approx(1)


def test_the_map_of_few_values_and_of_one() -> None:
    assert calibration_map([1, 1, 2, 2], [3, 3, 4, 4])([1, 2]).tolist() == [3, 4]
    assert calibration_map([2, 2, 2], [1, 2, 3])([1, 2, 9]).tolist() == [2, 2, 2]


def test_the_map_comes_back_from_json() -> None:
    mapped = calibration_map(*scores(300, 0.2))
    assert CalibrationMap(**json.loads(json.dumps(asdict(mapped)))) == mapped
    for old, new, message in [
        ([1, 2], [3], "2 old and 1 new"),
        ([], [], "0 old"),
        ([2, 1], [1, 2], "must ascend"),
        ([1, 2], [2, 1], "must ascend"),
        ([1, np.nan], [1, 2], "not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            CalibrationMap(old, new)


def test_each_threshold_refuses() -> None:
    old, new = scores(1500, 0.3)
    config = SuccessionConfig(max_shift=0.2)

    def failing(found) -> set[str]:
        return {criterion.name for criterion in judge(found, config) if not criterion.ok}

    assert failing(compare_scorers(old, new, SCALE, SCALE)) == set()
    assert failing(compare_scorers(old[:500], new[:500], SCALE, SCALE)) == {"min_items"}
    assert failing(compare_scorers(old, np.minimum(old + 1.5, 6), SCALE, SCALE)) == {"max_shift"}
    other = np.random.default_rng(2).permutation(old)
    assert failing(compare_scorers(old, other, SCALE, SCALE)) == {"min_srcc", "max_churn"}
    backwards = judge(compare_scorers(old, 6 - old, SCALE, SCALE), config)
    assert "SRCC between the scorers is -1.000" in backwards[1].sentence


def test_srcc_is_held_by_its_lower_end() -> None:
    old, new = scores(60, 0.55, seed=3)
    found = compare_scorers(old, new, SCALE, SCALE)
    between = (found.srcc.value + found.srcc.interval.low) / 2
    verdict = judge(found, SuccessionConfig(min_items=2, min_srcc=between))
    assert not verdict[1].ok


def test_the_table_names_every_figure() -> None:
    table = succession_table({"quality": compare_scorers(*scores(300, 0.2), SCALE, SCALE)})
    assert table.startswith("| | quality |\n| --- | ---: |\n| items | 300 |\n")
    assert "leave the top 1% |" in table and "KRCC [95%]" in table
    assert succession_table({}) == "No task has scores of both.\n"


def test_what_can_not_be_compared_is_refused() -> None:
    for old, new, scale, message in [
        ([1, 2], [1, 2, 3], SCALE, "two equal rows"),
        ([1, np.inf], [1, 2], SCALE, "leave out failed items"),
        ([1, 2], [1, 2], (5.0, 5.0), "from 5 to 5 has no width"),
    ]:
        with pytest.raises(ValueError, match=message):
            compare_scorers(old, new, SCALE, scale)
