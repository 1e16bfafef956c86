"""Score rows: one an item and task, failures included, the manifest's columns carried."""

import numpy as np
import pyarrow as pa

from beholder.catalog.rows import SCORE_FIELDS, score_rows
from beholder.items import Failure, FailureCode, Score
from beholder.opinions import Point, Scale, ScoreDistribution

TASKS = {"image": ["quality", "aesthetics"], "video": ["quality"]}


def _scored(item_id: str, *tasks: str) -> Score:
    one = ScoreDistribution(np.array([1.0, 2.0]), np.array([0.25, 0.75]), Scale(1, 2))
    return Score(
        item_id,
        "f" * 16,
        tasks=dict.fromkeys(tasks, one),
        mass=dict.fromkeys(tasks, 0.5),
        clips=dict.fromkeys(tasks, (one,)),
    )


def test_each_item_has_a_row_a_task_and_keeps_its_columns() -> None:
    carried = pa.table(
        {
            "item_id": ["a", "b", "c"],
            "kind": ["image", "image", "video"],
            "owner": ["x", "y", "z"],
            "std": [0.5, 0.6, 0.7],
            "sha256": ["s", "t", "u"],
        }
    )
    failure = Failure(FailureCode.DECODE_EMPTY, "0 bytes", attempts=2, bytes_read=0)
    scores = [
        _scored("a", "quality", "aesthetics"),
        Score("b", "f" * 16, failure=failure),
        _scored("c", "quality"),
    ]
    rows = score_rows(carried, scores, TASKS)
    keys = [(r["item_id"], r["task"], r["owner"]) for r in rows.to_pylist()]
    assert keys == [
        ("a", "quality", "x"),
        ("a", "aesthetics", "x"),
        ("b", "quality", "y"),
        ("b", "aesthetics", "y"),
        ("c", "quality", "z"),
    ]
    assert rows["mean"].to_pylist() == [1.75, 1.75, None, None, 1.75]
    assert rows["failure_code"].to_pylist()[2:4] == ["decode.empty"] * 2
    assert rows["manifest_std"].to_pylist() == [0.5, 0.5, 0.6, 0.6, 0.7]
    assert rows["sha256"].to_pylist() == ["s", "s", "t", "t", "u"]
    assert rows["attempts"].to_pylist()[2] == 2
    assert rows.schema.names[: len(SCORE_FIELDS)] == SCORE_FIELDS.names


def test_a_point_has_nulls_where_a_spread_would_stand() -> None:
    point = Point(np.array(0.25), Scale(0, 1))
    score = Score("a", "f" * 16, tasks={"quality": point}, clips={"quality": (point,)})
    (row,) = score_rows(pa.table({"item_id": ["a"], "kind": ["image"]}), [score], TASKS).to_pylist()
    assert (row["mean"], row["scale"], row["clip_means"]) == (0.25, [0, 1], [0.25])
    for name in ("std", "entropy", "support", "probs", "mass", "failure_code"):
        assert row[name] is None
