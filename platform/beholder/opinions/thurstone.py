"""Gaussian opinions: the probability that one beats another, and distances between two."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

REACH = 9
"""How many stds around each mean :func:`gaussian_js` integrates over; 1e-18 lies outside."""


def thurstone(
    mean_a: ArrayLike, mean_b: ArrayLike, std_a: ArrayLike = 1.0, std_b: ArrayLike = 1.0
) -> NDArray[np.float64]:
    """P(A > B) for independent Gaussian opinions: Thurstone's model, DeQA-Score Eq. 6.

    With the default stds it is the fixed form of the release, ``(1 + erf((a - b) / 2)) / 2``
    (case V). Where both stds are 0 it is 0 or 1, and 1/2 for equal means. Mapping means and
    stds to another unit changes nothing.

    Args:
        mean_a: means of A, mean_b: of B, in one unit. (...).
        std_a: stds of A, std_b: of B, in that unit. (...).

    Returns:
        Probabilities in [0, 1], of the arguments' broadcast shape.

    Raises:
        ValueError: a std is negative or not finite.
    """
    a, sa, b, sb = _gaussians(mean_a, std_a, mean_b, std_b)
    difference, spread = a - b, np.hypot(sa, sb)
    certain = np.heaviside(difference, 0.5)
    z = np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 0)
    return np.where(spread > 0, ndtr(z), certain)


def gaussian_kl(
    mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike
) -> NDArray[np.float64]:
    """``KL(A || B) = ln(sb/sa) + (sa^2 + (a-b)^2) / (2 sb^2) - 1/2`` in nats; A is people's.

    Arguments and result as in :func:`gaussian_js`.
    """
    a, sa, b, sb = _gaussians(mean_a, std_a, mean_b, std_b, positive=True)
    return np.log(sb / sa) + (sa**2 + (a - b) ** 2) / (2 * sb**2) - 0.5


def midpoint_js(
    mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike
) -> NDArray[np.float64]:
    """What DeQA-Score's release reports as JS: against a Gaussian in the middle, in nats.

    The middle has the mean of the two means and the mean of the two variances. The mixture
    that JS asks for is wider by ``((a-b)/2)^2`` and no Gaussian, so this is larger than
    :func:`gaussian_js`, and above ln 2 for means far apart. Arguments as there.
    """
    a, sa, b, sb = _gaussians(mean_a, std_a, mean_b, std_b, positive=True)
    mean, std = (a + b) / 2, np.sqrt((sa**2 + sb**2) / 2)
    return (gaussian_kl(a, sa, mean, std) + gaussian_kl(b, sb, mean, std)) / 2


def gaussian_js(
    mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike
) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in nats, by quadrature: 0 where A is B, ln 2 far apart.

    Gauss-Legendre on the intervals between the whole stds of both, so that a narrow Gaussian
    inside a wide one isn't missed; the error is below 1e-9 for stds within a factor of 1,000.

    Args:
        mean_a: means of A, mean_b: of B, in one unit. (...).
        std_a: stds of A, std_b: of B, in that unit. (...).

    Returns:
        Distances of the arguments' broadcast shape.

    Raises:
        ValueError: a std is not positive and finite.
    """
    a, sa, b, sb = _gaussians(mean_a, std_a, mean_b, std_b, positive=True)
    a, sa, b, sb = (v[..., None] for v in (a, sa, b, sb))
    steps = np.arange(-REACH, REACH + 1)
    cuts = np.sort(np.concatenate([a + steps * sa, b + steps * sb], axis=-1), axis=-1)
    middles, halves = (cuts[..., 1:] + cuts[..., :-1]) / 2, np.diff(cuts, axis=-1) / 2
    total = np.zeros(a.shape[:-1])
    for node, weight in zip(*np.polynomial.legendre.leggauss(12), strict=True):
        x = middles + node * halves
        log_p, log_q = _log_density(x, a, sa), _log_density(x, b, sb)
        log_m = np.logaddexp(log_p, log_q) - np.log(2)
        integrand = np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m)
        total += weight * (halves * integrand).sum(axis=-1) / 2
    return total.clip(0, np.log(2))


def gaussian_w2(
    mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike
) -> NDArray[np.float64]:
    """Wasserstein-2 distance ``sqrt((a-b)^2 + (sa-sb)^2)``, in the means' unit.

    Arguments and result as in :func:`gaussian_js`; a std may be 0.
    """
    a, sa, b, sb = _gaussians(mean_a, std_a, mean_b, std_b)
    return np.hypot(a - b, sa - sb)


def _log_density(
    x: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float64]:
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))


def _gaussians(
    mean_a: ArrayLike,
    std_a: ArrayLike,
    mean_b: ArrayLike,
    std_b: ArrayLike,
    positive: bool = False,
) -> list[NDArray[np.float64]]:
    """Means and stds as arrays of one shape, refusing stds that a Gaussian can't have."""
    arrays = [np.asarray(v, dtype=np.float64) for v in (mean_a, std_a, mean_b, std_b)]
    for std in (arrays[1], arrays[3]):
        good = np.isfinite(std) & (std > 0 if positive else std >= 0)
        if not np.all(good):
            row = int(np.argmin(good))
            bound = "above 0" if positive else "0 or more"
            raise ValueError(
                f"the std of row {row} is {std.flat[row]:g} and must be finite and {bound}: "
                "leave out rows without a spread"
            )
    return list(np.broadcast_arrays(*arrays))
