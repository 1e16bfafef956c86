"""Intervals that are as wide as the sources are few."""

import time

import numpy as np
import pytest

from beholder.evaluation import clustered_interval, plcc, srcc


def photos(rng: np.random.Generator, count: int, each: int) -> tuple[np.ndarray, ...]:
    """Predictions whose errors are shared by all pictures of one photo."""
    cluster = np.repeat(np.arange(count), each)
    true = rng.normal(size=count * each)
    predicted = true + rng.normal(size=count)[cluster] + 0.2 * rng.normal(size=count * each)
    return predicted, true, cluster


def test_the_interval_holds_the_value_and_the_seed_repeats_it() -> None:
    predicted, true, cluster = photos(np.random.default_rng(0), 20, 15)
    interval = clustered_interval(srcc, predicted, true, cluster, 500, seed=1)
    assert interval.low < srcc(predicted, true) < interval.high
    assert interval == clustered_interval(srcc, predicted, true, cluster, 500, seed=1)
    assert interval != clustered_interval(srcc, predicted, true, cluster, 500, seed=2)


def test_whole_photos_are_drawn() -> None:
    predicted, true, cluster = photos(np.random.default_rng(1), 12, 40)

    def width(clusters: np.ndarray) -> float:
        low, high = clustered_interval(plcc, predicted, true, clusters, 400, seed=0)
        return high - low

    # Errors are shared within a photo: taking pictures for independent hides most of the doubt.
    assert width(cluster) > 2 * width(np.arange(len(true)))


def test_every_draw_holds_as_many_clusters_as_there_are() -> None:
    cluster = np.array(["a", "b", "b", "c", "c", "c"])
    sizes = set()

    def note(predicted: np.ndarray, true: np.ndarray) -> float:
        values, counts = np.unique(predicted, return_counts=True)
        rows_of = {1.0: 1, 2.0: 2, 3.0: 3}
        drawn = [c / rows_of[v] for v, c in zip(values, counts, strict=True)]
        assert all(d == int(d) for d in drawn), "a cluster was torn apart"
        sizes.add(sum(drawn))
        return 0.0

    predicted = np.array([1.0, 2, 2, 3, 3, 3])
    clustered_interval(note, predicted, np.zeros(6), cluster, 50, seed=0)
    assert sizes == {3}


def test_permuted_labels_cover_zero() -> None:
    predicted, true, cluster = photos(np.random.default_rng(2), 25, 20)
    shuffled = np.random.default_rng(3).permutation(true)
    low, high = clustered_interval(srcc, predicted, shuffled, cluster, 500, seed=0)
    assert low < 0 < high
    low, _ = clustered_interval(srcc, predicted, true, cluster, 500, seed=0)
    assert low > 0.3


def test_a_higher_level_is_wider() -> None:
    predicted, true, cluster = photos(np.random.default_rng(4), 15, 10)
    narrow = clustered_interval(srcc, predicted, true, cluster, 500, seed=0, level=0.5)
    wide = clustered_interval(srcc, predicted, true, cluster, 500, seed=0, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_thousand_resamples_of_2000_rows_take_seconds() -> None:
    predicted, true, cluster = photos(np.random.default_rng(5), 40, 50)
    start = time.process_time()
    clustered_interval(srcc, predicted, true, cluster, 1000, seed=0)
    assert time.process_time() - start < 5


def test_what_gives_no_interval_is_refused() -> None:
    x = np.arange(4.0)
    with pytest.raises(ValueError, match="at least two clusters, all rows are of 'p'"):
        clustered_interval(srcc, x, x, ["p"] * 4, 10, seed=0)
    with pytest.raises(ValueError, match="don't fit 4 rows"):
        clustered_interval(srcc, x, x, ["p", "q"], 10, seed=0)
    with pytest.raises(ValueError, match="level"):
        clustered_interval(srcc, x, x, ["p", "q", "r", "s"], 10, seed=0, level=95)
