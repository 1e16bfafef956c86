"""A snapshot's record: which files it is, by bucket, and how it was made.

A bucket of ``items`` or ``scores`` is a base file and some deltas, each over what is before it: of
a key's rows the last one counts, and one that says ``removed`` takes the key away. Nothing that a
record names is ever written again, so a snapshot reads the same until it is collected as garbage.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from beholder.catalog.layout import Layout, RunId
from beholder.catalog.patience import patiently, trouble
from beholder.errors import UserError
from beholder.media.storage import StorageError, Trouble, read_bytes

KEYS = {"items": ("item_id",), "scores": ("sha256", "fingerprint", "task")}
"""What makes a row of the state unique, by table."""


class CatalogError(UserError):
    """A catalog that is not as its records say, or that has not what was asked of it."""


class DamagedError(CatalogError):
    """What stands under a name is not what was written there: nothing is published from it."""

    exit_code = 3


class Stored(BaseModel):
    """The base of what a catalog keeps as JSON: immutable, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    def encode(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json().encode()


class File(Stored):
    """A Parquet file of one bucket."""

    path: str
    """below the catalog's root"""
    rows: int
    sha256: str
    """of its bytes, hexadecimal"""
    deltas: bool
    """whether it holds changes to the files before it"""


class Record(Stored):
    """What a snapshot is: written once."""

    id: str
    """the run's, as ``2026-11-20.0``"""
    parent: str | None
    """the snapshot that it was made from"""
    created_at: datetime
    buckets: int
    """of either table; the same in all of a catalog's snapshots"""
    scorer: str
    """URI"""
    fingerprint: str
    """the scorer's; scores of others are not this snapshot's"""
    tasks: dict[str, tuple[str, ...]]
    """by kind of item"""
    manifest: dict[str, Any]
    """``uri`` and ``version``"""
    config: dict[str, Any]
    """of the run, resolved"""
    items: dict[int, tuple[File, ...]] = {}
    """by bucket of the item's id, a base first; buckets without rows are left out"""
    scores: dict[int, tuple[File, ...]] = {}
    """by bucket of the bytes' sha256"""
    counts: dict[str, int] = {}
    """items of the night by class and by what became of them"""
    left_out: dict[str, int] = {}
    """items that a limit left out, by the limit"""
    seconds: dict[str, float] = {}
    """wall time by stage, of the driver that audited it"""
    audit: dict[str, Any] = {}
    drift: dict[str, Any] = {}

    def files(self, table: str) -> dict[int, tuple[File, ...]]:
        """The files of ``items`` or ``scores`` by bucket."""
        return {"items": self.items, "scores": self.scores}[table]


def find_record(layout: Layout, snapshot: RunId) -> Record | None:
    """A snapshot's record, published or not; None where there is none.

    Raises:
        DamagedError: what is there is none.
        StorageError: the storage can't be used.
    """
    uri = layout.snapshot(snapshot)
    data = read_if_there(uri)
    try:
        return None if data is None else Record.model_validate_json(data)
    except ValidationError as error:
        raise DamagedError(
            f"{uri} is no snapshot of this version ({error.errors()[0]['msg']}): "
            "read it with the version that wrote it"
        ) from None


def lineage(layout: Layout, start: str | None) -> Iterator[Record]:
    """A snapshot's record, its parent's, and so on, as far as they have not been collected."""
    while start is not None:
        record = find_record(layout, RunId.parse(start))
        if record is None:
            return
        yield record
        start = record.parent


def read_if_there(uri: str) -> bytes | None:
    """An object's content; None where there is no object.

    Raises:
        StorageError: the storage can't be used.
    """
    try:
        return patiently(lambda: read_bytes(uri))
    except StorageError as error:
        if trouble(error) is not Trouble.OBJECT_MISSING:
            raise
        return None
