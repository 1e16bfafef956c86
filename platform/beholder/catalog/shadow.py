"""A new scorer's catalog beside the one that readers see, filled night by night under a budget.

It is a catalog like any other, with plans, audits, snapshots and a HEAD of its own, below
``shadows/<fingerprint>``. Two scorers' scores so never stand in one snapshot, and what a shadow's
nights cost is theirs to bound.
"""

from beholder.catalog.config import NightlyConfig
from beholder.catalog.layout import Layout
from beholder.catalog.nightly import Outcome, run_night
from beholder.catalog.patience import patiently
from beholder.catalog.snapshot import open_snapshot
from beholder.scoring import outline_scorer


def fill_shadow(config: NightlyConfig) -> Outcome | None:
    """Runs a night of the shadow, over the same manifest, after the catalog's own.

    Args:
        config: of the catalog's night; it has a ``shadow``.

    Returns:
        How it ended; None where the catalog has this scorer's scores by now.

    Raises:
        UserError: as :func:`beholder.catalog.nightly.run_night`.
    """
    shadow = config.shadow
    assert shadow is not None
    seen = open_snapshot(config.catalog).record
    fingerprint = patiently(lambda: outline_scorer(shadow.scorer)).file.fingerprint
    if fingerprint == seen.fingerprint:
        return None
    night = {
        "catalog": Layout(config.catalog).shadow(fingerprint).root,
        "buckets": seen.buckets,
        "sample": 1.0,
        "shadow": None,
        "webhook": None,
    }
    return run_night(config.model_copy(update=night | dict(shadow)))
