"""Gaussian opinions against closed forms, published numbers and the released evaluation code."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf
from scipy.stats import norm

from beholder.opinions import gaussian_js, gaussian_kl, gaussian_w2, midpoint_js, thurstone

A, B = (3, 0.6), (3.5, 0.8)


def test_thurstone_by_hand() -> None:
    # The two variances sum to 1, so it is the normal distribution at 1 std.
    assert thurstone(4, 3, 0.6, 0.8) == pytest.approx(0.84134, abs=5e-6)
    assert thurstone(4, 3) == pytest.approx(0.76025, abs=5e-6)


def test_the_default_stds_are_the_released_fixed_form() -> None:
    difference = np.linspace(-4, 4, 33)
    released = (1 + erf(difference / 2)) / 2
    np.testing.assert_allclose(thurstone(difference, 0), released, atol=1e-15)


def test_thurstone_is_antisymmetric_and_free_of_units() -> None:
    a, b, sa, sb = np.random.default_rng(0).uniform(0.1, 5, (4, 100))
    p = thurstone(a, b, sa, sb)
    np.testing.assert_allclose(p + thurstone(b, a, sb, sa), 1, atol=1e-15)
    mapped = thurstone(20 * a - 7, 20 * b - 7, 20 * sa, 20 * sb)
    np.testing.assert_allclose(mapped, p, atol=1e-12)


def test_certain_opinions() -> None:
    assert thurstone([2, 3, 3], [3, 2, 3], 0, 0).tolist() == [0, 1, 0.5]


def test_distances_by_hand() -> None:
    assert gaussian_kl(*A, *B) == pytest.approx(0.26424, abs=5e-6)
    assert gaussian_kl(*B, *A) == pytest.approx(0.44843, abs=5e-6)
    assert midpoint_js(*A, *B) == pytest.approx(0.08291, abs=5e-6)
    assert gaussian_js(*A, *B) == pytest.approx(0.07384, abs=5e-6)
    assert gaussian_w2(*A, *B) == pytest.approx(0.53852, abs=5e-6)


def test_the_released_evaluation(golden: Path) -> None:
    recorded = json.loads((golden / "eval_metrics.json").read_text())
    pairs = [np.array(recorded[key]) for key in ("gt", "gt_std", "pred_score", "pred_std")]
    assert gaussian_kl(*pairs).mean() == pytest.approx(recorded["kl"], abs=1e-6)
    assert midpoint_js(*pairs).mean() == pytest.approx(recorded["js"], abs=1e-6)
    assert gaussian_w2(*pairs).mean() == pytest.approx(recorded["wd"], abs=1e-6)


def test_equal_gaussians_are_at_no_distance() -> None:
    for distance in (gaussian_kl, gaussian_js, midpoint_js, gaussian_w2):
        assert distance(*A, *A) == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    "pair",
    [
        (3, 0.6, 3.5, 0.8),
        (3, 1.0, 3.2, 0.001),  # a needle inside a hill
        (1, 0.3, 5, 0.3),
        (2, 0.05, 2.05, 0.9),
    ],
)
def test_js_against_an_adaptive_integral(pair: tuple[float, float, float, float]) -> None:
    a, sa, b, sb = pair

    def integrand(x: float) -> float:
        logs = np.array([norm.logpdf(x, a, sa), norm.logpdf(x, b, sb)])
        return float((np.exp(logs) * (logs - np.logaddexp(*logs) + np.log(2))).sum() / 2)

    ends = sorted([m + s * i for m, s in ((a, sa), (b, sb)) for i in range(-10, 11)])
    parts = [quad(integrand, lo, hi, epsabs=1e-13)[0] for lo, hi in pairwise(ends)]
    assert gaussian_js(*pair) == pytest.approx(sum(parts), abs=1e-9)
    assert gaussian_js(b, sb, a, sa) == pytest.approx(float(gaussian_js(*pair)), abs=1e-12)


def test_js_ends_at_ln_2_and_its_midpoint_form_does_not() -> None:
    assert gaussian_js(0, 1, 1000, 1) == pytest.approx(np.log(2), abs=1e-9)
    assert midpoint_js(0, 1, 1000, 1) > 1000


def test_rows_and_numbers_mix() -> None:
    means = np.array([[3.0, 3.5], [4.0, 1.0]])
    rows = gaussian_js(means, 0.6, 3.5, 0.8)
    assert rows.shape == (2, 2)
    assert rows[0, 0] == gaussian_js(*A, *B)


def test_spreads_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="std of row 1 is 0 and must be finite and above 0"):
        gaussian_kl([3, 3], [1, 0], [3, 3], [1, 1])
    with pytest.raises(ValueError, match="std of row 0 is -1 and must be finite and 0 or more"):
        thurstone(3, 4, 1, -1)
    with pytest.raises(ValueError, match="std of row 1 is nan"):
        gaussian_w2([3, 3], [1, float("nan")], 3, 1)
