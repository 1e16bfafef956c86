"""Erasure by item or owner: tombstones at once, removal from every object, a receipt.

Tombstones come first: from then on no reader of any snapshot sees what they name. Removal waits
for nights that are at work and nights wait for it, by a lease; where it has to wait, it is the
next call that removes, whatever that one is asked for. Each step may be done again.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from beholder.catalog.buckets import bucket_numbers, split
from beholder.catalog.head import read_head, refuse_lost_head
from beholder.catalog.layout import Layout
from beholder.catalog.lease import Lease, LeaseTakenError
from beholder.catalog.locations import Location
from beholder.catalog.patience import patiently
from beholder.catalog.receipts import Receipt, erasure_key, read_receipt
from beholder.catalog.record import CatalogError
from beholder.catalog.removal import Catalog, Removed, at_work, find_catalogs, owned, remove
from beholder.catalog.snapshot import open_snapshot
from beholder.catalog.tombstones import Tombstones, bury, mark, read_tombstones
from beholder.config import JobConfig
from beholder.errors import UserError
from beholder.media.conditional import WriteConflictError, create
from beholder.media.storage import StorageError, is_s3, open_filesystem

LEASE_S = 120.0


class EraseConfig(JobConfig):
    """What to erase; nothing: what still waits to be removed."""

    catalog: Location = Field(description="URI of the catalog's folder; its shadows are covered")
    items: tuple[str, ...] = Field((), description="item ids")
    owners: tuple[str, ...] = Field(
        (), description="owners, with all items that are theirs and no one else's"
    )
    file: str | None = Field(None, description="path of a text file with an item id a line")
    lift: str | None = Field(
        None,
        description="id of an erasure that shall not hold any more, as in its receipt's name: what "
        "it named may be scored again; what was removed stays removed",
    )

    @model_validator(mode="after")
    def _one_thing(self) -> "EraseConfig":
        if self.lift and (self.items or self.owners or self.file):
            raise ValueError(f"lift is '{self.lift}': lift it alone, and erase in another call")
        if "" in (*self.items, *self.owners):
            raise ValueError("items and owners hold an empty name: name what shall be erased")
        return self

    def named(self) -> list[tuple[str, str]]:
        """All that is to be erased, as :func:`beholder.catalog.tombstones.bury` takes it.

        Raises:
            UserError: the file can't be read, or holds no id.
        """
        items = list(self.items)
        if self.file is not None:
            try:
                lines = Path(self.file).read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(
                    f"file is '{self.file}', which can't be read ({error}): name a UTF-8 text file "
                    "with an item id a line"
                ) from None
            if not any(lines):
                raise UserError(f"file is '{self.file}', which holds no item id: write one a line")
            items += [line for line in lines if line]
        return [("item", one) for one in items] + [("owner", one) for one in self.owners]


@dataclass(frozen=True)
class Outcome:
    """How far it came.

    Attributes:
        erasure: id of the one that was made; None where all that was named was erased before.
        receipts: URIs of those written, with what they say.
        waits_for: why nothing was removed yet; None where all is gone.
        unknown: which of the named items, from 1 on, the snapshot that readers saw did not have:
            erased before, of other snapshots only, or misspelt. Their tombstones hold as others do.
    """

    erasure: str | None
    receipts: dict[str, Receipt]
    waits_for: str | None
    unknown: tuple[int, ...] = ()


def erase(config: EraseConfig) -> Outcome:
    """Sets tombstones, then removes all that has any.

    Raises:
        UserError: there is no key, or the config's file is not usable.
        CatalogError: there is no published snapshot; or one was published meanwhile.
        StorageError: the storage can't be used; what was done stands, a new call goes on.
    """
    key, named = erasure_key(), config.named()
    layout = _layout(config.catalog)
    unknown = _unknown(layout, [name for what, name in named if what == "item"])
    made = bury(layout, named, key) if named else None
    return replace(_finish(layout, made, key), unknown=unknown)


def _unknown(layout: Layout, items: list[str]) -> tuple[int, ...]:
    """Which items, from 1 on, readers don't see by now; none where nobody can tell."""
    unknown: list[int] = []
    try:
        snapshot = open_snapshot(layout.root)
        numbers = pa.array(range(1, len(items) + 1))
        rows = pa.table({"item_id": pa.array(items, pa.string()), "number": numbers})
        for bucket, here in split(rows, bucket_numbers(rows["item_id"], snapshot.record.buckets)):
            there = pc.is_in(here["item_id"], snapshot.items(bucket)["item_id"].combine_chunks())
            unknown += here.filter(pc.invert(there))["number"].to_pylist()
    except (CatalogError, StorageError):  # which must not stand in an erasure's way
        return ()
    return tuple(sorted(unknown))


