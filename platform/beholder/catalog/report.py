"""A night for the morning after: a page, the same as JSON, and metrics for Prometheus."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from beholder.catalog.checks import Audit, Example
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.ledger import Commit
from beholder.catalog.patience import patiently
from beholder.catalog.record import Record
from beholder.catalog.report_page import page
from beholder.catalog.thumbnails import thumbnail
from beholder.media.storage import write_bytes

PAGE = "report.html"
OUTCOMES = ("published", "partial", "refused")


@dataclass(frozen=True)
class Night:
    """All that a report tells of.

    Attributes:
        record: of the snapshot, published or refused.
        audit: of it.
        outcome: one of ``OUTCOMES``.
        planned_at: when its plan stood, and scoring began.
        plan: the plan's items by class, as ``new`` or ``left_out``.
        commits: the run's, by chunk.
        seconds: wall time by stage, as ``plan``, ``score``, ``publish``, ``audit``.
        cost: of the machine time, in the currency of the configured prices; None without prices.
    """

    record: Record
    audit: Audit
    outcome: str
    planned_at: datetime
    plan: Mapping[str, int]
    commits: Sequence[Commit]
    seconds: Mapping[str, float]
    cost: float | None = None


@dataclass(frozen=True)
class Report:
    """One night in three forms.

    Attributes:
        html: a page that loads nothing from elsewhere.
        summary: what ``report.json`` holds, and what a webhook gets.
        metrics: in Prometheus' text format.
    """

    html: str
    summary: dict[str, Any]
    metrics: str


def make_report(night: Night, picture: Callable[[Example], bytes | None] = thumbnail) -> Report:
    """A night's report.

    Args:
        night: what it is about.
        picture: an example's thumbnail as JPEG; None where there is none. It is asked for each
            item that the page shows, at most 12.
    """
    summary = summarise(night)
    return Report(page(summary, night.audit, night.commits, picture), summary, metrics(summary))


def write_report(layout: Layout, report: Report) -> str:
    """Writes a report into its run's folder, the page last; returns the page's URI.

    Raises:
        StorageError: the storage can't be used.
    """
    folder = layout.run(RunId.parse(report.summary["snapshot"]))
    data = json.dumps(report.summary, indent=1).encode()
    files = {"report.json": data, "metrics.prom": report.metrics.encode()}
    for name, content in (files | {PAGE: report.html.encode()}).items():
        patiently(functools.partial(write_bytes, f"{folder}/{name}", content))
    return f"{folder}/{PAGE}"


def summarise(night: Night) -> dict[str, Any]:
    """The night as JSON-ready data, pictures by their URIs."""
    record, audit = night.record, night.audit
    looked = sum(commit.rows for commit in night.commits)
    spent = night.seconds.get("score", 0.0)
    return {
        "snapshot": record.id,
        "parent": record.parent,
        "outcome": night.outcome,
        "refused_by": list(audit.refused),
        "planned_at": night.planned_at.isoformat(),
        "created_at": record.created_at.isoformat(),
        "manifest": record.manifest,
        "scorer": record.scorer,
        "fingerprint": record.fingerprint,
        "tasks": {kind: list(tasks) for kind, tasks in record.tasks.items()},
        "plan": dict(night.plan),
        "items": audit.items,
        "settled": audit.settled,
        "failures": dict(sorted(audit.failures.items(), key=lambda kv: (-kv[1], kv[0]))),
        "checks": [asdict(check) for check in audit.checks],
        "drift": [asdict(drift) for drift in audit.drift],
        "mass": audit.mass,
        "histograms": audit.drift_record()["histograms"],
        "worst": {task: [asdict(one) for one in some] for task, some in audit.worst.items()},
        "best": {task: [asdict(one) for one in some] for task, some in audit.best.items()},
        "looked_at": looked,
        "known": sum(commit.known for commit in night.commits),
        "chunks": len(night.commits),
        "actor_seconds": round(sum(commit.seconds for commit in night.commits), 3),
        "seconds": {stage: round(value, 3) for stage, value in night.seconds.items()},
        "items_per_second": round(looked / spent, 3) if spent else None,
        "cost": night.cost,
    }


def metrics(summary: Mapping[str, Any]) -> str:
    """A summary's figures in Prometheus' text format, for a node exporter's textfile collector.

    Every sample is a gauge of the last night; its date is ``beholder_catalog_snapshot_info``'s.
    """
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"beholder_catalog_{name}", text, labels, registry=registry)

    about = gauge("snapshot_info", "The night that all of these are of.", "snapshot", "fingerprint")
    about.labels(summary["snapshot"], summary["fingerprint"]).set(1)
    outcome = gauge("outcome", "1 for how the night ended.", "outcome")
    for name in OUTCOMES:
        outcome.labels(name).set(summary["outcome"] == name)
    items = gauge("items", "Items of the manifest by state.", "state")
    for state, count in summary["items"].items():
        items.labels(state).set(count)
    planned = gauge("planned_items", "Items by what the plan made of them.", "change")
    for change, count in summary["plan"].items():
        planned.labels(change).set(count)
    failures = gauge("failures", "Items looked at that have no new score, by code.", "code")
    for code, count in summary["failures"].items():
        failures.labels(code).set(count)
    checks = gauge("check_ok", "1 where a check of the audit holds.", "check")
    accepted = gauge("check_accepted", "1 where a failing check was accepted.", "check")
    for check in summary["checks"]:
        checks.labels(check["name"]).set(check["ok"])
        accepted.labels(check["name"]).set(check["accepted"] is not None)
    psi = gauge("drift_psi", "Population stability index.", "task", "segment")
    ks = gauge("drift_ks", "Kolmogorov-Smirnov distance.", "task", "segment")
    for drift in summary["drift"]:
        psi.labels(drift["task"], drift["segment"]).set(drift["psi"])
        ks.labels(drift["task"], drift["segment"]).set(drift["ks"])
    mass = gauge("mass_median", "Median probability on the readout's words.", "task")
    for task, value in summary["mass"].items():
        mass.labels(task).set(value)
    seconds = gauge("stage_seconds", "Wall time by stage.", "stage")
    for stage, value in summary["seconds"].items():
        seconds.labels(stage).set(value)
    gauge("looked_at_items", "Items fetched and settled.").set(summary["looked_at"])
    if summary["items_per_second"] is not None:
        gauge("items_per_second", "While scoring.").set(summary["items_per_second"])
    if summary["cost"] is not None:
        gauge("cost", "Money, in the currency of the configured prices.").set(summary["cost"])
    return generate_latest(registry).decode()
