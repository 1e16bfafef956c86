"""Ranks a published snapshot: every scored item among those of its segment, by every rule.

What it makes stands beside the state and is named by one record, written last: ranks in Parquet
(:data:`~beholder.catalog.rank_record.RANKS`), and the look-up files that an endpoint answers item
ids from. All work is done by Ray Data in tasks of one bucket or one range of the order, whose rows
travel through the catalog's storage: memory is that of the tasks that run at a time, however many
rows there are. The same snapshot gives the same ranks, in whatever order tasks run or are repeated.
"""

import functools
import json
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from pydantic import Field as ConfigField
from pydantic import field_validator

from beholder.catalog.join_pass import MOST_PROBS, JoinPass, ranked_tasks
from beholder.catalog.locations import Location
from beholder.catalog.order_pass import RANGE_ROWS, Group, OrderPass, OrderPlan, Sample, read_slice
from beholder.catalog.parcels import addressed
from beholder.catalog.patience import patiently
from beholder.catalog.rank_record import Part, RankedTask, RankRecord, find_ranks
from beholder.catalog.record import CatalogError
from beholder.catalog.session import connect, in_blocks
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.config import JobConfig
from beholder.errors import UserError
from beholder.logs import event, progress
from beholder.media.conditional import WriteConflictError, create
from beholder.media.storage import StorageError, explained, open_filesystem
from beholder.ranking import DEFAULT_Z, Field, Rule, StdNodes

log = logging.getLogger(__name__)


class RankConfig(JobConfig):
    """Which snapshot to rank."""

    catalog: Location = ConfigField(description="URI of the catalog's folder")
    snapshot: str | None = ConfigField(
        None, description="which, as 2026-11-20.0; none: the one that readers see"
    )
    z: float = ConfigField(
        DEFAULT_Z,
        ge=0,
        description="stds below the mean at which lower_bound takes an item; 1 asks for 84% "
        "certainty, 1.645 for 95%",
    )
    tasks: int | None = ConfigField(
        None, ge=1, description="tasks at a time, a CPU each; none: as many as there are CPUs"
    )

    @field_validator("catalog")
    @classmethod
    def _no_slash(cls, catalog: str) -> str:
        return catalog.rstrip("/")


def rank_catalog(config: RankConfig) -> tuple[RankRecord, bool]:
    """Ranks a snapshot, unless it is ranked.

    Returns:
        The record of its ranks, and whether this call made it.

    Raises:
        CatalogError: there is no such snapshot, a task can't read or write a file, or what was
            written is not what was scored.
        UserError: it was ranked with another ``z``; or Ray gave up.
        StorageError: the storage can't be used.
    """
    snapshot = open_snapshot(config.catalog, config.snapshot)
    standing = find_ranks(snapshot.layout, snapshot.id)
    if standing is not None:
        return _checked(standing, config), False
    connect()
    attempt = uuid.uuid4().hex[:12]
    parcels = snapshot.layout.ranks_file(snapshot.id, attempt, "parcels")
    try:
        record = _made(snapshot, config, attempt)
    except BaseException:
        with suppress(StorageError):  # tasks may still write there: what they leave is garbage
            _remove(parcels)
        raise
    _remove(parcels)
    try:
        patiently(lambda: create(snapshot.layout.ranks(snapshot.id), record.encode()))
    except WriteConflictError:  # another job was first, with the same ranks in files of its own
        theirs = find_ranks(snapshot.layout, snapshot.id)
        if theirs is None:
            raise CatalogError(
                f"ranks of {snapshot.id} were written and erased this moment: run the job again"
            ) from None
        return _checked(theirs, config), False
    return record, True


def _made(snapshot: Snapshot, config: RankConfig, attempt: str) -> RankRecord:
    try:
        return _Ranking(snapshot, config, attempt).make()
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"Ray gave up on the ranks of {snapshot.id} ({reason}): nothing is published, run the "
            "job again once the cluster is well"
        ) from error


def _checked(standing: RankRecord, config: RankConfig) -> RankRecord:
    if standing.z != config.z:
        raise UserError(
            f"{standing.snapshot} is ranked with z {standing.z:g} and not {config.z:g}: a "
            f"snapshot is ranked once, set z to {standing.z:g} or rank the next one"
        )
    return standing


