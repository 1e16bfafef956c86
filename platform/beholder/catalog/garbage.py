"""Collects what no kept snapshot names: files of older nights, and of tries that died.

Shadows are collected with their catalog, whose snapshots may name their files since a promotion.

Only what is older than the grace time goes, by the store's clock against this machine's, so that
the files of a publication that is on its way stay until its record names them. A rollback to a
snapshot that is being collected at that moment comes too late: don't do both at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from beholder.catalog.head import Head, lost_record, read_head, refuse_lost_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.locations import Location
from beholder.catalog.patience import delete, patiently
from beholder.catalog.rank_record import find_ranks
from beholder.catalog.record import KEYS, CatalogError, Record, find_record
from beholder.catalog.tombstones import read_index
from beholder.config import JobConfig
from beholder.media.storage import explained, open_filesystem

REPORTS = ("report.html", "report.json", "metrics.prom")
"""Stay of a run's folder when the rest goes."""


class GarbageConfig(JobConfig):
    """What to keep of a catalog."""

    catalog: Location = Field(description="URI of the catalog's folder")
    keep: int = Field(14, ge=1, description="newest snapshots kept, beside HEAD and its parent")
    grace: float = Field(
        48.0, ge=1, description="hours that an object stays at least: longer than a night takes"
    )
    abandon: tuple[str, ...] = Field(
        (),
        description="fingerprints of shadows that are given up, or promoted and filled no more: "
        "only what the catalog's kept snapshots name stays of them",
    )


