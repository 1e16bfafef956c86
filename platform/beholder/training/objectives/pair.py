"""The whole objective of DeQA-Score's pairs, from its parts (Eq. 9 and the release)."""

from torch import Tensor


def pair_objective(
    rank: Tensor,
    next_token: tuple[Tensor, Tensor],
    soft_label: tuple[Tensor, Tensor],
    description: Tensor | float = 0.0,
    *,
    rank_weight: float = 1.0,
    next_token_weight: float = 0.05,
    soft_label_weight: float = 1.0,
    description_weight: float = 1.0,
) -> Tensor:
    """``w_desp L_desp + w_rank L_rank + w_next [(CE_A + w_kl KL_A) + (CE_B + w_kl KL_B)]``.

    ``next_token_weight`` is the paper's gamma and multiplies the soft labels' part as well.
    The two sides are summed, not averaged.

    Args:
        rank: the fidelity loss. Scalar.
        next_token: cross-entropy of A's and of B's answers without the level token. Scalars.
        soft_label: KL at A's and at B's level token. Scalars.
        description: cross-entropy of rows that describe pictures and rate none. Scalar.
        rank_weight: w_rank.
        next_token_weight: w_next.
        soft_label_weight: w_kl.
        description_weight: w_desp.
    """
    answers = sum(next_token) + soft_label_weight * sum(soft_label)
    return description_weight * description + rank_weight * rank + next_token_weight * answers
