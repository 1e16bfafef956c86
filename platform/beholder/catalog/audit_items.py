"""The audit's first pass: what the manifest lists against what the snapshot has, by ``item_id``."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pyarrow as pa

from beholder.catalog.buckets import Buckets, query
from beholder.catalog.checks import OFFENDING, Faults
from beholder.catalog.record import KEYS
from beholder.catalog.snapshot import latest
from beholder.catalog.tables import STATES
from beholder.catalog.tombstones import Tombstones

ITEM_COLUMNS = (
    *("item_id", "uri", "kind", "segment", "etag", "size", "sha256"),
    *("state", "failure_code", "run", "removed"),
)
"""What is read of a snapshot's items."""
MANIFEST_COLUMNS = pa.schema(
    [
        ("item_id", pa.string()),
        ("uri", pa.string()),
        ("kind", pa.string()),
        ("etag", pa.string()),
        ("size", pa.int64()),
    ]
)
PLANNED_COLUMNS = pa.schema([("item_id", pa.string()), ("change", pa.string())])
PAIRS = pa.schema(
    [
        ("sha256", pa.string()),
        ("item_id", pa.string()),
        ("kind", pa.string()),
        ("segment", pa.string()),
        ("uri", pa.string()),  # of items that were scored tonight, else null
    ]
)
"""Which bytes an item's scores are of: what the second pass joins with the scores."""

_FAULT = "select '{name}' as fault, count(*) as count, min({key}, {most}) as keys from ({rows})"


def fault_sql(name: str, rows: str, key: str = "item_id") -> str:
    """A query of :meth:`Faults.add_rows`: how many ``rows`` break a check, and the first keys."""
    return _FAULT.format(name=name, key=key, most=OFFENDING, rows=rows)


def _lost(rows: str, how: str) -> str:
    return fault_sql("complete", rows, f"item_id || ' {how}'")


# The plan's rule of what stands as it did, see catalog/changes.py: without an etag nothing does.
_STANDS = """
    s.uri = m.uri and s.kind = m.kind and coalesce(s.size = m.size, true)
    and coalesce(s.etag = trim(m.etag, '"'), false)
"""
_FAULTS = " union all ".join(
    [
        _lost("from p anti join s using (item_id)", "was planned and has no row"),
        _lost("from s anti join m using (item_id)", "has a row and is not in the manifest"),
        _lost("from p anti join m using (item_id)", "was planned and is not in the manifest"),
        _lost(
            "from p join s using (item_id) where s.run is distinct from '{run}'",
            "was planned and has a row of another run",
        ),
        _lost(
            "from s join m using (item_id) anti join p using (item_id) "
            f"where s.state = 'scored' and not ({_STANDS})",
            "has scores of other bytes than the manifest names",
        ),
        fault_sql(
            "states",
            f"from s where (state not in {STATES} or (state <> 'failed' and sha256 is null) "
            "or (state = 'failed' and failure_code is null) "
            "or (state = 'scored' and failure_code is not null)) is not false",
        ),
        fault_sql("unique_items", "select item_id from m group by all having count(*) > 1"),
        fault_sql("unique_items", "select item_id from p group by all having count(*) > 1"),
    ]
)
_TWICE = fault_sql("unique_items", "select item_id from f group by all having count(*) > 1")
_STATES = """
    select s.state, p.change, s.failure_code as code, s.run = '{run}' as tonight, count(*) as count
    from s left join p using (item_id) group by all
"""
_ABSENT = """
    select count(*) as count from m anti join s using (item_id) anti join p using (item_id)
"""
_PAIRS = """
    select sha256, item_id, s.kind, segment,
        case when state = 'scored' and p.item_id is not null then s.uri end as uri
    from s left join p using (item_id) where state <> 'failed' and sha256 is not null
"""


@dataclass
class ItemCounts:
    """What the items of a snapshot come to.

    Attributes:
        items: by state, ``left_out``, and ``erased``.
        settled: of those that tonight looked at, by change class and state.
        failures: of these, failures by code.
        absent: by bucket, items of the manifest that have no row and weren't looked at.
    """

    items: Counter[str] = field(default_factory=Counter)
    settled: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    failures: Counter[str] = field(default_factory=Counter)
    absent: list[int] = field(default_factory=list)


def audit_items(
    files: list[pa.Table],
    manifest: pa.Table,
    planned: pa.Table,
    run: str,
    erased: Tombstones,
    faults: Faults,
    counts: ItemCounts,
    pairs: Buckets,
) -> None:
    """Audits one bucket of items; buckets come in their order.

    Args:
        files: the snapshot's files of it, a base first, in columns ``ITEM_COLUMNS``.
        manifest: the source's rows of it, without erased ones, in columns ``MANIFEST_COLUMNS``.
        planned: the plan's rows of it, in columns ``PLANNED_COLUMNS``.
        run: tonight's.
        erased: what the plan left out; files of older nights may still hold it.
        faults: takes what is wrong.
        counts: takes what there is.
        pairs: takes which bytes the items' scores are of.
    """
    for rows in files:
        faults.add_rows(query(_TWICE, f=rows))
    rows = files[0] if len(files) == 1 else latest(pa.concat_tables(files), KEYS["items"])
    seen = query("from r where not removed", r=erased.without(rows))
    tables = {"s": seen, "m": manifest, "p": planned}
    faults.add_rows(query(_FAULTS.format(run=run), **tables))
    for row in query(_STATES.format(run=run), s=tables["s"], p=planned).to_pylist():
        counts.items[row["state"]] += row["count"]
        if row["change"] is not None and row["tonight"]:
            counts.settled[row["change"]][row["state"]] += row["count"]
            if row["code"] is not None:
                counts.failures[row["code"]] += row["count"]
    counts.absent += query(_ABSENT, **tables)["count"].to_pylist()
    counts.items["left_out"] += counts.absent[-1]
    pairs.add(query(_PAIRS, s=tables["s"], p=planned))
