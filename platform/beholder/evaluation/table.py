"""All figures of one evaluation together, and as a table to print."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.table import Table

from beholder.evaluation import correlations
from beholder.evaluation.bootstrap import Interval, clustered_interval

RESAMPLES = 1000


@dataclass(frozen=True)
class Metrics:
    """How one task's predictions agree with what people said.

    Attributes:
        rows: pictures or clips, N.
        clusters: distinct sources among them.
        srcc: rank correlation, -1..1.
        srcc_interval: its 95% interval, clustered by source; None with a single source.
        plcc: linear correlation of the raw predictions, -1..1 (as Q-Align reports it).
        plcc_interval: its 95% interval; None with a single source.
        plcc_fitted: linear correlation after the 4-parameter logistic (as DeQA-Score reports it).
        mae: mean absolute error, in the opinions' unit.
        rmse: root mean squared error, in the opinions' unit.
    """

    rows: int
    clusters: int
    srcc: float
    srcc_interval: Interval | None
    plcc: float
    plcc_interval: Interval | None
    plcc_fitted: float
    mae: float
    rmse: float

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form; intervals are ``[low, high]``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def evaluate(
    predicted: ArrayLike,
    true: ArrayLike,
    clusters: Sequence[str] | NDArray[np.generic],
    seed: int = 0,
) -> Metrics:
    """Every metric of N rows.

    Args:
        predicted: scores on the set's own scale (:meth:`beholder.readouts.Readout.invert`):
            correlations don't care, the errors do. (N,).
        true: opinions on that scale, (N,).
        clusters: each row's source photo or scene, (N,).
        seed: of the bootstrap.

    Raises:
        ValueError: shapes differ, fewer than two rows, or a value is not finite.
    """
    p, t = correlations.paired(predicted, true)
    sources = len(np.unique(np.asarray(clusters)))

    def interval(statistic: Any) -> Interval | None:
        if sources < 2:
            return None
        return clustered_interval(statistic, p, t, clusters, RESAMPLES, seed)

    return Metrics(
        rows=len(p),
        clusters=sources,
        srcc=correlations.srcc(p, t),
        srcc_interval=interval(correlations.srcc),
        plcc=correlations.plcc(p, t),
        plcc_interval=interval(correlations.plcc),
        plcc_fitted=correlations.plcc_fitted(p, t),
        mae=correlations.mae(p, t),
        rmse=correlations.rmse(p, t),
    )


def metrics_table(results: Mapping[str, Metrics], title: str | None = None) -> Table:
    """One line a task (or set), for :class:`rich.console.Console`."""
    table = Table(title=title)
    table.add_column("task")
    for heading in ("rows", "sources", "SRCC", "PLCC", "PLCC fitted", "MAE", "RMSE"):
        table.add_column(heading, justify="right")
    for name, m in results.items():
        table.add_row(
            name,
            str(m.rows),
            str(m.clusters),
            _with_interval(m.srcc, m.srcc_interval),
            _with_interval(m.plcc, m.plcc_interval),
            f"{m.plcc_fitted:.3f}",
            f"{m.mae:.3f}",
            f"{m.rmse:.3f}",
        )
    return table


def _with_interval(value: float, interval: Interval | None) -> str:
    shown = f"{value:.3f}"
    return shown if interval is None else f"{shown} ({interval.low:.3f} to {interval.high:.3f})"
