"""A paired test finds what is there and not what isn't; ensembles."""

import numpy as np
import pytest

from beholder.evaluation import clustered_interval, compare, krcc, plcc, srcc, zscore_ensemble


def scorers(
    seed: int, first: float, second: float, photos: int = 30, each: int = 8
) -> tuple[np.ndarray, ...]:
    """Two scorers with errors of these stds of their own, and an error that they share."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(photos), each)
    true = rng.normal(size=len(cluster))
    common = true + rng.normal(size=photos)[cluster]
    noisy = [common + std * rng.normal(size=len(true)) for std in (first, second)]
    return *noisy, true, cluster


def test_a_real_difference_is_found() -> None:
    good, poor, true, cluster = scorers(0, 0.3, 1.0)
    for statistic in (srcc, plcc, krcc):
        found = compare(good, poor, true, cluster, statistic, resamples=300)
        assert found.value == pytest.approx(statistic(good, true) - statistic(poor, true))
        assert 0 < found.interval.low < found.value < found.interval.high
        assert found.p == pytest.approx(2 / 301)
    back = compare(poor, good, true, cluster, resamples=300)
    assert back.interval.high < 0
    assert back.p == pytest.approx(2 / 301)


def test_pairing_sees_what_two_intervals_side_by_side_hide() -> None:
    good, poor, true, cluster = scorers(0, 0.3, 1.0)
    low, _ = clustered_interval(srcc, good, true, cluster, 300, seed=0)
    _, high = clustered_interval(srcc, poor, true, cluster, 300, seed=0)
    assert low < high
    paired = compare(good, poor, true, cluster, resamples=300).interval
    shuffled = np.random.default_rng(1).permutation(len(true))  # rows no longer match
    apart = compare(good, poor[shuffled], true, cluster, resamples=300).interval
    assert paired.high - paired.low < 0.7 * (apart.high - apart.low)


def test_equal_scorers_are_seldom_told_apart() -> None:
    found = [
        compare(a, b, true, cluster, plcc, resamples=200, seed=seed)
        for seed in range(40)
        for a, b, true, cluster in [scorers(seed, 0.7, 0.7, photos=100, each=3)]
    ]
    values = np.array([f.p for f in found])
    # 5% are expected; 7 or more of 40 have a chance of 0.3%.
    assert np.count_nonzero(values < 0.05) < 7
    assert 0.3 < np.median(values) < 0.7
    for one in found:
        outside = one.interval.low > 0 or one.interval.high < 0
        # The draw added to each side makes p the more careful of the two, by no more than that.
        assert outside or one.p >= 0.05
        assert not outside or one.p < 0.05 + 2 / 201


def test_a_scorer_does_not_differ_from_itself() -> None:
    good, _, true, cluster = scorers(1, 0.3, 1.0)
    found = compare(good, 10 * good + 3, true, cluster, resamples=50)
    assert found.value == 0
    assert found.p == 1


def test_permuted_labels_cover_zero() -> None:
    good, _, true, cluster = scorers(2, 0.3, 1.0)
    shuffled = np.random.default_rng(3).permutation(true)
    low, high = clustered_interval(krcc, good, shuffled, cluster, 200, seed=0)
    assert low < 0 < high
    low, _ = clustered_interval(krcc, good, true, cluster, 200, seed=0)
    assert low > 0.3


def test_the_seed_repeats_the_draws() -> None:
    good, poor, true, cluster = scorers(4, 0.6, 0.7)
    first = compare(good, poor, true, cluster, plcc, 100, seed=1)
    assert first == compare(good, poor, true, cluster, plcc, 100, seed=1)
    assert first != compare(good, poor, true, cluster, plcc, 100, seed=2)


def test_what_can_not_be_compared_is_refused() -> None:
    x = np.arange(4.0)
    names = ["p", "p", "q", "q"]
    for first, second, clusters, level, message in [
        (x, x[:3], names, 0.95, "two equal rows"),
        (x, [1, np.nan, 2, 3], names, 0.95, "row 1 is nan"),
        (x, x, ["p"] * 4, 0.95, "at least two clusters"),
        (x, x, names[:2], 0.95, "don't fit 4 rows"),
        (x, x, names, 95, "between 0 and 1, got 95"),
    ]:
        with pytest.raises(ValueError, match=message):
            compare(first, second, x, clusters, level=level)


def test_an_ensemble_by_hand() -> None:
    ensemble = zscore_ensemble({"a": [1, 2, 3], "b": [50, 10, 30]})
    unit = np.sqrt(1.5)  # 1 / std of (-1, 0, 1)
    np.testing.assert_allclose(ensemble, [0, -unit / 2, unit / 2], atol=1e-12)


def test_scales_do_not_weigh_and_two_scorers_beat_each() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(size=400)
    a, b = true + rng.normal(size=400), true + rng.normal(size=400)
    ensemble = zscore_ensemble({"scorer": a, "clicks": 1e6 * b - 3})
    np.testing.assert_allclose(ensemble, zscore_ensemble({"scorer": a / 50, "clicks": b}))
    assert srcc(ensemble, true) > max(srcc(a, true), srcc(b, true)) + 0.03


def test_what_has_no_zscore_is_refused() -> None:
    x = [1.0, 2.0, 3.0]
    for columns, message in [
        ({"a": x, "clicks": [0.1 + 0.2] * 3}, "column 'clicks' is 0.3 in every row"),
        ({"a": x}, r"at least two columns, got \['a'\]"),
        ({"a": x, "b": x[:2]}, r"column 'b' of an ensemble has shape \(2,\)"),
        ({"a": x, "b": [1, np.inf, 2]}, "column 'b' is inf in row 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            zscore_ensemble(columns)
