"""How good a scorer is: correlations, errors, distances and tests clustered by source."""

from beholder.evaluation.bootstrap import Interval, clustered_interval
from beholder.evaluation.calibration import Calibration, calibrate, coverage, mean_mass
from beholder.evaluation.comparison import Difference, compare, zscore_ensemble
from beholder.evaluation.correlations import (
    krcc,
    logistic_fit,
    mae,
    plcc,
    plcc_fitted,
    rmse,
    srcc,
)
from beholder.evaluation.digits import WithoutTrue, digit_expectation, ncm, ncm_star
from beholder.evaluation.distances import Distances, gaussian_distances, wasserstein_1
from beholder.evaluation.succession import (
    CalibrationMap,
    Succession,
    SuccessionConfig,
    calibration_map,
    compare_scorers,
    judge,
    rank_churn,
    succession_table,
)
from beholder.evaluation.table import Metrics, OnScale, evaluate, metrics_table

__all__ = [
    "Calibration",
    "CalibrationMap",
    "Difference",
    "Distances",
    "Interval",
    "Metrics",
    "OnScale",
    "Succession",
    "SuccessionConfig",
    "WithoutTrue",
    "calibrate",
    "calibration_map",
    "clustered_interval",
    "compare",
    "compare_scorers",
    "coverage",
    "digit_expectation",
    "evaluate",
    "gaussian_distances",
    "judge",
    "krcc",
    "logistic_fit",
    "mae",
    "mean_mass",
    "metrics_table",
    "ncm",
    "ncm_star",
    "plcc",
    "plcc_fitted",
    "rank_churn",
    "rmse",
    "srcc",
    "succession_table",
    "wasserstein_1",
    "zscore_ensemble",
]
