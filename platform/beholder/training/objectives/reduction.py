"""How the losses of rows or pairs become one number."""

from torch import Tensor


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """``sum w_i l_i / sum w_i``: the batch mean where all weights are 1.

    Args:
        losses: one a row, finite even where its weight is 0. (B,).
        weights: 0 for a filler, otherwise positive. (B,).

    Returns:
        A scalar; 0 with a gradient of 0 where every weight is 0, or B is 0.
    """
    assert losses.shape == weights.shape, (losses.shape, weights.shape)
    return (losses * weights).sum() / weights.sum().clamp_min(1e-12)
