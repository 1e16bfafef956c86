"""Collects what no kept snapshot names: files of older nights, and of tries that died.

Only what is older than the grace time goes, by the store's clock against this machine's, so that
the files of a publication that is on its way stay until its record names them. A rollback to a
snapshot that is being collected at that moment comes too late: don't do both at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from beholder.catalog.head import read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.record import KEYS, CatalogError, Record, find_record
from beholder.config import JobConfig
from beholder.media.storage import explained, open_filesystem

REPORTS = ("report.html", "report.json", "metrics.prom")
"""Stay of a run's folder when the rest goes."""


class GarbageConfig(JobConfig):
    """What to keep of a catalog."""

    catalog: str = Field(description="URI of the catalog's folder")
    keep: int = Field(14, ge=1, description="newest snapshots kept, beside HEAD and its parent")
    grace: float = Field(
        48.0, ge=1, description="hours that an object stays at least: longer than a night takes"
    )


@dataclass(frozen=True)
class Garbage:
    """What may go.

    Attributes:
        kept: ids of the snapshots that stay.
        records: the other snapshots' records, paths below the catalog's root.
        objects: all else that goes, the same.
        bytes: size of all together.
    """

    kept: tuple[str, ...]
    records: tuple[str, ...]
    objects: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class _Object:
    path: str  # below the catalog's root
    size: int
    age_h: float


def find_garbage(config: GarbageConfig) -> Garbage:
    """What may go; nothing is removed.

    Never HEAD, tombstones, what a kept snapshot names, the last reports, nor runs and leases of
    dates that somebody works on or that are not older than all kept snapshots.

    Raises:
        CatalogError: there is no published snapshot, or a kept one names a file that isn't there.
        StorageError: the storage can't be used.
    """
    layout = Layout(config.catalog.rstrip("/"))
    head = read_head(layout)
    if head is None:
        raise CatalogError(f"{layout.root} has no published snapshot: check the URI")
    records = _listed(layout, "snapshots")
    kept = _kept(layout, records, head.snapshot, config.keep)
    # Only now: what is published from here on is younger than the grace time.
    state = [*_listed(layout, "items"), *_listed(layout, "scores")]
    leases, runs = _listed(layout, "leases"), _listed(layout, "runs")

    named = _named(kept)
    lost = named - {found.path for found in state}
    if lost:
        raise CatalogError(
            f"{layout.absolute(min(lost))} is not there, though a kept snapshot names it: restore "
            "it first; nothing was removed"
        )
    ids = {record.id for record in kept}
    oldest = min(RunId.parse(name).date for name in ids)
    held = {_date(lease) for lease in leases if lease.age_h < config.grace}
    past = [found for found in [*leases, *runs] if _date(found) < oldest]
    stays = [found for found in past if _date(found) in held or found.path.endswith(REPORTS)]

    def old(objects: Iterable[_Object]) -> list[_Object]:
        return [found for found in objects if found.age_h >= config.grace]

    gone = old(found for found in records if _snapshot(found) not in ids)
    rest = old(found for found in state if found.path not in named)
    rest += old(found for found in past if found not in stays)
    return Garbage(
        kept=tuple(sorted(ids)),
        records=tuple(found.path for found in gone),
        objects=tuple(found.path for found in rest),
        bytes=sum(found.size for found in [*gone, *rest]),
    )


def remove_garbage(config: GarbageConfig, garbage: Garbage) -> None:
    """Removes it: records first, so that none names a file that is gone.

    Raises:
        CatalogError: HEAD was moved meanwhile to a snapshot that would go.
        StorageError: the storage can't be used; what is left goes the next time.
    """
    layout = Layout(config.catalog.rstrip("/"))
    head = read_head(layout)
    if head is None or head.snapshot not in garbage.kept:
        raise CatalogError(f"{layout.head} was moved meanwhile: run this job again")
    for paths in (garbage.records, garbage.objects):
        if paths:
            fs, root = open_filesystem(layout.root)
            with explained(layout.root):
                fs.rm([f"{root}/{path}" for path in paths])


def _kept(layout: Layout, found: Iterable[_Object], head: str, keep: int) -> list[Record]:
    """The newest snapshots, HEAD's and its parent."""
    names = [name for name in map(_snapshot, found) if name is not None]
    read = [find_record(layout, RunId.parse(name)) for name in names]
    records = {record.id: record for record in read if record is not None}
    newest = sorted(records.values(), key=lambda r: r.created_at, reverse=True)[:keep]
    wanted = {record.id for record in newest} | {head, records[head].parent}
    return [record for record in records.values() if record.id in wanted]


def _named(records: Iterable[Record]) -> set[str]:
    return {
        file.path
        for record in records
        for table in KEYS
        for files in record.files(table).values()
        for file in files
    }


def _snapshot(record: _Object) -> str | None:
    """Whose record it is; None for an unfinished write on a disk."""
    name, _, ending = record.path.rpartition("/")[2].rpartition(".")
    return name if ending == "json" else None


def _date(found: _Object) -> str:
    """The logical date of a lease, or of what is in a run's folder."""
    return found.path.split("/")[1][:10]


def _listed(layout: Layout, folder: str) -> list[_Object]:
    fs, root = open_filesystem(layout.root)
    now = datetime.now(UTC).timestamp()
    with explained(layout.root):
        found: dict[str, Any] = fs.find(f"{root}/{folder}", detail=True)
    changed = {
        name: d["mtime"] if "mtime" in d else d["LastModified"].timestamp()
        for name, d in found.items()
    }
    return [
        _Object(name.removeprefix(f"{root}/"), found[name]["size"], (now - at) / 3600)
        for name, at in changed.items()
    ]
