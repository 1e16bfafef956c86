"""The figures of every scorer on every test set, and of pairs of scorers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beholder.evaluation import correlations
from beholder.evaluation.bootstrap import Interval, Statistic, clustered_interval
from beholder.evaluation.comparison import Difference, compare
from beholder.evaluation.digits import ncm_errors, ncm_star_errors
from beholder.evaluation.ensembles import common_rows
from beholder.evaluation.matrix import MatrixError, Opinions, Predictions
from beholder.evaluation.scored_digits import ScoredDigits
from beholder.evaluation.table import RESAMPLES, Metrics, evaluate
from beholder.opinions import gaussian_kl, gaussian_w2

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LevelRow:
    """The items whose opinion falls into one level.

    Attributes:
        word: the level's, of the set's scale.
        rows: how many items.
        mos: their mean opinion, on the set's scale.
        bias: mean of predicted less true, by inverse map: level ends pulled in show here.
        mae: mean absolute error, by inverse map.
        srcc: rank correlation inside the level; None for fewer than two items.
        srcc_interval: None with a single source.
    """

    word: str
    rows: int
    mos: float
    bias: Mapping[str, float]
    mae: Mapping[str, float]
    srcc: float | None
    srcc_interval: Interval | None


@dataclass(frozen=True)
class LevelsOnly:
    """The likeliest level's index as the score, in place of the expectation (Q-Align, Eq. 4).

    Attributes:
        srcc: of the likeliest level, as ``krcc`` and ``plcc``.
        krcc: see ``srcc``.
        plcc: see ``srcc``.
        gain: SRCC of the expectation less that of the likeliest level, paired; None with a
            single source.
    """

    srcc: float
    krcc: float
    plcc: float
    gain: Difference | None


@dataclass(frozen=True)
class Continuity:
    """Whether a scorer reads its digits as one number (RealQA, Eq. 5 to 7).

    Attributes:
        items: of one clip, that have probabilities of all digits.
        behind: the digits before each are the ``true`` or the ``written`` ones, see
            :mod:`beholder.evaluation.scored_digits`.
        followed: part of the items whose every digit was looked at; the others' later digits
            are even.
        ncm: NCM, in squared units of 0..10.
        ncm_interval: None with a single source.
        ncm_star: NCM*, renormalised.
        ncm_star_interval: None with a single source.
    """

    items: int
    behind: str
    followed: float
    ncm: float
    ncm_interval: Interval | None
    ncm_star: float
    ncm_star_interval: Interval | None


@dataclass(frozen=True)
class Measured:
    """One scorer on one set.

    Attributes:
        scorer: its name.
        set: the set's.
        task: the set's.
        zero_shot: whether the set is none that the scorer learned from.
        items: of the set.
        failures: failed items by code.
        unscored: items that the pass doesn't know, or that an ensemble had to leave out.
        metrics: all figures; ``on_scale`` is empty for an ensemble.
        intervals: 95%, clustered by source, of figures beyond SRCC and PLCC: ``krcc``,
            ``plcc_fitted`` (with the curve as fitted on all rows), and by map ``centres.mae``,
            ``.rmse``, ``.kl``, ``.wasserstein``. Empty with a single source.
        levels: by the level of the opinion, worst first; levels without items are left out.
        levels_only: None where there is no distribution.
        fingerprint: the scorer's; "" for an ensemble.
        continuity: of a scorer that reads numbers digit by digit.
        without_continuity: why there is none, of a scorer that writes numbers.
    """

    scorer: str
    set: str
    task: str
    zero_shot: bool
    items: int
    failures: Mapping[str, int]
    unscored: int
    metrics: Metrics
    intervals: Mapping[str, Interval]
    levels: tuple[LevelRow, ...]
    levels_only: LevelsOnly | None
    fingerprint: str
    continuity: Continuity | None
    without_continuity: str | None

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form; intervals are ``[low, high]``."""
        return asdict(self) | {"metrics": self.metrics.as_dict()}


