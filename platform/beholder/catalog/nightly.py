"""A night over a catalog, from lease to report: what the other files do, in order.

Whatever ends it, the same command goes on from there: the plan is made once, chunks are committed
once, a snapshot is written under names of its own and seen only when HEAD names it.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import ray

from beholder.catalog.audit import audit
from beholder.catalog.checks import JUDGEMENTS
from beholder.catalog.config import NightlyConfig, ReplayConfig
from beholder.catalog.current_scorer import settle_current, with_current_scorer
from beholder.catalog.cut_short import cut_short
from beholder.catalog.head import finish, next_revision, publish, read_head, refuse_lost_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease, wait_until_free
from beholder.catalog.ledger import Commit, read_chunk
from beholder.catalog.patience import patiently
from beholder.catalog.plan import Plan, make_plan, read_rows
from beholder.catalog.prepare import DoneChunk, prepare
from beholder.catalog.record import Record, lineage
from beholder.catalog.scoring_pass import Assignment, Crew, score_chunks
from beholder.catalog.session import connect
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.catalog.telling import tell, tell_late
from beholder.errors import UserError
from beholder.items import FailureCode
from beholder.logs import event
from beholder.scoring import PanelCheck, ScorerOutline, check_panel, load_scorer, outline_scorer

log = logging.getLogger(__name__)

OutcomeName = Literal["published", "partial", "refused", "standing"]
EXIT_CODES: Mapping[str, int] = {"published": 0, "standing": 0, "refused": 3, "partial": 4}
"""``standing``: the date was published before, and nothing was done. ``partial``: published, with
items left out by a limit."""


@dataclass(frozen=True)
class Outcome:
    """How a night ended.

    Attributes:
        name: see :data:`EXIT_CODES`.
        record: the snapshot's; of a refused one, what was refused.
        refused: the checks that failed.
        report: URI of the page; None where one stands from before.
    """

    name: OutcomeName
    record: Record
    refused: tuple[str, ...] = ()
    report: str | None = None

    @property
    def exit_code(self) -> int:
        """Of the job."""
        return EXIT_CODES[self.name]


def say(outcome: Outcome) -> str:
    """How a night ended, for whoever started it."""
    record = outcome.record
    if outcome.name == "standing":
        if outcome.report is None:
            return f"{record.id} was published before: nothing was done"
        lines = [f"{record.id} was published before, and its report was missing"]
    elif outcome.name == "refused":
        lines = [f"{record.id} is REFUSED: readers see what they saw"]
        for check in record.audit["checks"]:
            if check["name"] in outcome.refused:
                lines.append(
                    "  " + " ".join([f"{check['name']}: {check['sentence']}", *check["offending"]])
                )
        judged = [name for name in outcome.refused if name in JUDGEMENTS]
        if judged and len(judged) == len(outcome.refused):
            lines.append(
                f"accept it (--set audit.accept.{judged[0]}='why' ...), or mend the cause, remove "
                f"{(outcome.report or '').rpartition('/')[0]}/ and run the date again, which looks "
                "at all anew"
            )
    else:
        counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in record.counts.items())
        lines = [f"{record.id} is published ({outcome.name}): {counts}"]
    return "\n".join([*lines, f"report at {outcome.report}"])


def _standing(config: NightlyConfig, layout: Layout, run: RunId, holder: str) -> Outcome | None:
    """What earlier drivers of a run and of its date's revisions have left to say.

    Returns:
        Of the newest snapshot of the date whose report was missing, or of the run's own; None
        where the run has not come as far.
    """
    record = finish(layout, run, holder)
    if record is None:
        return None
    settle_current(layout)
    told = [(seen, tell_late(config, seen)) for seen in _of_date(layout, run.date)]
    late = [Outcome("standing", seen, (), report) for seen, report in told if report is not None]
    return late[0] if late else Outcome("standing", record)


def _of_date(layout: Layout, date: str) -> list[Record]:
    """The snapshots of a date that are published, newest first."""
    head = read_head(layout)
    found = lineage(layout, head.snapshot if head else None)
    return [record for record in found if RunId.parse(record.id).date == date]


@dataclass
class _Clock:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        event(log, f"{stage} begins")
        yield
        self.seconds[stage] = time.monotonic() - began


def run_night(config: NightlyConfig) -> Outcome:
    """Scores what is new or changed, proves that nothing was lost, and publishes.

    Raises:
        LeaseTakenError: another driver works on the date; LeaseLostError: it has taken it over.
        EarlierDateError: readers see a later date.
        UserError: config, manifest, scorer or storage are not usable; or Ray has given up. What
            is committed stands.
    """
    config = with_current_scorer(config)
    layout, run = Layout(config.catalog), RunId(config.logical_date)
    outline = patiently(lambda: outline_scorer(config.scorer))
    with Lease(layout.lease(run.date), config.lease_seconds, config.take_over) as lease:
        wait_until_free(layout.erasing)
        parent = current(layout, run)
        # Of a date that readers see the night's own record may have been collected as garbage.
        seen = parent.id if parent is not None and parent.id.date == run.date else run
        standing = _standing(config, layout, seen, lease.holder)
        if standing is not None:
            return standing
        clock = _Clock()
        with clock("plan"):
            plan = make_plan(config, parent, outline, run)
        return carry_out(config, plan, parent, outline, lease, clock.seconds)


def replay(config: ReplayConfig) -> Outcome:
    """Looks again at what failed in the snapshot that readers see, and publishes a revision of it.

    Also what the manifest has changed since is looked at; all else stands.

    Args:
        config: of the night that is replayed; its ``logical_date`` must be that snapshot's.

    Raises:
        UserError: readers see another date, a code is none; or what :func:`run_night` raises.
    """
    for code in config.codes:
        if code not in list(FailureCode):
            raise UserError(f"'{code}' is no failure's code: use one of {', '.join(FailureCode)}")
    night = with_current_scorer(config)
    layout = Layout(night.catalog)
    outline = patiently(lambda: outline_scorer(night.scorer))
    with Lease(layout.lease(night.logical_date), night.lease_seconds, night.take_over) as lease:
        wait_until_free(layout.erasing)
        parent = current(layout)
        if parent is None or parent.id.date != night.logical_date:
            seen = "nothing" if parent is None else str(parent.id)
            raise UserError(
                f"logical date {night.logical_date} can't be replayed, readers of "
                f"{night.catalog} see {seen}: name that date"
            )
        standing = _standing(night, layout, parent.id, lease.holder)
        assert standing is not None
        codes = list(config.codes)
        if standing.report is not None and standing.record.config.get("codes") == codes:
            return standing  # an earlier driver of this replay had left nothing else to do
        run, recorded = next_revision(layout, parent.record, outline.file.fingerprint)
        standing = _standing(night, layout, run, lease.holder) if recorded else None
        if standing is not None:
            return standing
        clock = _Clock()
        with clock("plan"):
            plan = make_plan(night, parent, outline, run, config.codes or tuple(FailureCode))
        return carry_out(night, plan, parent, outline, lease, clock.seconds)


def current(layout: Layout, run: RunId | None = None) -> Snapshot | None:
    """The snapshot that readers see; None before the first publication.

    Args:
        layout: of the catalog.
        run: that asks, and may have recorded the first one already.

    Raises:
        DamagedError: HEAD, or what it names, is gone or damaged.
        StorageError: the storage can't be used.
    """
    if read_head(layout) is not None:
        return open_snapshot(layout.root)
    refuse_lost_head(layout, run)
    return None


def carry_out(
    config: NightlyConfig,
    plan: Plan,
    parent: Snapshot | None,
    outline: ScorerOutline,
    lease: Lease,
    seconds: dict[str, float],
) -> Outcome:
    """A plan's chunks, the snapshot that they make, its audit, and its publication or refusal.

    Args:
        config: of the night.
        plan: of the run.
        parent: the snapshot that the plan starts from.
        outline: of the scorer.
        lease: of the date.
        seconds: wall time by stage so far; more are added.
    """
    layout, clock = Layout(config.catalog), _Clock(seconds)
    parent = parent and replace(parent, erasures=plan.erasures)
    connect()
    with clock("score"):
        commits, plan = _score(config, plan, parent, outline, lease)
    with clock("write"):
        record = _prepared(config, plan, parent, commits)
    with clock("audit"):
        found = audit(Snapshot(layout, record), plan, config.audit, _panel(config))
    about = {"audit": found.as_record(), "drift": found.drift_record()}
    record = record.model_copy(update=about | {"seconds": dict(clock.seconds)})
    name: OutcomeName = "partial" if record.left_out else "published"
    name = "refused" if found.refused else name
    if not found.refused:
        with clock("publish"):
            lease.check()
            publish(layout, record, lease.holder)
            settle_current(layout)
    where = tell(config, record, name, plan.made_at, commits, clock.seconds)
    return Outcome(name, record, found.refused, where)


def _score(
    config: NightlyConfig,
    plan: Plan,
    parent: Snapshot | None,
    outline: ScorerOutline,
    lease: Lease,
) -> tuple[dict[int, Commit], Plan]:
    """The commits, and the plan as far as it was carried out before the deadline."""
    layout = Layout(config.catalog)
    assignment = Assignment(
        layout=layout,
        run=RunId.parse(plan.run),
        scorer=config.scorer,
        fingerprint=plan.fingerprint,
        pixels=outline.pixels,
        tasks=config.tasks,
        limits=config.limits(),
        decode_seconds=config.decode_seconds,
        places=config.places(),
    )
    crew = Crew(config.decoders, (1, config.scorers), config.cpus, config.gpus)
    until = None
    if config.deadline_hours is not None:
        # From the plan on, so that a night that is killed and run again isn't given longer.
        until = plan.made_at.timestamp() + 3600 * config.deadline_hours
    chunks = list(plan.chunks())
    commits = score_chunks(chunks, assignment, crew, lease, until)
    if len(commits) < len(chunks):
        plan = cut_short(layout, plan, commits, parent, "deadline")
    return commits, plan


def _prepared(
    config: NightlyConfig, plan: Plan, parent: Snapshot | None, commits: Mapping[int, Commit]
) -> Record:
    layout = Layout(config.catalog)
    draft = plan.draft(config.model_dump(mode="json"))
    settled = read_rows(layout, plan.settled)
    return prepare(layout, draft, parent, _done(layout, plan, commits), settled)


def _done(layout: Layout, plan: Plan, commits: Mapping[int, Commit]) -> Iterator[DoneChunk]:
    planned = read_rows(layout, plan.files, ["item_id"])
    for chunk, rows in zip(plan.chunks(), planned, strict=True):
        record = commits[chunk.number]
        uri = layout.absolute(record.path)
        yield DoneChunk(rows["item_id"], read_chunk(layout, record), uri)


def _panel(config: NightlyConfig) -> PanelCheck:
    """What the scorer says of its panel, on a machine as those that scored."""
    look = ray.remote(num_cpus=config.cpus, num_gpus=config.gpus)(_look_at_panel)
    device = "cuda" if config.gpus else "cpu"
    check: PanelCheck = ray.get(look.remote(config.scorer, device))
    return check


def _look_at_panel(scorer: str, device: str) -> PanelCheck:
    return check_panel(patiently(lambda: load_scorer(scorer, device)))
