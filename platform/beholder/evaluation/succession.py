"""Whether one scorer may take another's place: both scorers' means of the same items, compared.

A better scorer orders items otherwise, and that is why it comes; but thresholds, shelves and
habits were made for the old one's scores. So the change is measured before it is made: how well
the two agree, how many items leave the top, and which new score stands where an old one stood.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from beholder.config import JobConfig
from beholder.evaluation.bootstrap import Interval, Statistic, clustered_interval
from beholder.evaluation.correlations import Array, krcc, paired, plcc, rmse, srcc

TOPS = (0.01, 0.1)
"""Shares of the items, the best of them, that are watched for who leaves."""
BANDS = 10
"""Parts of equal count that a ranking is cut into."""
KNOTS = 101
SAMPLE = 10_000
"""Rows that intervals are drawn from: with more of them, of a fixed sample. The standard error of
a correlation of .8 is below .005 there, and 200 draws take seconds, whatever N is."""
RESAMPLES = 200


class SuccessionConfig(JobConfig):
    """When a scorer may not take another's place; held for each task that both have."""

    min_items: int = Field(1000, ge=2, description="items that both must have scored")
    min_srcc: float = Field(
        0.7,
        ge=-1,
        le=1,
        description="smallest SRCC between the scorers, at the lower end of its 95% interval",
    )
    max_churn: float = Field(
        0.5, ge=0, le=1, description="largest share of the old scorer's top tenth that leaves it"
    )
    max_shift: float = Field(
        0.1, ge=0, le=1, description="largest change of the mean score, in parts of the scale"
    )


