"""Takes what was erased out of a catalog's objects, while no night is at work on them.

State files are immutable and records name them by their hashes, so a file with an erased row gets
a successor without it, then each record that names it is replaced by one that names the successor,
by If-Match, and only then the old file goes. A reader meets the record before or after, each whole;
a pass that dies is done again from its start, which finds what is left.

A row of an erased item goes from every file. A row with an erased owner whose item is another's by
now becomes a removed one, so that no older row of that item shows in its place.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beholder.catalog.buckets import query
from beholder.catalog.garbage import REPORTS
from beholder.catalog.head import read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease, holder
from beholder.catalog.patience import delete, patiently
from beholder.catalog.plan import read_plan
from beholder.catalog.record import KEYS, CatalogError, File, Record
from beholder.catalog.report_page import without_items
from beholder.catalog.state_files import read_file, store_file
from beholder.catalog.tombstones import COLUMNS, Tombstones, hash_sql
from beholder.media.conditional import read_version, replace
from beholder.media.storage import list_files, read_bytes, write_bytes

READERS = 8
"""Files in work, and in memory, at a time."""
_KEPT = (*REPORTS, "warm-up.json")
"""Of a run's folder, what a run that never ended leaves, too."""


@dataclass(frozen=True)
class Catalog:
    """A catalog or a shadow, as it was listed.

    Attributes:
        layout: of it.
        records: by URI, each with the version that was read.
        runs: what is in its runs' folders, by the run's name.
    """

    layout: Layout
    records: Mapping[str, tuple[Record, str]]
    runs: Mapping[str, list[str]]

    def files(self, table: str) -> dict[int, dict[str, File]]:
        """All that its records name, by bucket and URI."""
        found: dict[int, dict[str, File]] = {}
        for record, _ in self.records.values():
            for bucket, files in record.files(table).items():
                named = {self.layout.absolute(file.path): file for file in files}
                found.setdefault(bucket, {}).update(named)
        return found

    def finished(self, run: str) -> bool:
        """Whether a run has made its snapshot."""
        return f"{self.layout.root}/snapshots/{run}.json" in self.records


@dataclass
class Removed:
    """What went.

    Attributes:
        item_rows: rows taken out of state files.
        score_rows: the same, of bytes that no other item has.
        replaced: URIs of objects that were written anew.
        removed: of those that went whole.
    """

    item_rows: int = 0
    score_rows: int = 0
    replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def find_catalogs(root: str) -> list[Catalog]:
    """A catalog and its shadows.

    Raises:
        StorageError: the storage can't be used.
    """
    folder = f"{root}/shadows/"
    shadows = {uri.removeprefix(folder).partition("/")[0] for uri in list_files(folder[:-1])}
    return [_listed(Layout(one)) for one in (root, *(f"{folder}{s}" for s in sorted(shadows)))]


def at_work(catalogs: Iterable[Catalog]) -> str | None:
    """Who has yet to end what was begun, for a person; None where nobody has.

    A run that was planned from the snapshot that HEAD names may go on any time, and will name the
    files that it found there.
    """
    for catalog in catalogs:
        layout = catalog.layout
        for uri in list_files(f"{layout.root}/leases"):
            if uri.endswith(".json") and uri != layout.erasing and (driver := holder(uri)):
                return f"driver {driver} holds {uri}"
        head = read_head(layout)
        seen = head.snapshot if head else None
        for run, objects in catalog.runs.items():
            if catalog.finished(run) or f"{layout.root}/runs/{run}/plan.json" not in objects:
                continue
            plan = read_plan(layout, RunId.parse(run))
            if plan is not None and plan.parent == seen:
                return (
                    f"run {run} of {layout.root} was begun and has not ended; run its date again, "
                    "or give it up by removing its plan.json"
                )
    return None


def owned(catalogs: Iterable[Catalog], erased: Tombstones) -> Iterator[tuple[str, str]]:
    """Items whose owner is erased and that never had another, with the erasure of the owner."""
    where = pc.equal(erased.rows["what"], "owner")
    owners = erased.rows.filter(where)
    if not owners.num_rows:
        return
    sql = f"""
        with r as (select *, {hash_sql(erased.salt, "owner", "owner")} as hash from rows)
        select any_value(t.erasure) as erasure, item_id from r left join t using (hash)
        group by item_id having count(t.hash) > 0
            and count(*) filter (t.hash is null and owner is not null and not removed) = 0"""
    for catalog in catalogs:
        for files in catalog.files("items").values():
            columns = ["item_id", "owner", "removed"]
            parts = [read_file(catalog.layout, file, columns) for file in files.values()]
            for row in query(sql, rows=pa.concat_tables(parts), t=owners).to_pylist():
                yield row["erasure"], row["item_id"]


