"""Proves that every item that went in came out exactly once, from what was written.

Nothing that the run holds in memory is believed: the files of the snapshot that is to be published
are read again from storage, and the source's manifest is streamed again. Both are split into the
state's buckets on scratch disk and compared bucket by bucket, first by ``item_id``, then, for the
scores, by the ``sha256`` of the bytes. Memory is that of a few buckets.
"""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from beholder.catalog.audit_items import (
    ITEM_COLUMNS,
    MANIFEST_COLUMNS,
    PAIRS,
    PLANNED_COLUMNS,
    ItemCounts,
    audit_items,
)
from beholder.catalog.audit_scores import EXAMPLES, SCORE_COLUMNS, ScoreFigures, audit_scores
from beholder.catalog.buckets import Buckets
from beholder.catalog.checks import Audit, AuditConfig, Faults
from beholder.catalog.drift import Histogram, Key, compare, from_records, pool
from beholder.catalog.plan import Plan, read_rows
from beholder.catalog.record import KEYS, CatalogError, File, Record, lineage
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.state_files import read_file
from beholder.catalog.tables import ITEMS, SCORES
from beholder.catalog.verdicts import (
    compare_counts,
    drift_small,
    failed_share,
    mass_held,
    panel_same,
    proofs,
    removed_share,
)
from beholder.items import ManifestError
from beholder.media.storage import StorageError, Trouble, trouble_of
from beholder.scoring import PanelCheck

T = TypeVar("T")
AHEAD = 2
"""Buckets that are read while one is compared."""


def audit(snapshot: Snapshot, plan: Plan, config: AuditConfig, panel: PanelCheck) -> Audit:
    """Audits a snapshot that is written and not published.

    Args:
        snapshot: what :func:`beholder.catalog.prepare.prepare` gave.
        plan: of its run: names the source's manifest, and what the run looked at.
        config: thresholds.
        panel: what the scorer says of its golden panel now.

    Raises:
        StorageError: the storage can't be used; what is missing or damaged is a finding.
    """
    began = time.monotonic()
    faults = Faults()
    snapshot = replace(snapshot, erasures=plan.erasures)
    record = snapshot.record
    past = last_nights(snapshot, config.drift_nights)
    with tempfile.TemporaryDirectory() as scratch:
        pairs = Buckets(Path(scratch), record.buckets, "sha256", PAIRS)
        counts = _items(snapshot, plan, pairs, faults)
        figures = _scores(snapshot, pairs, faults)
    compare_counts(record.counts, plan.tally, counts, faults)
    tonight = figures.histograms.largest(config.drift_segments)
    before = pooled(past)
    drift = compare(tonight, before, config.drift_minimum)
    mass = figures.mass()
    checks = [
        *proofs(faults),
        failed_share(counts.settled, config),
        removed_share(plan.tally.counts, config),
        mass_held(mass, [night.drift["mass"] for night in past], config),
        panel_same(panel, config),
        drift_small(drift, config),
    ]
    return Audit(
        checks=tuple(
            replace(c, accepted=None if c.ok else config.accept.get(c.name)) for c in checks
        ),
        items=dict(counts.items),
        settled={change: dict(states) for change, states in counts.settled.items()},
        failures=dict(counts.failures),
        histograms=tonight,
        before=before,
        drift=tuple(drift),
        mass=mass,
        worst={task: some[:EXAMPLES] for task, some in figures.examples.items()},
        best={task: some[-EXAMPLES:][::-1] for task, some in figures.examples.items()},
        seconds=round(time.monotonic() - began, 3),
    )


def pooled(nights: Iterable[Record]) -> dict[Key, Histogram]:
    """Nights' histograms together."""
    return pool(from_records(night.drift["histograms"]) for night in nights)


