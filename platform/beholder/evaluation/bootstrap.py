"""Bootstrap intervals that know that pictures of one photo are not independent."""

from collections.abc import Callable, Sequence
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
    names = np.asarray(clusters)
    if names.shape != p.shape:
        raise ValueError(f"clusters of shape {names.shape} don't fit {len(p)} rows: give one each")
    if not 0 < level < 1:
        raise ValueError(f"a confidence level must lie between 0 and 1, got {level}")
    _, membership = np.unique(names, return_inverse=True)
    order = np.argsort(membership, kind="stable")
    rows = np.split(order, np.cumsum(np.bincount(membership))[:-1])
    if len(rows) < 2:
        raise ValueError(f"an interval needs at least two clusters, all rows are of '{names[0]}'")
    draws = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    values = np.empty(resamples)
    for i, draw in enumerate(draws):
        taken = np.concatenate([rows[c] for c in draw])
        values[i] = statistic(p[taken], t[taken])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
