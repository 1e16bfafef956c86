"""What is minimised: one pure function a file."""

from beholder.training.objectives.cross_entropy import answer_cross_entropy

__all__ = ["answer_cross_entropy"]
