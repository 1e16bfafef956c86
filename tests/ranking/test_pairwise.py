"""P(A > B) of a short list, against pairs one by one and against draws."""

import numpy as np
import pytest

from beholder.opinions import Point, Scale, ScoreDistribution, thurstone
from beholder.ranking import Candidates, exact_expected_rank, gaussian_matrix, probability_matrix
from beholder.ranking.pairwise import PAIRWISE_LIMIT

LEVELS = np.arange(1.0, 6.0)


def stack(n: int) -> ScoreDistribution:
    probs = np.random.default_rng(0).dirichlet(np.full(5, 0.7), n)
    return ScoreDistribution(LEVELS, probs, Scale(1, 5))


def test_dice_by_hand() -> None:
    probs = np.array([[0, 0, 1, 0, 0], [0.5, 0, 0, 0, 0.5], [0, 0.25, 0.5, 0.25, 0]])
    found = probability_matrix(ScoreDistribution(LEVELS, probs, Scale(1, 5)))
    assert found.tolist() == [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    probs[1] = [0.2, 0, 0, 0, 0.8]
    found = probability_matrix(ScoreDistribution(LEVELS, probs, Scale(1, 5)))
    np.testing.assert_allclose(found[1], [0.8, 0.5, 0.8])
    np.testing.assert_allclose(found[:, 1], [0.2, 0.5, 0.2])


def test_every_pair_is_the_pair_alone() -> None:
    some = stack(12)
    found = probability_matrix(some)
    for i in range(12):
        for j in range(12):
            assert found[i, j] == pytest.approx(float(some[i].probability_above(some[j])))
    np.testing.assert_allclose(np.diag(found), 0.5)
    np.testing.assert_allclose(found + found.T, 1, rtol=1e-15)


def test_rows_that_nearly_add_up_to_1_give_pairs_that_do() -> None:
    some = stack(6)
    loose = ScoreDistribution(LEVELS, some.probs * (1 + 9e-5), some.scale)
    found = probability_matrix(loose)
    np.testing.assert_allclose(found + found.T, 1, rtol=1e-15)
    assert np.diag(found).tolist() == [0.5] * 6


def test_gaussian_pairs() -> None:
    candidates = Candidates(np.array([4.0, 3.0, 3.0]), np.array([0.6, 0.8, 0.0]))
    found = gaussian_matrix(candidates)
    assert found[0, 1] == pytest.approx(0.84134, abs=5e-6)  # DeQA-Score Eq. 6
    assert found[1, 2] == 0.5
    assert found[0, 2] == pytest.approx(float(thurstone(4, 3, 0.6, 0)))
    np.testing.assert_allclose(found + found.T, 1, rtol=1e-15)


def test_columns_add_up_to_expected_ranks() -> None:
    mean, std = np.random.default_rng(0).uniform(1, 3, (2, 40))
    found = gaussian_matrix(Candidates(mean, std))
    np.testing.assert_allclose(found.sum(axis=0) + 0.5, exact_expected_rank(mean, std))


def test_refusals() -> None:
    assert probability_matrix(stack(PAIRWISE_LIMIT)).shape == (PAIRWISE_LIMIT, PAIRWISE_LIMIT)
    with pytest.raises(ValueError, match="pairs of 201 candidates are too many, 200"):
        probability_matrix(stack(PAIRWISE_LIMIT + 1))
    with pytest.raises(ValueError, match="pairs of 201 candidates are too many, 200"):
        gaussian_matrix(Candidates.of(stack(PAIRWISE_LIMIT + 1)))
    points = Point(np.array([3.0, 3.0]), Scale(1, 5))
    with pytest.raises(ValueError, match=r"P\(A > B\) needs a spread and row 0 is a point"):
        probability_matrix(points)
    with pytest.raises(ValueError, match=r"P\(A > B\) needs a spread and row 0 is a point"):
        gaussian_matrix(Candidates.of(points))
