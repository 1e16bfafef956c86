"""A snapshot's items with their scores, by item id: the look-up files, in three passes of tasks.

Items lie in buckets of their id and scores in buckets of their bytes' sha256. So ``split`` sends a
bucket's items to where their scores are, ``join`` joins them there and sends them back, and
``look_up`` sorts what comes back into a file that can be searched where it lies. A task holds one
bucket in memory.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beholder.catalog.buckets import bucket_numbers, query
from beholder.catalog.buckets import split as by_number
from beholder.catalog.layout import Layout
from beholder.catalog.parcels import Parcel, receive, send
from beholder.catalog.patience import patiently
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import Snapshot
from beholder.media.storage import write_bytes

MOST_PROBS = 128
"""Scores of a support beyond which look-up files hold mean and std alone: a thousand probabilities
an item are no look-up any more."""
SAMPLED = 64
"""Of so many items, in the order of their ids, one tells how scores are spread."""

SPLIT = pa.schema(
    [
        pa.field("item_id", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("owner", pa.string()),
        pa.field("segment", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("state", pa.string()),
        pa.field("failure_code", pa.string()),
    ]
)

ITEM_COLUMNS = ("item_id", "owner", "segment", "state", "failure_code")
"""Of a look-up file, before ``TASK.mean``, ``TASK.std`` and ``TASK.probs`` of each task; the owner
is there for erasures alone."""

DIGEST_SQL = "(sum(md5_number_lower(item_id)::hugeint) % 18446744073709551616)::varchar"
"""Of a set of item ids in any order: which ones they are, if there are as many."""


@dataclass(frozen=True)
class JoinPass:
    """The tasks, which run anywhere: what they take and give is JSON.

    Attributes:
        snapshot: whose items.
    """

    snapshot: Snapshot

    @property
    def layout(self) -> Layout:
        """Of the catalog."""
        return self.snapshot.layout

    @property
    def buckets(self) -> int:
        """Of items and of scores."""
        return self.snapshot.record.buckets

    def split(self, bucket: int, to: str) -> dict[str, Any]:
        """Sends a bucket's items to their scores.

        Returns:
            ``ranges``, ``rows``, and items with scores ``by_kind``.
        """
        items = self.snapshot.items(bucket).select(SPLIT.names)
        segment = pc.fill_null(items["segment"], "")
        items = items.set_column(SPLIT.get_field_index("segment"), "segment", segment)
        # What was never fetched has no hash and goes anywhere, but not all to one place.
        numbers = bucket_numbers(pc.coalesce(items["sha256"], items["item_id"]), self.buckets)
        scored = items.filter(pc.not_equal(items["state"], "failed"))
        return {
            "ranges": send(to, by_number(items, numbers)),
            "rows": items.num_rows,
            "by_kind": {one["values"]: one["counts"] for one in _counts(scored["kind"])},
        }

    def join(self, bucket: int, parcels: list[Parcel], to: str) -> dict[str, Any]:
        """Joins a bucket's scores with the items of their bytes, and sends them home.

        Returns:
            ``ranges``, and ``tasks``: scale, support and spread of each that has scores here.

        Raises:
            CatalogError: an item that is scored lacks a score, or one task's scores lie on two
                scales or supports.
        """
        items, scores = receive(parcels, SPLIT), self.snapshot.scores(bucket)
        columns = {name: items[name] for name in ITEM_COLUMNS}
        about = {}
        for task in ranked_tasks(self.snapshot):
            own = scores.filter(pc.equal(scores["task"], task))
            kinds = [k for k, some in self.snapshot.record.tasks.items() if task in some]
            found = own.take(self._places(items, own, task, kinds))
            if own.num_rows:
                about[task] = _about(own, task, self.layout.root)
            for name in ("mean", "std", "probs"):
                columns[f"{task}.{name}"] = found[name]
        table = pa.table(columns)
        numbers = bucket_numbers(table["item_id"], self.buckets)
        return {"ranges": send(to, by_number(table, numbers)), "tasks": about}

    def _places(
        self, items: pa.Table, scores: pa.Table, task: str, kinds: list[str]
    ) -> pa.ChunkedArray:
        """Each item's row among a task's scores; null where it has none and needs none."""
        wanted = pc.and_(
            pc.not_equal(items["state"], "failed"),
            pc.is_in(items["kind"], value_set=pa.array(kinds, pa.string())),
        )
        key = pc.if_else(wanted, items["sha256"], None)
        found = query(
            "select i.place as item, s.place as score from i left join s using (sha256) "
            "order by item",
            i=pa.table({"sha256": key, "place": np.arange(items.num_rows)}),
            s=pa.table({"sha256": scores["sha256"], "place": np.arange(scores.num_rows)}),
        )["score"]
        assert len(found) == items.num_rows, "a snapshot's scores are unique"
        lacking = items.filter(pc.and_(wanted, pc.is_null(found)))
        if lacking.num_rows:
            raise CatalogError(
                f"{self.layout.root}: item '{lacking['item_id'][0]}' of {self.snapshot.id} is "
                f"scored and has no score for '{task}': look at it with beholder explain"
            )
        return found

    def look_up(
        self, bucket: int, parcels: list[Parcel], rows: int, probs: dict[str, int], to: str
    ) -> dict[str, Any]:
        """Sorts a bucket's items by id into a file for look-ups.

        Args:
            bucket: of the items.
            parcels: that :meth:`join` sent.
            rows: that must be in them.
            probs: how many probabilities a score has, by task; 0 keeps none.
            to: URI of the file.

        Returns:
            ``rows`` and ``sha256`` of the file; by task ``groups`` (segment to count, smallest and
            largest std above 0, count of points), ``digest`` and a ``sample`` of rows.
        """
        empty = pa.schema([("item_id", pa.string())])
        table = receive(parcels, empty)
        table = table.take(pc.sort_indices(table["item_id"])).combine_chunks()
        ids = table["item_id"]
        unique = pc.all(pc.less(ids[:-1], ids[1:])).as_py() is not False
        assert table.num_rows == rows and unique, (bucket, table.num_rows, rows)
        if not rows:
            return {"rows": 0, "sha256": "", "tasks": {}}
        columns = {name: table[name] for name in ITEM_COLUMNS}
        for task, size in probs.items():
            columns |= {f"{task}.{name}": table[f"{task}.{name}"] for name in ("mean", "std")}
            if size:
                columns[f"{task}.probs"] = _fixed(table[f"{task}.probs"], size)
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        data = sink.getvalue().to_pybytes()
        patiently(lambda: write_bytes(to, data))
        found = {task: _told(table, task) for task in probs}
        return {"rows": rows, "sha256": hashlib.sha256(data).hexdigest(), "tasks": found}


def ranked_tasks(snapshot: Snapshot) -> list[str]:
    """Tasks that a snapshot has scores for, of whatever kind of item, by name."""
    return sorted({task for tasks in snapshot.record.tasks.values() for task in tasks})


def _counts(column: pa.ChunkedArray) -> list[dict[str, Any]]:
    return pc.value_counts(column).to_pylist()


def _about(scores: pa.Table, task: str, root: str) -> dict[str, Any]:
    """What all of a task's scores have in common."""
    found: dict[str, Any] = {}
    for name in ("scale", "support"):
        column = scores[name].combine_chunks()
        if column.null_count == len(column):
            found[name] = None
            continue
        values, length = column.flatten().to_numpy(), len(column[0])
        same = column.null_count == 0 and len(values) == length * len(column)
        if not same or (values.reshape(-1, length) != values[:length]).any():
            raise CatalogError(
                f"{root}: '{task}' has scores of one scorer with different {name}s: audit the "
                "snapshot before it is ranked"
            )
        found[name] = values[:length].tolist()
    return found | {"spread": scores["std"].null_count == 0}


