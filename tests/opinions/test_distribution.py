"""Distributions against numbers that can be recomputed by hand."""

import numpy as np
import pytest

from beholder.opinions import Scale, ScoreDistribution, mixture

FIVE = Scale(1, 5)
SUPPORT = np.arange(1.0, 6.0)
P = np.array([0.05, 0.15, 0.4, 0.3, 0.1])
Q = np.array([0.1, 0.2, 0.3, 0.25, 0.15])


def five(probs: object) -> ScoreDistribution:
    return ScoreDistribution(SUPPORT, np.asarray(probs, dtype=float), FIVE)


def test_uniform() -> None:
    d = five(np.full(5, 0.2))
    assert d.mean == pytest.approx(3)
    assert d.std == pytest.approx(1.41421, abs=1e-5)  # the variance would be 2
    assert d.entropy == pytest.approx(1.60944, abs=1e-5)


def test_certain() -> None:
    d = five([0, 0, 0, 1, 0])
    assert (float(d.mean), float(d.std), float(d.entropy)) == (4, 0, 0)


def test_moments_by_hand() -> None:
    d = five(P)
    assert d.mean == pytest.approx(0.05 + 0.3 + 1.2 + 1.2 + 0.5)
    assert d.std**2 == pytest.approx((P * SUPPORT**2).sum() - 3.25**2)


def test_quantiles() -> None:
    d = five(Q)  # cumulative: .1 .3 .6 .85 1
    assert [float(d.quantile(q)) for q in (0.1, 0.11, 0.3, 0.31, 0.85, 1)] == [1, 2, 2, 3, 4, 5]
    for q in (0, 1.1):
        with pytest.raises(ValueError, match="quantile"):
            d.quantile(q)


def test_probability_above() -> None:
    drawn = sum(P[i] * Q[j] * ((i > j) + 0.5 * (i == j)) for i in range(5) for j in range(5))
    assert five(P).probability_above(five(Q)) == pytest.approx(drawn)
    assert five(P).probability_above(five(P)) == pytest.approx(0.5)
    assert five(P).probability_above(five(Q)) + five(Q).probability_above(five(P)) == pytest.approx(
        1
    )
    certain = five([0, 0, 0, 0, 1]).probability_above(five([1, 0, 0, 0, 0]))
    assert certain == 1


def test_probability_above_on_another_support_of_the_scale() -> None:
    digits = ScoreDistribution(np.array([2.5, 3.5]), np.array([0.5, 0.5]), FIVE)
    assert digits.probability_above(five([0, 0, 1, 0, 0])) == pytest.approx(0.5)


def test_scales_are_never_compared() -> None:
    other = ScoreDistribution(SUPPORT, P, Scale(0, 10))
    with pytest.raises(ValueError, match="map both to one scale"):
        five(P).probability_above(other)
    with pytest.raises(ValueError, match="one scale"):
        mixture([five(P), other], [1, 1])


def test_stacks() -> None:
    d = five(np.stack([P, Q]))
    assert len(d) == 2
    np.testing.assert_allclose(d.mean, [five(P).mean, five(Q).mean])
    np.testing.assert_allclose(d.quantile(0.5), [3, 3])
    assert float(d[1].std) == pytest.approx(float(five(Q).std))


def test_mixture_weighs_by_duration() -> None:
    mixed = mixture([five(P), five(Q)], [30, 10])
    np.testing.assert_allclose(mixed.probs, 0.75 * P + 0.25 * Q)
    np.testing.assert_allclose(mixture([five(P), five(Q)], [0, 0]).probs, (P + Q) / 2)
    with pytest.raises(ValueError, match="at least one"):
        mixture([], [])


@pytest.mark.parametrize(
    ("support", "probs", "message"),
    [
        (SUPPORT, P[:4], "don't fit"),
        (SUPPORT[::-1], P, "ascending"),
        (SUPPORT, P * 2, "sums to 2"),
        (SUPPORT, P - 0.1, "negative"),
        (SUPPORT, np.array([np.nan, 0, 0, 0, 1]), "finite"),
    ],
)
def test_what_is_no_distribution_is_refused(
    support: np.ndarray, probs: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreDistribution(support, probs, FIVE)
