"""Levels against Q-Align's equations and released label rules."""

import numpy as np
import pytest

from beholder.opinions import LevelRule, Levels, Scale, trimmed_range

FIVE = Scale(1, 5)


@pytest.mark.parametrize(
    ("score", "right_closed", "left_closed"),
    [
        (1.0, "bad", "bad"),
        (1.8, "bad", "poor"),
        (2.6, "poor", "fair"),
        (3.4, "fair", "good"),
        (4.2, "good", "excellent"),
        (4.2 + 1e-9, "excellent", "excellent"),
        (4.2 - 1e-9, "good", "good"),
        (5.0, "excellent", "excellent"),
    ],
)
def test_edges(score: float, right_closed: str, left_closed: str) -> None:
    assert Levels(FIVE).word(score) == right_closed
    assert Levels(FIVE, rule=LevelRule.LEFT_CLOSED).word(score) == left_closed


def test_scores_outside_take_the_nearest_level() -> None:
    assert Levels(FIVE).index([-7, 9]).tolist() == [0, 4]


def test_bins_are_equal() -> None:
    scores = np.random.default_rng(0).uniform(20, 70, 50_000)
    counts = np.bincount(Levels(Scale(20, 70)).index(scores), minlength=5)
    np.testing.assert_allclose(counts / len(scores), 0.2, atol=0.01)


def test_scores_must_be_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        Levels(FIVE).index([1.0, float("nan")])


def test_inverse_maps() -> None:
    levels = Levels(Scale(0, 100))
    np.testing.assert_allclose(levels.centres(), [10, 30, 50, 70, 90])
    np.testing.assert_allclose(levels.invert([1, 2, 3, 4, 5]), [10, 30, 50, 70, 90])
    np.testing.assert_allclose(levels.invert([1, 2, 3, 4, 5], "ends"), [0, 25, 50, 75, 100])
    with pytest.raises(ValueError, match="'centres' or 'ends'"):
        levels.invert([1.0], "middles")


def test_one_hot_labels_invert_best_through_centres() -> None:
    # Uniform opinions on 1..5: a bin is 0.8 wide, so its centre is off by 0.2 on average, while
    # the ends map (words at 1, 2, .. 5) is off by 0.28 (0.4 in the outer bins, 0.25 and 0.2).
    levels = Levels(FIVE)
    mos = np.linspace(1, 5, 100_001)
    words = levels.index(mos) + 1.0
    through_centres = np.abs(levels.invert(words) - mos).mean()
    through_ends = np.abs(levels.invert(words, "ends") - mos).mean()
    assert through_centres == pytest.approx(0.2, abs=1e-3)
    assert through_ends > through_centres + 0.05


def test_a_label_and_its_inverse_differ_by_half_a_bin_at_most() -> None:
    levels = Levels(Scale(6.6849, 85.3563))
    mos = np.random.default_rng(1).uniform(6.6849, 85.3563, 1000)
    back = levels.invert(levels.index(mos) + 1.0)
    assert np.abs(back - mos).max() <= levels.scale.width / 10 + 1e-9


def test_trimmed_range_drops_a_thousandth_at_each_end() -> None:
    scores = np.random.default_rng(2).permutation(2500).astype(float)
    scale, kept = trimmed_range(scores)
    assert scale == Scale(2, 2498)  # z[2] and z[-2]
    assert set(scores[kept]) == set(range(2, 2498))  # [m, M)


def test_small_sets_lose_nothing() -> None:
    scores = np.arange(999.0)
    scale, kept = trimmed_range(scores)
    assert scale == Scale(0, 998)
    assert kept.all()


@pytest.mark.parametrize("k", [2, 3, 5, 7, 9, 12])
@pytest.mark.parametrize("rule", LevelRule)
def test_any_number_of_levels(k: int, rule: LevelRule) -> None:
    words = [f"level{i}" for i in range(k)]
    levels = Levels(Scale(-20, 70), words, rule)
    assert [levels.word(score) for score in levels.centres()] == words
    edges = -20 + 90 * np.arange(1, k) / k
    assert levels.index(edges - 1e-9).tolist() == list(range(k - 1))
    assert levels.index(edges + 1e-9).tolist() == list(range(1, k))
    assert levels.index([-20, 70]).tolist() == [0, k - 1]


@pytest.mark.parametrize("k", [2, 3, 5, 7, 9, 12])
def test_inverse_maps_of_any_number_of_levels(k: int) -> None:
    levels = Levels(Scale(-20, 70), [f"level{i}" for i in range(k)])
    scores = np.arange(1, k + 1)
    np.testing.assert_allclose(levels.invert(scores, "centres"), levels.centres())
    np.testing.assert_allclose(levels.invert(scores, "ends"), np.linspace(-20, 70, k))
    mos = np.random.default_rng(k).uniform(-20, 70, 1000)
    back = levels.invert(levels.index(mos) + 1.0)
    assert np.abs(back - mos).max() <= 90 / (2 * k) + 1e-9
