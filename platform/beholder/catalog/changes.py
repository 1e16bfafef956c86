"""What became of each item since the last snapshot, a bucket at a time.

An item that stands as it did is one whose uri, kind and etag (and size, where both are known) are
the state's. Without an etag nothing shows that bytes are the same: such an item is fetched again
and settled by its hash; but one whose bytes could not be had stands as long as its uri does. A
scored item that stands is unchanged; a failed one is tried again where its code's policy
(``items.RETRY``) knows more than one attempt, on so many nights. Under other tasks all items have
changed and no older score counts.
"""

from dataclasses import dataclass

import pyarrow as pa

from beholder.catalog.buckets import conform, query
from beholder.catalog.manifest_files import MANIFEST
from beholder.catalog.tables import ITEM_FIELDS, ITEMS, PLANNED
from beholder.items import RETRY, FailureCode

FOR_EVER = 2**31 - 1

WANTED = pa.schema(
    [
        *(field for field in PLANNED if field.name not in ("likely_sha256", "chunk")),
        pa.field("code", pa.string()),  # for which it is tried again
        pa.field("kept", pa.bool_()),  # left out, it keeps older scores
        pa.field("dropped", pa.bool_()),  # left out, its row goes: other tasks' scores
        pa.field("sampled", pa.bool_()),
        pa.field("late", pa.bool_()),  # with age and item_id: the order in which items are taken
        pa.field("age", pa.int64()),
        pa.field("bucket", pa.int32()),
    ]
)
"""Items that a run would look at, were there no limit."""

SETTLED = pa.schema(
    [
        *ITEMS,
        pa.field("wanted", pa.bool_()),  # this row holds only if its item is left out
        *(WANTED.field(name) for name in ("sampled", "late", "age")),
    ]
)
"""Rows of the new state for items that are not looked at."""


SCORED = pa.schema([("twin", pa.uint64()), ("kind", pa.string()), ("sha256", pa.string())])
"""Bytes that have scores, by what shows before they are fetched that others are likely the same."""

TWIN = "md5_number_lower(etag || '/' || size)"
"""What rows have in common whose bytes are likely the same, in DuckDB; null where unknown. Size
alone would not do: in a catalog of millions most items share theirs with others, and what stands
together in chunks is not taken newest first. So new bytes without an etag are scored once a chunk,
and not compared with what other items have."""


@dataclass(frozen=True)
class Rules:
    """What a night holds against the state.

    Attributes:
        run: that is planned.
        comparable: whether the parent's scores are of this night's tasks.
        sample: part of the items to look at, 0..1.
        retry_nights: on how many nights an item is tried that failed for the store's sake.
        bounded: whether items may be left out at all.
        again: codes of failures that are tried again whatever their policy says, because a person
            asks for it. What failed because the object was no longer the manifest's version is
            then asked for without a version.
    """

    run: str
    comparable: bool
    sample: float
    retry_nights: int
    bounded: bool
    again: tuple[str, ...] = ()

    def retries(self) -> pa.Table:
        """By failure's code, at how many attempts in all it is given up."""
        most = {str(code): r.attempts * self.retry_nights for code, r in RETRY.items()}
        tried = {code: n for code, n in most.items() if RETRY[FailureCode(code)].attempts > 1}
        tried |= dict.fromkeys(self.again, FOR_EVER)
        return pa.table({"code": pa.array(tried, pa.string()), "most": list(tried.values())})


@dataclass(frozen=True)
class Changes:
    """What became of a bucket's items.

    Attributes:
        wanted: of schema :data:`WANTED`.
        settled: of schema :data:`SETTLED`.
        counts: items by class: ``unchanged``, ``stale`` (without a hope tonight), ``removed``;
            and ``relabelled``, those of the first two whose owner, segment or date changed.
    """

    wanted: pa.Table
    settled: pa.Table
    counts: dict[str, int]


def compare(manifest: pa.Table, state: pa.Table, bucket: int, rules: Rules) -> Changes:
    """A bucket's changes.

    Args:
        manifest: columns :data:`~beholder.catalog.manifest_files.MANIFEST`; ids are unique.
        state: the parent's items, without removed ones.
        bucket: whose rows they are.
        rules: see there.
    """
    sql = _COMPARED.format(comparable=rules.comparable, sample=rules.sample)
    compared = query(sql, manifest=manifest, state=state, retries=rules.retries())
    wanted = query(_WANTED.format(comparable=rules.comparable, bucket=bucket), compared=compared)
    settled = query(
        _SETTLED.format(run=rules.run, bounded=rules.bounded), compared=compared, state=state
    )
    counted = query(_COUNTS, compared=compared, state=state).to_pylist()[0]
    return Changes(conform(wanted, WANTED), conform(settled, SETTLED), counted)


