"""Whether a shadow may be promoted, and the page that says why, with the calibration maps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from pydantic import Field, field_validator

from beholder.catalog.current_scorer import CALIBRATION
from beholder.catalog.layout import RunId
from beholder.catalog.locations import Location
from beholder.catalog.overlap import Overlap
from beholder.catalog.patience import patiently
from beholder.catalog.record import Record
from beholder.catalog.snapshot import Snapshot
from beholder.config import JobConfig
from beholder.evaluation import SuccessionConfig, judge, succession_table
from beholder.evaluation.succession import Criterion
from beholder.media.storage import write_bytes

PAGE = "report.md"


class PromotionConfig(JobConfig):
    """Which scorer is to be promoted, and when that is refused."""

    catalog: Location = Field(description="URI of the catalog's folder")
    scorer: Location = Field(
        description="URI or path of the folder of the scorer that filled a shadow"
    )
    min_coverage: float = Field(
        0.99,
        ge=0,
        le=1,
        description="smallest part of the scored items, and of their bytes, that the shadow has",
    )
    compared: int = Field(
        1_000_000, ge=2, description="items whose scores are compared, by hash of their bytes"
    )
    succession: SuccessionConfig = Field(
        default_factory=SuccessionConfig, description="when the scorers are too far apart"
    )
    take_over: bool = Field(
        False, description="take HEAD's date from a driver that holds it: only if it is dead"
    )

    @field_validator("catalog")
    @classmethod
    def _no_slash(cls, catalog: str) -> str:
        return catalog.rstrip("/")


def criteria(
    config: PromotionConfig, live: Record, shadow: Record, found: Overlap
) -> tuple[Criterion, ...]:
    """What must hold for a shadow to be promoted: all of these."""
    coverage, least = found.coverage, config.min_coverage
    parts = {"items": coverage.of_items, "bytes": coverage.of_bytes}
    lost = [
        f"{task} of {kind}"
        for kind, tasks in live.tasks.items()
        for task in tasks
        if task not in shadow.tasks.get(kind, ())
    ]
    return (
        *(
            Criterion(
                f"coverage_{name}",
                part >= least,
                part,
                least,
                f"the shadow has {part:.2%} of the {name} that readers see scores of, {least:.2%} "
                "are asked for",
            )
            for name, part in parts.items()
        ),
        Criterion(
            "tasks",
            not lost,
            len(lost),
            0,
            f"the new scorer lacks {', '.join(lost)}" if lost else "the new scorer has every task",
        ),
        *(
            Criterion(f"{task}.{c.name}", c.ok, c.figure, c.threshold, f"{task}: {c.sentence}")
            for task, compared in found.tasks.items()
            for c in judge(compared, config.succession)
        ),
        Criterion(
            "compared",
            bool(found.tasks),
            len(found.tasks),
            1,
            f"{len(found.tasks)} tasks have scores of both",
        ),
    )


def write_promotion(
    live: Snapshot, shadow: Snapshot, run: RunId, found: Overlap, held: Sequence[Criterion]
) -> None:
    """Writes the report, refused or not, and the calibration maps.

    Raises:
        StorageError: the storage can't be used.
    """
    both = {
        name: {"scorer": record.scorer, "fingerprint": record.fingerprint, "snapshot": record.id}
        for name, record in (("old", live.record), ("new", shadow.record))
    }
    coverage = asdict(found.coverage)
    summary = both | {
        "coverage": coverage | {"of_items": found.coverage.of_items},
        "criteria": [asdict(c) for c in held],
        "tasks": {task: asdict(compared) for task, compared in found.tasks.items()},
    }
    maps = {task: asdict(compared.calibration) for task, compared in found.tasks.items()}
    written = {
        CALIBRATION: json.dumps(both | {"tasks": maps}),
        "report.json": json.dumps(summary, indent=1),
        PAGE: _page(both, run, found, held),
    }
    for name, text in written.items():
        patiently(partial(write_bytes, live.layout.promotion(run, name), text.encode()))


def _page(
    both: Mapping[str, Mapping[str, str]],
    run: RunId,
    found: Overlap,
    held: Sequence[Criterion],
) -> str:
    coverage = found.coverage
    lines = [
        f"# Promotion {run}",
        "",
        *(
            f"- {name}: `{one['scorer']}`, fingerprint `{one['fingerprint']}`, snapshot "
            f"{one['snapshot']}"
            for name, one in both.items()
        ),
        "",
        "## Criteria",
        "",
        *(f"- {'holds' if c.ok else '**REFUSED**'}: {c.sentence}" for c in held),
        "",
        "## The new scorer against the old one",
        "",
        succession_table(found.tasks),
        f"`{CALIBRATION}` beside this page has the maps from old to new means.",
        "",
        "## Items",
        "",
        f"- {coverage.covered:,} of {coverage.items:,} items that readers see scores of are there",
        *(f"- {n:,} are not covered: {why}" for why, n in sorted(coverage.lacking.items())),
        f"- {coverage.left_out:,} of all items, failed ones included, have no row in the shadow: "
        "the next night finds them new",
        f"- {coverage.outdated:,} become stale: the shadow has scores of older bytes",
        f"- {coverage.foreign:,} of the shadow's are not in the catalog, and stay out",
    ]
    if coverage.examples:
        lines += [
            "",
            "Not covered, among others: " + ", ".join(f"`{i}`" for i in coverage.examples),
        ]
    return "\n".join(lines) + "\n"