def _finish(layout: Layout, made: str | None, key: bytes) -> Outcome:
    """Removes what has tombstones, unless somebody is at work."""
    if not _pending(layout):
        return Outcome(made, {}, None)
    try:
        with Lease(layout.erasing, LEASE_S) as lease:
            catalogs = find_catalogs(layout.root)
            busy = at_work(catalogs)
            if busy:
                return Outcome(made, {}, busy)
            _bury_owned(layout, catalogs, key)
            erased = read_tombstones(layout)
            done = remove(catalogs, erased, lease)
            return Outcome(made, _receipts(layout, catalogs, erased, done), None)
    except LeaseTakenError:
        return Outcome(made, {}, f"another erasure holds {layout.erasing}")


def lift(config: EraseConfig) -> None:
    """Ends an erasure: readers and plans don't apply it any more.

    Raises:
        CatalogError: there is no such erasure.
        StorageError: the storage can't be used.
    """
    assert config.lift is not None
    mark(_layout(config.catalog), {config.lift: {"lifted_at": datetime.now(UTC)}})


def _layout(catalog: str) -> Layout:
    path = open_filesystem(catalog.rstrip("/"))[1]
    layout = Layout(f"s3://{path}" if is_s3(catalog) else path)
    if layout.home != layout:
        raise CatalogError(f"{catalog} is a shadow: erase from {layout.home.root}, which covers it")
    if read_head(layout) is None:
        refuse_lost_head(layout)
        raise CatalogError(f"{catalog} has no published snapshot: check the URI")
    return layout


def _pending(layout: Layout) -> set[str]:
    erasures = read_tombstones(layout).erasures
    return {one.id for one in erasures if one.removed_at is None}


def _bury_owned(layout: Layout, catalogs: list[Catalog], key: bytes) -> None:
    """Gives the items of erased owners tombstones of their own: receipts and plans name them."""
    erased = read_tombstones(layout)
    waiting = [one for one in erased.erasures if one.removed_at is None]
    ids = pa.array([one.id for one in waiting], pa.string())
    rows = erased.rows.filter(pc.is_in(erased.rows["erasure"], ids))
    found = defaultdict(list)
    for erasure, item in owned(catalogs, Tombstones(erased.salt, tuple(waiting), rows)):
        found[erasure].append(("item", item))
    for erasure, items in found.items():
        bury(layout, items, key, erasure)


def _receipts(
    layout: Layout, catalogs: list[Catalog], erased: Tombstones, done: Removed
) -> dict[str, Receipt]:
    made = {}
    root = f"{layout.root}/"
    for one in erased.erasures:
        if one.removed_at is not None:
            continue
        rows = erased.rows.filter(pc.equal(erased.rows["erasure"], one.id)).to_pylist()
        keyed = {
            what: tuple(row["keyed"] for row in rows if row["what"] == what)
            for what in ("item", "owner")
        }
        receipt = Receipt(
            erasure=one.id,
            at=one.at,
            removed_at=datetime.now(UTC),
            items=keyed["item"],
            owners=keyed["owner"],
            snapshots=tuple(
                f"{catalog.layout.root}/{record.id}".removeprefix(root)
                for catalog in catalogs
                for record, _ in catalog.records.values()
            ),
            item_rows=done.item_rows,
            score_rows=done.score_rows,
            replaced=tuple(uri.removeprefix(root) for uri in done.replaced),
            removed=tuple(uri.removeprefix(root) for uri in done.removed),
        )
        uri = layout.receipt(one.id)
        try:
            patiently(partial(create, uri, receipt.encode()))
        except WriteConflictError:  # of a pass that died before it could say so
            receipt = read_receipt(layout, one.id) or receipt
        made[uri] = receipt
    mark(layout, {one.erasure: {"removed_at": one.removed_at} for one in made.values()})
    return made
