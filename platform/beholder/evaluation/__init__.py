"""How good a scorer is: correlations, errors and intervals clustered by source."""

from beholder.evaluation.bootstrap import Interval, clustered_interval
from beholder.evaluation.correlations import logistic_fit, mae, plcc, plcc_fitted, rmse, srcc
from beholder.evaluation.table import Metrics, evaluate, metrics_table

__all__ = [
    "Interval",
    "Metrics",
    "clustered_interval",
    "evaluate",
    "logistic_fit",
    "mae",
    "metrics_table",
    "plcc",
    "plcc_fitted",
    "rmse",
    "srcc",
]
