import numpy as np
import pytest

from beholder.datasets.demo.raters import (
    CARELESS,
    POOL,
    RaterPool,
    population,
    rate,
    within_rater_spread,
)


def test_votes_are_20_to_25_and_mos_and_std_are_theirs() -> None:
    pool, rng = RaterPool.draw(0), np.random.default_rng(1)
    seen = set()
    for latent in np.linspace(1, 5, 200):
        rating = rate(pool, float(latent), rng)
        votes = np.repeat(np.arange(1, 6), rating.votes)
        seen.add(len(votes))
        assert rating.mos == pytest.approx(votes.mean())
        assert rating.std == pytest.approx(votes.std())
    assert seen == {20, 21, 22, 23, 24, 25}


def test_a_pool_has_60_people_of_whom_three_are_careless() -> None:
    pool = RaterPool.draw(0)
    assert len(pool.bias) == len(pool.spread) == POOL == 60
    assert pool.careless.sum() == CARELESS
    assert np.array_equal(pool.bias, RaterPool.draw(0).bias)
    assert not np.array_equal(pool.bias, RaterPool.draw(1).bias)


def test_people_disagree_most_in_mid_scale() -> None:
    assert within_rater_spread([1, 3, 5]) == pytest.approx([0.3, 0.7, 0.3])
    pool, rng = RaterPool.draw(0), np.random.default_rng(2)

    def spread(q: float) -> float:
        return float(np.mean([rate(pool, q, rng).std for _ in range(60)]))

    middle = spread(3.0)
    assert middle > spread(1.5) + 0.05
    assert middle > spread(4.5) + 0.05


def test_mos_follows_the_latent_quality() -> None:
    pool, rng = RaterPool.draw(0), np.random.default_rng(3)
    latent = np.linspace(1.2, 4.8, 150)
    mos = np.array([rate(pool, float(q), rng).mos for q in latent])
    assert np.corrcoef(latent, mos)[0, 1] > 0.97
    assert np.abs(mos - latent).mean() < 0.25


def test_careless_people_pull_towards_the_middle() -> None:
    pool = RaterPool.draw(0)
    honest = RaterPool(pool.bias, pool.spread, np.zeros(POOL, dtype=bool))

    def mean(of: RaterPool) -> float:
        rng = np.random.default_rng(4)
        return float(np.mean([rate(of, 1.0, rng).mos for _ in range(200)]))

    assert mean(pool) > mean(honest) + 0.03


def test_votes_are_a_sample_of_the_population() -> None:
    pool = RaterPool.draw(0)
    for latent in (1.2, 3.0, 4.4):
        rng = np.random.default_rng(1)
        votes = np.sum([rate(pool, latent, rng).votes for _ in range(2000)], axis=0)
        expected = population(pool, latent)[0]
        assert expected.sum() == pytest.approx(1)
        np.testing.assert_allclose(votes / votes.sum(), expected, atol=0.01)
