"""Ranks from look-up files, in two passes of tasks: rows to ranges of the order, ranges to ranks.

The order of a rule is that of task, segment, value, and item id. It is cut into ranges of about
:data:`RANGE_ROWS` rows: small groups (a segment of a task) share a range and are never cut, large
ones have several, cut by value at quantiles of a sample. ``route`` sends each bucket's rows to
their ranges; ``order`` sorts a range, which no other one overlaps. A task holds a bucket or a
range in memory.

The expected rank of a large group's rows is read off its :class:`~beholder.ranking.Field`, whose
slices are the ranges of the order by mean: so that rule comes after the others. Small groups'
values come from all of their rows.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beholder.catalog.buckets import query
from beholder.catalog.buckets import split as by_number
from beholder.catalog.join_pass import DIGEST_SQL
from beholder.catalog.layout import Layout
from beholder.catalog.parcels import Parcel, receive, send
from beholder.catalog.patience import patiently
from beholder.catalog.rank_record import RANKS, Part, read_part
from beholder.media.storage import write_bytes
from beholder.ranking import (
    Candidates,
    Field,
    FieldSlice,
    Rule,
    StdNodes,
    best_first,
    goodness,
    rule_values,
)

RANGE_ROWS = 250_000
"""Rows of a range, about."""

Array = NDArray[np.float64]
Cut = tuple[float, str]
"""What a row's key and item id are compared with: whatever is not below it lies behind it."""

