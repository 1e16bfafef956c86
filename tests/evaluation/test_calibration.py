"""Coverage, ratio and slope of a predicted spread."""

import numpy as np
import pytest

from beholder.evaluation import calibrate, coverage, mean_mass


def opinions(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(1, 5, count), rng.uniform(0.3, 1.0, count)


def test_peoples_own_gaussians_are_calibrated() -> None:
    mos, std = opinions()
    found = calibrate(mos, std, mos, std)
    np.testing.assert_allclose(found.coverage, [(0.5, 0.5), (0.8, 0.8), (0.95, 0.95)])
    assert found.std_ratio == pytest.approx(1)
    assert found.std_slope == pytest.approx(1)


def test_the_normal_table() -> None:
    """Intervals of half the std: +-1.95996 of them are +-0.97998 of people's, 67.29%."""
    assert coverage([3], [0.4], [3], [0.8], [0.95]) == pytest.approx(0.67291, abs=1e-5)
    # An interval that reaches from people's mean to +2 std: Phi(2) - Phi(0).
    one_std = 0.6826895
    assert coverage([4], [1], [3], [1], [one_std]) == pytest.approx(0.4772499, abs=1e-6)


def test_observed_is_the_share_of_opinions() -> None:
    """Against drawn opinions, with a bias and spreads that are wrong by row."""
    rng = np.random.default_rng(1)
    mos, std = opinions(200)
    mean, spread = mos + 0.4, std * rng.uniform(0.5, 1.5, 200)
    drawn = mos[:, None] + std[:, None] * rng.normal(size=(200, 2000))
    z = np.array([0.6744898, 1.2815516, 1.9599640])  # of 50, 80, 95%, from a table
    shares = [(np.abs(drawn - mean[:, None]) <= k * spread[:, None]).mean() for k in z]
    np.testing.assert_allclose(coverage(mean, spread, mos, std), shares, atol=0.003)


def test_too_sure_and_too_doubtful() -> None:
    mos, std = opinions()
    sure, doubtful = calibrate(mos, std / 2, mos, std), calibrate(mos, 2 * std, mos, std)
    assert sure.std_ratio == pytest.approx(0.5)
    assert doubtful.std_ratio == pytest.approx(2)
    assert sure.std_slope == pytest.approx(2)
    assert all(observed < expected for expected, observed in sure.coverage)
    assert all(observed > expected for expected, observed in doubtful.coverage)
    off = calibrate(mos + 1, std, mos, std)
    assert all(observed < expected for expected, observed in off.coverage)
    assert off.std_ratio == pytest.approx(1)


def test_a_constant_spread_has_no_slope_and_a_point_covers_nothing() -> None:
    mos, std = opinions()
    constant = calibrate(mos, np.full(400, 0.1 + 0.2), mos, std)
    assert constant.std_slope == 0
    assert coverage(mos, np.zeros(400), mos, std).tolist() == [0, 0, 0]


def test_what_has_no_spread_is_refused() -> None:
    for arguments, message in [
        (([3, 3], [1, 1], [3, 3], [1, 0]), "std of the opinions of row 1 is 0"),
        (([3, 3], [-1, 1], [3, 3], [1, 1]), "predicted std of row 0 is -1"),
        (([3, np.nan], [1, 1], [3, 3], [1, 1]), "predicted mean of row 1 is nan"),
        (([3], [1], [3], [1, 1]), "four equal rows"),
        (([], [], [], []), "four equal rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            calibrate(*arguments)
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        coverage([3], [1], [3], [1], [0.5, 95])


def test_mass() -> None:
    assert mean_mass([1, 0.5, 0.9]) == pytest.approx(0.8)
    for mass, message in [([], "row of values"), ([0.5, 1.2], "row 1 is 1.2"), ([np.nan], "nan")]:
        with pytest.raises(ValueError, match=message):
            mean_mass(mass)
