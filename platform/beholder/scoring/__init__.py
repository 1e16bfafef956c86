"""A scorer: one backbone and one readout, on disk and at work."""

from beholder.scoring.folder import (
    SCORER_VERSION,
    ScorerError,
    ScorerFile,
    TaskSpec,
    check_tasks,
    tasks_by_kind,
)
from beholder.scoring.panel import PanelCheck, check_panel
from beholder.scoring.scorer import Scorer
from beholder.scoring.store import (
    ScorerOutline,
    check_base,
    load_adapter,
    load_scorer,
    outline_scorer,
)

__all__ = [
    "SCORER_VERSION",
    "PanelCheck",
    "Scorer",
    "ScorerError",
    "ScorerFile",
    "ScorerOutline",
    "TaskSpec",
    "check_base",
    "check_panel",
    "check_tasks",
    "load_adapter",
    "load_scorer",
    "outline_scorer",
    "tasks_by_kind",
]
