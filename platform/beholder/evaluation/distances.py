"""How far predicted distributions of opinions lie from people's (DeQA-Score, Table 5 and A3)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.opinions import ScoreDistribution
from beholder.opinions.thurstone import gaussian_js, gaussian_kl, gaussian_w2, midpoint_js

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Distances:
    """Between people's Gaussians and the predicted ones, each a mean over rows.

    Attributes:
        rows: pictures or clips whose spread of opinions is known, N.
        kl: KL(people || predicted), in nats (Eq. A3). A few over-confident rows can carry it.
        js: Jensen-Shannon divergence as released, in nats, 0 or more: its midpoint is a Gaussian
            of both means' and both variances' mean.
        js_true: Jensen-Shannon divergence of the two densities, in nats, 0..ln 2.
        wasserstein: W2, in the opinions' unit: the paper's figures are on the 1 to 5 scale.
    """

    rows: int
    kl: float
    js: float
    js_true: float
    wasserstein: float


def gaussian_rows(
    mean: ArrayLike, std: ArrayLike, mos: ArrayLike, mos_std: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """All four as float64 of shape (N,).

    Raises:
        ValueError: shapes differ, there is no row, a value is not finite, a predicted std is
            negative, or a std of the opinions is not positive.
    """
    named = {
        "predicted mean": mean,
        "predicted std": std,
        "mos": mos,
        "std of the opinions": mos_std,
    }
    rows = {name: np.asarray(values, dtype=np.float64) for name, values in named.items()}
    shapes = [r.shape for r in rows.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(f"means and stds must be four equal rows, got shapes {shapes}")
    for name, values in rows.items():
        good = np.isfinite(values)
        if name == "predicted std":
            good &= values >= 0
        elif name == "std of the opinions":
            good &= values > 0
        wrong = np.flatnonzero(~good)
        if len(wrong):
            raise ValueError(
                f"{name} of row {wrong[0]} is {values[wrong[0]]}: leave out rows without a spread"
            )
    m, s, t, u = rows.values()
    return m, s, t, u


def gaussian_distances(
    mean: ArrayLike, std: ArrayLike, mos: ArrayLike, mos_std: ArrayLike
) -> Distances:
    """Distances between N(mos, mos_std^2), people's, and N(mean, std^2), the prediction.

    Args:
        mean: predicted scores, std their spreads, (N,) each.
        std: see ``mean``; above 0.
        mos: mean opinions and mos_std their spreads, in the same unit, (N,) each.
        mos_std: see ``mos``; above 0.

    Raises:
        ValueError: as :func:`gaussian_rows`, or a predicted std is 0.
    """
    m, s, t, u = gaussian_rows(mean, std, mos, mos_std)
    people, predicted = (t, u), (m, s)
    return Distances(
        rows=len(m),
        kl=float(gaussian_kl(*people, *predicted).mean()),
        js=float(midpoint_js(*people, *predicted).mean()),
        js_true=float(gaussian_js(*people, *predicted).mean()),
        wasserstein=float(gaussian_w2(*people, *predicted).mean()),
    )


def wasserstein_1(first: ScoreDistribution, second: ScoreDistribution) -> Array:
    """W1 between distributions on one support: the area between their cumulative sums.

    Returns:
        Distances in the unit of the scale, 0..width. (...).

    Raises:
        ValueError: supports or scales differ.
    """
    if first.scale != second.scale or not np.array_equal(first.support, second.support):
        raise ValueError(
            f"can't measure W1 from {first.support.tolist()} on {first.scale} to "
            f"{second.support.tolist()} on {second.scale}: bring both to one support first"
        )
    gap = np.abs((first.probs - second.probs).cumsum(axis=-1))[..., :-1]
    return np.asarray(gap @ np.diff(first.support))