def _remove(uri: str) -> None:
    filesystem, path = open_filesystem(uri)
    with explained(uri):
        if filesystem.exists(path):
            filesystem.rm(path, recursive=True)


@dataclass(frozen=True)
class _Ranking:
    """One attempt."""

    snapshot: Snapshot
    config: RankConfig
    attempt: str

    def make(self) -> RankRecord:
        """Writes all files, and gives the record that names them."""
        joined = self._join()
        groups, samples = _groups(joined.tasks)
        event(log, "rank.groups", items=joined.items, groups=len(groups), large=len(samples))
        plan = OrderPlan(groups, self.config.z)
        first = plan.ordered_by((Rule.MEAN, Rule.LOWER_BOUND), samples)
        parts, slices, weights = self._order(first, joined.lookup)
        fields = {
            number: Field(groups[number].nodes, weights[number], list(map(read_slice, found)))
            for number, found in slices.items()
        }
        second = replace(plan, fields=fields).ordered_by((Rule.EXPECTED_RANK,), samples)
        parts |= self._order(second, joined.lookup)[0]
        self._check(parts, joined)
        return RankRecord(
            snapshot=str(self.snapshot.id),
            fingerprint=self.snapshot.record.fingerprint,
            made_at=datetime.now(UTC),
            buckets=self.snapshot.record.buckets,
            items=joined.items,
            z=self.config.z,
            tasks={task: joined.about(task) for task in joined.tasks},
            lookup={bucket: Part(**part) for bucket, part in joined.lookup.items()},
            ranks={rule: tuple(part.file for part in some) for rule, some in parts.items()},
        )

    def _join(self) -> "_Joined":
        """Writes the look-up files."""
        tasks, buckets = JoinPass(self.snapshot), range(self.snapshot.record.buckets)
        count = len(buckets)
        split = self._each("split", tasks.split, [(b, self._parcels("split", b)) for b in buckets])
        sent = {self._parcels("split", b): split[b]["ranges"] for b in buckets}
        asked = [(b, p, self._parcels("join", b)) for b, p in enumerate(addressed(sent, count))]
        join = self._each("join", tasks.join, asked)
        about = _agreed(join, self.snapshot)
        sizes = {
            task: len(known["support"]) if _keeps_probs(known) else 0
            for task, known in about.items()
        }
        sent = {self._parcels("join", b): join[b]["ranges"] for b in buckets}
        parcels = addressed(sent, count)
        look_up = self._each(
            "look_up",
            tasks.look_up,
            [(b, parcels[b], split[b]["rows"], sizes, self._file("lookup", b)) for b in buckets],
        )
        kinds: Counter[str] = Counter()
        for answer in split:
            kinds.update(answer["by_kind"])
        lookup = {
            b: {
                "path": self.snapshot.layout.relative(self._file("lookup", b)),
                "rows": look_up[b]["rows"],
                "sha256": look_up[b]["sha256"],
            }
            for b in buckets
            if look_up[b]["rows"]
        }
        told = {task: [a["tasks"][task] for a in look_up if a["tasks"]] for task in about}
        return _Joined(self.snapshot, kinds, lookup, about, told)

    def _order(
        self, plan: OrderPlan, lookup: Mapping[int, dict[str, Any]]
    ) -> tuple[dict[str, list["_Ranked"]], dict[int, list[Any]], dict[int, Any]]:
        """Writes the ranks by a plan's rules; the parts by rule, slices and weights by group."""
        name = "-".join(plan.first)
        uris = [self._parcels(name, bucket) for bucket in lookup]
        asked = list(zip(lookup.values(), uris, strict=True))
        routed = self._each(f"route {name}", OrderPass(self.snapshot.layout, plan).route, asked)
        weights = {
            int(number): np.sum([r["weights"][number] for r in routed if number in r["weights"]], 0)
            for number in {number for r in routed for number in r["weights"]}
        }
        plan = replace(plan, weights=weights)
        sent = {uri: answer["ranges"] for uri, answer in zip(uris, routed, strict=True)}
        parcels = addressed(sent, len(plan.ranges))
        before = _rows_before(plan, [answer["counts"] for answer in routed])
        numbers = [
            plan.ranges[: place + 1].count(rule) - 1 for place, rule in enumerate(plan.ranges)
        ]
        uris = [self._file(rule, n) for rule, n in zip(plan.ranges, numbers, strict=True)]
        answers = self._each(
            f"order {name}",
            OrderPass(self.snapshot.layout, plan).order,
            [(p, parcels[p], before[p], uris[p]) for p in range(len(plan.ranges))],
        )
        parts: dict[str, list[_Ranked]] = {rule: [] for rule in plan.first}
        slices: dict[int, list[Any]] = {}
        for rule, uri, answer in zip(plan.ranges, uris, answers, strict=True):
            path = self.snapshot.layout.relative(uri)
            file = Part(path=path, rows=answer["rows"], sha256=answer["sha256"])
            parts[rule].append(_Ranked(file, answer["counts"], answer["digests"]))
            for number, found in answer["slices"].items():
                slices.setdefault(int(number), []).append(found)
        return parts, slices, weights

    def _check(self, parts: Mapping[str, Iterable["_Ranked"]], joined: "_Joined") -> None:
        """Raises unless every scored item has one rank by each of its tasks and their rules."""
        for task in joined.tasks:
            about, digest = joined.about(task), joined.digest(task)
            expected = {"the plan of its kinds": (joined.wanted(task), digest)}
            for rule, some in parts.items():
                if rule == Rule.MEAN or about.spread:
                    count = sum(part.counts.get(task, 0) for part in some)
                    ids = sum(part.digests.get(task, 0) for part in some) % 2**64
                    expected[f"the ranks by {rule}"] = (count, ids)
            for where, (rows, ids) in expected.items():
                if (rows, ids) != (about.rows, digest):
                    raise CatalogError(
                        f"{self.snapshot.layout.root}: {about.rows} items of {self.snapshot.id} "
                        f"have scores for '{task}', and {where} hold {rows} or others: "
                        "nothing is published; keep the folder and report it, it is a bug"
                    )

    def _each(
        self, label: str, task: Callable[..., dict[str, Any]], asked: Sequence[tuple[Any, ...]]
    ) -> list[dict[str, Any]]:
        """What a task answers to each of these arguments, in their order."""
        rows = pa.table({"place": range(len(asked)), "asked": [json.dumps(one) for one in asked]})
        if not asked:
            return []
        data = in_blocks(rows, len(asked)).map_batches(
            functools.partial(_answer, task),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
            concurrency=self.config.tasks,
        )
        answers: list[dict[str, Any]] = [{}] * len(asked)
        tables: Iterable[Any] = data.iter_batches(batch_size=None, batch_format="pyarrow")
        for table in progress(tables, len(asked), label):
            for row in table.to_pylist():
                answer = json.loads(row["answer"])
                if "refused" in answer:
                    raise CatalogError(answer["refused"])
                answers[row["place"]] = answer["said"]
        return answers

    def _file(self, folder: str, number: int) -> str:
        ending = "arrow" if folder == "lookup" else "parquet"
        name = f"{folder}/{number:05d}.{ending}"
        return self.snapshot.layout.ranks_file(self.snapshot.id, self.attempt, name)

    def _parcels(self, step: str, sender: int) -> str:
        name = f"parcels/{step}/{sender:05d}"
        return self.snapshot.layout.ranks_file(self.snapshot.id, self.attempt, name)


