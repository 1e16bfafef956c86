"""Lists that are hard to bin, by name."""

from collections.abc import Callable

import numpy as np
import pytest

Lists = Callable[[str, int], tuple[np.ndarray, np.ndarray]]


def normal(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(3, 0.7, n), rng.uniform(0.3, 1.2, n)


def heavy_tails(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_cauchy(n), np.hypot(0.4, rng.standard_t(3, n))


def clusters(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Three heaps, each far narrower than the way to the next, and spreads of any of the widths."""
    mean = rng.choice([1.0, 1.1, 500.0], n) + rng.normal(0, 1e-4, n)
    return mean, rng.choice([1e-5, 1e-4, 0.05, 300.0], n) * rng.uniform(0.8, 1.2, n)


def certain(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, 1, n), np.zeros(n)


def certain_among_unsure(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, 1, n), np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0.1, 2, n))


def equal_stds(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.exponential(1, n), np.full(n, 0.3)


def equal_means(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, 0.1), rng.uniform(0, 2, n)


def few_values(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(1, 6, n) / 10, rng.choice([0, 0.1, 0.3], n)


def two_stds(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, 1, n), rng.choice([1e-6, 1e3], n)


def many_magnitudes(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(0, 1, n), np.exp(rng.normal(0, 0.8, n))


def steps_between_nodes(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences of about 2 stds, where the curvature in ln std is largest; stds halfway."""
    std = np.exp(0.07 + 0.14 * rng.integers(0, 3, n))
    std[0] = 1.0
    return np.where(np.arange(n) % 2 == 0, 0.0, 3.0), std


def one_outlier(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    mean, std = normal(rng, n)
    mean[0], std[n - 1] = 1e12, 1e9
    return mean, std


LISTS = {
    f.__name__: f
    for f in (
        normal,
        heavy_tails,
        clusters,
        certain,
        certain_among_unsure,
        equal_stds,
        equal_means,
        few_values,
        two_stds,
        many_magnitudes,
        steps_between_nodes,
        one_outlier,
    )
}


@pytest.fixture(params=sorted(LISTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lists() -> Lists:
    """``lists(name, n)``: means and stds."""
    return lambda name, n: LISTS[name](np.random.default_rng(n), n)