@dataclass(frozen=True)
class Agreement:
    """A correlation between two scorers, with its 95% interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class Churn:
    """How far a ranking changes, equal scores in the order in which they came.

    Attributes:
        top: pairs of a share q (:data:`TOPS`) and the part of the old ranking's first qN items
            that are not among the new one's; 1 - q between orders without relation.
        bands: part of the items that leave their tenth of the ranking; .9 without relation.
        displacement: mean absolute change of rank, in parts of N; 1/3 without relation, 1/2 for
            the reverse order (Spearman's footrule).
    """

    top: tuple[tuple[float, float], ...]
    bands: float
    displacement: float


@dataclass(frozen=True)
class CalibrationMap:
    """Which new mean stands where an old one stood: a call maps old means, any shape, to new ones.

    Piecewise linear and monotone through quantiles of both scorers' means on the same items, and
    flat beyond the lowest and the highest (equipercentile equating; Kolen and Brennan, Test
    Equating, ch. 2). A threshold moved along it keeps as many items above it as before, where a
    regression of new on old, isotonic or not, would pull both ends to the middle.

    Attributes:
        old: knots, ascending, in the old scale's unit. (K,), at most :data:`KNOTS`.
        new: their images, not descending, in the new scale's unit. (K,).

    Raises:
        ValueError: knots are none, of two lengths, not finite, or not in order.
    """

    old: tuple[float, ...]
    new: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.asarray(self.old, dtype=float), np.asarray(self.new, dtype=float)
        object.__setattr__(self, "old", tuple(x.tolist()))  # from JSON these are lists
        object.__setattr__(self, "new", tuple(y.tolist()))
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise ValueError(f"a calibration map has {len(x)} old and {len(y)} new knots")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("a knot of the calibration map is not finite")
        if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
            raise ValueError("the knots of a calibration map must ascend: fit it again")

    def __call__(self, means: ArrayLike) -> Array:
        """New means for old ones, of their shape."""
        return np.asarray(np.interp(np.asarray(means, dtype=float), self.old, self.new))


@dataclass(frozen=True)
class Succession:
    """Two scorers' means of one task on the same N items.

    Attributes:
        count: N.
        srcc: rank correlation between the scorers.
        plcc: linear correlation.
        krcc: Kendall's tau-b.
        mean_old: the old scorer's mean score, in its scale's unit.
        mean_new: the new one's.
        shift: new less old mean, both on 0..1 of their own scale; -1..1.
        w1: Wasserstein distance of the two distributions of means, on 0..1 of the scales.
        churn: what becomes of the ranking.
        calibration: from old to new means.
        residual: root mean square of new means less mapped old ones, in the new scale's unit.
    """

    count: int
    srcc: Agreement
    plcc: Agreement
    krcc: Agreement
    mean_old: float
    mean_new: float
    shift: float
    w1: float
    churn: Churn
    calibration: CalibrationMap
    residual: float


@dataclass(frozen=True)
class Criterion:
    """One threshold and what was found.

    Attributes:
        name: of the threshold's field, as ``min_srcc``.
        ok: whether it holds.
        figure: what was measured.
        threshold: what is allowed.
        sentence: both for a person.
    """

    name: str
    ok: bool
    figure: float
    threshold: float
    sentence: str


def compare_scorers(
    old: ArrayLike,
    new: ArrayLike,
    old_scale: tuple[float, float],
    new_scale: tuple[float, float],
    clusters: Sequence[str] | NDArray[np.generic] | None = None,
    seed: int = 0,
) -> Succession:
    """Compares two scorers by their means; 10 million of them take 20 s and 1.1 GiB.

    Args:
        old: the old scorer's means. (N,).
        new: the new one's on the same items. (N,).
        old_scale: minimum and maximum of the old scorer's scale.
        new_scale: of the new one's.
        clusters: whose items are alike, as their owner, for the intervals; None: no two are. (N,).
        seed: of the sample and the draws.

    Raises:
        ValueError: as :func:`beholder.evaluation.clustered_interval`, or a scale without width.
    """
    n, o = paired(new, old)
    unit_old, unit_new = _unit(o, old_scale), _unit(n, new_scale)
    agree = _Sampled(o, n, clusters, seed)
    fitted = calibration_map(o, n)
    return Succession(
        count=len(o),
        srcc=agree.by(srcc),
        plcc=agree.by(plcc),
        krcc=agree.by(krcc),
        mean_old=float(o.mean()),
        mean_new=float(n.mean()),
        shift=float(unit_new.mean() - unit_old.mean()),
        w1=float(np.abs(np.sort(unit_new) - np.sort(unit_old)).mean()),
        churn=rank_churn(o, n),
        calibration=fitted,
        residual=rmse(fitted(o), n),
    )


def rank_churn(old: ArrayLike, new: ArrayLike) -> Churn:
    """What becomes of a ranking by descending means; (N,) each.

    Raises:
        ValueError: as :func:`beholder.evaluation.correlations.paired`.
    """
    n, o = paired(new, old)
    before, after = _places(o), _places(n)
    tops = []
    for share in TOPS:
        most = ceil(share * len(o))
        stayed = np.count_nonzero((before < most) & (after < most))
        tops.append((share, 1 - float(stayed) / most))
    left = before * BANDS // len(o) != after * BANDS // len(o)
    return Churn(
        top=tuple(tops),
        bands=float(left.mean()),
        displacement=float(np.abs(before - after).mean()) / len(o),
    )


def calibration_map(old: ArrayLike, new: ArrayLike) -> CalibrationMap:
    """The map that takes the distribution of old means to that of new ones; (N,) each.

    Where many old means are equal, their image is the mean of what their quantiles map to.

    Raises:
        ValueError: as :func:`beholder.evaluation.correlations.paired`.
    """
    n, o = paired(new, old)
    at = np.linspace(0, 1, min(KNOTS, len(o)))
    x, same = np.unique(np.quantile(o, at), return_inverse=True)
    y = np.bincount(same, weights=np.quantile(n, at)) / np.bincount(same)
    return CalibrationMap(tuple(x.tolist()), tuple(np.maximum.accumulate(y).tolist()))


def judge(found: Succession, config: SuccessionConfig) -> tuple[Criterion, ...]:
    """Whether the new scorer may take the old one's place in one task: if all of these hold."""
    low = found.srcc.interval.low
    share, leave = found.churn.top[-1]
    return (
        Criterion(
            "min_items",
            found.count >= config.min_items,
            found.count,
            config.min_items,
            f"{found.count:,} items have scores of both, {config.min_items:,} are asked for",
        ),
        Criterion(
            "min_srcc",
            low >= config.min_srcc,
            low,
            config.min_srcc,
            f"SRCC between the scorers is {found.srcc.value:.3f}, at least {low:.3f}; "
            f"{config.min_srcc:g} is asked for",
        ),
        Criterion(
            "max_churn",
            leave <= config.max_churn,
            leave,
            config.max_churn,
            f"{leave:.1%} of the top {share:.0%} leave it, {config.max_churn:.0%} may",
        ),
        Criterion(
            "max_shift",
            abs(found.shift) <= config.max_shift,
            found.shift,
            config.max_shift,
            f"the mean goes from {found.mean_old:.3f} to {found.mean_new:.3f}, "
            f"{found.shift:+.1%} of the scale, {config.max_shift:.0%} may",
        ),
    )


def succession_table(tasks: Mapping[str, Succession]) -> str:
    """A table in Markdown, a column a task."""
    if not tasks:
        return "No task has scores of both.\n"
    columns = [_column(found) for found in tasks.values()]
    lines = [
        "| | " + " | ".join(tasks) + " |",
        "| --- |" + " ---: |" * len(tasks),
        *(f"| {name} | " + " | ".join(c[name] for c in columns) + " |" for name in columns[0]),
    ]
    return "\n".join(lines) + "\n"


def _column(found: Succession) -> dict[str, str]:
    agreements = {"SRCC": found.srcc, "PLCC": found.plcc, "KRCC": found.krcc}
    ends = found.calibration.new[0], found.calibration.new[-1]
    return {
        "items": f"{found.count:,}",
        **{
            f"{name} [95%]": f"{a.value:.3f} [{a.interval.low:.3f}, {a.interval.high:.3f}]"
            for name, a in agreements.items()
        },
        "mean score, old to new": f"{found.mean_old:.3f} to {found.mean_new:.3f}",
        "shift, part of the scale": f"{found.shift:+.3f}",
        "W1, part of the scale": f"{found.w1:.3f}",
        **{f"leave the top {share:.0%}": f"{part:.1%}" for share, part in found.churn.top},
        "leave their tenth": f"{found.churn.bands:.1%}",
        "mean change of rank": f"{found.churn.displacement:.1%} of all",
        "calibration map's range": f"{ends[0]:.3f} to {ends[1]:.3f}",
        "off the calibration map (RMSE)": f"{found.residual:.3f}",
    }


@dataclass(frozen=True)
class _Sampled:
    old: Array
    new: Array
    clusters: Sequence[str] | NDArray[np.generic] | None
    seed: int

    def by(self, statistic: Statistic) -> Agreement:
        """A statistic of all rows; the sample's interval, moved to it from the sample's value."""
        count = len(self.old)
        rows = np.arange(count)
        if count > SAMPLE:
            rows = np.random.default_rng(self.seed).choice(count, SAMPLE, replace=False)
        clusters = rows if self.clusters is None else np.asarray(self.clusters)[rows]
        new, old = self.new[rows], self.old[rows]
        drawn = clustered_interval(statistic, new, old, clusters, RESAMPLES, self.seed)
        value = statistic(self.new, self.old)
        low, high = np.clip(np.add(drawn, value - statistic(new, old)), -1, 1).tolist()
        return Agreement(value, Interval(low, high))


def _places(means: Array) -> NDArray[np.int64]:
    """Each item's place in the descending order, from 0. (N,)."""
    places = np.empty(len(means), np.int64)
    places[np.argsort(-means, kind="stable")] = np.arange(len(means))
    return places


def _unit(means: Array, scale: tuple[float, float]) -> Array:
    low, high = scale
    if not high > low:
        raise ValueError(f"a scale from {low:g} to {high:g} has no width: give its two ends")
    return (means - low) / (high - low)
