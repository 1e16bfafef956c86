"""Whether a predicted spread is the spread of people's opinions, and whether levels are answered.

A scorer's std stands for how far people's opinions of one picture lie apart (DeQA-Score), not
for the scorer's own doubt about their mean. It is therefore measured against opinions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from beholder.evaluation.distances import gaussian_rows

COVERAGES = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Calibration:
    """How the predicted spread compares with people's.

    Attributes:
        coverage: pairs of expected and observed coverage, see :func:`coverage`.
        std_ratio: mean predicted std / mean std of the opinions; 1 is right, below 1 is a
            scorer too sure that people agree.
        std_slope: least-squares slope of the opinions' std on the predicted one, with an
            intercept: 1 where pictures that differ in predicted std differ as much in truth, 0
            where the prediction says nothing, or is constant.
    """

    coverage: tuple[tuple[float, float], ...]
    std_ratio: float
    std_slope: float


def coverage(
    mean: ArrayLike,
    std: ArrayLike,
    mos: ArrayLike,
    mos_std: ArrayLike,
    expected: Sequence[float] = COVERAGES,
) -> NDArray[np.float64]:
    """The part of people's opinions inside the predicted central intervals.

    For each expected part q the interval is ``mean +- z std`` with ``z = Phi^-1((1 + q) / 2)``;
    observed is the mass that N(mos, mos_std^2) has inside it, averaged over rows. Equal
    Gaussians give q itself; less means intervals too narrow, or off their place.

    Args:
        mean: predicted scores, std their spreads, (N,) each.
        std: see ``mean``; may be 0.
        mos: mean opinions and mos_std their spreads, in the same unit, (N,) each.
        mos_std: see ``mos``; above 0.
        expected: parts in (0, 1), (L,).

    Returns:
        Observed parts, (L,).

    Raises:
        ValueError: as :func:`beholder.evaluation.distances.gaussian_rows`, or a part outside
            (0, 1).
    """
    m, s, t, u = gaussian_rows(mean, std, mos, mos_std)
    q = np.asarray(expected, dtype=np.float64)
    wrong = q[~((q > 0) & (q < 1))]
    if len(wrong):
        raise ValueError(f"an expected coverage must lie between 0 and 1, got {wrong[0]:g}")
    half = ndtri((1 + q) / 2)[:, None] * s  # (L, N)
    inside = ndtr((m + half - t) / u) - ndtr((m - half - t) / u)
    return np.asarray(inside.mean(axis=-1))


def calibrate(mean: ArrayLike, std: ArrayLike, mos: ArrayLike, mos_std: ArrayLike) -> Calibration:
    """Coverage of the central 50, 80 and 95% intervals, ratio and slope of the spreads.

    Args:
        mean: as for :func:`coverage`, and all others too.
        std: predicted spreads.
        mos: mean opinions.
        mos_std: their spreads.

    Raises:
        ValueError: as :func:`coverage`.
    """
    _, s, _, u = gaussian_rows(mean, std, mos, mos_std)
    observed = coverage(mean, std, mos, mos_std)
    centred = s - s.mean()
    power = centred @ centred
    constant = np.ptp(s) == 0  # its power can be rounding noise
    return Calibration(
        coverage=tuple(zip(COVERAGES, observed.tolist(), strict=True)),
        std_ratio=float(s.mean() / u.mean()),
        std_slope=0.0 if constant else float(centred @ (u - u.mean()) / power),
    )


def mean_mass(mass: ArrayLike) -> float:
    """Mean probability that the full softmax puts on the readout's words (DeQA-Score, Table A2).

    Near 1 after training: a scorer answers levels and nothing else. A fall says that it meets
    pictures, or a prompt, that it wasn't trained for.

    Args:
        mass: of each row, in [0, 1] up to rounding. (N,).

    Raises:
        ValueError: there is no row, or a value is not finite or outside [0, 1].
    """
    m = np.asarray(mass, dtype=np.float64)
    if m.ndim != 1 or not len(m):
        raise ValueError(f"the mass on the words must be a row of values, got shape {m.shape}")
    wrong = np.flatnonzero(~((m >= 0) & (m <= 1 + 1e-4)))
    if len(wrong):
        raise ValueError(f"the mass on the words of row {wrong[0]} is {m[wrong[0]]}, not in 0..1")
    return float(m.mean())
