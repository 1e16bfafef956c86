"""The two stages of every pass over media, as Ray Data callables: decode, then look.

``Decode`` fetches and decodes on CPUs in killable processes; only uint8 leaves it. ``Score`` runs
the model. Training's feature cache uses the same ``Decode``.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from beholder.catalog.rows import score_rows
from beholder.items import Failure, FailureCode, Item
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.pool import DecoderPool
from beholder.media.stage import Stage, Staged
from beholder.scoring import check_tasks, load_scorer

_STAGED = pa.schema(
    [
        ("staged_kind", pa.string()),
        ("frames", pa.list_(pa.int32())),  # of each clip; empty where it failed
        ("seconds", pa.list_(pa.float64())),
        ("coverage", pa.float64()),
        ("bytes_read", pa.int64()),
        ("sha256", pa.string()),
        ("pixels", pa.large_binary()),  # uint8 (sum of frames, S, S, 3)
        ("failure_code", pa.string()),
        ("failure_message", pa.string()),
        ("attempts", pa.int32()),
    ]
)


_PREFIX = "staged."
"""Before our columns, so that a manifest may have a ``sha256`` or ``seconds`` of its own."""


class Decode:
    """Adds pixels, or the reason why there are none, to rows with ``item_id, uri, kind``.

    Args:
        spec: what the backbone wants to see.
        limits: on each item.
        processes: decoder processes of this actor.
    """

    def __init__(self, spec: PixelSpec, limits: Limits, processes: int = 1) -> None:
        self._pool = DecoderPool(processes)
        self._stage = Stage(spec, limits, self._pool)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows with their pixels, or their failures."""
        etags = rows["etag"].to_pylist() if "etag" in rows.column_names else [None] * len(rows)
        columns = (rows[name].to_pylist() for name in ("item_id", "uri", "kind"))
        staged = [
            _row(self._stage.stage(Item(item_id, uri, kind, etag)))
            for item_id, uri, kind, etag in zip(*columns, etags, strict=True)
        ]
        made = pa.Table.from_pylist(staged, schema=_STAGED)
        for name in _STAGED.names:
            rows = rows.append_column(_PREFIX + name, made[name])
        return rows


def _row(item: Staged | Failure) -> dict[str, Any]:
    if isinstance(item, Failure):
        return {
            "frames": [],
            "failure_code": str(item.code),
            "failure_message": item.message,
            "attempts": item.attempts,
            "bytes_read": item.bytes_read,
        }
    return {
        "staged_kind": item.kind,
        "frames": [len(clip) for clip in item.clips],
        "seconds": list(item.seconds),
        "coverage": item.coverage,
        "bytes_read": item.bytes_read,
        "sha256": item.sha256,
        "pixels": b"".join(clip.tobytes() for clip in item.clips),
        "attempts": 1,
    }


def staged_rows(rows: pa.Table, size: int) -> list[tuple[str, Staged | Failure]]:
    """What :class:`Decode` put into its columns, as the scorer takes it."""
    found: list[tuple[str, Staged | Failure]] = []
    ours = {_PREFIX + name: name for name in _STAGED.names} | {"item_id": "item_id"}
    for batch in rows.select(list(ours)).rename_columns(list(ours.values())).to_batches():
        pixels = batch["pixels"]
        some = batch.drop_columns(["pixels"]).to_pylist()
        for at, row in enumerate(some):
            if row["failure_code"] is not None:
                code, message = FailureCode(row["failure_code"]), row["failure_message"]
                failure = Failure(code, message, row["attempts"], row["bytes_read"])
                found.append((row["item_id"], failure))
                continue
            flat = np.frombuffer(pixels[at].as_buffer(), dtype=np.uint8)
            frames = flat.reshape(-1, size, size, 3)
            clips = tuple(np.split(frames, np.cumsum(row["frames"])[:-1]))
            staged = Staged(
                item_id=row["item_id"],
                kind=row["staged_kind"],
                clips=clips,
                seconds=tuple(row["seconds"]),
                coverage=row["coverage"],
                sha256=row["sha256"],
                bytes_read=row["bytes_read"],
            )
            found.append((row["item_id"], staged))
    return found


class Score:
    """Rows with pixels to score rows, one an item and task.

    Args:
        scorer: URI of the scorer's folder.
        tasks: which; None for all that fit an item's kind.
        device: ``cpu`` or ``cuda``.
        threads: of the model on a CPU.
    """

    def __init__(
        self, scorer: str, tasks: tuple[str, ...] | None, device: str, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        self._scorer = load_scorer(scorer, device)
        self._tasks = tasks

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Score rows."""
        size = self._scorer.backbone.spec.pixels.size
        scores = self._scorer.score_staged(staged_rows(rows, size), self._tasks)
        carried = rows.select([n for n in rows.column_names if not n.startswith(_PREFIX)])
        asked = check_tasks(self._scorer.tasks, self._tasks)
        by_kind = {
            kind: [t for t in asked if kind in self._scorer.tasks[t].kinds]
            for kind in ("image", "video")
        }
        return score_rows(carried, scores, by_kind)
