"""What a catalog knows of one item, and which nights made it so."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.buckets import bucket_numbers
from beholder.catalog.receipts import said_of_erased
from beholder.catalog.record import CatalogError, File, Record, lineage
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.catalog.state_files import read_file
from beholder.catalog.tables import SCORE_VALUES


@dataclass(frozen=True)
class Event:
    """What a run made of an item.

    Attributes:
        run: which; also one of a night that isn't kept any more.
        row: columns of :data:`~beholder.catalog.tables.ITEM_FIELDS`; None where it took the item
            away.
        seen_in: kept snapshots in which it is so, newest first.
        fingerprint: of the scorer that these have scores of.
    """

    run: str
    row: dict[str, Any] | None
    seen_in: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Explanation:
    """One item.

    Attributes:
        item_id: its id.
        snapshot: that readers see now.
        fingerprint: of its scorer.
        item: its row now; None where it isn't in the catalog any more.
        scores: of its bytes under that fingerprint, with the ``run`` that made them.
        history: newest first.
    """

    item_id: str
    snapshot: str
    fingerprint: str
    item: dict[str, Any] | None
    scores: list[dict[str, Any]]
    history: list[Event]


def explain_item(root: str, item_id: str) -> Explanation:
    """What the catalog knows of an item, over the kept snapshots that HEAD's comes from.

    That an item was erased is said only where ``BEHOLDER_ERASURE_KEY`` fits its receipt: to
    others it is unknown. Reads the files of the item's bucket, each once, and those of its bytes'
    bucket.

    Args:
        root: URI of the catalog's folder.
        item_id: of the item.

    Raises:
        CatalogError: no kept snapshot has it.
        StorageError: the storage can't be used.
    """
    now = open_snapshot(root)
    if now.erased.find(item_id):
        raise CatalogError(said_of_erased(now.layout, item_id) or _unknown(root, item_id))
    bucket = _bucket(item_id, now.record)
    read: dict[str, dict[str, Any] | None] = {}
    seen = [
        (record, _row(now, record.items.get(bucket, ()), item_id, read))
        for record in lineage(now.layout, now.record.id)
    ]
    while seen and seen[-1][1] is None:  # not there yet
        seen.pop()
    if not seen:
        raise CatalogError(_unknown(root, item_id))
    item = seen[0][1]
    scores = _scores(now, item["sha256"]) if item else []
    return Explanation(item_id, now.record.id, now.record.fingerprint, item, scores, _events(seen))


def _events(seen: Sequence[tuple[Record, dict[str, Any] | None]]) -> list[Event]:
    events = []
    for (row, fingerprint), group in groupby(seen, key=lambda one: (one[1], one[0].fingerprint)):
        records = [record for record, _ in group]
        run = row["run"] if row else records[-1].id
        ids = tuple(record.id for record in records)
        events.append(Event(run, row, ids, fingerprint))
    return events


def _bucket(key: str, record: Record) -> int:
    return int(bucket_numbers(pa.array([key]), record.buckets)[0].as_py())


def _unknown(root: str, item_id: str) -> str:
    return f"no kept snapshot of {root} has an item '{item_id}': check its id"


def _row(
    now: Snapshot, files: tuple[File, ...], item_id: str, read: dict[str, dict[str, Any] | None]
) -> dict[str, Any] | None:
    """An item's last row in a bucket's files, of which each is read once; None if it is gone."""
    for file in reversed(files):
        if file.path not in read:
            rows = read_file(now.layout, file)
            found = rows.filter(pc.equal(rows["item_id"], item_id))
            hidden = bool(now.erased.hidden(found).any())
            row = found.to_pylist()[0] if found.num_rows else None
            read[file.path] = row and row | {"removed": row["removed"] or hidden}
        row = read[file.path]
        if row is not None:
            return None if row["removed"] else {n: v for n, v in row.items() if n != "removed"}
    return None


def _scores(snapshot: Snapshot, sha256: str | None) -> list[dict[str, Any]]:
    if sha256 is None:
        return []
    rows = snapshot.scores(_bucket(sha256, snapshot.record))
    found = rows.filter(pc.equal(rows["sha256"], sha256))
    return list(found.select([*(field.name for field in SCORE_VALUES), "run"]).to_pylist())
