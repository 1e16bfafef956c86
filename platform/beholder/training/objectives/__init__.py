"""What is minimised: one pure function a loss."""

from beholder.training.objectives.cross_entropy import answer_cross_entropy
from beholder.training.objectives.fidelity import fidelity, fidelity_loss, thurstone
from beholder.training.objectives.moments import score_moments
from beholder.training.objectives.pair import pair_objective
from beholder.training.objectives.score_error import smooth_l1, squared_error
from beholder.training.objectives.soft_label import closed_soft_label_kl, soft_label_kl
from beholder.training.objectives.votes import earth_movers_distance, soft_cross_entropy

__all__ = [
    "answer_cross_entropy",
    "closed_soft_label_kl",
    "earth_movers_distance",
    "fidelity",
    "fidelity_loss",
    "pair_objective",
    "score_moments",
    "smooth_l1",
    "soft_cross_entropy",
    "soft_label_kl",
    "squared_error",
    "thurstone",
]