@dataclass(frozen=True)
class Compared:
    """Two scorers on the items of a set that both have a score for.

    Attributes:
        first: a scorer's name.
        second: another's.
        set: the set's.
        items: in common.
        srcc: of the first less that of the second, paired.
        plcc: the same of the raw linear correlation.
    """

    first: str
    second: str
    set: str
    items: int
    srcc: Difference
    plcc: Difference


def measure_scorer(
    scorer: str, said: Predictions, opinions: Opinions, zero_shot: bool, seed: int = 0
) -> Measured:
    """All figures of one scorer on one set.

    Args:
        scorer: its name.
        said: its scores.
        opinions: the set's.
        zero_shot: whether the scorer never learned from this set.
        seed: of the bootstrap.
    """
    mos, std = opinions.mos[said.rows], opinions.std[said.rows]
    sources = opinions.sources[said.rows]
    score, spread = said.mean, said.std
    if said.levels is None and said.on_scale:
        score, spread = said.on_scale["given"]
    metrics = evaluate(
        score, mos, sources, seed, std=spread, true_std=std, mass=said.mass, levels=said.levels
    )
    if not said.on_scale:
        metrics = replace(metrics, on_scale={})
    return Measured(
        scorer=scorer,
        set=opinions.name,
        task=opinions.task,
        zero_shot=zero_shot,
        items=len(opinions.mos),
        failures=said.failures,
        unscored=len(opinions.mos) - len(said.rows) - sum(said.failures.values()),
        metrics=metrics,
        intervals=_intervals(said, mos, std, sources, metrics, seed),
        levels=tuple(_by_level(said, opinions, mos, sources, seed)),
        levels_only=_levels_only(said, mos, sources, seed),
        fingerprint=said.fingerprint,
        continuity=None if said.digits is None else _continuity(said.digits, sources, seed),
        without_continuity=said.without_digits,
    )


def _continuity(digits: ScoredDigits, sources: NDArray[np.str_], seed: int) -> Continuity:
    groups = sources[digits.rows]

    def mean(errors: Array) -> tuple[float, Interval | None]:
        if len(set(groups)) < 2:
            return float(errors.mean()), None
        return float(errors.mean()), clustered_interval(
            _mean, errors, errors, groups, RESAMPLES, seed
        )

    ncm, ncm_interval = mean(ncm_errors(digits.probs, digits.true))
    star, star_interval = mean(ncm_star_errors(digits.probs, digits.true))
    return Continuity(
        items=len(digits.rows),
        behind=digits.behind,
        followed=digits.followed,
        ncm=ncm,
        ncm_interval=ncm_interval,
        ncm_star=star,
        ncm_star_interval=star_interval,
    )


def _intervals(
    said: Predictions,
    mos: Array,
    std: Array,
    sources: NDArray[np.str_],
    metrics: Metrics,
    seed: int,
) -> dict[str, Interval]:
    if metrics.clusters < 2:
        return {}

    def of(statistic: Statistic, p: Array, t: Array, clusters: NDArray[np.str_]) -> Interval:
        return clustered_interval(statistic, p, t, clusters, RESAMPLES, seed)

    found = {"krcc": of(correlations.krcc, said.mean, mos, sources)}
    if metrics.plcc_fitted > 0:
        curve = correlations.logistic_fit(said.mean, mos)
        found["plcc_fitted"] = of(correlations.plcc, curve, mos, sources)
    for through, (mean, spread) in said.on_scale.items():
        found[f"{through}.mae"] = of(correlations.mae, mean, mos, sources)
        found[f"{through}.rmse"] = of(correlations.rmse, mean, mos, sources)
        known = np.isfinite(std) & (std != 0)
        if metrics.on_scale[through].distances is None or len(set(sources[known])) < 2:
            continue
        assert spread is not None
        people, predicted = (mos[known], std[known]), (mean[known], spread[known])
        for name, distance in (("kl", gaussian_kl), ("wasserstein", gaussian_w2)):
            each = distance(*people, *predicted)
            found[f"{through}.{name}"] = of(_mean, each, each, sources[known])
    return found


