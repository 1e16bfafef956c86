"""How far a predicted score is from people's, as a number."""

import torch.nn.functional as F
from torch import Tensor

from beholder.training.objectives.reduction import weighted_mean


def smooth_l1(predicted: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """``d^2 / 2`` below a distance of 1 and ``d - 1/2`` from there on (ROC4MLLM's score loss).

    The bend is at 1 in the scores' own unit, so that rescaling the scores changes the loss.

    Args:
        predicted: scores, ROC4MLLM's Eq. 5, fp32. (B,).
        scores: people's, in the same unit. (B,).
        weights: of the rows; 0 for a filler. (B,).

    Returns:
        A scalar; 0 with a gradient of 0 where every weight is 0.
    """
    return weighted_mean(F.smooth_l1_loss(predicted, scores, reduction="none", beta=1.0), weights)


def squared_error(predicted: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """``d^2``, for the regression head (Next Token Is Enough, section 4.6).

    Args:
        predicted: of the head, after its sigmoid, fp32 in (0, 1). (B,).
        scores: people's, mapped to [0, 1]. (B,).
        weights: of the rows; 0 for a filler. (B,).

    Returns:
        A scalar; 0 with a gradient of 0 where every weight is 0.
    """
    return weighted_mean((predicted - scores) ** 2, weights)
