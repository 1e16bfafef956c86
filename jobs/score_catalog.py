"""A night over a catalog: scores what is new or has changed in its manifest, audits, publishes.

::

    ray job submit --working-dir . -- python jobs/score_catalog.py \\
        --config configs/catalog/nightly.yaml --logical-date 2026-11-20

With ``--plan-only`` it says what it would look at and what that takes; ``--limit 1000`` and
``--sample 1%`` look at a part. A night that was cut short goes on with the same command; one that
is published already is left as it is. Exit codes: 0 published, 3 refused, by the audit, for a
damaged file or because readers see a later date, 4 published without items that a limit left out,
2 for whatever else is wrong. With a ``shadow`` in the config, its night follows; 5 says that the
catalog's own is published and the shadow's was refused.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from typing import TYPE_CHECKING

from beholder.config import job_arguments, run_job

if TYPE_CHECKING:
    from beholder.catalog.config import NightlyConfig


SHADOW_REFUSED = 5


def main(argv: list[str]) -> int:
    """Parses the command line, runs the night, says how it ended."""
    from beholder.catalog.config import NightlyConfig

    arguments = job_arguments(
        NightlyConfig,
        argv,
        __doc__ or "",
        flags={
            "plan-only": "say what would be done, and score nothing",
            "json": "with --plan-only, as JSON",
        },
        options={"logical-date": "logical_date", "limit": "limit", "sample": "sample"},
    )
    config: NightlyConfig = arguments.config
    if arguments.flags["plan-only"]:
        return show_plan(config, arguments.flags["json"])
    from beholder.catalog.nightly import run_night, say

    outcome = run_night(config)
    print(say(outcome), flush=True)
    if config.shadow is None or outcome.name == "refused":
        return outcome.exit_code
    return shadow_night(config, outcome.exit_code)


def shadow_night(config: "NightlyConfig", code: int) -> int:
    """Fills the shadow; returns the exit code of both nights, of which the first has ``code``."""
    from beholder.catalog.nightly import say
    from beholder.catalog.plan import EarlierDateError
    from beholder.catalog.shadow import fill_shadow

    try:
        filled = fill_shadow(config)
    except EarlierDateError as error:
        print(f"shadow: {error}")
        return SHADOW_REFUSED
    if filled is None:
        print("the shadow's scorer is the current one: take `shadow` out of the config")
        return code
    print(f"shadow: {say(filled)}")
    return SHADOW_REFUSED if filled.name == "refused" else code


def show_plan(config: "NightlyConfig", as_json: bool) -> int:
    """Prints what a night would do."""
    from rich.console import Console

    from beholder.catalog.current_scorer import with_current_scorer
    from beholder.catalog.layout import Layout, RunId
    from beholder.catalog.nightly import current
    from beholder.catalog.outlook import outlook, outlook_table
    from beholder.catalog.patience import patiently
    from beholder.catalog.plan import preview
    from beholder.scoring import outline_scorer

    config = with_current_scorer(config)
    run = RunId(config.logical_date)
    outline = patiently(lambda: outline_scorer(config.scorer))
    found = preview(config, current(Layout(config.catalog), run), outline, run)
    if as_json:
        print(json.dumps(outlook(*found), indent=1))
    else:
        Console().print(outlook_table(str(run), *found))
    return 0


if __name__ == "__main__":
    run_job(main)
