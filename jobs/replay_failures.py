"""Looks again at what failed on a published night, and publishes a revision of it.

::

    python jobs/replay_failures.py --config configs/catalog/nightly.yaml \\
        --logical-date 2026-11-20 --set codes=[fetch.denied,fetch.timeout]

Without codes, at all failures, whatever their retry policy says. Exit codes as the night's.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job


def main(argv: list[str]) -> int:
    """Parses the command line, replays, says how it ended."""
    from beholder.catalog.config import ReplayConfig
    from beholder.catalog.nightly import replay, say

    options = {"logical-date": "logical_date"}
    config = job_arguments(ReplayConfig, argv, __doc__ or "", options=options).config
    outcome = replay(config)
    print(say(outcome))
    return outcome.exit_code


if __name__ == "__main__":
    run_job(main)
