"""All that a night would look at, on scratch disk, and the part of it that it takes.

Items are taken newest first by ``created_at``, those without a date last, and items that failed
on earlier nights after all others. What is taken goes into chunks in that order, too, so that a
night that is stopped has done the newest; only items whose bytes are likely the same (equal etag
and size) come along with the newest of them.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beholder.catalog.buckets import Buckets, conform, query, stream
from beholder.catalog.changes import SCORED, SETTLED, TWIN, WANTED, Rules, compare, scored_bytes
from beholder.catalog.manifest_files import MANIFEST, ManifestFiles
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.tables import ITEMS, PLANNED
from beholder.catalog.tombstones import Tombstones
from beholder.items import ManifestError

STREAMED_ROWS = 65_536
SEGMENTS = 20
"""Segments that are told apart where left-out items are counted."""


@dataclass(frozen=True)
class Cut:
    """Which of the wanted items are taken: an SQL condition that may name the table ``cut``."""

    where: str
    cut: pa.Table


@dataclass(frozen=True)
class Survey:
    """What became of all items, kept on scratch disk while :func:`survey` lasts.

    Attributes:
        counts: items by the classes of :class:`~beholder.catalog.changes.Changes`, and
            ``erased``.
        items: in the manifest.
        wanted: rows of ``WANTED``, a Parquet file on scratch disk.
        settled: rows of ``SETTLED``, the same.
        scored: rows of ``SCORED``, the same: all that a snapshot's scores still count for.
    """

    counts: Mapping[str, int]
    items: int
    wanted: Path
    settled: Path
    scored: Path

    def cut(self, most: int | None) -> Cut:
        """The condition that takes the ``most`` first items of the sample; None takes it whole."""
        none = pa.table({"late": pa.array([], pa.bool_())})
        if most is None:
            return Cut("sampled", none)
        if not most:
            return Cut("false", none)
        last = query(
            f"select late, age, item_id from {_scan(self.wanted)} where sampled "
            f"{_ORDER} limit 1 offset {most - 1}"
        )
        if not last.num_rows:
            return Cut("sampled", none)
        key = "(late, age, item_id)"
        return Cut(f"sampled and {key} <= (select {key} from cut)", last)

    def kinds(self, cut: Cut) -> dict[str, int]:
        """Taken items by kind."""
        sql = f"select kind, count(*) as n from {_scan(self.wanted)} where {cut.where} group by all"
        return _counts(query(sql, cut=cut.cut), "kind")

    def videos(self) -> NDArray[np.bool_]:
        """Of the sample's items in the order in which they are taken, which ones are videos."""
        sql = f"select kind = 'video' as video from {_scan(self.wanted)} where sampled {_ORDER}"
        parts = [part["video"].to_numpy() for part in stream(sql, STREAMED_ROWS)]
        return np.concatenate(parts) if parts else np.empty(0, bool)

    def first(self, kind: str, count: int) -> pa.Table:
        """The first items of a kind, columns of a manifest."""
        return query(
            f"select {', '.join(MANIFEST.names)} from {_scan(self.wanted)} "
            f"where sampled and kind = '{kind}' {_ORDER} limit {count}"
        )

    def taken(self, cut: Cut) -> tuple[dict[str, int], dict[str, int], str | None]:
        """Taken items by class, those that are tried again by code, and the oldest one's date."""
        where = f"from {_scan(self.wanted)} where {cut.where}"
        changes = query(f"select change, count(*) as n {where} group by all", cut=cut.cut)
        codes = query(
            f"select code, count(*) as n {where} and code is not null group by all", cut=cut.cut
        )
        dates = query(
            f"select max(age) filter (created_at is not null) as age {where}", cut=cut.cut
        )
        age = dates["age"][0].as_py()
        oldest = None if age is None else datetime.fromtimestamp(0, UTC) - timedelta(0, 0, age)
        iso = None if oldest is None else oldest.isoformat()
        return _counts(changes, "change"), _counts(codes, "code"), iso

    def left(self, cut: Cut, buckets: int) -> "Left":
        """What is wanted and not taken."""
        where = f"from {_scan(self.wanted)} where not ({cut.where})"
        both = query(
            f"select count(*) filter (kept) as stale, count(*) filter (not kept) as left_out, "
            f"count(*) filter (not sampled) as unsampled {where}",
            cut=cut.cut,
        ).to_pylist()[0]
        segments = query(
            f"select coalesce(segment, '') as segment, count(*) as n {where} "
            "group by all order by n desc, segment",
            cut=cut.cut,
        )
        shown = _counts(segments.slice(0, SEGMENTS), "segment")
        others = sum(segments["n"].slice(SEGMENTS).to_pylist())
        absent = query(
            f"select bucket, count(*) as n {where} and (change = 'new' or dropped) group by all",
            cut=cut.cut,
        )
        by_bucket = dict(zip(*(absent[n].to_pylist() for n in ("bucket", "n")), strict=True))
        return Left(
            **both,
            segments=shown | ({"(others)": others} if others else {}),
            absent=tuple(by_bucket.get(bucket, 0) for bucket in range(buckets)),
        )

    def taken_rows(self, cut: Cut) -> Iterator[pa.Table]:
        """Taken items in the order of the chunks: columns of ``PLANNED`` without ``chunk``, and
        ``twins``, how many have likely the same bytes, with ``twin``, one number for those.
        """
        files = {"wanted": _scan(self.wanted), "scored": _scan(self.scored)}
        yield from stream(_ORDERED.format(**files, where=cut.where), STREAMED_ROWS, cut=cut.cut)

    def settled_rows(self, cut: Cut, rows: int) -> Iterator[pa.Table]:
        """New state rows of items that are not looked at, of schema ``ITEMS``."""
        sql = f"select * from {_scan(self.settled)} where not wanted or not ({cut.where})"
        for table in stream(sql, rows, cut=cut.cut):
            yield conform(table, ITEMS)


