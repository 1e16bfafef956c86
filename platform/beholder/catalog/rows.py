"""Score rows: what a scored catalog holds, one row an item and task."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from beholder.items import Score

SCORE_FIELDS = pa.schema(
    [
        ("item_id", pa.string()),
        ("task", pa.string()),
        ("mean", pa.float64()),
        ("std", pa.float64()),
        ("entropy", pa.float64()),
        ("support", pa.list_(pa.float64())),
        ("probs", pa.list_(pa.float64())),
        ("scale", pa.list_(pa.float64())),
        ("mass", pa.float64()),
        ("clip_means", pa.list_(pa.float64())),
        ("coverage", pa.float64()),
        ("fingerprint", pa.string()),
        ("failure_code", pa.string()),
        ("failure_message", pa.string()),
        ("attempts", pa.int32()),
        ("bytes_read", pa.int64()),
    ]
)
"""Columns of a score row; a failed item has a row for each task asked of its kind, whose score
columns are null. A point, as a regression head's, has null ``std``, ``entropy``, ``support``,
``probs`` and ``mass``. Columns of the manifest are carried beside them; one that has a score
column's name, as the raters' ``std`` has, is carried as ``manifest_std``."""


def score_rows(
    carried: pa.Table, scores: Sequence[Score], tasks: Mapping[str, Sequence[str]]
) -> pa.Table:
    """One row an item and task.

    Args:
        carried: the manifest's columns, a row an item, in the order of ``scores``.
        scores: what the scorer said.
        tasks: by kind, the tasks that were asked.
    """
    made, source = [], []
    kinds = carried["kind"].to_pylist()
    for index, (score, kind) in enumerate(zip(scores, kinds, strict=True)):
        rows = _scored(score) if score.failure is None else _failed(score, tasks[kind])
        made += rows
        source += [index] * len(rows)
    table = pa.Table.from_pylist(made, schema=SCORE_FIELDS)
    repeated = carried.take(pa.array(source, pa.int64()))
    for name in carried.column_names:
        if name != "item_id":
            clash = name in SCORE_FIELDS.names
            table = table.append_column(f"manifest_{name}" if clash else name, repeated[name])
    return table


def score_values(score: Score) -> list[dict[str, object]]:
    """A score's values, one dictionary a task."""
    return [
        {
            "task": task,
            **rating.as_dict(),
            "mass": score.mass.get(task),
            "clip_means": [float(clip.mean) for clip in score.clips[task]],
            "coverage": score.coverage,
        }
        for task, rating in score.tasks.items()
    ]


def _scored(score: Score) -> list[dict[str, object]]:
    keys = {"item_id": score.item_id, "fingerprint": score.fingerprint}
    return [keys | values for values in score_values(score)]


def _failed(score: Score, tasks: Sequence[str]) -> list[dict[str, object]]:
    failure = score.failure
    assert failure is not None
    return [
        {
            "item_id": score.item_id,
            "task": task,
            "fingerprint": score.fingerprint,
            "failure_code": str(failure.code),
            "failure_message": failure.message,
            "attempts": failure.attempts,
            "bytes_read": failure.bytes_read,
        }
        for task in tasks or ("",)
    ]
