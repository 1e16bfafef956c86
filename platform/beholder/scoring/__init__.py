"""A scorer: one backbone and one readout, on disk and at work."""

from beholder.scoring.folder import SCORER_VERSION, ScorerError, ScorerFile, TaskSpec
from beholder.scoring.scorer import Scorer

__all__ = ["SCORER_VERSION", "Scorer", "ScorerError", "ScorerFile", "TaskSpec"]
