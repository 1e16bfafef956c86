"""Text and score losses on the same token: what ROC4MLLM decouples (Eq. 3, ablated in Table 6)."""

from torch import Tensor

from beholder.training.objectives.cross_entropy import answer_cross_entropy
from beholder.training.objectives.moments import score_moments
from beholder.training.objectives.score_error import smooth_l1


def coupled_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    slots: Tensor,
    token_ids: Tensor,
    support: Tensor,
    scores: Tensor,
) -> Tensor:
    """``L_text + L_score``, with the text's target at a slot one of the tokens that are scored.

    L_text is the cross-entropy over all n supervised tokens of the answer, the level token
    included, under the softmax over the whole vocabulary; L_score the smooth L1 of the
    expected score under the softmax over the K tokens (Eq. 4, over logits: the printed one
    exponentiates probabilities). One logit serves two aims: the text wants all mass on its
    word, the score a mean that lies between words.

    The decoupled Eq. 6 is the same sum with the position token, outside ``token_ids``, as the
    target at the slot. The paper doesn't say which token a score maps to; ``targets`` does.

    Args:
        logits: at the positions that predict a supervised token, fp32. (M, V).
        targets: those tokens, at slots one of ``token_ids``. int64 (M,).
        weights: of the rows that the tokens stand in; 0 for a filler. (M,).
        slots: which of the M predict a score. int64 (S,).
        token_ids: of the K levels or score tokens. int64 (K,).
        support: their scores. (K,).
        scores: people's, in the same unit. (S,).

    Returns:
        A scalar; 0 with a gradient of 0 where every weight is 0.
    """
    probs = logits[slots][:, token_ids].softmax(dim=-1)
    score_loss = smooth_l1(score_moments(probs, support)[0], scores, weights[slots])
    return answer_cross_entropy(logits, targets, weights) + score_loss