@dataclass(frozen=True)
class _Ranked:
    file: Part
    counts: dict[str, int]
    digests: dict[str, int]


@dataclass(frozen=True)
class _Joined:
    """The look-up files, and what their tasks told: by task, an answer a bucket."""

    snapshot: Snapshot
    kinds: Counter[str]
    lookup: dict[int, dict[str, Any]]
    known: dict[str, dict[str, Any]]
    tasks: dict[str, list[dict[str, Any]]]

    @property
    def items(self) -> int:
        """With and without scores."""
        return sum(part["rows"] for part in self.lookup.values())

    def wanted(self, task: str) -> int:
        """Items that must have a score, by their kind and state."""
        by_kind = self.snapshot.record.tasks
        return sum(n for kind, n in self.kinds.items() if task in by_kind.get(kind, ()))

    def digest(self, task: str) -> int:
        """Of the ids of all items with a score."""
        return sum(told["digest"] for told in self.tasks[task]) % 2**64

    def about(self, task: str) -> RankedTask:
        """What the record says of it."""
        known = self.known[task]
        groups = [group for told in self.tasks[task] for group in told["groups"].values()]
        return RankedTask(
            scale=known["scale"],
            support=known["support"] if _keeps_probs(known) else None,
            spread=known["spread"],
            rows=sum(group["n"] for group in groups),
        )


