import json

import numpy as np

from beholder.items import Failure, FailureCode, Score
from beholder.opinions import Scale, ScoreDistribution

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