def not_reached(
    rows: pa.Table, state: pa.Table, run: str, comparable: bool
) -> tuple[pa.Table, pa.Table]:
    """What becomes of planned items that were not looked at after all.

    Args:
        rows: of schema ``PLANNED``, from one bucket.
        state: the parent's items there.
        run: that planned them.
        comparable: see :class:`Rules`.

    Returns:
        New state rows of those that need one, of schema ``ITEMS``; and counts ``n`` of all by
        ``change, kind, segment, code``, ``kept`` (they keep older scores) and ``absent`` (they
        have no row in the new state).
    """
    said = query(_UNSEEN.format(comparable=comparable), rows=rows, state=state)
    sql = f"""
      select {_STANDING}, dropped as removed from said join state as old using (item_id)
      where dropped or (kept and (old.state = 'scored' or {_RELABELLED}))"""
    settled = query(sql.format(run=run), said=said, state=state)
    groups = ("change", "kind", "segment", "code", "kept", "absent")
    counts = query(f"select {', '.join(groups)}, count(*) as n from said group by all", said=said)
    return conform(settled, ITEMS), counts


def scored_bytes(state: pa.Table) -> pa.Table:
    """Which bytes of a bucket's items have scores, of schema :data:`SCORED`."""
    some = f"select {TWIN} as twin, kind, sha256 from state where state = 'scored'"
    return conform(query(f"from ({some}) where twin is not null", state=state), SCORED)


_LABELS = ("owner", "segment", "created_at")

_RELABELLED = "({}) is distinct from ({})".format(
    *(", ".join(f"{table}.{name}" for name in _LABELS) for table in ("said", "old"))
)

_COMPARED = (
    """
with said as (
  select * replace (nullif(trim(etag, '"'), '') as etag) from manifest
), met as (
  select said.*, old.item_id is not null as met, old.state, old.sha256, old.attempts,
    old.failure_code as code, retries.most, old.kind as old_kind,
    coalesce(said.etag = old.etag, said.etag is null and old.failure_code ^@ 'fetch.', false)
      and said.uri = old.uri and said.kind = old.kind
      and coalesce(said.size = old.size, true) as stands,
    {comparable} and coalesce(old.state in ('scored', 'stale'), false) as kept,
    not {comparable} and coalesce(old.state in ('scored', 'stale'), false) as dropped,
    """
    + _RELABELLED
    + """ as relabelled
  from said left join state as old using (item_id) left join retries on code = old.failure_code
)
select *, md5_number_upper(item_id) / 18446744073709551616.0 < {sample} as sampled,
  case when not met then 'new'
    when not {comparable} or not stands then 'changed'
    when state = 'scored' then 'unchanged'
    when code is null then 'changed' -- left out while it was changed, and changed back since
    when attempts < most then 'retried'
    when state = 'stale' then 'stale'
    else 'unchanged' end as change
from met
"""
)

_WANTED = (
    "select "
    + ", ".join(
        "case when change <> 'retried' or code <> 'fetch.changed' then etag end as etag"
        if name == "etag"
        else name
        for name in MANIFEST.names
    )
    + """, change,
  case when kept and old_kind = kind then sha256 end as known_sha256,
  case when change = 'retried' then attempts else 0 end as attempts,
  case when change = 'retried' then code end as code,
  kept, dropped, sampled, change = 'retried' as late,
  coalesce(-epoch_us(created_at), 9223372036854775807) as age, {bucket} as bucket
from compared where change in ('new', 'changed', 'retried')
"""
)

_STANDING = ", ".join(
    {
        "state": "case when wanted and not dropped then 'stale' else old.state end as state",
        "run": "'{run}' as run",
        **{name: f"said.{name}" for name in _LABELS},
    }.get(field.name, f"old.{field.name}")
    for field in ITEM_FIELDS
)

_SETTLED = (
    """
with said as (
  select *, change in ('new', 'changed', 'retried') as wanted,
    coalesce(-epoch_us(created_at), 9223372036854775807) as age
  from compared where met
)
select """
    + _STANDING
    + """, dropped and wanted as removed, wanted, sampled, change = 'retried' as late, age
from said join state as old using (item_id)
where (not wanted and relabelled)
  or ({bounded} and wanted and (dropped or (kept and (old.state = 'scored' or relabelled))))
union all
select """
    + ", ".join("'{run}'" if field.name == "run" else field.name for field in ITEM_FIELDS)
    + """, true, false, true, false, 0
from state anti join compared using (item_id)
"""
)

_COUNTS = """
select count(*) filter (change = 'unchanged') as unchanged,
  count(*) filter (change = 'stale') as stale,
  count(*) filter (change in ('unchanged', 'stale') and relabelled) as relabelled,
  (select count(*) from state anti join compared using (item_id)) as removed
from compared
"""

_UNSEEN = """
select rows.*, true as wanted,
  {comparable} and coalesce(old.state in ('scored', 'stale'), false) as kept,
  not {comparable} and coalesce(old.state in ('scored', 'stale'), false) as dropped,
  old.item_id is null or dropped as absent,
  case when change = 'retried' then old.failure_code end as code
from rows left join state as old using (item_id)
"""