def _keeps_probs(known: Mapping[str, Any]) -> bool:
    return known["support"] is not None and len(known["support"]) <= MOST_PROBS


def _agreed(join: Iterable[dict[str, Any]], snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """What all buckets say of each task that has scores."""
    found: dict[str, dict[str, Any]] = {}
    for answer in join:
        for task, about in answer["tasks"].items():
            known = found.setdefault(task, about)
            known["spread"] &= about["spread"]
            if (known["scale"], known["support"]) != (about["scale"], about["support"]):
                raise CatalogError(
                    f"{snapshot.layout.root}: '{task}' has scores of one scorer on two scales or "
                    f"supports in {snapshot.id}: audit the snapshot before it is ranked"
                )
    return {task: found[task] for task in ranked_tasks(snapshot) if task in found}


def _groups(
    tasks: Mapping[str, Sequence[dict[str, Any]]],
) -> tuple[tuple[Group, ...], dict[int, Sample]]:
    """All groups in order, and samples of the large ones by number."""
    groups: list[Group] = []
    samples: dict[int, Sample] = {}
    for task, told in tasks.items():
        large: dict[str, int] = {}
        for segment in sorted({segment for answer in told for segment in answer["groups"]}):
            own = [a["groups"][segment] for a in told if segment in a["groups"]]
            lows, highs = ([g[k] for g in own if g["low"] is not None] for k in ("low", "high"))
            nodes = StdNodes(min(lows), max(highs)) if lows else StdNodes(1.0, 1.0)
            count, spread = sum(g["n"] for g in own), not any(g["points"] for g in own)
            if count > RANGE_ROWS:
                large[segment] = len(groups)
            groups.append(Group(task, segment, count, spread, nodes))
        samples |= _samples(told, large)
    return tuple(groups), samples


def _samples(told: Iterable[dict[str, Any]], large: Mapping[str, int]) -> dict[int, Sample]:
    """By a group's number, what buckets told of its rows."""
    rows: dict[str, list[tuple[float, float, str]]] = {segment: [] for segment in large}
    for answer in told:
        columns = (answer["sample"][name] for name in ("segment", "mean", "std", "item_id"))
        for segment, mean, std, item_id in zip(*columns, strict=True):
            if segment in rows:
                rows[segment].append((mean, np.nan if std is None else std, item_id))
    found = {}
    for segment, some in rows.items():
        if not some:
            continue  # never of a segment of thousands; then it stays in one range
        mean, std, ids = zip(*some, strict=True)
        found[large[segment]] = Sample(np.array(mean), np.array(std), ids)
    return found


def _rows_before(
    plan: OrderPlan, counts: Iterable[dict[str, dict[str, int]]]
) -> list[dict[str, int]]:
    """By range and group, the group's rows in earlier ranges of the rule."""
    here: list[Counter[str]] = [Counter() for _ in plan.ranges]
    for answer in counts:
        for place, some in answer.items():
            here[int(place)].update(some)
    before: list[dict[str, int]] = []
    passed: dict[Rule, Counter[str]] = {rule: Counter() for rule in plan.first}
    for rule, some in zip(plan.ranges, here, strict=True):
        before.append({number: passed[rule][number] for number in some})
        passed[rule].update(some)
    return before


def _answer(task: Callable[..., dict[str, Any]], rows: pa.Table) -> pa.Table:
    """Runs a task for each row, on a worker. What it refuses is told: Ray would bury it."""
    answers: list[dict[str, Any]] = []
    for asked in rows["asked"].to_pylist():
        try:
            answers.append({"said": task(*json.loads(asked))})
        except UserError as error:
            answers.append({"refused": str(error)})
    return pa.table({"place": rows["place"], "answer": [json.dumps(one) for one in answers]})
