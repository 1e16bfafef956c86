"""From what the stages said of a chunk's items to the rows of its data file."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.rows import score_values
from beholder.catalog.stages import PREFIX, Score
from beholder.catalog.tables import CHUNK
from beholder.errors import UserError
from beholder.items import Score as ItemScore

TRAVELLING = pa.schema(
    [
        *CHUNK,
        pa.field("chunk", pa.int32()),
        pa.field("position", pa.int32()),  # in the chunk
        pa.field("settled", pa.string()),
        pa.field("engine_seconds", pa.float64()),  # the row's share of its batch's
    ]
)
"""Rows on their way to the driver, which puts chunks together again."""

_CARRIED = ("item_id", "uri", "kind", "owner", "segment", "created_at", "chunk", "position")


class ScoreChunk(Score):
    """Planned rows with pixels, or settled without, to rows of :data:`TRAVELLING`.

    Args:
        run: that makes the rows.
        fingerprint: that the plan was made for.
        scorer: as :class:`~beholder.catalog.stages.Score` takes them, as the others.

    Raises:
        UserError: the scorer's folder holds another scorer by now.
    """

    def __init__(
        self,
        run: str,
        fingerprint: str,
        scorer: str,
        tasks: tuple[str, ...] | None,
        device: str,
        threads: int,
    ) -> None:
        super().__init__(scorer, tasks, device, threads)
        self._run = run
        if self._scorer.fingerprint != fingerprint:
            raise UserError(
                f"scorer {scorer} has fingerprint {self._scorer.fingerprint}, but the plan was "
                f"made for {fingerprint}: put that scorer back, or plan a new run"
            )

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows, each with its scores, its failure, or neither where it was settled."""
        began = time.perf_counter()
        scores = self._look(rows.filter(pc.is_null(rows[f"{PREFIX}settled"])))
        spent = time.perf_counter() - began
        return chunk_rows(rows, scores, self._run, spent)


def chunk_rows(
    rows: pa.Table, scores: Sequence[ItemScore], run: str, seconds: float = 0.0
) -> pa.Table:
    """Rows of :data:`TRAVELLING`.

    Args:
        rows: planned rows with what :class:`~beholder.catalog.stages.Decode` added.
        scores: of those that are not settled, in order.
        run: that makes the rows.
        seconds: that scoring took.
    """
    looked = iter(scores)
    made = []
    for row in rows.drop_columns([f"{PREFIX}pixels"]).to_pylist():
        settled = row[f"{PREFIX}settled"]
        score = None if settled else next(looked)
        made.append(_row(row, score) | {"run": run, "engine_seconds": seconds / rows.num_rows})
    return pa.Table.from_pylist(made, schema=TRAVELLING)


def _row(row: Mapping[str, Any], score: ItemScore | None) -> dict[str, Any]:
    staged = {name.removeprefix(PREFIX): row[name] for name in row if name.startswith(PREFIX)}
    found = {name: row[name] for name in _CARRIED} | {
        "etag": row["etag"] or staged["etag"],
        "size": staged["bytes_read"] if row["size"] is None and staged["sha256"] else row["size"],
        "sha256": staged["sha256"],
        "state": "scored",
        "attempts": (row["attempts"] or 0) + staged["attempts"],
        "bytes_read": staged["bytes_read"],
        "settled": staged["settled"],
    }
    if score is None:
        return found
    if score.failure is None:
        return found | {"scores": score_values(score)}
    failure = {"failure_code": str(score.failure.code), "failure_message": score.failure.message}
    if staged["sha256"] is None and row["known_sha256"] and row["change"] != "new":
        return found | failure | {"state": "stale", "sha256": row["known_sha256"]}
    return found | failure | {"state": "failed"}


class Gathering:
    """Puts chunks together from rows that come in any order, and some of them twice.

    Args:
        sizes: items by chunk.
    """

    def __init__(self, sizes: Mapping[int, int]) -> None:
        self._left = dict(sizes)
        self._parts: dict[int, dict[int, dict[str, Any]]] = {}

    def add(self, rows: pa.Table) -> Iterator[tuple[int, pa.Table, float]]:
        """Takes rows of :data:`TRAVELLING`.

        Yields:
            Each chunk that is whole now: its number, its rows in the plan's order and of schema
            :data:`~beholder.catalog.tables.CHUNK`, and the seconds that scoring them took.
        """
        for row in rows.to_pylist():
            # Ray does a dead actor's work again: what has come is not taken a second time.
            if row["chunk"] in self._left:
                self._parts.setdefault(row["chunk"], {}).setdefault(row["position"], row)
        for chunk in set(rows["chunk"].to_pylist()) & self._left.keys():
            if len(self._parts[chunk]) == self._left[chunk]:
                del self._left[chunk]
                part = self._parts.pop(chunk)
                whole = [part[position] for position in sorted(part)]
                _settle_twins(whole)
                seconds = sum(row["engine_seconds"] for row in whole)
                yield chunk, pa.Table.from_pylist(whole, schema=CHUNK), seconds


def _settle_twins(rows: Sequence[dict[str, Any]]) -> None:
    """Gives the twins of a row that could not be scored its failure: they were not looked at."""
    failed = {
        (row["sha256"], row["kind"]): row
        for row in rows
        if row["settled"] is None and row["failure_code"] is not None
    }
    for row in rows:
        first = failed.get((row["sha256"], row["kind"]))
        if row["settled"] == "twin" and first is not None:
            taken = ("state", "failure_code", "failure_message")
            row.update({name: first[name] for name in taken})
