"""Drift against hand-made figures, scipy on the raw scores, and what theory says of no drift."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from beholder.catalog.buckets import query
from beholder.catalog.drift import (
    ALL,
    BINS,
    BINS_SQL,
    NO_SEGMENT,
    Histogram,
    Histograms,
    as_records,
    beyond,
    compare,
    from_records,
    ks,
    pool,
    psi,
)


def histogram(scores: np.ndarray) -> Histogram:
    counts = np.histogram(scores, np.linspace(1, 5, BINS + 1))[0]
    return Histogram((1.0, 5.0), tuple(counts.tolist()))


def counted(mean: np.ndarray, segment: list[str | None]) -> pa.Table:
    scored = pa.table(
        {
            "task": ["quality"] * len(mean),
            "segment": pa.array(segment, pa.string()),
            "mean": mean,
            "scale": [[1.0, 5.0]] * len(mean),
        }
    )
    return query(BINS_SQL.format(rows="scored"), scored=scored)


def test_psi_by_hand() -> None:
    """Shares 10.5, 30.5 and 18 times .5 of 50 against 20.5, 20.5 and the same rest:
    .2 ln(20.5/10.5) + .2 ln(30.5/20.5) = .13381 + .07946."""
    tonight, before = np.zeros(BINS), np.zeros(BINS)
    tonight[:2], before[:2] = (10, 30), (20, 20)
    assert psi(tonight, before) == pytest.approx(0.21327, abs=1e-5)
    assert psi(before, tonight) == psi(tonight, before)
    assert psi(before, before) == 0


def test_psi_of_nothing_in_common_is_finite() -> None:
    tonight, before = np.zeros(BINS), np.zeros(BINS)
    tonight[0] = before[-1] = 1000
    # Shares 1000.5 / 1010 and .5 / 1010, both ways.
    by_hand = 2 * (1000 / 1010) * np.log(1000.5 / 0.5)
    assert psi(tonight, before) == pytest.approx(by_hand)
    assert ks(tonight, before)[0] == 1


def test_psi_without_drift_is_what_theory_says() -> None:
    """Mean (1/N + 1/M) (BINS - 1), variance twice that over (1/N + 1/M), chi-squared's."""
    rng = np.random.default_rng(0)
    shares = np.full(BINS, 1 / BINS)
    n, m = 4000, 9000
    found = np.array(
        [psi(rng.multinomial(n, shares), rng.multinomial(m, shares)) for _ in range(999)]
    )
    noise = 1 / n + 1 / m
    assert found.mean() == pytest.approx(noise * (BINS - 1), rel=0.03)
    assert found.std() == pytest.approx(noise * np.sqrt(2 * (BINS - 1)), rel=0.1)


@pytest.mark.parametrize("shift", [0, 0.1, 0.5])
def test_ks_is_scipys_on_binned_scores_and_near_it_on_raw_ones(shift: float) -> None:
    rng = np.random.default_rng(1)
    tonight, before = (
        np.clip(rng.normal(3 + shift, 0.6, 3000), 1, 5),
        rng.normal(3, 0.6, 5000).clip(1, 5),
    )
    first, second = histogram(tonight), histogram(before)
    distance, p = ks(first.counts, second.counts)
    binned = stats.ks_2samp(
        np.repeat(np.arange(BINS), first.counts),
        np.repeat(np.arange(BINS), second.counts),
        method="asymp",
    )
    raw = stats.ks_2samp(tonight, before, method="asymp")
    assert distance == pytest.approx(binned.statistic, abs=1e-12)
    assert distance <= raw.statistic
    assert raw.statistic - distance < max(first.counts) / 3000
    if raw.pvalue > 1e-3:  # scipy's asymptotic p adds a term for small samples
        assert p == pytest.approx(binned.pvalue, abs=0.02)
        assert p >= raw.pvalue - 0.02


def test_duckdb_counts_as_numpy_does() -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(1, 5, 5000)
    scores[:3] = 1, 5, 3  # the ends and a bound
    found = Histograms()
    found.add(counted(scores, ["a"] * 2000 + [None] * 3000))
    by_key = found.largest(10)
    assert by_key["quality", ALL] == histogram(scores)
    assert by_key["quality", "a"] == histogram(scores[:2000])
    assert by_key["quality", NO_SEGMENT] == histogram(scores[2000:])
    assert by_key["quality", ALL].mean == pytest.approx(scores.mean(), abs=4 / BINS / 2)


def test_infinite_scores_are_not_counted() -> None:
    found = Histograms()
    found.add(counted(np.array([np.nan, np.inf, 2.0]), ["a"] * 3))
    assert found.largest(1)["quality", "a"].total == 1


def test_small_segments_are_left_out_of_the_record() -> None:
    found = Histograms()
    found.add(counted(np.full(6, 2.0), ["a", "a", "a", "b", "b", "c"]))
    kept = found.largest(2)
    assert set(kept) == {("quality", ALL), ("quality", "a"), ("quality", "b")}
    assert from_records(as_records(kept)) == kept


def test_two_scales_of_one_task_are_refused() -> None:
    found = Histograms()
    found.add(counted(np.array([2.0]), ["a"]))
    other = counted(np.array([2.0]), ["a"]).to_pylist()
    with pytest.raises(ValueError, match="has scores on"):
        found.add(pa.Table.from_pylist([row | {"high": 10.0} for row in other]))


def test_a_shift_is_found_in_its_segment_only() -> None:
    rng = np.random.default_rng(3)
    usual = [
        {("quality", s): histogram(rng.normal(3, 0.5, 1000)) for s in ("day", "night")}
        for _ in range(5)
    ]
    tonight = {
        ("quality", "day"): histogram(rng.normal(3, 0.5, 1000)),
        ("quality", "night"): histogram(rng.normal(3.6, 0.5, 1000)),
        ("quality", "new"): histogram(rng.normal(3, 0.5, 1000)),
    }
    found = compare(tonight, pool(usual), minimum=500)
    assert [drift.segment for drift in found] == ["night", "day"]
    assert found[0].before == pytest.approx(5000, abs=5)  # some lie beyond 1..5
    assert found[0].mean - found[0].mean_before == pytest.approx(0.6, abs=0.1)
    assert [drift.segment for drift in beyond(found, 0.25, 0.2)] == ["night"]
    assert not compare(tonight, pool(usual), minimum=1100)
