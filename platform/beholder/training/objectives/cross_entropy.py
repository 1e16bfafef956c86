"""Next-token cross-entropy on the answer alone (Q-Align, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor


def answer_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """``sum w_i CE_i / sum w_i`` over supervised tokens: their mean where all weights are 1.

    Args:
        logits: at the positions that predict a supervised token, fp32. (M, V).
        targets: those tokens. int64 (M,).
        weights: of the rows that the tokens stand in; 0 for a filler. (M,).

    Returns:
        A scalar; 0 with a gradient of 0 where every weight is 0.
    """
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp_min(1e-12)
