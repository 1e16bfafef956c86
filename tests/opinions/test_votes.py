"""Vote histograms to distributions, and onto another number of levels."""

import numpy as np
import pytest

from beholder.opinions import Levels, Scale, ScoreDistribution, onto_levels, vote_distribution

TEN = np.arange(1, 11)


def test_counts_and_fractions_give_the_same() -> None:
    votes = np.array([[0, 0, 1, 5, 20, 40, 20, 10, 3, 1], [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]])
    counts, fractions = (vote_distribution(v, TEN) for v in (votes, votes / 100))
    np.testing.assert_allclose(counts.probs, fractions.probs)
    assert counts.scale == Scale(1, 10)


def test_moments_are_those_of_the_single_votes() -> None:
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 40, (20, 10))
    d = vote_distribution(votes, TEN)
    for row, counts in enumerate(votes):
        single = np.repeat(TEN, counts)
        assert d.mean[row] == pytest.approx(single.mean())
        assert d.std[row] == pytest.approx(single.std())


def test_any_ascending_support() -> None:
    d = vote_distribution([[1, 1, 2]], [-2.0, 0.0, 5.0])
    assert d.mean[0] == pytest.approx(2)
    assert d.scale == Scale(-2, 5)


@pytest.mark.parametrize(
    ("votes", "support", "message"),
    [
        ([[1, 2], [3, -1]], [1, 2], "row 1 has -1 votes for 2"),
        ([[1, 2], [np.nan, 1]], [1, 2], "row 1 has nan votes for 1"),
        ([[np.inf, 2]], [1, 2], "row 0 has inf votes for 1"),
        ([[1, 2], [3, 4], [0, 0]], [1, 2], "row 2 has no votes at all"),
        ([[1, 2, 3]], [1, 2], "rows of 2, one count a score"),
        ([1, 2], [1, 2], "rows of 2"),
        ([[1, 2, 3]], [1, 3, 2], "ascending"),
        ([[1, 2]], [2, 1], "smaller bound first"),
        ([[1]], [1], "at least two scores"),
    ],
)
def test_what_are_no_votes_is_refused(votes: object, support: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vote_distribution(votes, support)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [2, 3, 5, 10, 12, 19])
def test_onto_levels_keeps_the_mean(k: int) -> None:
    votes = vote_distribution(np.random.default_rng(1).integers(0, 40, (50, 10)) + 1, TEN)
    moved = onto_levels(votes, k)
    assert (moved.scale, moved.probs.shape) == (votes.scale, (50, k))
    np.testing.assert_allclose(moved.support, np.linspace(1, 10, k))
    np.testing.assert_allclose(moved.mean, votes.mean, atol=1e-12)
    step = 9 / (k - 1)
    assert (moved.std**2 - votes.std**2).min() > -1e-12
    assert (moved.std**2 - votes.std**2).max() <= step**2 / 4 + 1e-12


def test_scores_that_coincide_keep_their_probability() -> None:
    votes = vote_distribution([[1, 2, 3, 4]], [1, 2, 3, 4])
    np.testing.assert_allclose(onto_levels(votes, 4).probs, votes.probs)
    # Twice as fine: every second new score is an old one.
    np.testing.assert_allclose(onto_levels(votes, 7).probs, [[0.1, 0, 0.2, 0, 0.3, 0, 0.4]])


def test_a_score_between_two_is_shared_by_distance() -> None:
    d = ScoreDistribution(np.array([1.0, 1.75, 3.0]), np.array([0.0, 1.0, 0.0]), Scale(1, 3))
    np.testing.assert_allclose(onto_levels(d, 3).probs, [0.25, 0.75, 0])


def test_ten_votes_as_five_levels_stand_for_the_ends() -> None:
    votes = vote_distribution(np.random.default_rng(2).integers(1, 40, (50, 10)), TEN)
    five = onto_levels(votes, 5)
    level_scores = five.probs @ np.arange(1, 6)
    back = Levels(votes.scale).invert(level_scores, through="ends")
    np.testing.assert_allclose(back, votes.mean)


def test_one_level_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two levels, got 1"):
        onto_levels(vote_distribution([[1, 1]], [1, 2]), 1)
