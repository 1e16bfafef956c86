"""How far a predicted distribution is from people's votes (ROC4MLLM's release, on AVA)."""

from torch import Tensor

from beholder.training.objectives.reduction import weighted_mean


def earth_movers_distance(probs: Tensor, votes: Tensor, weights: Tensor) -> Tensor:
    """Root of the mean over rows and bins of the squared difference of cumulative sums.

    The root is taken once, over the whole batch, as released; it isn't the mean of the rows'
    distances. Only in the release: the paper doesn't mention it.

    Args:
        probs: predicted, in ascending order of score, fp32. (B, K).
        votes: fractions, in the same order, summing to 1. (B, K).
        weights: of the rows; 0 for a filler. (B,).

    Returns:
        A scalar in [0, 1); 0 with a gradient of 0 where every weight is 0 or all rows agree.
    """
    distance = ((probs - votes).cumsum(dim=-1) ** 2).mean(dim=-1)
    mean = weighted_mean(distance, weights)
    return mean.clamp_min(1e-24).sqrt() * (mean > 0)  # the root's slope at 0 is infinite


def soft_cross_entropy(logits: Tensor, votes: Tensor, weights: Tensor) -> Tensor:
    """Batch mean of ``-sum_k v_k ln softmax(logits)_k``, over the K score tokens alone.

    Args:
        logits: of the score tokens, fp32. (B, K).
        votes: fractions, in the tokens' order, summing to 1. (B, K).
        weights: of the rows; 0 for a filler. (B,).

    Returns:
        A scalar in nats; 0 with a gradient of 0 where every weight is 0.
    """
    return weighted_mean(-(votes * logits.log_softmax(dim=-1)).sum(dim=-1), weights)