def remove(catalogs: list[Catalog], erased: Tombstones, lease: Lease) -> Removed:
    """Takes what is erased out of all objects of the catalogs.

    Reads two columns of all files of items, one at a time and ``READERS`` side by side; writes
    only those that hold something erased.

    Raises:
        CatalogError: a snapshot came meanwhile; do it again.
        LeaseLostError: somebody else does the same.
        StorageError: the storage can't be used.
    """
    done = Removed()
    successors = _without_items(catalogs, erased, done)
    successors |= _without_scores(catalogs, _lost_bytes(catalogs, erased, successors), done)
    named = _rename(catalogs, successors, erased, lease, done)
    for catalog in catalogs:
        for run, objects in catalog.runs.items():
            _clean_run(catalog, run, objects, erased, lease, done)
    for catalog in catalogs:
        now = _listed(catalog.layout)
        if now.records.keys() != catalog.records.keys():
            raise CatalogError(f"{catalog.layout.root} has another snapshot by now: run this again")
        state = [uri for table in KEYS for uri in list_files(f"{catalog.layout.root}/{table}")]
        _delete([uri for uri in state if uri not in named], lease, done)
    return done


# --- the state --------------------------------------------------------------------------------


def _listed(layout: Layout) -> Catalog:
    records = {}
    for uri in list_files(f"{layout.root}/snapshots"):
        if uri.endswith(".json"):
            data, version = patiently(partial(read_version, uri))
            records[uri] = (Record.model_validate_json(data), version)
    runs: dict[str, list[str]] = {}
    for uri in list_files(f"{layout.root}/runs"):
        run = uri.removeprefix(f"{layout.root}/runs/").partition("/")[0]
        runs.setdefault(run, []).append(uri)
    return Catalog(layout, records, runs)


def _each(
    catalogs: Iterable[Catalog], table: str, do: Callable[[Layout, int, str, File], Any]
) -> list[Any]:
    """What ``do`` says of every file, each taken once; what is nothing is left out."""
    work = {
        uri: (catalog.layout, bucket, uri, file)
        for catalog in catalogs
        for bucket, files in catalog.files(table).items()
        for uri, file in files.items()
    }
    with ThreadPoolExecutor(READERS) as readers:
        return [said for said in readers.map(lambda one: do(*one), work.values()) if said]


def _without_items(
    catalogs: list[Catalog], erased: Tombstones, done: Removed
) -> dict[str, tuple[str, File]]:
    """Successors of the files that hold erased rows, by the URI of the file."""

    def one(layout: Layout, bucket: int, uri: str, file: File) -> Any:
        if not erased.hidden(read_file(layout, file, list(COLUMNS.values()))).any():
            return None
        rows = read_file(layout, file)
        kept = rows.filter(pa.array(~erased.named(rows, "item")))
        marked = erased.named(kept, "owner")
        gone = rows.num_rows - kept.num_rows + int(marked.sum())
        return uri, _store(layout, uri, file, _emptied(kept, marked)), gone

    found = _each(catalogs, "items", one)
    done.item_rows += sum(gone for *_, gone in found)
    return {uri: successor for uri, successor, _ in found}


def _emptied(rows: pa.Table, which: NDArray[np.bool_]) -> pa.Table:
    """Rows of items, of which some say only that the item was removed, and by which run."""
    columns = {name: rows[name] for name in rows.column_names}
    for name in set(columns) - {"item_id", "run"}:
        said = pa.scalar(True if name == "removed" else None, columns[name].type)
        columns[name] = pc.if_else(pa.array(which), said, columns[name])
    return pa.table(columns, schema=rows.schema)


def _lost_bytes(
    catalogs: list[Catalog], erased: Tombstones, successors: Mapping[str, tuple[str, File]]
) -> set[str]:
    """Hashes of bytes that erased items had and that no other item has."""

    def had(layout: Layout, bucket: int, uri: str, file: File) -> set[str]:
        if uri not in successors:
            return set()
        rows = read_file(layout, file, [*COLUMNS.values(), "sha256"])
        found = rows.filter(pa.array(erased.hidden(rows)))["sha256"]
        return set(found.drop_null().to_pylist())

    lost: set[str] = set().union(*_each(catalogs, "items", had))
    wanted = pa.array(lost, pa.string())

    def has(layout: Layout, bucket: int, uri: str, file: File) -> set[str]:
        rows = read_file(layout, file, [*COLUMNS.values(), "sha256", "removed"])
        rows = rows.filter(pc.and_(pc.is_in(rows["sha256"], wanted), pc.invert(rows["removed"])))
        return set(erased.without(rows)["sha256"].to_pylist())

    return lost.difference(*_each(catalogs, "items", has)) if lost else lost


def _without_scores(
    catalogs: list[Catalog], lost: set[str], done: Removed
) -> dict[str, tuple[str, File]]:
    """Successors of the files that hold scores of lost bytes, by the URI of the file."""
    wanted = pa.array(lost, pa.string())

    def one(layout: Layout, bucket: int, uri: str, file: File) -> Any:
        rows = read_file(layout, file)
        kept = rows.filter(pc.invert(pc.is_in(rows["sha256"], wanted)))
        gone = rows.num_rows - kept.num_rows
        return (uri, _store(layout, uri, file, kept), gone) if gone else None

    found = _each(catalogs, "scores", one) if lost else []
    done.score_rows += sum(gone for *_, gone in found)
    return {uri: successor for uri, successor, _ in found}


