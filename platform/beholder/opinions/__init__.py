"""What people said: scales, levels and distributions over scores."""

from beholder.opinions.distribution import ScoreDistribution, mixture
from beholder.opinions.levels import LEVEL_WORDS, LevelRule, Levels, trimmed_range
from beholder.opinions.scale import Scale

__all__ = [
    "LEVEL_WORDS",
    "LevelRule",
    "Levels",
    "Scale",
    "ScoreDistribution",
    "mixture",
    "trimmed_range",
]
