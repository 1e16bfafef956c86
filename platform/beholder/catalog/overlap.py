"""What a shadow has of the catalog that readers see, and both scorers' means of the same bytes.

Both are read bucket by bucket: items by ``item_id``, which gives the coverage and the rows that
differ, then scores by the bytes' ``sha256``. Memory is that of a few buckets and of the compared
means.
"""

import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.buckets import Buckets, conform, query
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.tables import ITEM_FIELDS, ITEMS
from beholder.evaluation import Succession, compare_scorers

EXAMPLES = 5
"""Uncovered items that are named."""


def _columns(**changed: str) -> str:
    return ", ".join(f"{changed.get(f.name, f's.{f.name}')} as {f.name}" for f in ITEM_FIELDS)


_PAIRED = """
    select item_id, l.sha256, l.owner, coalesce(l.size, l.bytes_read, 0) as bytes,
        coalesce(s.sha256 = l.sha256, false) as same,
        case when s.item_id is null then 'not looked at'
            when s.state = 'failed' then 'failed'
            when l.state = 'scored' and not same then 'other bytes' end as lacks
    from l left join s using (item_id) where l.state <> 'failed'
"""
_COVERED = """
    select lacks, count(*) as items, sum(bytes)::bigint as bytes, min(item_id, {most}) as keys
    from paired group by lacks
"""
_DIFFERENT = f"""
    select {_columns(state="'stale'", run="'{run}'")}, false as removed
    from s join paired using (item_id)
    where lacks = 'other bytes' and s.state = 'scored'
    union all
    select {_columns(run="'{run}'")}, true from s anti join l using (item_id)
"""
_MEANS = """
    select task, o.mean as old, n.mean as new, o.scale[1] as old_low, o.scale[2] as old_high,
        n.scale[1] as new_low, n.scale[2] as new_high,
        (md5_number_lower(coalesce(owner, sha256)) >> 1)::bigint as cluster
    from (select sha256, min(owner) as owner from c group by sha256) c
        join o using (sha256) join n using (sha256, task)
    where isfinite(o.mean) and isfinite(n.mean)
        and md5_number_upper(sha256) / 18446744073709551616.0 < {share}
    order by task, sha256
"""
_BYTES = pa.schema([("sha256", pa.string()), ("owner", pa.string())])


@dataclass
class Coverage:
    """How much of the catalog a shadow has scored.

    Attributes:
        items: that readers see scores of.
        covered: of these, those whose bytes have scores in the shadow.
        bytes: size of ``items``.
        covered_bytes: size of ``covered``.
        lacking: of the others, how many by what is wrong: ``not looked at``, ``failed``, or
            ``other bytes`` than readers see scores of.
        examples: some of them.
        left_out: items of the catalog, failed ones included, that have no row in the shadow.
        outdated: items whose row becomes stale: the shadow has scores of older bytes.
        foreign: items of the shadow that the catalog has not, or not any more.
    """

    items: int = 0
    covered: int = 0
    bytes: int = 0
    covered_bytes: int = 0
    lacking: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    left_out: int = 0
    outdated: int = 0
    foreign: int = 0

    @property
    def of_items(self) -> float:
        """Covered part of the items, 0..1."""
        return self.covered / self.items if self.items else 0.0

    @property
    def of_bytes(self) -> float:
        """Covered part of their bytes, 0..1; that of the items where no size is known."""
        return self.covered_bytes / self.bytes if self.bytes else self.of_items


@dataclass(frozen=True)
class Overlap:
    """What :func:`overlap` found.

    Attributes:
        coverage: of the catalog by the shadow.
        tasks: both scorers compared, by task that both have.
        different: rows, of schema ``ITEMS``, that the shadow's state needs in place of its own, so
            that it holds no item that the catalog hasn't, and calls none scored whose bytes have
            changed.
    """

    coverage: Coverage
    tasks: dict[str, Succession]
    different: list[pa.Table]


def overlap(live: Snapshot, shadow: Snapshot, run: str, most: int) -> Overlap:
    """Holds a shadow against the snapshot that readers see.

    Args:
        live: what readers see.
        shadow: of as many buckets.
        run: of the new rows.
        most: items that are compared; of more, a part by hash of their bytes.

    Raises:
        CatalogError: a file is not the one that was written.
        StorageError: one can't be read.
    """
    assert live.record.buckets == shadow.record.buckets
    coverage = Coverage()
    different: list[pa.Table] = []
    with tempfile.TemporaryDirectory() as scratch:
        both = Buckets(Path(scratch), live.record.buckets, "sha256", _BYTES)
        for bucket in range(live.record.buckets):
            tables = {"l": live.items(bucket), "s": shadow.items(bucket)}
            paired = query(_PAIRED, **tables)
            _count(coverage, paired, tables)
            both.add(query("select sha256, owner from p where lacks is null and same", p=paired))
            rows = query(_DIFFERENT.format(run=run), paired=paired, **tables)
            coverage.outdated += query("from rows where not removed", rows=rows).num_rows
            coverage.foreign += query("from rows where removed", rows=rows).num_rows
            if rows.num_rows:
                different.append(conform(rows, ITEMS))
        share = min(1.0, most / max(1, coverage.covered))
        return Overlap(coverage, _compared(live, shadow, both, share), different)


def _count(coverage: Coverage, paired: pa.Table, tables: dict[str, pa.Table]) -> None:
    for row in query(_COVERED.format(most=EXAMPLES), paired=paired).to_pylist():
        coverage.items += row["items"]
        coverage.bytes += row["bytes"]
        if row["lacks"] is None:
            coverage.covered += row["items"]
            coverage.covered_bytes += row["bytes"]
        else:
            coverage.lacking[row["lacks"]] = coverage.lacking.get(row["lacks"], 0) + row["items"]
            coverage.examples += row["keys"][: EXAMPLES - len(coverage.examples)]
    absent = query("select item_id from l anti join s using (item_id)", **tables)
    coverage.left_out += absent.num_rows


def _compared(
    live: Snapshot, shadow: Snapshot, both: Buckets, share: float
) -> dict[str, Succession]:
    found: dict[str, list[pa.Table]] = defaultdict(list)
    columns = ["sha256", "task", "mean", "scale"]
    for bucket in range(live.record.buckets):
        if not both.rows(bucket):
            continue
        o, n = live.scores(bucket).select(columns), shadow.scores(bucket).select(columns)
        means = query(_MEANS.format(share=share), c=both.read(bucket), o=o, n=n)
        for task in means["task"].unique().to_pylist():
            found[task].append(means.filter(pc.equal(means["task"], task)))
    tables = {task: pa.concat_tables(parts) for task, parts in sorted(found.items())}
    return {task: _comparison(rows) for task, rows in tables.items() if rows.num_rows > 1}


def _comparison(rows: pa.Table) -> Succession:
    columns = {name: rows[name].to_numpy() for name in rows.column_names if name != "task"}
    clusters = columns["cluster"]
    if np.ptp(clusters) == 0:  # all of one owner: then each stands for itself
        clusters = np.arange(len(clusters))
    low, high, new_low, new_high = (
        float(columns[name][0]) for name in ("old_low", "old_high", "new_low", "new_high")
    )
    scales = (low, high), (new_low, new_high)
    return compare_scorers(columns["old"], columns["new"], *scales, clusters)