def _store(layout: Layout, uri: str, file: File, rows: pa.Table) -> tuple[str, File]:
    """A file beside another one, and what to say of it in place of that; it may hold no rows."""
    name = f"{uri.rpartition('-')[0]}-{uuid4().hex[:12]}.parquet"
    return name, store_file(layout, name, rows, file.deltas)


def _rename(
    catalogs: list[Catalog],
    successors: Mapping[str, tuple[str, File]],
    erased: Tombstones,
    lease: Lease,
    done: Removed,
) -> set[str]:
    """Lets records name the successors, and nothing erased; all that they name now, by URI."""
    named = set()
    for catalog in catalogs:
        layout = catalog.layout

        def now(file: File, layout: Layout = layout) -> File:
            uri, successor = successors.get(layout.absolute(file.path), (None, file))
            named.add(uri or layout.absolute(file.path))
            path = layout.relative(uri) if uri else file.path
            return successor.model_copy(update={"path": path})

        for uri, (record, version) in catalog.records.items():
            files = {
                table: {b: tuple(map(now, some)) for b, some in record.files(table).items()}
                for table in KEYS
            }
            audit = _cleaned(record.audit, erased)
            changed = record.model_copy(update={**files, "audit": audit})
            if changed != record:
                _delete(_ranks_of(layout, record), lease, done)
                lease.check()
                patiently(partial(replace, uri, changed.encode(), version))
                done.replaced.append(uri)
    return named


def _ranks_of(layout: Layout, record: Record) -> list[str]:
    """A snapshot's ranks and look-up files, which name erased items, the record of them first."""
    files = list_files(f"{layout.root}/ranks")
    own = layout.ranks(RunId.parse(record.id))
    return sorted(
        (uri for uri in files if uri == own or uri.startswith(f"{own.removesuffix('.json')}/")),
        key=lambda uri: uri != own,
    )


# --- runs -------------------------------------------------------------------------------------


def _clean_run(
    catalog: Catalog,
    run: str,
    objects: list[str],
    erased: Tombstones,
    lease: Lease,
    done: Removed,
) -> None:
    """A finished run loses its plan's and chunks' rows if the plan names something erased; one
    that can't end any more leaves only its reports. No report keeps what is erased.
    """
    parts = [uri for uri in objects if uri.endswith(".part")]  # of writers that were killed
    if catalog.finished(run):
        folder = f"{catalog.layout.root}/runs/{run}/"
        plans = [uri for uri in objects if uri.startswith(f"{folder}plan-")]
        chunks = [uri for uri in objects if uri.startswith(f"{folder}data/")]
        if any(_holds(uri, erased) for uri in plans if uri.endswith(".parquet")):
            _delete(chunks, lease, done)
            _delete(plans, lease, done)  # last: they tell that the rest must go
    else:
        rest = [uri for uri in objects if not uri.endswith(_KEPT)]
        _delete([uri for uri in rest if "/commits/" in uri], lease, done)
        _delete([uri for uri in rest if "/commits/" not in uri], lease, done)
    _delete(parts, lease, done)
    for uri in objects:
        if uri.endswith(("report.json", "report.html")):
            _clean_report(uri, erased, done)


def _holds(uri: str, erased: Tombstones) -> bool:
    data = patiently(lambda: read_bytes(uri))
    rows = pq.read_table(pa.BufferReader(data), columns=list(COLUMNS.values()))
    return bool(erased.hidden(rows).any())


def _clean_report(uri: str, erased: Tombstones, done: Removed) -> None:
    text = patiently(lambda: read_bytes(uri)).decode()
    if uri.endswith(".html"):
        cleaned = without_items(text, erased.in_text)
    else:
        said = json.loads(text)
        seen = _cleaned(said, erased)
        cleaned = text if seen == said else json.dumps(seen, indent=1)
    if cleaned != text:
        patiently(lambda: write_bytes(uri, cleaned.encode()))
        done.replaced.append(uri)


def _cleaned(said: Any, erased: Tombstones) -> Any:
    """A report's data without examples of erased items and messages that name them."""
    if isinstance(said, list):
        return [_cleaned(one, erased) for one in said if not _is_of(one, erased)]
    if not isinstance(said, dict):
        return said
    messages = said.get("offending", [])
    rest = {name: _cleaned(value, erased) for name, value in said.items()}
    return rest | (
        {"offending": [one for one in messages if not erased.in_text(one)]} if messages else {}
    )


def _is_of(said: Any, erased: Tombstones) -> bool:
    return isinstance(said, dict) and "item_id" in said and erased.in_text(said["item_id"])


def _delete(uris: list[str], lease: Lease, done: Removed) -> None:
    there = [uri for uri in uris if uri not in done.removed]
    if there:
        lease.check()
        delete(there)
        done.removed.extend(there)
