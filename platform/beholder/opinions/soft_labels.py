"""A Gaussian opinion as probabilities of K levels (DeQA-Score, section 3.2 and appendix B.1)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from beholder.opinions.normalise import require_normalised

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

MIN_STD = 0.2
"""Below this std, in levels, a label is interpolated between two levels (appendix B.1)."""

MAX_ERROR = 0.1
"""A released label whose mean misses the mos by more is interpolated; 0.2 gives the paper's
KonIQ row of Table 1."""

ROUNDING = 1e-9
"""An exact label whose mean misses the mos by more has no solution; it is interpolated too."""

NEAR_CENTRE = 1e-6
"""Closer than this to the middle of its levels, alpha is taken by its limit, 0 / 0 otherwise."""

ZERO = 1e-13
"""An exact probability this little below 0 is 0: at a mos on or halfway between two levels the
outermost one is 0 but for rounding, which must not decide whether it is dropped."""

RELEASED_EPSILON = 1e-9
"""What the release adds to alpha's denominator."""

RELEASED_MARGIN = 1e-8
"""How far beyond its two levels the release's interpolation reaches."""


class Density(StrEnum):
    """How a Gaussian gives the levels their raw probabilities."""

    PDF = "pdf"
    """Its density at the levels (released for KonIQ and KADID)."""
    CDF = "cdf"
    """Its mass within half a level (Eq. 1; released for SPAQ)."""


class Form(StrEnum):
    """How raw probabilities become a label (Eq. 2)."""

    EXACT = "exact"
    """Negative ones are clipped and alpha and beta solved again on the levels that survive, so
    that every label sums to 1 and has the mos as its mean, within 1e-13 for 5 levels."""
    RELEASED = "released"
    """Clipped and left so: sums reach 1.09, and a mos in the very middle of the scale gives
    the uniform label whatever its std."""


@dataclass(frozen=True)
class SoftLabels:
    """Labels of N rows, and how they came about.

    Attributes:
        probs: probabilities of the levels, worst first. (N, K).
        alpha: factor of the adjustment; 1 where interpolated, as Table 2 counts it. (N,).
        beta: its constant; 0 where interpolated. (N,).
        interpolated: rows that hold the two levels next to the mos only. (N,).
    """

    probs: Array
    alpha: Array
    beta: Array
    interpolated: Mask


def soft_labels(
    mos: ArrayLike,
    std: ArrayLike,
    k: int = 5,
    *,
    density: Density = Density.PDF,
    form: Form = Form.EXACT,
    min_std: float = MIN_STD,
    max_error: float = MAX_ERROR,
) -> SoftLabels:
    """``p = alpha p_raw + beta`` with sum 1 and mean mos (Eq. 2), clipped at 0.

    Rows with ``std < min_std`` are interpolated between two levels (Eq. A2); so are released
    ones whose mean misses the mos by more than ``max_error``, and exact ones of which clipping
    leaves a single level.

    Args:
        mos: mean opinions on 1..K, see :func:`beholder.opinions.normalise_mos`. (N,).
        std: their spreads in levels, see :func:`beholder.opinions.normalise_std`. (N,).
        k: how many levels, at least 2.
        density: where raw probabilities come from.
        form: what is done to them.
        min_std: in levels; 0.2 in the release.
        max_error: in levels, 0.1 in the release; exact labels have no error.

    Returns:
        N labels.

    Raises:
        ValueError: mos or std are not normalised, or not one row of numbers.
    """
    if k < 2:
        raise ValueError(f"soft labels need at least two levels, got {k}")
    mean, spread = np.broadcast_arrays(np.asarray(mos, np.float64), np.asarray(std, np.float64))
    if mean.ndim != 1:
        raise ValueError(f"mos must be one row of numbers, got shape {mean.shape}")
    require_normalised(mean, spread, k)
    exact = Form(form) is Form.EXACT
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        raw, slope = _DENSITIES[Density(density)](mean, np.maximum(spread, min_std), k)
        probs, alpha, beta = _exact(mean, raw, slope) if exact else _released(mean, raw)
        error = np.abs(probs @ _levels(k) - mean)
    # An error that is no number is one too: nothing was left to solve for.
    interpolated = (spread < min_std) | ~(error <= (ROUNDING if exact else max_error))
    probs[interpolated] = _between(mean[interpolated], k, 0.0 if exact else RELEASED_MARGIN)
    alpha[interpolated], beta[interpolated] = 1.0, 0.0
    return SoftLabels(probs, alpha, beta, interpolated)


