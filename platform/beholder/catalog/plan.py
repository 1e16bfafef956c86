"""A night's plan: which items it looks at, chunk by chunk, written once and then only read.

``plan.json`` is made by a conditional write, after the files that it names: of two drivers one
wins and the other goes on with its plan, and so does a driver that is started again.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa
from pydantic import ValidationError

from beholder.catalog.changes import Rules
from beholder.catalog.chunks import (
    FILE_CHUNKS,
    Chunk,
    PlanFile,
    cut,
    damaged,
    plan_parquet,
    write_groups,
)
from beholder.catalog.config import BUCKETS, NightlyConfig
from beholder.catalog.estimate import Estimate, Rates, estimate, measured_rates
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.manifest_files import ManifestFiles
from beholder.catalog.patience import patiently
from beholder.catalog.record import Record, Stored, read_if_there
from beholder.catalog.selection import Tally, select
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.survey import Cut, Survey, survey
from beholder.catalog.tombstones import Tombstones, read_tombstones
from beholder.errors import UserError
from beholder.media.conditional import WriteConflictError, create
from beholder.scoring import ScorerOutline, tasks_by_kind

SETTLED_ROWS = 262_144
"""Rows a file of those that are settled without a look."""


class PlanError(UserError):
    """A plan that can't be made or gone on with."""


class EarlierDateError(PlanError):
    """A logical date before the one that readers see: published, it would take them back."""

    exit_code = 3


class Aim(Stored):
    """What a plan is made for: another one is another plan."""

    run: str
    """that it is the plan of"""
    parent: str | None
    """id of the snapshot that it starts from; None on a catalog's first night"""
    manifest: ManifestFiles
    """files and their versions"""
    fingerprint: str
    """of the scorer"""
    tasks: dict[str, tuple[str, ...]]
    """by media kind"""
    buckets: int
    """of the catalog"""


class Plan(Aim):
    """What a night does."""

    made_at: datetime
    erasures: tuple[str, ...] = ()
    """ids of those that the whole run holds to; readers apply later ones to what it makes"""
    scorer: str
    """URI of the scorer's folder"""
    files: tuple[PlanFile, ...]
    """planned rows, schema ``tables.PLANNED``, a row group a chunk"""
    settled: tuple[PlanFile, ...]
    """rows of schema ``tables.ITEMS`` that go into the new state as they are, for items that are
    not looked at: removed ones, stale ones, and those of which only owner, segment or date has
    changed"""
    tally: Tally
    """every item by what becomes of it"""
    estimate: Estimate | None
    """hours and money, where they were asked for"""
    config: dict[str, Any]
    """of the run, resolved"""

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, in the order in which they shall be begun."""
        for file in self.files:
            for group in file.reached:
                yield Chunk(file.first + group, file.path, group, file.groups[group])

    def draft(self, config: dict[str, Any]) -> Record:
        """The record of the snapshot that this plan makes, without files.

        Args:
            config: of the run that carries it out, resolved.
        """
        return Record(
            id=self.run,
            parent=self.parent,
            created_at=datetime.now(UTC),
            buckets=self.buckets,
            scorer=self.scorer,
            fingerprint=self.fingerprint,
            tasks=self.tasks,
            manifest={"uri": self.manifest.uri, "version": self.manifest.version},
            config=config,
            counts=self.tally.counts,
            left_out=self.tally.left_out,
        )


def make_plan(
    config: NightlyConfig,
    parent: Snapshot | None,
    outline: ScorerOutline,
    run: RunId,
    again: tuple[str, ...] = (),
) -> Plan:
    """The plan of a run: the one that stands already, or a new one.

    Args:
        config: of the night.
        parent: the snapshot that HEAD names; None on a catalog's first night.
        outline: of the night's scorer.
        run: to plan.
        again: codes of failures that are tried again whatever their policy says.

    Raises:
        EarlierDateError: readers see a later date than the run's.
        PlanError: a plan stands that was made for something else; or ``buckets`` or the scorer
            are not the catalog's.
        ManifestError: the manifest is refused.
        UserError: what :func:`~beholder.catalog.estimate.measured_rates` raises, where there is a
            deadline or a budget.
        StorageError: the storage can't be used.
    """
    layout = Layout(config.catalog)
    aim = _aim(config, parent, outline, run)
    standing = read_plan(layout, run)
    if standing is not None:
        return _checked(standing, aim)
    erased = read_tombstones(layout)
    with _surveyed(config, parent, aim, erased, again) as found:
        bound = config.deadline_hours is not None or config.budget is not None
        rates = _rates(config, found, aim) if bound else None
        taken, tally = select(found, config, rates, aim.buckets)
        files, settled = _write(layout, run, found, taken, config.chunk)
    plan = Plan(
        **dict(aim),
        made_at=datetime.now(UTC),
        erasures=erased.ids,
        scorer=config.scorer,
        files=files,
        settled=settled,
        tally=tally,
        estimate=rates and estimate(tally.kinds, rates, config),
        config=config.model_dump(mode="json"),
    )
    assert sum(sum(file.groups) for file in files) == sum(tally.kinds.values()), tally
    try:
        patiently(lambda: create(layout.plan(run), plan.encode()))
    except WriteConflictError:
        theirs = read_plan(layout, run)
        assert theirs is not None
        return _checked(theirs, aim)
    return plan


def preview(
    config: NightlyConfig, parent: Snapshot | None, outline: ScorerOutline, run: RunId
) -> tuple[Tally, Estimate]:
    """What a plan made now would hold and take; only the measured speed is kept.

    Arguments and errors are those of :func:`make_plan`.
    """
    aim = _aim(config, parent, outline, run)
    with _surveyed(config, parent, aim, read_tombstones(Layout(config.catalog))) as found:
        rates = _rates(config, found, aim)
        _, tally = select(found, config, rates, aim.buckets)
    return tally, estimate(tally.kinds, rates, config)


def read_plan(layout: Layout, run: RunId) -> Plan | None:
    """A run's plan; None where there is none.

    Raises:
        DamagedPlanError: what stands there is no JSON.
        PlanError: it is no plan of this version.
        StorageError: the storage can't be used.
    """
    data = read_if_there(layout.plan(run))
    try:
        return None if data is None else Plan.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise damaged(layout.plan(run), fault["msg"]) from None
        raise PlanError(
            f"{layout.plan(run)} is no plan of this version ({fault['msg']}): finish "
            "the run with the version that planned it"
        ) from None


def read_rows(
    layout: Layout, files: Iterable[PlanFile], columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a plan's files, a row group at a time.

    Args:
        layout: of the catalog.
        files: ``plan.files`` or ``plan.settled``.
        columns: which; None for all.

    Raises:
        DamagedPlanError: one is not what was written.
        StorageError: one can't be read.
    """
    for file in files:
        uri = layout.absolute(file.path)
        with plan_parquet(uri) as parquet:
            for group in file.reached:
                yield parquet.read_row_group(group, columns)


