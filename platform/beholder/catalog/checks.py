"""What an audit finds, and when that refuses a publication."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from pydantic import Field, TypeAdapter, field_validator

from beholder.catalog.drift import Drift, Histogram, Key, as_records, from_records
from beholder.config import JobConfig

PROOFS = (
    "manifest",
    "files",
    "complete",
    "counts",
    "states",
    "unique_items",
    "unique_scores",
    "tasks",
    "finite",
    "sums",
    "means",
)
"""Checks that every item came out exactly once, with numbers that are some. Nobody may accept
that one of these fails: a snapshot that is published keeps them."""
JUDGEMENTS = ("failed", "removed", "mass", "panel", "drift")
"""Checks of what is likely wrong; a person who has looked may accept it, with a reason."""
OFFENDING = 5
"""Keys that a check names."""


class AuditConfig(JobConfig):
    """When a night is refused."""

    max_failed: float = Field(
        0.2, ge=0, le=1, description="largest share of failures among new and changed items"
    )
    failed_minimum: int = Field(
        100, ge=1, description="new and changed items below which that share says nothing"
    )
    max_removed: float = Field(
        0.2, ge=0, le=1, description="largest share of the last snapshot's items that are gone"
    )
    removed_minimum: int = Field(
        100, ge=1, description="gone items below which that share says nothing, unless all are"
    )
    min_mass: float = Field(
        0.5, ge=0, le=1, description="smallest median probability on the readout's words, by task"
    )
    max_mass_drop: float = Field(
        0.1, ge=0, le=1, description="largest fall of that median below the last nights'"
    )
    panel_tolerance: float | None = Field(
        None, gt=0, description="largest |Δp| on the golden panel; none: by the scorer's dtype"
    )
    psi: float = Field(0.25, gt=0, description="largest population stability index")
    ks: float = Field(0.2, gt=0, le=1, description="largest Kolmogorov-Smirnov distance")
    drift_minimum: int = Field(
        500, ge=1, description="scores that a segment needs, tonight and before, to be compared"
    )
    drift_nights: int = Field(7, ge=1, description="nights that tonight is compared with")
    drift_segments: int = Field(
        100, ge=0, description="segments whose histograms are kept, the largest of each task"
    )
    accept: dict[str, str] = Field(
        default_factory=dict,
        description="by check, why it may fail tonight: accept.drift='new camera app'",
    )

    @field_validator("accept")
    @classmethod
    def _acceptable(cls, accept: dict[str, str]) -> dict[str, str]:
        for name, reason in accept.items():
            if name in PROOFS:
                raise ValueError(
                    f"'{name}' proves that nothing was lost or doubled and can't be accepted: run "
                    "the date again, or see the runbook"
                )
            if name not in JUDGEMENTS:
                raise ValueError(f"'{name}' is no check: accept one of {', '.join(JUDGEMENTS)}")
            if not reason.strip():
                raise ValueError(f"'{name}' needs a reason: it is kept with the snapshot")
        return accept


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: one of ``PROOFS`` or ``JUDGEMENTS``.
        ok: whether it holds.
        figure: what was measured; None where nothing could be.
        threshold: what is allowed; None where there is no number.
        sentence: what was found, for a person.
        offending: up to ``OFFENDING`` keys that break it.
        accepted: why somebody accepts that it fails.
    """

    name: str
    ok: bool
    figure: float | None
    threshold: float | None
    sentence: str
    offending: tuple[str, ...] = ()
    accepted: str | None = None


@dataclass(frozen=True)
class Example:
    """One item with its distribution of one task.

    Attributes:
        item_id: the item.
        uri: where it is.
        kind: picture or video.
        task: of the distribution.
        mean: score, with its std (None of a point), in the unit of the support.
        std: see ``mean``.
        support: the scores; empty of a point.
        probs: their probabilities.
    """

    item_id: str
    uri: str
    kind: str
    task: str
    mean: float
    std: float | None
    support: tuple[float, ...]
    probs: tuple[float, ...]


@dataclass(frozen=True)
class Audit:
    """What re-reading a snapshot gave.

    Attributes:
        checks: in the order of ``PROOFS`` and ``JUDGEMENTS``.
        items: items by state, ``left_out``, and ``erased``; together the manifest.
        settled: items that tonight looked at, by change class and the state they came to.
        failures: of these, failures by code.
        histograms: of the scores made tonight.
        before: the last nights' histograms, pooled.
        drift: of tonight against them, the largest first.
        mass: median probability on the readout's words by task, of the scores made tonight.
        worst: by task, items that were scored lowest tonight.
        best: by task, the highest.
        seconds: that the audit took.
    """

    checks: tuple[Check, ...]
    items: dict[str, int]
    settled: dict[str, dict[str, int]]
    failures: dict[str, int]
    histograms: dict[Key, Histogram]
    before: dict[Key, Histogram]
    drift: tuple[Drift, ...]
    mass: dict[str, float]
    worst: dict[str, list[Example]]
    best: dict[str, list[Example]]
    seconds: float

    @property
    def refused(self) -> tuple[str, ...]:
        """The checks that fail and that nobody accepts; none where it may be published."""
        return tuple(c.name for c in self.checks if not c.ok and c.accepted is None)

    def without(self, hidden: Callable[[str], bool]) -> "Audit":
        """The same without the examples that are to be hidden, which is asked by ``item_id``."""

        def seen(examples: dict[str, list[Example]]) -> dict[str, list[Example]]:
            return {t: [e for e in some if not hidden(e.item_id)] for t, some in examples.items()}

        return replace(self, worst=seen(self.worst), best=seen(self.best))

    def as_record(self) -> dict[str, Any]:
        """What a snapshot's record keeps as ``audit``: all but histograms and masses."""
        kept = {name: value for name, value in vars(self).items() if name not in _APART}
        found: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(kept, mode="json")
        return found

    def drift_record(self) -> dict[str, Any]:
        """What a snapshot's record keeps as ``drift``: the next nights compare with it."""
        return {"histograms": as_records(self.histograms), "mass": self.mass}

    @classmethod
    def from_records(
        cls, audit: dict[str, Any], drift: dict[str, Any], before: dict[Key, Histogram]
    ) -> "Audit":
        """What :meth:`as_record` and :meth:`drift_record` gave.

        Args:
            audit: the first.
            drift: the second.
            before: see there.
        """
        apart = {"histograms": from_records(drift["histograms"]), "mass": drift["mass"]}
        return TypeAdapter(cls).validate_python({**audit, **apart, "before": before})


_APART = ("histograms", "before", "mass")


@dataclass
class Faults:
    """How often each check is broken, and by which keys first; any thread may add."""

    counts: Counter[str] = field(default_factory=Counter)
    keys: dict[str, list[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, count: int, keys: list[str]) -> None:
        """Counts ``count`` faults, of which ``keys`` are some."""
        with self._lock:
            self.counts[name] += count
            known = self.keys.setdefault(name, [])
            known += keys[: OFFENDING - len(known)]

    def add_rows(self, found: pa.Table) -> None:
        """Counts what a query found: columns ``fault``, ``count`` and ``keys``."""
        for row in found.to_pylist():
            if row["count"]:
                self.add(row["fault"], row["count"], row["keys"])