@dataclass(frozen=True)
class Left:
    """Items that a run would look at and doesn't.

    Attributes:
        stale: how many keep older scores.
        left_out: how many have none to keep.
        unsampled: how many of both the sample leaves out.
        segments: how many of both by segment, the largest ones.
        absent: by bucket, how many have no row in the new state at all.
    """

    stale: int
    left_out: int
    unsampled: int
    segments: dict[str, int]
    absent: tuple[int, ...]


@contextmanager
def survey(
    manifest: ManifestFiles,
    parent: Snapshot | None,
    buckets: int,
    rules: Rules,
    erased: Tombstones,
) -> Iterator[Survey]:
    """Holds a manifest against the state, a bucket in memory at a time.

    Scratch disk holds the manifest's rows, then those that are wanted, about 200 bytes each, and
    some 80 bytes of each item that has scores.

    Raises:
        ManifestError: a row is refused, an item_id occurs twice, or a file changed meanwhile.
        StorageError: the storage can't be used.
    """
    with tempfile.TemporaryDirectory(prefix="beholder-plan-") as scratch:
        paths = {name: Path(scratch) / f"{name}.parquet" for name in _FILES}
        counts: Counter[str] = Counter()
        with (
            tempfile.TemporaryDirectory(dir=scratch) as folder,
            ExitStack() as opened,
        ):
            files = {
                name: opened.enter_context(pq.ParquetWriter(paths[name], schema, compression="lz4"))
                for name, schema in _FILES.items()
            }
            rows = Buckets(Path(folder), buckets, "item_id", MANIFEST.append(_ROW))
            for table in manifest.batches():
                rows.add(table)
            manifest.check_unmoved()
            for bucket in range(buckets):
                said = rows.read(bucket)
                _check_unique(said, manifest)
                listed = said.num_rows
                said, state = erased.without(said), erased.without(state_of(parent, bucket))
                counts["erased"] += listed - said.num_rows
                changes = compare(said, state, bucket, rules)
                files["wanted"].write_table(changes.wanted)
                files["settled"].write_table(changes.settled)
                if rules.comparable:
                    files["scored"].write_table(scored_bytes(state))
                counts.update(changes.counts)
        yield Survey(counts, manifest.rows, **paths)


def state_of(parent: Snapshot | None, bucket: int) -> pa.Table:
    """A bucket's items; none before a catalog's first night."""
    return ITEMS.empty_table() if parent is None else parent.items(bucket)


_FILES = {"wanted": WANTED, "settled": SETTLED, "scored": SCORED}
_ROW = pa.field("row", pa.int64())
_ORDER = "order by late, age, item_id"

_ORDERED = (
    f"""
with taken as not materialized (
  select *, {TWIN} as twin from {{wanted}} where {{where}}
), twins as (
  select twin, count(*) as twins, min((late, age)) as place
  from taken where twin is not null group by twin having count(*) > 1
), likely as (
  select twin, kind, min(sha256) as likely_sha256
  from {{scored}} where twin in (select twin from taken) group by all
)
select """
    + ", ".join(
        "likely_sha256" if name == "likely_sha256" else f"taken.{name}"
        for name in PLANNED.names
        if name != "chunk"
    )
    + """, coalesce(twins, 1) as twins, twins.twin as twin
from taken left join twins on taken.twin = twins.twin
  left join likely on taken.twin = likely.twin and taken.kind = likely.kind
order by coalesce(place, (late, age)), twins.twin, item_id
"""
)


def _scan(path: Path) -> str:
    quoted = str(path).replace("'", "''")
    return f"read_parquet('{quoted}')"


def _counts(table: pa.Table, name: str) -> dict[str, int]:
    return dict(zip(table[name].to_pylist(), table["n"].to_pylist(), strict=True))


def _check_unique(rows: pa.Table, manifest: ManifestFiles) -> None:
    twice = query(
        "select item_id, min(row) as one, max(row) as other from rows "
        "group by item_id having count(*) > 1 order by one limit 1",
        rows=rows,
    ).to_pylist()
    if twice:
        one, other = manifest.place(twice[0]["one"]), manifest.place(twice[0]["other"])
        raise ManifestError(
            f"manifest {manifest.uri}: item_id '{twice[0]['item_id']}' occurs more than once, in "
            f"{one} and {other}: ids must be unique"
        )
