"""All figures of one evaluation together, and as a table to print."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.table import Table

from beholder.evaluation import correlations
from beholder.evaluation.bootstrap import Interval, Statistic, clustered_interval
from beholder.evaluation.calibration import Calibration, calibrate, mean_mass
from beholder.evaluation.distances import Distances, gaussian_distances, gaussian_rows
from beholder.opinions import Levels

RESAMPLES = 1000
INVERSE_MAPS = ("centres", "ends")
"""Of :meth:`beholder.opinions.Levels.invert`: of one-hot labels, and of soft ones."""

Invert = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class OnScale:
    """What depends on the map from predictions to the opinions' scale.

    Attributes:
        mae: mean absolute error, in the opinions' unit.
        rmse: root mean squared error, in the opinions' unit.
        distances: between Gaussians; None where fewer than two rows have a known spread on
            both sides, or a predicted std is 0, which makes no Gaussian.
        calibration: of the predicted spread; None where fewer than two rows have a known one.
        without: why there is neither; None where there are.
    """

    mae: float
    rmse: float
    distances: Distances | None
    calibration: Calibration | None
    without: str | None = None


@dataclass(frozen=True)
class Metrics:
    """How one task's predictions agree with what people said.

    Attributes:
        rows: pictures or clips, N.
        clusters: distinct sources among them.
        srcc: rank correlation, -1..1.
        srcc_interval: its 95% interval, clustered by source; None with a single source.
        krcc: Kendall's tau-b, -1..1.
        plcc: linear correlation of the raw predictions, -1..1 (as Q-Align reports it).
        plcc_interval: its 95% interval; None with a single source.
        plcc_fitted: linear correlation after the 4-parameter logistic (as DeQA-Score reports it).
        mass: mean probability on the readout's words; None where it isn't known.
        on_scale: errors and spreads by the map through which predictions came to the opinions'
            scale: ``centres`` and ``ends`` of level scores, ``ends`` of score tokens, ``given``
            where they are on it.
    """

    rows: int
    clusters: int
    srcc: float
    srcc_interval: Interval | None
    krcc: float
    plcc: float
    plcc_interval: Interval | None
    plcc_fitted: float
    mass: float | None
    on_scale: Mapping[str, OnScale]

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form; intervals are ``[low, high]``."""
        ready: dict[str, Any] = _json_ready(asdict(self))
        return ready


def _json_ready(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_ready(one) for name, one in value.items()}
    return [_json_ready(one) for one in value] if isinstance(value, tuple) else value


def evaluate(
    predicted: ArrayLike,
    true: ArrayLike,
    clusters: Sequence[str] | NDArray[np.generic],
    seed: int = 0,
    *,
    std: ArrayLike | None = None,
    true_std: ArrayLike | None = None,
    mass: ArrayLike | None = None,
    levels: Levels | None = None,
    maps: Mapping[str, Invert] | None = None,
) -> Metrics:
    """Every metric of N rows.

    Args:
        predicted: scores on the opinions' scale, or on the readout's own where ``levels`` or
            ``maps`` are given: correlations don't care, errors and spreads do. (N,).
        true: opinions on the set's own scale, (N,).
        clusters: each row's source photo or scene, (N,).
        seed: of the bootstrap.
        std: predicted spreads in the unit of ``predicted``; None for a readout without. (N,).
        true_std: spreads of the opinions, in the unit of ``true``; rows where it is NaN or 0
            count for all but distances and calibration. (N,).
        mass: probability on the readout's words, (N,).
        levels: of the scorer, on the set's own scale; stands for both their inverse maps.
        maps: to the opinions' scale by name, for a readout of any kind: its ``inverse_maps``.

    Raises:
        ValueError: shapes differ, fewer than two rows, a value is not finite, a predicted std
            is negative, or a mass lies outside 0..1.
    """
    p, t = correlations.paired(predicted, true)
    sources = len(np.unique(np.asarray(clusters)))

    def interval(statistic: Statistic) -> Interval | None:
        if sources < 2:
            return None
        return clustered_interval(statistic, p, t, clusters, RESAMPLES, seed)

    if maps is None:
        maps = {"given": _unchanged} if levels is None else _inverse_maps(levels)
    return Metrics(
        rows=len(p),
        clusters=sources,
        srcc=correlations.srcc(p, t),
        srcc_interval=interval(correlations.srcc),
        krcc=correlations.krcc(p, t),
        plcc=correlations.plcc(p, t),
        plcc_interval=interval(correlations.plcc),
        plcc_fitted=correlations.plcc_fitted(p, t),
        mass=None if mass is None else mean_mass(mass),
        on_scale={
            name: _on_scale(invert(p), None if std is None else _spread(invert, std), t, true_std)
            for name, invert in maps.items()
        },
    )