def comparable(parent: Snapshot | None, aim: Aim) -> bool:
    """Whether a snapshot's scores are of the tasks that a plan is for; its scorer they are of."""
    return parent is not None and parent.record.tasks == aim.tasks


def _check_date(config: NightlyConfig, parent: Snapshot, run: RunId) -> None:
    if run.date < parent.id.date:
        raise EarlierDateError(
            f"logical date {run.date} is refused, readers of {config.catalog} see {parent.id}, "
            "which is later: run a later date, or first take readers back to a snapshot before "
            f"{run.date} with jobs/rollback.py"
        )


def _check_scorer(config: NightlyConfig, parent: Snapshot, outline: ScorerOutline) -> None:
    mine, theirs = outline.file.fingerprint, parent.record.fingerprint
    if mine != theirs:
        raise PlanError(
            f"{config.scorer} has fingerprint {mine}, but readers of {config.catalog} see scores "
            f"of {theirs}: set scorer=current, and shadow.scorer={config.scorer} to fill a shadow "
            "with it, which jobs/promote_scorer.py lets them see"
        )


def _aim(config: NightlyConfig, parent: Snapshot | None, outline: ScorerOutline, run: RunId) -> Aim:
    buckets = config.buckets or BUCKETS
    if parent is not None:
        _check_date(config, parent, run)
        _check_scorer(config, parent, outline)
        buckets = parent.record.buckets
        if config.buckets not in (None, buckets):
            raise PlanError(
                f"buckets is {config.buckets}, but {config.catalog} has {buckets} since its first "
                f"night: set buckets={buckets}, or leave it out"
            )
    return Aim(
        run=str(run),
        parent=None if parent is None else str(parent.id),
        manifest=ManifestFiles.find(config.manifest),
        fingerprint=outline.file.fingerprint,
        tasks=tasks_by_kind(outline.file.tasks, config.tasks),
        buckets=buckets,
    )


def _checked(plan: Plan, aim: Aim) -> Plan:
    """The plan, if it is for the same."""
    shown = {
        "manifest": lambda aim: (
            f"{aim.manifest.uri} (version {aim.manifest.version}, {aim.manifest.rows} rows)"
        ),
    }
    for name in Aim.model_fields:
        if getattr(plan, name) != getattr(aim, name):
            show = shown.get(name, lambda aim, name=name: getattr(aim, name))
            raise PlanError(
                f"run {plan.run} is planned for {name} {show(plan)}, which is now {show(aim)}: "
                "go on with what it was planned for, or run another logical date"
            )
    return plan


@contextmanager
def _surveyed(
    config: NightlyConfig,
    parent: Snapshot | None,
    aim: Aim,
    erased: Tombstones,
    again: tuple[str, ...] = (),
) -> Iterator[Survey]:
    rules = Rules(
        run=aim.run,
        comparable=comparable(parent, aim),
        sample=config.sample,
        retry_nights=config.retry_nights,
        bounded=config.bounded(),
        again=again,
    )
    with survey(aim.manifest, parent, aim.buckets, rules, erased) as found:
        yield found


def _rates(config: NightlyConfig, found: Survey, aim: Aim) -> Rates:
    samples = {kind: found.first(kind, config.warm_up) for kind in found.kinds(found.cut(None))}
    if not samples:
        return Rates(setting={}, load_s=0.0, kinds={})
    cache = Layout(config.catalog).warm_up(RunId.parse(aim.run))
    return measured_rates(config, samples, aim.fingerprint, cache)


def _write(
    layout: Layout, run: RunId, found: Survey, taken: Cut, chunk: int
) -> tuple[tuple[PlanFile, ...], tuple[PlanFile, ...]]:
    """Plan files under a name of this attempt's own: planned rows, and settled ones."""
    attempt = uuid4().hex[:8]
    files = write_groups(
        cut(found.taken_rows(taken), chunk),
        FILE_CHUNKS,
        layout,
        lambda number: layout.plan_file(run, attempt, f"{number:06d}"),
    )
    settled = write_groups(
        found.settled_rows(taken, SETTLED_ROWS),
        1,
        layout,
        lambda number: layout.plan_file(run, attempt, f"settled-{number:06d}"),
    )
    return files, settled