def _mean(values: Array, _: Array) -> float:
    return float(values.mean())


def _by_level(
    said: Predictions, opinions: Opinions, mos: Array, sources: NDArray[np.str_], seed: int
) -> list[LevelRow]:
    found = []
    index = opinions.levels.index(mos)
    for level, word in enumerate(opinions.levels.words):
        here = index == level
        if not here.any():
            continue
        p, t, groups = said.mean[here], mos[here], sources[here]
        gaps = {through: mean[here] - t for through, (mean, _) in said.on_scale.items()}
        several = len(set(groups)) > 1
        found.append(
            LevelRow(
                word=word,
                rows=len(t),
                mos=float(t.mean()),
                bias={through: float(gap.mean()) for through, gap in gaps.items()},
                mae={through: float(np.abs(gap).mean()) for through, gap in gaps.items()},
                srcc=correlations.srcc(p, t) if len(t) > 1 else None,
                srcc_interval=clustered_interval(correlations.srcc, p, t, groups, RESAMPLES, seed)
                if several
                else None,
            )
        )
    return found


def _levels_only(
    said: Predictions, mos: Array, sources: NDArray[np.str_], seed: int
) -> LevelsOnly | None:
    if said.mode is None:
        return None
    several = len(set(sources)) > 1
    return LevelsOnly(
        srcc=correlations.srcc(said.mode, mos),
        krcc=correlations.krcc(said.mode, mos),
        plcc=correlations.plcc(said.mode, mos),
        gain=compare(said.mean, said.mode, mos, sources, correlations.srcc, RESAMPLES, seed)
        if several
        else None,
    )


def compare_scorers(
    names: tuple[str, str], said: tuple[Predictions, Predictions], opinions: Opinions, seed: int = 0
) -> Compared:
    """A paired test on the items that both have a score for.

    An ensemble keeps the z-scores of all its own items.

    Raises:
        MatrixError: fewer than two items in common, or all of one source.
    """
    rows = common_rows({n: s.rows for n, s in zip(names, said, strict=True)}, opinions.name)
    first, second = (s.mean[np.searchsorted(s.rows, rows)] for s in said)
    mos, sources = opinions.mos[rows], opinions.sources[rows]
    if len(set(sources)) < 2:
        raise MatrixError(
            f"set '{opinions.name}': the items that {' and '.join(names)} have in common are all "
            f"of source '{sources[0]}': a paired test needs at least two sources"
        )

    def difference(statistic: Statistic) -> Difference:
        return compare(first, second, mos, sources, statistic, RESAMPLES, seed)

    return Compared(
        *names,
        opinions.name,
        len(rows),
        difference(correlations.srcc),
        difference(correlations.plcc),
    )


def task_means(
    cells: Sequence[Measured],
) -> dict[str, dict[str, tuple[float, float, tuple[str, ...]]]]:
    """By task and scorer: mean SRCC and PLCC over its sets, each set counting once, and the sets.

    Sets are never pooled: their scales are not one scale.
    """
    found: dict[str, dict[str, tuple[float, float, tuple[str, ...]]]] = {}
    for task in dict.fromkeys(cell.task for cell in cells):
        mine = [cell for cell in cells if cell.task == task]
        for scorer in dict.fromkeys(cell.scorer for cell in mine):
            of = [cell for cell in mine if cell.scorer == scorer]
            found.setdefault(task, {})[scorer] = (
                float(np.mean([cell.metrics.srcc for cell in of])),
                float(np.mean([cell.metrics.plcc for cell in of])),
                tuple(cell.set for cell in of),
            )
    return found
