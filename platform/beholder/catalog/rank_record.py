"""What a ranked snapshot has beside its state: look-up files by item id, and ranks."""

from collections.abc import Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from beholder.catalog.layout import Layout, RunId
from beholder.catalog.record import DamagedError, Stored, read_if_there
from beholder.catalog.state_files import read_checked

RANKS = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("segment", pa.string()),  # "" for items without
        pa.field("task", pa.string()),
        pa.field("mean", pa.float64()),
        pa.field("std", pa.float64()),  # null for a point
        pa.field("value", pa.float64()),  # by what it is ordered, as the rule states it
        pa.field("rank", pa.int64()),  # 1 is the best of its segment and task
        pa.field("percentile", pa.float64()),  # part of the segment behind it, itself counted half
    ]
)
"""Ranks of one rule, by task, segment and rank. Equal values stand by ``item_id``."""


class Part(Stored):
    """A file of a ranked snapshot."""

    path: str
    """below the catalog's root"""
    rows: int
    sha256: str
    """of its bytes, hexadecimal"""


class RankedTask(Stored):
    """What a task's scores are."""

    scale: tuple[float, float]
    support: tuple[float, ...] | None
    """that the probabilities in the look-up files belong to; None where these hold none"""
    spread: bool
    """whether scores have a std: points are ordered by their mean alone"""
    rows: int
    """scored items"""


class RankRecord(Stored):
    """The ranks and look-up files of a snapshot: written once, when all of them are."""

    snapshot: str
    fingerprint: str
    """of the scorer"""
    made_at: datetime
    buckets: int
    """of the look-up files: the catalog's own"""
    items: int
    """with and without scores"""
    z: float
    """stds below the mean, of the lower bound"""
    tasks: dict[str, RankedTask]
    lookup: dict[int, Part]
    """by bucket of the item's id; buckets without items are left out"""
    ranks: dict[str, tuple[Part, ...]]
    """by rule, in the order of :data:`RANKS`"""

    def files(self) -> list[Part]:
        """All that it names."""
        return [*self.lookup.values(), *(part for some in self.ranks.values() for part in some)]


def find_ranks(layout: Layout, snapshot: RunId) -> RankRecord | None:
    """The record of a snapshot's ranks; None where it was not ranked.

    Raises:
        DamagedError: what is there is none.
        StorageError: the storage can't be used.
    """
    uri = layout.ranks(snapshot)
    data = read_if_there(uri)
    try:
        return None if data is None else RankRecord.model_validate_json(data)
    except ValidationError as error:
        raise DamagedError(
            f"{uri} is no record of ranks of this version ({error.errors()[0]['msg']}): remove it "
            "and run jobs/rank_catalog.py again"
        ) from None


def read_part(layout: Layout, part: Part) -> bytes:
    """A file's bytes.

    Raises:
        DamagedError: it is not the file that was written.
        StorageError: it can't be read.
    """
    remedy = "remove the record of these ranks and run jobs/rank_catalog.py again"
    return read_checked(layout.absolute(part.path), part.sha256, remedy)


def read_ranks(layout: Layout, record: RankRecord, rule: str) -> Iterator[pa.Table]:
    """The ranks by a rule, in tables of bounded size, columns and order of :data:`RANKS`.

    Raises:
        DamagedError: a file is not the one that was written.
        StorageError: one can't be read.
    """
    for part in record.ranks[rule]:
        yield pq.read_table(pa.BufferReader(read_part(layout, part)), schema=RANKS)
