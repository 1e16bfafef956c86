"""Whether a night's new scores are distributed as the last nights' were, by task and segment.

A night leaves histograms of what it scored in its snapshot's record; the next nights pool them.
Pictures change with the day of the week and with a camera's new model, and so do their scores:
drift is a reason to look, and past a threshold a reason to refuse.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy import stats

BINS = 20
SMOOTHING = 0.5
"""Added to every bin before shares are taken, so that an empty bin gives a finite index."""
ALL = "(all)"
NO_SEGMENT = "(none)"
BINS_SQL = f"""
    select task, coalesce(segment, '{NO_SEGMENT}') as segment, scale[1] as low, scale[2] as high,
        least({BINS - 1}, greatest(0, floor((mean - scale[1]) / (scale[2] - scale[1]) * {BINS})))
            ::integer as bin,
        count(*) as count
    from {{rows}} where isfinite(mean) and scale[2] > scale[1] group by all
"""
"""Counts of ``rows`` (task, segment, mean, scale) for :meth:`Histograms.add`, in DuckDB."""

Key = tuple[str, str]
"""Task and segment."""


@dataclass(frozen=True)
class Histogram:
    """How many scores lie in each of ``BINS`` equal parts of their scale.

    Attributes:
        scale: [minimum, maximum]; a score on a bound between two parts counts in the upper one,
            one beyond an end in the last.
        counts: (BINS,), from the scale's minimum on.
    """

    scale: tuple[float, float]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many scores there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Mean score, to within half of a bin; NaN without scores."""
        low, high = self.scale
        centres = low + (np.arange(BINS) + 0.5) / BINS * (high - low)
        return float(np.average(centres, weights=self.counts)) if self.total else float("nan")


@dataclass(frozen=True)
class Drift:
    """Two histograms of one task and segment, compared.

    Attributes:
        task: of the scores.
        segment: of the items, ``(all)`` for all of them together.
        count: scores of tonight.
        before: scores of the last nights.
        psi: see :func:`psi`.
        ks: see :func:`ks`.
        p: of ``ks`` under no drift.
        mean: of tonight.
        mean_before: of the last nights.
    """

    task: str
    segment: str
    count: int
    before: int
    psi: float
    ks: float
    p: float
    mean: float
    mean_before: float


class Histograms:
    """Histograms by task and segment, and of each task over all segments."""

    def __init__(self) -> None:
        self._counts: dict[Key, Counter[int]] = defaultdict(Counter)
        self._scales: dict[Key, tuple[float, float]] = {}

    def add(self, counted: pa.Table) -> None:
        """Adds what :data:`BINS_SQL` has counted.

        Raises:
            ValueError: one task has scores on two scales.
        """
        for row in counted.to_pylist():
            scale = (row["low"], row["high"])
            for segment in (row["segment"], ALL):
                key = (row["task"], segment)
                if self._scales.setdefault(key, scale) != scale:
                    raise ValueError(
                        f"task '{row['task']}' has scores on {self._scales[key]} and on {scale}: "
                        "they can't be one distribution"
                    )
                self._counts[key][row["bin"]] += row["count"]

    def largest(self, segments: int) -> dict[Key, Histogram]:
        """By task and segment; of each task ``(all)`` and that many of its largest segments."""
        found: dict[Key, Histogram] = {}
        taken: Counter[str] = Counter()
        ordered = sorted(self._counts.items(), key=lambda kv: (-kv[1].total(), kv[0]))
        for (task, segment), counts in ordered:
            if segment == ALL or taken[task] < segments:
                taken[task] += segment != ALL
                bins = tuple(counts[at] for at in range(BINS))
                found[task, segment] = Histogram(self._scales[task, segment], bins)
        return found


def as_records(histograms: Mapping[Key, Histogram]) -> list[dict[str, Any]]:
    """Histograms as a snapshot's record keeps them."""
    return [{"task": t, "segment": s, **asdict(h)} for (t, s), h in sorted(histograms.items())]


def from_records(records: Iterable[Mapping[str, Any]]) -> dict[Key, Histogram]:
    """What :func:`as_records` wrote."""
    return {
        (r["task"], r["segment"]): Histogram(tuple(r["scale"]), tuple(r["counts"])) for r in records
    }


def pool(nights: Iterable[Mapping[Key, Histogram]]) -> dict[Key, Histogram]:
    """The sums of several nights' histograms; the first night's scale decides."""
    pooled: dict[Key, Histogram] = {}
    for night in nights:
        for key, one in night.items():
            if key not in pooled:
                pooled[key] = one
            elif pooled[key].scale == one.scale:
                counts = np.add(pooled[key].counts, one.counts).tolist()
                pooled[key] = Histogram(one.scale, tuple(counts))
    return pooled


def compare(
    tonight: Mapping[Key, Histogram], before: Mapping[Key, Histogram], minimum: int
) -> list[Drift]:
    """Drift of every task and segment that has at least ``minimum`` scores on both sides.

    Under no drift the index of N and M scores is about (1/N + 1/M) times chi-squared with
    BINS - 1 degrees of freedom (Yurdakul and Naranjo, 2020): at 500 and 500 it exceeds 0.25 once
    in 600,000 times, at 100 and 100 six times of seven.
    """
    found = []
    for key, one in tonight.items():
        past = before.get(key)
        if past is None or past.scale != one.scale or min(one.total, past.total) < minimum:
            continue
        distance, p = ks(one.counts, past.counts)
        found.append(
            Drift(
                task=key[0],
                segment=key[1],
                count=one.total,
                before=past.total,
                psi=psi(one.counts, past.counts),
                ks=distance,
                p=p,
                mean=one.mean,
                mean_before=past.mean,
            )
        )
    return sorted(found, key=lambda drift: -drift.psi)


def psi(counts: ArrayLike, before: ArrayLike) -> float:
    """Population stability index ``sum (p - q) ln(p / q)`` (Siddiqi, Credit Risk Scorecards).

    The shares p and q are ``(n + SMOOTHING) / (N + SMOOTHING * bins)``. Below .1 is usually read
    as stable, above .25 as another population.
    """
    p, q = _shares(counts), _shares(before)
    return float(((p - q) * np.log(p / q)).sum())


def ks(counts: ArrayLike, before: ArrayLike) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of two histograms, and its asymptotic p.

    The distance is the largest difference of the cumulative shares at the bins' bounds: at most
    that of the scores themselves, which is larger by one bin's share at most. So p is at least
    theirs.
    """
    n, m = np.asarray(counts, float), np.asarray(before, float)
    apart = np.abs(n.cumsum() / n.sum() - m.cumsum() / m.sum())
    distance = float(apart.max())
    effective = n.sum() * m.sum() / (n.sum() + m.sum())
    return distance, float(stats.kstwobign.sf(distance * np.sqrt(effective)))


def _shares(counts: ArrayLike) -> NDArray[np.float64]:
    n = np.asarray(counts, dtype=np.float64) + SMOOTHING
    return n / n.sum()


def beyond(found: Sequence[Drift], psi_limit: float, ks_limit: float) -> list[Drift]:
    """What has drifted past either threshold."""
    return [drift for drift in found if drift.psi > psi_limit or drift.ks > ks_limit]