def _fixed(lists: pa.ChunkedArray, size: int) -> pa.FixedSizeListArray:
    """Lists of one length in a column that can be read where it lies."""
    column = lists.combine_chunks()
    there = np.asarray(column.is_valid())
    values = np.zeros((len(column), size))
    values[there] = column.flatten().to_numpy().reshape(-1, size)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), size, mask=pa.array(~there)
    )


def _told(table: pa.Table, task: str) -> dict[str, Any]:
    """What the driver has to know of a task in a bucket."""
    rows = table.select(["item_id", "segment", f"{task}.mean", f"{task}.std"])
    rows = rows.rename_columns(["item_id", "segment", "mean", "std"])
    rows = rows.filter(pc.is_valid(rows["mean"]))
    groups = query(
        "select segment, count(*) as n, min(std) filter (std > 0) as low, "
        f"max(std) as high, count(*) filter (std is null) as points, {DIGEST_SQL} as digest "
        "from rows group by segment order by segment",
        rows=rows,
    ).to_pylist()
    digest = sum(int(group.pop("digest")) for group in groups) % 2**64
    sample = rows.take(np.arange(0, rows.num_rows, SAMPLED)).to_pydict()
    return {
        "groups": {group.pop("segment"): group for group in groups},
        "digest": digest,
        "sample": sample,
    }
