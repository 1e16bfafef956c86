"""Two scorers on the same rows, and several of them taken together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.evaluation.bootstrap import (
    Interval,
    Statistic,
    check_level,
    cluster_draws,
    percentile_interval,
)
from beholder.evaluation.correlations import paired, srcc


@dataclass(frozen=True)
class Difference:
    """How much better the first of two scorers is.

    Attributes:
        value: the statistic of the first less that of the second, over all rows.
        interval: of the value, from the paired draws.
        p: two-sided, in (0, 1]: twice the part of the draws on the other side of 0, one draw
            added; but for that draw, the level at which the interval just reaches 0.
    """

    value: float
    interval: Interval
    p: float


def compare(
    first: ArrayLike,
    second: ArrayLike,
    true: ArrayLike,
    clusters: Sequence[str] | NDArray[np.generic],
    statistic: Statistic = srcc,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """A paired bootstrap test of two scorers, by drawing whole sources with replacement.

    Both scorers see the same draw, so what is hard for both cancels: the interval of the
    difference is far narrower than two intervals side by side suggest. Draws that land on 0
    count for both sides, and one draw is added to each (Davison and Hinkley 1997, 4.2.2), so
    that ``p`` is never 0 and is 1 for a scorer against itself. With few sources the interval is
    too narrow and ``p`` too small: two equal scorers fell below .05 in 10% of 1,000 simulated
    sets of 10 sources, in 6% with 30 and with 100.

    Args:
        first: one scorer's scores, (N,).
        second: the other's on the same rows, (N,); on any scale, for correlations.
        true: opinions, (N,).
        clusters: each row's source, (N,).
        statistic: of (predicted, true): :func:`srcc`, :func:`plcc`, :func:`krcc`; higher is
            better.
        resamples: how many draws; the smallest ``p`` is 2 / (resamples + 1).
        seed: of the draws.
        level: the part of the draws that the interval holds, in (0, 1).

    Raises:
        ValueError: as :func:`beholder.evaluation.clustered_interval`.
    """
    a, t = paired(first, true)
    b, _ = paired(second, true)
    check_level(level)
    draws = cluster_draws(clusters, len(t), resamples, seed)
    values = np.array([statistic(a[i], t[i]) - statistic(b[i], t[i]) for i in draws])
    side = 1 + min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return Difference(
        value=statistic(a, t) - statistic(b, t),
        interval=percentile_interval(values, level),
        p=min(1.0, float(2 * side / (resamples + 1))),
    )


def zscore_ensemble(scores: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """The mean of several scores of the same rows, each brought to mean 0 and std 1 first.

    Scorers on different scales, or an outside score column, so count equally. Mean and std are
    those of the given rows: the result orders these rows and is no score of one picture alone.

    Args:
        scores: at least two columns by name, (N,) each; higher is better in all of them.

    Returns:
        The ensemble's scores, in stds of the columns. (N,).

    Raises:
        ValueError: fewer than two columns, lengths differ, there are fewer than two rows, a
            value is not finite, or a column is constant.
    """
    if len(scores) < 2:
        raise ValueError(f"an ensemble needs at least two columns, got {list(scores)}")
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in scores.items()}
    first = next(iter(columns.values()))
    return np.mean([_zscore(name, c, first.shape) for name, c in columns.items()], axis=0)


def _zscore(name: str, column: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    if column.ndim != 1 or column.shape != shape or len(column) < 2:
        raise ValueError(
            f"column '{name}' of an ensemble has shape {column.shape}: all must be rows of one "
            "length, of two scores or more"
        )
    wrong = np.flatnonzero(~np.isfinite(column))
    if len(wrong):
        raise ValueError(
            f"column '{name}' is {column[wrong[0]]} in row {wrong[0]}: leave out failed items"
        )
    if np.ptp(column) == 0:
        raise ValueError(
            f"column '{name}' is {column[0]:g} in every row, so it has no z-score: leave it out "
            "of the ensemble"
        )
    centred = column - column.mean()
    centred = centred / np.abs(centred).max()  # so that no square leaves the range of a double
    return centred / centred.std()
