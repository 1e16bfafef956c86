import json

import numpy as np

from beholder.items import Failure, FailureCode, Score
from beholder.opinions import Point, Scale, ScoreDistribution

UNIFORM = ScoreDistribution(np.arange(1.0, 6.0), np.full(5, 0.2), Scale(1, 5))


def test_a_score_is_json_ready() -> None:
    score = Score("a", "f" * 8, {"quality": UNIFORM}, {"quality": 0.9}, {"quality": (UNIFORM,)})
    told = json.loads(json.dumps(score.as_dict()))
    assert told["scores"]["quality"]["mean"] == 3
    assert told["scores"]["quality"]["scale"] == [1, 5]
    assert told["scores"]["quality"]["clips"] == [3]
    assert told["scores"]["quality"]["mass"] == 0.9
    assert "failure" not in told


def test_a_failure_has_no_scores() -> None:
    failure = Failure(FailureCode.FETCH_DENIED, "no", attempts=2)
    told = json.loads(json.dumps(Score("a", "f", failure=failure).as_dict()))
    assert told["failure"] == {
        "code": "fetch.denied",
        "message": "no",
        "attempts": 2,
        "bytes_read": 0,
    }
    assert "scores" not in told


def test_a_point_is_told_without_a_spread() -> None:
    point = Point(np.array(0.25), Scale(0, 1))
    score = Score("a", "f", {"quality": point}, clips={"quality": (point, point)})
    told = json.loads(json.dumps(score.as_dict(), allow_nan=False))["scores"]["quality"]
    assert (told["mean"], told["clips"], told["scale"]) == (0.25, [0.25, 0.25], [0, 1])
    for name in ("std", "entropy", "support", "probs", "mass"):
        assert told[name] is None


def test_what_was_told_reads_back() -> None:
    point = Point(np.array(0.25), Scale(0, 1))
    score = Score(
        "a",
        "f" * 8,
        {"quality": UNIFORM, "aesthetics": point},
        {"quality": 0.9},
        {"quality": (UNIFORM, UNIFORM), "aesthetics": (point,)},
        coverage=0.5,
    )
    read = Score.from_dict(json.loads(json.dumps(score.as_dict())))
    assert read.as_dict() == score.as_dict()
    quality = read.tasks["quality"]
    assert isinstance(quality, ScoreDistribution) and isinstance(read.tasks["aesthetics"], Point)
    assert np.array_equal(quality.probs, UNIFORM.probs)


def test_a_failure_reads_back() -> None:
    score = Score("a", "f", failure=Failure(FailureCode.LIMIT_BYTES, "no", 2, 7))
    assert Score.from_dict(json.loads(json.dumps(score.as_dict()))) == score
