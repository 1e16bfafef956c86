"""Quality beside relevance: percentiles, weights and floors."""

import numpy as np
import pytest

from beholder.opinions import Point, Scale, ScoreDistribution
from beholder.ranking import QualityFloor, Weighted
from beholder.ranking.blend import percentiles

LEVELS = np.arange(1.0, 6.0)


def distribution(*probs: float) -> ScoreDistribution:
    return ScoreDistribution(LEVELS, np.array(probs), Scale(1, 5))


def test_percentiles_by_hand() -> None:
    assert percentiles([10, 30, 20, 20]).tolist() == [0.125, 0.875, 0.5, 0.5]
    assert percentiles([7, 7, 7]).tolist() == [0.5] * 3
    assert percentiles([]).tolist() == []


def test_percentiles_know_no_unit_and_no_tail() -> None:
    values = np.random.default_rng(0).normal(size=99)
    np.testing.assert_array_equal(percentiles(np.exp(9 * values)), percentiles(values))


def test_a_blend_by_hand() -> None:
    found = Weighted(0.75).blended([1, 2, 3, 4], [0.1, 900, 0.2, 0.3])
    assert found.tolist() == [0.125, 0.5, 0.5625, 0.8125]


@pytest.mark.parametrize("n", [2, 3, 5, 7, 11])
def test_equal_blends_are_equal(n: int) -> None:
    """Or the rounding of thirds would break a tie whose order the caller chose."""
    up = np.arange(n)
    assert len(set(Weighted(0.5).blended(up, up[::-1]).tolist())) == 1


@pytest.mark.parametrize("weight", [0, 1])
def test_the_ends_of_the_weight(weight: float) -> None:
    quality, relevance = np.random.default_rng(0).normal(size=(2, 50))
    found = Weighted(weight).blended(quality, relevance)
    assert np.argsort(found).tolist() == np.argsort(quality if weight else relevance).tolist()


@pytest.mark.parametrize("weight", [-0.1, 1.1, np.nan])
def test_a_weight_outside_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"weight of quality is {weight:g}"):
        Weighted(weight)


def test_a_floor_on_the_mean() -> None:
    three, below = distribution(0, 0, 1, 0, 0), distribution(0, 0.1, 0.9, 0, 0)
    assert QualityFloor(3).passed([three, below]).tolist() == [True, False]
    assert QualityFloor(1).passed([]).tolist() == []


def test_a_floor_on_the_probability() -> None:
    torn, sure = distribution(0.4, 0, 0, 0, 0.6), distribution(0, 0.1, 0.9, 0, 0)
    assert torn.mean > sure.mean
    assert QualityFloor(3, 0.8).passed([torn, sure]).tolist() == [False, True]
    assert QualityFloor(3, 0.9).passed([torn, sure]).tolist() == [False, True]
    assert QualityFloor(3, 0.91).passed([torn, sure]).tolist() == [False, False]
    # Between two levels only the upper one is enough.
    assert QualityFloor(3.2, 0.5).passed([torn, sure]).tolist() == [True, False]


def test_certainty_survives_single_precision() -> None:
    probs = np.array([0, 0, 0.1, 0.2, 0.7], dtype=np.float32)
    assert QualityFloor(3, 1).passed([distribution(*(probs * np.float32(1 - 1e-7)))]).all()


def test_refusals() -> None:
    point = Point(np.array(3.5), Scale(1, 5))
    assert QualityFloor(3).passed([point]).all()
    with pytest.raises(ValueError, match=r"row 1 is a point \(mean 3.5\)"):
        QualityFloor(3, 0.5).passed([distribution(0, 0, 1, 0, 0), point])
    for minimum in (0.5, 60):
        with pytest.raises(ValueError, match=rf"floor {minimum:g} lies outside.*\[1, 5\]"):
            QualityFloor(minimum).passed([point])
    with pytest.raises(ValueError, match="must be finite"):
        QualityFloor(np.nan)
    for probability in (0, 1.01, np.nan):
        with pytest.raises(ValueError, match=rf"probability is {probability:g}"):
            QualityFloor(3, probability)