@dataclass(frozen=True)
class Garbage:
    """What may go.

    Attributes:
        kept: ids of the snapshots that stay.
        records: the other snapshots' records and those of their ranks, paths below the root.
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

    Never HEAD, what a kept snapshot or the index of tombstones names, receipts, the last reports,
    nor runs and leases of dates that somebody works on or that are not older than all kept
    snapshots.

    Raises:
        CatalogError: there is no published snapshot, or a kept one names a file that isn't there.
        StorageError: the storage can't be used.
    """
    layout = Layout(config.catalog.rstrip("/"))
    _check_root(layout)
    if read_head(layout) is None:
        refuse_lost_head(layout)
        raise CatalogError(f"{layout.root} has no published snapshot: check the URI")
    main = _look(layout, layout, config)
    objects = _listed(layout, "shadows")
    shadows = {found.path.split("/")[1] for found in objects}
    _check_abandoned(config, objects, shadows)
    parts = [main]
    parts += [_look(layout, layout.shadow(s), config) for s in sorted(shadows - {*config.abandon})]
    given_up = [found for found in objects if found.path.split("/")[1] in config.abandon]

    named = _named(parts)
    state = [found for part in parts for found in part.state]
    lost = named - {found.path for found in [*state, *given_up]}
    if lost:
        raise CatalogError(
            f"{layout.absolute(min(lost))} is not there, though a kept snapshot names it: restore "
            "it first; nothing was removed"
        )

    def old(objects: Iterable[_Object]) -> list[_Object]:
        return [found for found in objects if found.age_h >= config.grace]

    gone = old(found for part in parts for found in part.records)
    gone += [found for found in given_up if found.path.endswith("/HEAD")]
    rest = old(found for found in state if found.path not in named)
    rest += old(found for part in parts for found in [*part.past, *part.ranks])
    rest += [found for found in given_up if found.path not in named and found not in gone]
    buried, _ = read_index(layout)
    if buried is not None and buried.file is not None:
        graves = [f for f in _listed(layout, "tombstones") if f.path.endswith(".parquet")]
        rest += old(found for found in graves if found.path != buried.file.path)
    return Garbage(
        kept=tuple(sorted(record.id for record in main.kept)),
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
        delete([layout.absolute(path) for path in paths])


def _check_root(layout: Layout) -> None:
    above, _, folder = layout.root.rpartition("/")[0].rpartition("/")
    if folder == "shadows":
        raise CatalogError(
            f"{layout.root} is a shadow: collect the garbage of {above}, whose snapshots may name "
            "its files"
        )


def _check_abandoned(config: GarbageConfig, objects: list[_Object], shadows: set[str]) -> None:
    for fingerprint in config.abandon:
        if fingerprint not in shadows:
            there = ", ".join(sorted(shadows)) or "none"
            raise CatalogError(
                f"{config.catalog} has no shadow {fingerprint} to abandon, there is {there}"
            )
        mine = (found for found in objects if found.path.split("/")[1] == fingerprint)
        age = min(found.age_h for found in mine)
        if age < config.grace:
            raise CatalogError(
                f"shadow {fingerprint} was written to {age:.1f} hours ago: take it out of the "
                f"night's config, and abandon it {config.grace:g} hours later"
            )


@dataclass(frozen=True)
class _Part:
    """A catalog, or a shadow in it; all paths are below the catalog's root."""

    prefix: str
    kept: list[Record]
    records: list[_Object]  # of the other snapshots and their ranks
    state: list[_Object]
    past: list[_Object]  # leases and runs before all that is kept, and not worked on
    ranks: list[_Object]  # files that no kept snapshot's record of ranks names


def _look(main: Layout, layout: Layout, config: GarbageConfig) -> _Part:
    prefix = "" if layout == main else f"{main.relative(layout.root)}/"
    head = read_head(layout)
    records = _listed(layout, "snapshots")
    kept = _kept(layout, records, head, config.keep) if head else []
    # Only now: what is published from here on is younger than the grace time.
    state = [*_listed(layout, "items"), *_listed(layout, "scores")]
    leases, runs = _listed(layout, "leases"), _listed(layout, "runs")
    ranks = _listed(layout, "ranks")

    ids = {record.id for record in kept}
    oldest = min((RunId.parse(name).date for name in ids), default="")
    held = {_date(lease) for lease in leases if lease.age_h < config.grace}
    past = [found for found in [*leases, *runs] if _date(found) < oldest]
    ranked = [find_ranks(layout, RunId.parse(name)) for name in sorted(ids)]
    named = {file.path for record in ranked if record is not None for file in record.files()}
    rank_records = [found for found in ranks if found.path.count("/") == 1]

    def moved(objects: Iterable[_Object]) -> list[_Object]:
        return [replace(found, path=f"{prefix}{found.path}") for found in objects]

    return _Part(
        prefix,
        kept,
        moved(found for found in [*records, *rank_records] if _snapshot(found) not in ids),
        moved(state),
        moved(f for f in past if not (_date(f) in held or f.path.endswith(REPORTS))),
        moved(found for found in ranks if found.path.count("/") > 1 and found.path not in named),
    )


def _kept(layout: Layout, found: Iterable[_Object], head: Head, keep: int) -> list[Record]:
    """The newest snapshots, HEAD's and its parent."""
    names = [name for name in map(_snapshot, found) if name is not None]
    read = [find_record(layout, RunId.parse(name)) for name in names]
    records = {record.id: record for record in read if record is not None}
    if head.snapshot not in records:
        raise lost_record(layout, head)
    newest = sorted(records.values(), key=lambda r: r.created_at, reverse=True)[:keep]
    wanted = {record.id for record in newest} | {head.snapshot, records[head.snapshot].parent}
    return [record for record in records.values() if record.id in wanted]


def _named(parts: Iterable[_Part]) -> set[str]:
    return {
        f"{part.prefix}{file.path}"
        for part in parts
        for record in part.kept
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

    def listed() -> dict[str, Any]:
        with explained(layout.root):
            found: dict[str, Any] = fs.find(f"{root}/{folder}", detail=True)
            return found

    found = patiently(listed)
    changed = {
        name: d["mtime"] if "mtime" in d else d["LastModified"].timestamp()
        for name, d in found.items()
        if d["type"] == "file"  # some stores list a folder that was emptied
    }
    return [
        _Object(name.removeprefix(f"{root}/"), found[name]["size"], (now - at) / 3600)
        for name, at in changed.items()
    ]
