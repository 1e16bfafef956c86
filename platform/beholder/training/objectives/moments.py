"""The mean and spread of a predicted score, with gradients (DeQA-Score, Eq. 5)."""

from torch import Tensor


def score_moments(probs: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """``mean = sum p c`` and ``std = sqrt(sum p (c - mean)^2)``.

    Probabilities come from the softmax over the K tokens. The release can also take those of
    the whole vocabulary without renormalising them ("open set"): the same formulas then, in
    which a sum below 1 pulls the mean to 0.

    Args:
        probs: fp32 (B, K).
        support: the score of each token, on the readout's scale. (K,).

    Returns:
        Mean (B,) and std (B,). The std's gradient is not finite where a row is certain of one
        token: detach it, as the fidelity loss does.
    """
    mean = probs @ support
    variance = (probs * (support - mean[:, None]) ** 2).sum(dim=-1)
    return mean, variance.sqrt()