def _unchanged(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return scores


def _inverse_maps(levels: Levels) -> dict[str, Invert]:
    def through(name: str) -> Invert:
        return lambda scores: levels.invert(scores, through=name)

    return {name: through(name) for name in INVERSE_MAPS}


def _spread(invert: Invert, std: ArrayLike) -> NDArray[np.float64]:
    """A std takes a map's slope alone. The maps are straight lines."""
    s = np.asarray(std, dtype=np.float64)
    return invert(s) - invert(np.zeros_like(s))


def _on_scale(
    mean: NDArray[np.float64],
    std: NDArray[np.float64] | None,
    true: NDArray[np.float64],
    true_std: ArrayLike | None,
) -> OnScale:
    distances = calibration = None
    without: str | None = None
    if std is None:
        without = "the scores come without a spread, as a regression head's"
    elif true_std is None:
        without = "no spread of people's opinions is known"
    else:
        u = np.asarray(true_std, dtype=np.float64)
        if not mean.shape == std.shape == u.shape:
            raise ValueError(
                f"stds of shapes {std.shape} and {u.shape} don't fit {len(mean)} rows: give one "
                "each, NaN where the spread of opinions is unknown"
            )
        known = np.isfinite(u) & (u != 0)
        if known.sum() > 1:
            rows = gaussian_rows(mean[known], std[known], true[known], u[known])
            calibration = calibrate(*rows)
            distances = gaussian_distances(*rows) if rows[1].all() else None
        else:
            without = "fewer than two rows have a known spread of people's opinions"
    return OnScale(
        mae=correlations.mae(mean, true),
        rmse=correlations.rmse(mean, true),
        distances=distances,
        calibration=calibration,
        without=without,
    )


def metrics_table(results: Mapping[str, Metrics], title: str | None = None) -> Table:
    """One column a task (or set) and one line a figure, for :class:`rich.console.Console`.

    Lines that no task has a figure for are left out.
    """
    table = Table(title=title)
    table.add_column("")
    shown = {task: _figures(metrics) for task, metrics in results.items()}
    for task in shown:
        table.add_column(task, justify="right")
    for name in dict.fromkeys(name for figures in shown.values() for name in figures):
        table.add_row(name, *(figures.get(name, "") for figures in shown.values()))
    return table


def _figures(m: Metrics) -> dict[str, str]:
    """One task's figures by the names of their lines, in the table's order."""
    figures = {
        "rows": str(m.rows),
        "sources": str(m.clusters),
        "SRCC": _with_interval(m.srcc, m.srcc_interval),
        "KRCC": f"{m.krcc:.3f}",
        "PLCC": _with_interval(m.plcc, m.plcc_interval),
        "PLCC fitted": f"{m.plcc_fitted:.3f}",
    }
    if m.mass is not None:
        figures["mass on words"] = f"{m.mass:.4f}"
    for through, on in m.on_scale.items():
        suffix = "" if through == "given" else f", {through}"
        figures |= {name + suffix: text for name, text in _scale_figures(on).items()}
    return figures


def _scale_figures(on: OnScale) -> dict[str, str]:
    figures = {"MAE": f"{on.mae:.3f}", "RMSE": f"{on.rmse:.3f}"}
    if (d := on.distances) is not None:
        figures |= {
            "rows with std": str(d.rows),
            "KL": f"{d.kl:.3f}",
            "JS": f"{d.js:.3f}",
            "JS true": f"{d.js_true:.3f}",
            "W2": f"{d.wasserstein:.3f}",
        }
    if (c := on.calibration) is not None:
        for expected, observed in c.coverage:
            figures[f"coverage of {expected:.0%}"] = f"{observed:.1%}"
        figures |= {"std ratio": f"{c.std_ratio:.3f}", "std slope": f"{c.std_slope:.3f}"}
    return figures


def _with_interval(value: float, interval: Interval | None) -> str:
    shown = f"{value:.3f}"
    return shown if interval is None else f"{shown} ({interval.low:.3f} to {interval.high:.3f})"
