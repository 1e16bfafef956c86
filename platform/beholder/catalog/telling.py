"""What a night says when it is over: its report, and a webhook's message.

All of it is made from what the run has left in the catalog, so that whoever runs a date again
whose driver died between publication and report still gets the report.
"""

from collections.abc import Mapping
from datetime import datetime

from beholder.catalog.audit import last_nights, pooled
from beholder.catalog.checks import Audit
from beholder.catalog.config import NightlyConfig
from beholder.catalog.estimate import spent_money
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.ledger import Commit, committed
from beholder.catalog.patience import patiently
from beholder.catalog.plan import read_plan
from beholder.catalog.record import Record
from beholder.catalog.report import PAGE, Night, make_report, write_report
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.tables import KEPT, WORK
from beholder.catalog.tombstones import read_tombstones
from beholder.catalog.webhook import notify
from beholder.media.storage import exists


def tell(
    config: NightlyConfig,
    record: Record,
    outcome: str,
    planned_at: datetime,
    commits: Mapping[int, Commit],
    seconds: Mapping[str, float],
) -> str:
    """Sends a night's summary to the webhook and writes its report; returns the page's URI.

    The page comes last: where it is, all of this was done. Whoever dies on the way is made up for
    by :func:`tell_late`, so that the webhook may hear of a night twice, but never not at all.

    Args:
        config: of the night.
        record: of its snapshot, audited.
        outcome: one of ``report.OUTCOMES``.
        planned_at: when its plan stood.
        commits: of its chunks.
        seconds: wall time by stage.

    Raises:
        StorageError: the storage can't be used.
    """
    layout = Layout(config.catalog)
    past = last_nights(Snapshot(layout, record), config.audit.drift_nights)
    audit = Audit.from_records(record.audit, record.drift, pooled(past))
    erased = read_tombstones(layout)  # also what came while the night was at work
    night = Night(
        record=record,
        audit=audit.without(lambda item: erased.find(item) is not None),
        outcome=outcome,
        planned_at=planned_at,
        plan={name: record.counts.get(name, 0) for name in (*WORK, *KEPT)},
        commits=list(commits.values()),
        seconds=seconds,
        cost=spent_money(seconds["score"], config),
    )
    report = make_report(night)
    if config.webhook:
        notify(config.webhook, report.summary)
    return write_report(layout, report)


def tell_late(config: NightlyConfig, record: Record) -> str | None:
    """:func:`tell` of a published night that nobody has told of.

    Returns:
        The page's URI; None where it is there, or where the run has been collected as garbage.

    Raises:
        StorageError: the storage can't be used.
    """
    layout, run = Layout(config.catalog), RunId.parse(record.id)
    if patiently(lambda: exists(f"{layout.run(run)}/{PAGE}")):
        return None
    plan = read_plan(layout, run)
    if plan is None:
        return None
    commits = committed(layout, run, [chunk.number for chunk in plan.chunks()])
    outcome = "partial" if record.left_out else "published"
    return tell(config, record, outcome, plan.made_at, commits, record.seconds)
