"""Bootstrap intervals that know that pictures of one photo are not independent."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.evaluation.correlations import paired

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


class Interval(NamedTuple):
    """A confidence interval, in the statistic's unit."""

    low: float
    high: float


def clustered_interval(
    statistic: Statistic,
    predicted: ArrayLike,
    true: ArrayLike,
    clusters: Sequence[str] | NDArray[np.generic],
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Interval:
    """A percentile interval by drawing whole clusters with replacement.

    All pictures made of one source photo form a cluster: they rise and fall together, so that
    drawing pictures one by one would give an interval far too narrow (Field and Welsh 2007,
    the cluster bootstrap). With fewer than about ten clusters it is still somewhat too narrow.

    Args:
        statistic: of (predicted, true), as :func:`beholder.evaluation.srcc`.
        predicted: predicted scores, (N,).
        true: opinions, (N,).
        clusters: each row's source, (N,).
        resamples: how many draws.
        seed: of the draws; the same seed gives the same interval.
        level: the part of the draws that the interval holds, in (0, 1).

    Raises:
        ValueError: as :func:`beholder.evaluation.correlations.paired`, clusters of another
            length, fewer than two clusters, or a level outside (0, 1).
    """
    p, t = paired(predicted, true)
    check_level(level)
    draws = cluster_draws(clusters, len(p), resamples, seed)
    values = np.array([statistic(p[taken], t[taken]) for taken in draws])
    return percentile_interval(values, level)


def check_level(level: float) -> None:
    """Refuses a confidence level outside (0, 1) with a ValueError."""
    if not 0 < level < 1:
        raise ValueError(f"a confidence level must lie between 0 and 1, got {level}")


def cluster_draws(
    clusters: Sequence[str] | NDArray[np.generic], count: int, resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """The rows of each draw: as many clusters as there are, with replacement, each one whole.

    Args:
        clusters: each row's source, (N,).
        count: N, the rows that there must be a cluster for.
        resamples: how many draws.
        seed: of the draws.

    Raises:
        ValueError: clusters of another length, or fewer than two of them.
    """
    names = np.asarray(clusters)
    if names.shape != (count,):
        raise ValueError(f"clusters of shape {names.shape} don't fit {count} rows: give one each")
    _, membership = np.unique(names, return_inverse=True)
    order = np.argsort(membership, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(membership))[:-1])
    if len(rows) < 2:
        raise ValueError(f"an interval needs at least two clusters, all rows are of '{names[0]}'")
    draws = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    return (np.concatenate([rows[c] for c in draw]) for draw in draws)


def percentile_interval(values: NDArray[np.float64], level: float) -> Interval:
    """The central part ``level`` of the draws' values, (B,)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
