"""The fidelity loss over pairs of one set (DeQA-Score, Eq. 6 to 8; Tsai et al. 2007)."""

import math

import torch
from torch import Tensor

from beholder.training.objectives.reduction import weighted_mean

EPSILON = 1e-8
"""Under both roots of the continuous loss, as released: keeps gradients finite at p = 0."""


def thurstone(
    mean_a: Tensor, mean_b: Tensor, std_a: Tensor | float = 1.0, std_b: Tensor | float = 1.0
) -> Tensor:
    """P(A > B) for independent Gaussian opinions (Eq. 6 and 7).

    With both stds 1 it is the release's ``(1 + erf((a - b) / 2)) / 2``. Where both are 0 it is
    0, 1, or 1/2 for equal means. An affine map of means and stds changes nothing.

    Args:
        mean_a: of A, mean_b: of B, in one unit. (P,).
        std_a: of A, std_b: of B, in the same unit. (P,) or a number.

    Returns:
        Probabilities in [0, 1]. (P,).
    """
    variance = torch.as_tensor(std_a**2 + std_b**2, device=mean_a.device)
    z = (mean_a - mean_b) / variance.clamp_min(1e-12).sqrt()
    return 0.5 * torch.erfc(-z / math.sqrt(2))


def fidelity(predicted: Tensor, target: Tensor, epsilon: float = EPSILON) -> Tensor:
    """``1 - sqrt(p g + eps) - sqrt((1-p)(1-g) + eps)``, Eq. 8 with the release's epsilon.

    Args:
        predicted: p, the predicted P(A > B). (P,).
        target: g, people's. (P,).
        epsilon: under the roots.

    Returns:
        One loss a pair, at most 1; epsilon takes it down to -1e-4 where p = g = 0 or 1. The
        gradient by p is 0 at p = g. (P,).
    """
    both = torch.stack([predicted * target, (1 - predicted) * (1 - target)])
    # Without epsilon a product of 0 has the root's slope, infinity: the floor makes it 0.
    return 1 - (both + epsilon).clamp_min(1e-30).sqrt().sum(dim=0)


def fidelity_loss(
    mean: Tensor,
    mos: Tensor,
    sets: Tensor,
    weights: Tensor,
    *,
    std: Tensor | None = None,
    mos_std: Tensor | None = None,
    pairs: Tensor | None = None,
    tie: float = 0.5,
) -> Tensor:
    """Weighted mean of :func:`fidelity` over pairs of rows of one set.

    In-rank: pairs are made of the rows of this call, which are one worker's micro-batch;
    no score travels between workers. A micro-batch in which no two rows share a set gives 0.

    Without ``std`` both predicted spreads are 1 (release, default there); with it p is Eq. 7,
    and no gradient flows into the spread. Without ``mos_std`` the loss is the binary one,
    g = 1[mos_A > mos_B], without an epsilon.

    Args:
        mean: predicted scores, fp32. (B,).
        mos: mean opinions in their set's own unit, fp32. (B,).
        sets: a number for the set of each row; pairs across sets are left out. int64 (B,).
        weights: of the rows, 0 for a filler; a pair weighs the product of its two. (B,).
        std: predicted spreads, in the unit of ``mean``. (B,).
        mos_std: spreads of the opinions, in the unit of ``mos``. (B,).
        pairs: indices of A and B; all pairs of rows if not given. int64 (P, 2).
        tie: g of the binary loss at equal opinions; 0 in the release.

    Returns:
        A scalar; 0 with a gradient of 0 where there is no pair of positive weight.
    """
    if pairs is None:
        pairs = torch.combinations(torch.arange(len(mean), device=mean.device))
    a, b = pairs_of_sets(pairs, sets, weights).unbind(dim=1)
    if std is None:
        predicted = thurstone(mean[a], mean[b])
    else:
        fixed = std.detach()
        predicted = thurstone(mean[a], mean[b], fixed[a], fixed[b])
    if mos_std is None:
        target = (mos[a] > mos[b]).to(mean.dtype) + tie * (mos[a] == mos[b])
        losses = fidelity(predicted, target, epsilon=0.0)
    else:
        losses = fidelity(predicted, thurstone(mos[a], mos[b], mos_std[a], mos_std[b]))
    return weighted_mean(losses, weights[a] * weights[b])


def pairs_of_sets(pairs: Tensor, sets: Tensor, weights: Tensor) -> Tensor:
    """Those pairs whose rows are of one set and both weigh something. (P, 2) to (Q, 2)."""
    return pairs[(sets[pairs[:, 0]] == sets[pairs[:, 1]]) & (weights[pairs] > 0).all(dim=1)]