ROUTED = pa.schema(
    [
        pa.field("group", pa.int32()),
        pa.field("item_id", pa.string()),
        pa.field("mean", pa.float64()),
        pa.field("std", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Group:
    """The scored items of a segment, by one task.

    Attributes:
        task: which.
        segment: ``""`` of items without.
        count: of rows.
        spread: whether all have a std.
        nodes: of their stds, where they have them.
    """

    task: str
    segment: str
    count: int
    spread: bool
    nodes: StdNodes


@dataclass(frozen=True)
class Sample:
    """Some of a group's rows. ``mean``, ``std`` and ``item_id``, in one order. (k,) each."""

    mean: Array
    std: Array
    item_id: Sequence[str]


@dataclass(frozen=True)
class OrderPlan:
    """Where the rows of all groups go, by some rules.

    Attributes:
        groups: in order, by task and segment.
        z: stds below the mean, of the lower bound.
        ranges: the rule of each.
        first: of a group's ranges, by rule and the group's number; a group that a rule has no
            place for is not there.
        cuts: of a large group, by rule and number; one less than it has ranges.
        weights: at the nodes of large groups' stds, by number, once they are known.
        fields: of large groups, by number, once they are known.
    """

    groups: tuple[Group, ...]
    z: float
    ranges: tuple[Rule, ...] = ()
    first: Mapping[Rule, Mapping[int, int]] = field(default_factory=dict)
    cuts: Mapping[tuple[Rule, int], Sequence[Cut]] = field(default_factory=dict)
    weights: Mapping[int, Array] = field(default_factory=dict)
    fields: Mapping[int, Field] = field(default_factory=dict)

    def ordered_by(self, rules: Sequence[Rule], samples: Mapping[int, Sample]) -> "OrderPlan":
        """The plan of an order by other rules.

        Args:
            rules: points are ordered by the mean alone, whichever are asked for.
            samples: of large groups, by number.
        """
        ranges: list[Rule] = []
        first: dict[Rule, dict[int, int]] = {rule: {} for rule in rules}
        cuts: dict[tuple[Rule, int], Sequence[Cut]] = {}
        for rule in rules:
            room = 0  # in the range that small groups share
            for number, group in enumerate(self.groups):
                if rule is not Rule.MEAN and not group.spread:
                    continue
                if number in samples:
                    cuts[rule, number] = self._cuts(rule, number, samples[number])
                    first[rule][number], room = len(ranges), 0
                    ranges += [rule] * (len(cuts[rule, number]) + 1)
                    continue
                if group.count > room:
                    ranges.append(rule)
                    room = RANGE_ROWS
                first[rule][number] = len(ranges) - 1
                room -= group.count
        return replace(self, ranges=tuple(ranges), first=first, cuts=cuts)

    def _cuts(self, rule: Rule, number: int, sample: Sample) -> list[Cut]:
        keys = self.keys(rule, number, sample.mean, sample.std)
        rows = sorted(zip(keys.tolist(), sample.item_id, strict=True))
        ranges = -(-self.groups[number].count // RANGE_ROWS)
        places = np.linspace(0, len(rows), ranges + 1).astype(int)[1:-1]
        return [rows[place] for place in np.unique(places)]

    def keys(self, rule: Rule, number: int, mean: Array, std: Array) -> Array:
        """What some rows of a large group, or all of a small one, are ordered by. (k,)."""
        return -goodness(self.values(rule, number, mean, std), rule)

    def values(self, rule: Rule, number: int, mean: Array, std: Array) -> Array:
        """The rule's values of such rows, in the unit that the rule states. (k,)."""
        if rule is Rule.EXPECTED_RANK and number in self.fields:
            return self.fields[number].expected_rank(mean, std)
        return rule_values(Candidates(mean, std), rule, self.z)


@dataclass(frozen=True)
class OrderPass:
    """The tasks, which run anywhere: what they take and give is JSON.

    Attributes:
        layout: of the catalog.
        plan: of the order.
    """

    layout: Layout
    plan: OrderPlan

    def route(self, part: dict[str, Any], to: str) -> dict[str, Any]:
        """Sends the rows of a look-up file to their ranges, once for each rule.

        Returns:
            ``ranges`` of bytes; ``counts`` of rows by range and group; ``weights`` at the nodes of
            large groups' stds.
        """
        found = pa.ipc.open_file(read_part(self.layout, Part(**part))).read_all()
        counts: dict[int, dict[int, int]] = {}
        weights: dict[int, list[float]] = {}
        tables, numbers = [ROUTED.empty_table()], [np.empty(0, np.int64)]
        for number, rows in self._groups(found):
            mean, std = _floats(rows)
            if (Rule.MEAN, number) in self.plan.cuts and self.plan.groups[number].spread:
                weights[number] = self.plan.groups[number].nodes.weights(std).tolist()
            for rule, first in self.plan.first.items():
                if number not in first:
                    continue
                tables.append(rows)
                numbers.append(first[number] + self._past(rule, number, rows, mean, std))
                for one, count in zip(*np.unique(numbers[-1], return_counts=True), strict=True):
                    counts.setdefault(int(one), {})[number] = int(count)
        sent = send(to, by_number(pa.concat_tables(tables), pa.array(np.concatenate(numbers))))
        return {"ranges": sent, "counts": counts, "weights": weights}

    def _groups(self, found: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Each group's rows in a look-up file, by id."""
        for task in dict.fromkeys(group.task for group in self.plan.groups):
            ours = [(n, g.segment) for n, g in enumerate(self.plan.groups) if g.task == task]
            segments = pa.array([segment for _, segment in ours], pa.string())
            rows = found.filter(pc.is_valid(found[f"{task}.mean"]))
            place = pc.index_in(rows["segment"], value_set=segments)
            group = pc.add(place, pa.scalar(ours[0][0], pa.int32()))
            columns = [group, *(rows[n] for n in ("item_id", f"{task}.mean", f"{task}.std"))]
            yield from by_number(pa.table(columns, schema=ROUTED), group)

    def _past(
        self, rule: Rule, number: int, rows: pa.Table, mean: Array, std: Array
    ) -> NDArray[np.int64]:
        """How many of its group's cuts each row is not below. (k,)."""
        cuts = self.plan.cuts.get((rule, number), ())
        if not cuts:
            return np.zeros(len(mean), np.int64)
        key, at = self.plan.keys(rule, number, mean, std), np.array([value for value, _ in cuts])
        past = np.searchsorted(at, key, side="left")
        for row in np.flatnonzero(at[past.clip(max=len(at) - 1)] == key):  # ids decide
            past[row] = bisect_right(cuts, (float(key[row]), rows["item_id"][int(row)].as_py()))
        return past

    def order(
        self, place: int, parcels: list[Parcel], before: dict[str, int], to: str
    ) -> dict[str, Any]:
        """Sorts a range, and writes its ranks.

        Args:
            place: of the range in the plan.
            parcels: that :meth:`route` sent.
            before: rows of its groups in the ranges before it.
            to: URI of the file.

        Returns:
            ``rows`` and ``sha256`` of the file; by task ``counts`` and ``digests`` of what is in
            it; of an order by mean, ``slices`` of large groups.
        """
        rule = self.plan.ranges[place]
        rows = receive(parcels, ROUTED)
        # By id: so equal values stand by id, and values of groups are worked out in one order.
        rows = rows.take(pc.sort_indices(rows["item_id"]))
        tables, slices = [RANKS.empty_table()], {}
        for number, own in by_number(rows, rows["group"].combine_chunks()):
            mean, std = _floats(own)
            values = self.plan.values(rule, number, mean, std)
            first = best_first(goodness(values, rule))
            ranks = before[str(number)] + 1 + np.arange(len(first))
            tables.append(self._rows(number, own.take(first), values[first], ranks))
            if rule is Rule.MEAN and number in self.plan.weights:
                slices[number] = self._slice(number, mean[first[::-1]], std[first[::-1]])
        sink = pa.BufferOutputStream()
        pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
        data = sink.getvalue()
        patiently(lambda: write_bytes(to, data.to_pybytes()))
        told = query(
            f"select task, count(*) as n, {DIGEST_SQL} as digest from written group by task",
            written=pq.read_table(pa.BufferReader(data), columns=["item_id", "task"]),
        ).to_pylist()
        return {
            "rows": rows.num_rows,
            "sha256": hashlib.sha256(data).hexdigest(),
            "counts": {one["task"]: one["n"] for one in told},
            "digests": {one["task"]: int(one["digest"]) for one in told},
            "slices": slices,
        }

    def _rows(
        self, number: int, rows: pa.Table, values: Array, ranks: NDArray[np.int64]
    ) -> pa.Table:
        group = self.plan.groups[number]
        columns = {name: rows[name] for name in ("item_id", "mean", "std")}
        columns |= {
            "segment": pa.repeat(group.segment, len(ranks)),
            "task": pa.repeat(group.task, len(ranks)),
            "value": values,
            "rank": ranks,
            "percentile": (group.count - ranks + 0.5) / group.count,
        }
        return pa.table({name: columns[name] for name in RANKS.names}, schema=RANKS)

    def _slice(self, number: int, mean: Array, std: Array) -> dict[str, Any]:
        """A large group's rows of a range as its field takes them. ``mean`` ascends."""
        nodes, weights = self.plan.groups[number].nodes, self.plan.weights[number]
        found = vars(FieldSlice.of(mean, std, nodes, weights))
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


def read_slice(told: Mapping[str, Any]) -> FieldSlice:
    """A slice that :meth:`OrderPass.order` told of."""
    mean, std, weight = (np.array(told[name]) for name in ("mean", "std", "weight"))
    return FieldSlice(mean, std, weight, told["low"], told["high"])


def _floats(rows: pa.Table) -> tuple[Array, Array]:
    """Means and stds of rows; NaN where no spread is known."""
    mean, std = (rows[name].to_numpy().astype(np.float64) for name in ("mean", "std"))
    return mean, std
