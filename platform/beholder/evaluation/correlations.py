"""How well predicted scores agree with people: SRCC, KRCC, PLCC raw and fitted, errors.

Predictions without any spread say nothing about order: their correlations are 0 by definition
here, where the textbook formula divides by zero. The same holds for constant opinions.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import kendalltau, rankdata

Array = NDArray[np.float64]


def paired(predicted: ArrayLike, true: ArrayLike) -> tuple[Array, Array]:
    """Both as float64 of shape (N,).

    Raises:
        ValueError: shapes differ, there are fewer than two rows, or a value is not finite.
    """
    p, t = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if p.ndim != 1 or p.shape != t.shape:
        raise ValueError(
            f"predicted of shape {p.shape} and true of shape {t.shape} must be two equal rows"
        )
    if len(p) < 2:
        raise ValueError(f"a correlation needs at least two rows, got {len(p)}")
    for name, values in (("predicted", p), ("true", t)):
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            raise ValueError(
                f"{name} score of row {wrong[0]} is {values[wrong[0]]}: leave out failed items"
            )
    return p, t


def _pearson(x: Array, y: Array) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    # Scaled first, so that neither tiny nor huge values leave the range of a double.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def srcc(predicted: ArrayLike, true: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; -1..1, 0 where one is constant.

    Raises:
        ValueError: as :func:`paired`.
    """
    p, t = paired(predicted, true)
    return _pearson(rankdata(p), rankdata(t))


def krcc(predicted: ArrayLike, true: ArrayLike) -> float:
    """Kendall's tau-b, which takes ties on either side out; -1..1, 0 where one is constant.

    ``(C - D) / sqrt((C + D + X) (C + D + Y))`` of C concordant and D discordant pairs, X pairs
    tied in ``predicted`` alone and Y tied in ``true`` alone.

    Raises:
        ValueError: as :func:`paired`.
    """
    p, t = paired(predicted, true)
    if np.ptp(p) == 0 or np.ptp(t) == 0:
        return 0.0
    return float(kendalltau(p, t).statistic)


def plcc(predicted: ArrayLike, true: ArrayLike) -> float:
    """Pearson's linear correlation; -1..1, 0 where one is constant.

    Raises:
        ValueError: as :func:`paired`.
    """
    return _pearson(*paired(predicted, true))


def logistic_fit(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Predictions brought to the opinions' scale by the best 4-parameter logistic. Shape (N,).

    ``f(x) = (b1 - b2) / (1 + exp(-(x - b3) / |b4|)) + b2`` in least squares (VQEG's final report
    of 2003; used by DeQA-Score), with ``b1 >= b2``: a scorer that orders backwards is not turned
    round by the fit, its curve becomes flat.

    Raises:
        ValueError: as :func:`paired`.
    """
    p, t = paired(predicted, true)
    if np.ptp(p) == 0:
        return np.full_like(t, t.mean())
    x = (p - p.mean()) / p.std()  # makes the fit blind to the predictions' own scale
    unit = np.ptp(t) or 1.0
    y = (t - t.min()) / unit

    def curve(b: Array) -> Array:  # b: lower end, height, centre, ln of the width
        return np.asarray(b[0] + b[1] * expit((x - b[2]) * np.exp(-b[3])))

    best = min(
        (
            least_squares(
                lambda b: curve(b) - y,
                np.array([0.0, 1.0, 0.0, np.log(width)]),
                bounds=([-np.inf, 0, -np.inf, -5], [np.inf, np.inf, np.inf, 5]),
            )
            # A narrow start finds steps, a wide one near-straight lines.
            for width in (0.3, 1.5)
        ),
        key=lambda fit: fit.cost,
    )
    return np.asarray(curve(best.x) * unit + t.min())


def plcc_fitted(predicted: ArrayLike, true: ArrayLike) -> float:
    """Pearson's correlation after :func:`logistic_fit`; 0..1.

    Raises:
        ValueError: as :func:`paired`.
    """
    _, t = paired(predicted, true)
    fitted = logistic_fit(predicted, true)
    # A curve flattened by the bound keeps only rounding noise: no correlation, not that of noise.
    flat = np.ptp(fitted) <= 1e-6 * np.ptp(t)
    return 0.0 if flat else max(0.0, _pearson(fitted, t))


def mae(predicted: ArrayLike, true: ArrayLike) -> float:
    """Mean absolute error, in the unit of the opinions.

    Raises:
        ValueError: as :func:`paired`.
    """
    p, t = paired(predicted, true)
    return float(np.abs(p - t).mean())


def rmse(predicted: ArrayLike, true: ArrayLike) -> float:
    """Root of the mean squared error, in the unit of the opinions.

    Raises:
        ValueError: as :func:`paired`.
    """
    p, t = paired(predicted, true)
    return float(np.sqrt(((p - t) ** 2).mean()))
