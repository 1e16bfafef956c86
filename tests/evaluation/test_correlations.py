"""Correlations against hand-made numbers, scipy, and the release's evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from beholder.evaluation import krcc, logistic_fit, mae, plcc, plcc_fitted, rmse, srcc


def test_by_hand() -> None:
    predicted, true = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert srcc(predicted, true) == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 - 6 sum d^2 / n(n^2-1)
    assert plcc(predicted, true) == pytest.approx(0.8)
    assert mae(predicted, true) == pytest.approx(0.5)
    assert rmse(predicted, true) == pytest.approx(np.sqrt(0.5))


def test_ties_take_their_mean_rank() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 200).astype(float), rng.integers(0, 4, 200).astype(float)
    assert srcc(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_kendalls_tau_b_counts_pairs() -> None:
    """By the definition, on rows with many ties of all kinds."""
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 5, 60), rng.integers(0, 3, 60)
    above = np.triu_indices(60, 1)
    dx, dy = (np.sign(v[:, None] - v)[above] for v in (x, y))
    tau = (dx * dy).sum() / np.sqrt(np.count_nonzero(dx) * np.count_nonzero(dy))
    assert krcc(x, y) == pytest.approx(tau, abs=1e-12)
    assert krcc([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)  # 5 pairs agree, 1 doesn't
    assert krcc(np.exp(x), -x) == pytest.approx(-1)


def test_order_is_all_that_srcc_sees() -> None:
    x = np.random.default_rng(1).normal(size=50)
    assert srcc(np.exp(x), x) == pytest.approx(1)
    assert srcc(-x, x) == pytest.approx(-1)
    assert plcc(np.exp(x), x) < 0.95


def test_released_evaluation(golden: Path) -> None:
    recorded = json.loads((golden / "eval_metrics.json").read_text("utf-8"))
    predicted, true = recorded["pred_score"], recorded["gt"]
    assert srcc(predicted, true) == pytest.approx(recorded["srcc_raw"], abs=1e-9)
    assert plcc(predicted, true) == pytest.approx(recorded["plcc_raw"], abs=1e-9)
    fitted = logistic_fit(predicted, true)
    assert plcc_fitted(predicted, true) == pytest.approx(recorded["plcc_after_logistic4"], abs=1e-6)
    assert srcc(fitted, true) == pytest.approx(recorded["srcc_after_logistic4"], abs=1e-9)


def test_fit_recovers_a_logistic() -> None:
    x = np.linspace(-4, 6, 300)
    y = (85 - 10) / (1 + np.exp(-(x - 1.2) / 0.8)) + 10
    np.testing.assert_allclose(logistic_fit(x, y), y, atol=1e-3)
    assert plcc_fitted(x, y) == pytest.approx(1, abs=1e-6)
    assert plcc(x, y) < 0.99


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_fit_does_not_see_the_predictions_scale(scale: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=300)
    y = np.tanh(x) + 0.2 * rng.normal(size=300)
    assert plcc_fitted(x * scale - 7, y) == pytest.approx(plcc_fitted(x, y), abs=1e-4)
    assert plcc_fitted(x, y) > plcc(x, y)


def test_fit_never_turns_a_scorer_round() -> None:
    x = np.random.default_rng(3).normal(size=100)
    assert plcc(-x, x) == pytest.approx(-1)
    assert plcc_fitted(-x, x) == 0


@pytest.mark.parametrize("metric", [srcc, krcc, plcc, plcc_fitted])
def test_constants_have_no_correlation(metric: object) -> None:
    constant, varied = np.full(10, 0.1 + 0.2), np.arange(10.0)
    assert metric(constant, varied) == 0  # type: ignore[operator]
    assert metric(varied, constant) == 0  # type: ignore[operator]


@pytest.mark.parametrize("metric", [srcc, krcc, plcc, plcc_fitted, mae, rmse])
def test_what_can_not_be_compared_is_refused(metric: object) -> None:
    for predicted, true, message in [
        ([1.0, np.nan, 2.0], [1.0, 2.0, 3.0], "predicted score of row 1 is nan"),
        ([1.0, 2.0], [1.0, np.inf], "true score of row 1 is inf"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "two equal rows"),
        ([1.0], [1.0], "at least two rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric(predicted, true)  # type: ignore[operator]
