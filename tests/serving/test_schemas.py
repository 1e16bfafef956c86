"""Answers over the wire: a score with a distribution, and one without."""

import numpy as np

from beholder.items import Score
from beholder.opinions import Point, Scale, ScoreDistribution
from beholder.serving.schemas import ItemAnswer


def _told(score: Score) -> dict[str, object]:
    answer = ItemAnswer.model_validate(score.as_dict()).model_dump(exclude_none=True)
    quality: dict[str, object] = answer["scores"]["quality"]
    return quality


def test_a_point_is_told_without_a_spread() -> None:
    point = Point(np.array(0.25), Scale(0, 1))
    told = _told(Score("a", "f", {"quality": point}, clips={"quality": (point,)}))
    assert told == {"mean": 0.25, "scale": (0, 1), "clips": [0.25]}


def test_a_distribution_is_told_whole() -> None:
    two = ScoreDistribution(np.array([1.0, 2.0]), np.array([0.25, 0.75]), Scale(1, 2))
    told = _told(Score("a", "f", {"quality": two}, {"quality": 0.5}, {"quality": (two,)}))
    assert told["probs"] == [0.25, 0.75]
    assert told["std"] == np.sqrt(0.1875)
    assert told["mass"] == 0.5