def recovered(probs: ArrayLike) -> tuple[Array, Array]:
    """Mean and std of labels or predictions on 1..K (Eq. 3 and 5). (..., K) to (...), (...).

    For :attr:`Form.RELEASED` labels, which don't sum to 1, it is what the paper measures.
    """
    p = np.asarray(probs, dtype=np.float64)
    levels = _levels(p.shape[-1])
    mean = p @ levels
    return mean, np.sqrt((p * (levels - mean[..., None]) ** 2).sum(axis=-1))


def _levels(k: int) -> Array:
    return np.arange(1, k + 1, dtype=np.float64)


def _pdf(mean: Array, std: Array, k: int) -> tuple[Array, Array]:
    """Raw probabilities and their derivative by the mean. (N, K) each."""
    s = std[:, None]
    z = (_levels(k) - mean[:, None]) / s
    p = np.exp(-0.5 * z**2) / (s * np.sqrt(2 * np.pi))
    return p, p * z / s


def _cdf(mean: Array, std: Array, k: int) -> tuple[Array, Array]:
    """As :func:`_pdf`, of the mass within half a level."""
    s = std[:, None]
    edges = (np.arange(k + 1) + 0.5 - mean[:, None]) / s
    density = np.exp(-0.5 * edges**2) / (s * np.sqrt(2 * np.pi))
    return np.diff(ndtr(edges), axis=-1), -np.diff(density, axis=-1)


_DENSITIES: dict[Density, Callable[[Array, Array, int], tuple[Array, Array]]] = {
    Density.PDF: _pdf,
    Density.CDF: _cdf,
}


def _released(mean: Array, raw: Array) -> tuple[Array, Array, Array]:
    k = raw.shape[-1]
    total, middle = raw.sum(axis=-1), (k + 1) / 2
    alpha = (mean - middle) / (raw @ _levels(k) - middle * total + RELEASED_EPSILON)
    beta = (1 - alpha * total) / k
    return np.maximum(alpha[:, None] * raw + beta[:, None], 0), alpha, beta


def _exact(mean: Array, raw: Array, slope: Array) -> tuple[Array, Array, Array]:
    """Drops negative levels and solves again until none is negative, at most K times.

    The levels' mean probability is 1 over their number, so never do all of them go.
    """
    alive = np.ones(raw.shape, dtype=bool)
    for _ in range(raw.shape[-1]):
        alpha, beta = _solve(mean, raw, slope, alive)
        probs = np.where(alive, alpha[:, None] * raw + beta[:, None], 0)
        negative = probs < -ZERO
        if not np.any(negative):
            break
        alive &= ~negative
    return np.maximum(probs, 0), alpha, beta


def _solve(mean: Array, raw: Array, slope: Array, alive: Mask) -> tuple[Array, Array]:
    """Alpha and beta of Eq. 2 over the levels that are alive. (N,) each.

    With c the mean of those levels and A, B the sums of ``p`` and ``p * level`` over them,
    ``alpha = (mos - c) / (B - c A)``. Raw probabilities are symmetric around the mos, so both
    are 0 where it is c; there alpha is 1 over the slope of ``B - c A``.
    """
    count = alive.sum(axis=-1)
    centre = np.where(alive, _levels(raw.shape[-1]), 0).sum(axis=-1) / count
    arms = np.where(alive, _levels(raw.shape[-1]) - centre[:, None], 0)
    offset = mean - centre
    quotient = offset / (raw * arms).sum(axis=-1)
    limit = 1 / (slope * arms).sum(axis=-1)
    alpha = np.where(np.abs(offset) < NEAR_CENTRE, limit, quotient)
    beta = (1 - alpha * np.where(alive, raw, 0).sum(axis=-1)) / count
    return alpha, beta


def _between(mean: Array, k: int, margin: float) -> Array:
    """The two levels next to each mos, by their distances (Eq. A2). (N, K)."""
    probs = np.zeros((len(mean), k))
    lower = np.clip(np.ceil(mean) - 1, 1, k - 1).astype(np.int64)
    upper_share = np.clip((mean - lower + margin) / (1 + 2 * margin), 0, 1)
    rows = np.arange(len(mean))
    probs[rows, lower - 1] = 1 - upper_share
    probs[rows, lower] = upper_share
    return probs
