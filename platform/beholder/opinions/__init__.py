"""What people said: scales, votes, levels, soft labels and distributions over scores."""

from beholder.opinions.distribution import Rating, ScoreDistribution, mixture
from beholder.opinions.levels import LEVEL_WORDS, LevelRule, Levels, trimmed_range
from beholder.opinions.normalise import (
    DEFAULT_STD_SHARE,
    RangeRule,
    normalise_mos,
    normalise_std,
    require_normalised,
    score_range,
)
from beholder.opinions.point import NoSpreadError, Point
from beholder.opinions.scale import Scale
from beholder.opinions.soft_labels import Density, Form, SoftLabels, recovered, soft_labels
from beholder.opinions.thurstone import (
    gaussian_js,
    gaussian_kl,
    gaussian_w2,
    midpoint_js,
    thurstone,
)
from beholder.opinions.votes import onto_levels, vote_distribution

__all__ = [
    "DEFAULT_STD_SHARE",
    "LEVEL_WORDS",
    "Density",
    "Form",
    "LevelRule",
    "Levels",
    "NoSpreadError",
    "Point",
    "RangeRule",
    "Rating",
    "Scale",
    "ScoreDistribution",
    "SoftLabels",
    "gaussian_js",
    "gaussian_kl",
    "gaussian_w2",
    "midpoint_js",
    "mixture",
    "normalise_mos",
    "normalise_std",
    "onto_levels",
    "recovered",
    "require_normalised",
    "score_range",
    "soft_labels",
    "thurstone",
    "trimmed_range",
    "vote_distribution",
]
