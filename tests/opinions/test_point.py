"""A point has a mean and a scale; whatever needs a spread is refused by name."""

from collections.abc import Callable

import numpy as np
import pytest

from beholder.errors import UserError
from beholder.opinions import NoSpreadError, Point, Rating, Scale, ScoreDistribution, mixture

UNIT = Scale(0, 1)
LEVELS = ScoreDistribution(np.array([0.0, 1.0]), np.array([0.5, 0.5]), UNIT)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (lambda p: p.std, "a std"),
        (lambda p: p.entropy, "an entropy"),
        (lambda p: p.support, "a support"),
        (lambda p: p.probs, "probabilities"),
        (lambda p: p.quantile(0.1), "a quantile"),
        (lambda p: p.probability_above(LEVELS), r"P\(A > B\)"),
        (lambda p: LEVELS.probability_above(p), "a support"),
    ],
)
def test_a_spread_is_refused_by_name(asked: Callable[[Point], object], name: str) -> None:
    sentence = f"a regression head has no spread, .* point without {name}: use the mean"
    for kind in (NoSpreadError, UserError, ValueError):
        with pytest.raises(kind, match=sentence):
            asked(Point(np.array(0.25), UNIT))


def test_it_stacks_as_distributions_do() -> None:
    three = Point(np.array([0.1, 0.2, 0.9]), UNIT)
    assert len(three) == 3
    assert float(three[2].mean) == 0.9
    assert len(three[2]) == 1
    with pytest.raises(ValueError, match="finite"):
        Point(np.array([0.1, np.nan]), UNIT)


def test_a_mixture_is_the_weighted_mean() -> None:
    parts = [Point(np.array(m), UNIT) for m in (0.2, 0.6)]
    mixed: Rating = mixture(parts, [3.0, 1.0])
    assert isinstance(mixed, Point)
    assert float(mixed.mean) == pytest.approx(0.3)
    assert float(mixture(parts, [0, 0]).mean) == pytest.approx(0.4)
    for other in (LEVELS, Point(np.array(0.5), Scale(0, 2))):
        with pytest.raises(ValueError, match="one scale and one support"):
            mixture([parts[0], other], [1, 1])


def test_what_is_not_known_is_none() -> None:
    told = Point(np.array(0.25), UNIT).as_dict()
    unknown = {"std": None, "entropy": None, "support": None, "probs": None}
    assert told == {"mean": 0.25, "scale": [0, 1]} | unknown
    assert told.keys() == LEVELS.as_dict().keys()
