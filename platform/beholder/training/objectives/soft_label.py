"""Kullback-Leibler divergence from a soft label to the level token (DeQA-Score, Eq. 4)."""

import torch
from torch import Tensor

from beholder.training.objectives.reduction import weighted_mean


def soft_label_kl(logits: Tensor, token_ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Batch mean of ``KL(target || prediction)`` under the softmax over the whole vocabulary.

    That softmax also drives down every word that is no level (section 4.1). Targets are taken
    as they are: released labels don't always sum to 1 (their generator clips at 0), and then
    the value may be negative and the gradient by the logits is ``(sum p) q - p``.

    Args:
        logits: at the position that predicts the level token, fp32. (B, V).
        token_ids: of the K levels, in the targets' order. int64 (K,).
        targets: probabilities of the levels, at least 0; 0 ln 0 is 0. (B, K).
        weights: of the rows; 0 for a filler. (B,).

    Returns:
        A scalar in nats; 0 with a gradient of 0 where every weight is 0.
    """
    predicted = logits.log_softmax(dim=-1)[:, token_ids]
    return weighted_mean(_divergence(targets, predicted), weights)


def closed_soft_label_kl(level_logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """:func:`soft_label_kl` under the softmax over the K levels alone, blind to other words.

    Args:
        level_logits: those of the levels, in the targets' order, fp32. (B, K).
        targets: as there. (B, K).
        weights: as there. (B,).
    """
    return weighted_mean(_divergence(targets, level_logits.log_softmax(dim=-1)), weights)


def _divergence(targets: Tensor, predicted: Tensor) -> Tensor:
    """``sum p (ln p - ln q)`` of each row; ``predicted`` is ln q. (B,)."""
    return (torch.xlogy(targets, targets) - targets * predicted).sum(dim=-1)