def last_nights(snapshot: Snapshot, most: int) -> list[Record]:
    """The snapshots before, as far as they are of the same scorer, newest first."""
    record = snapshot.record
    past = lineage(snapshot.layout, record.parent)
    return list(islice(takewhile(lambda r: r.fingerprint == record.fingerprint, past), most))


# --- reading what was written -----------------------------------------------------------------


def _items(snapshot: Snapshot, plan: Plan, pairs: Buckets, faults: Faults) -> ItemCounts:
    """The first pass."""
    buckets = snapshot.record.buckets
    counts = ItemCounts()
    erased = snapshot.erased
    columns = (*ITEM_COLUMNS, "owner") if erased else ITEM_COLUMNS

    def read(bucket: int) -> list[pa.Table]:
        files = snapshot.record.items.get(bucket, ())
        found = [_read(snapshot, file, columns, faults) for file in files]
        return [t for t in found if t is not None] or [ITEMS.empty_table().select(columns)]

    with tempfile.TemporaryDirectory() as scratch:
        listed = Buckets(Path(scratch) / "manifest", buckets, "item_id", MANIFEST_COLUMNS)
        planned = Buckets(Path(scratch) / "plan", buckets, "item_id", PLANNED_COLUMNS)
        try:
            for table in plan.manifest.batches():
                seen = erased.without(table)
                if erased:
                    counts.items["erased"] += table.num_rows - seen.num_rows
                listed.add(seen)
            plan.manifest.check_unmoved()  # after it was read, so that it was unmoved until then
        except ManifestError as error:
            faults.add("manifest", 1, [str(error)])
        for table in read_rows(snapshot.layout, plan.files, PLANNED_COLUMNS.names):
            planned.add(table)
        for bucket, files in enumerate(_ahead(read, buckets)):
            rows = listed.read(bucket), planned.read(bucket)
            audit_items(files, *rows, snapshot.record.id, erased, faults, counts, pairs)
    return counts


def _scores(snapshot: Snapshot, pairs: Buckets, faults: Faults) -> ScoreFigures:
    """The second pass."""
    record = snapshot.record
    figures = ScoreFigures()
    parent = next(lineage(snapshot.layout, record.parent), None)
    old = {file.path for files in parent.scores.values() for file in files} if parent else set()

    def read(bucket: int) -> list[tuple[pa.Table, bool]]:
        found = []
        for file in record.scores.get(bucket, ()):
            new = file.path not in old
            columns = SCORE_COLUMNS if new else KEYS["scores"]
            if (table := _read(snapshot, file, columns, faults)) is not None:
                found.append((table, new))
        return found or [(SCORES.empty_table().select(KEYS["scores"]), False)]

    about = (record.id, record.fingerprint, record.tasks)
    for bucket, files in enumerate(_ahead(read, record.buckets)):
        audit_scores(files, pairs.read(bucket), *about, faults, figures)
    return figures


def _read(
    snapshot: Snapshot, file: File, columns: Iterable[str], faults: Faults
) -> pa.Table | None:
    """A file's rows; None, and a fault, where it is missing or not what was written."""
    try:
        table = read_file(snapshot.layout, file, list(columns))
    except CatalogError as error:
        faults.add("files", 1, [str(error)])
        return None
    except StorageError as error:
        cause = error.__cause__
        if cause is None or trouble_of(cause) is not Trouble.OBJECT_MISSING:
            raise
        faults.add("files", 1, [str(error)])
        return None
    if table.num_rows != file.rows:
        faults.add("files", 1, [f"{file.path} has {table.num_rows} rows, not {file.rows}"])
    return table


def _ahead(read: Callable[[int], T], buckets: int) -> Iterator[T]:
    """What ``read`` gives for each bucket in turn, the next few of them being read meanwhile."""
    numbers = iter(range(buckets))
    with ThreadPoolExecutor(AHEAD) as threads:
        waiting = deque(threads.submit(read, number) for number in islice(numbers, AHEAD))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(threads.submit(read, number) for number in islice(numbers, 1))
