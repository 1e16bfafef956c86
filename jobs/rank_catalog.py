"""Ranks a published snapshot of a catalog: each scored item in its segment, by task and rule.

::

    ray job submit --working-dir . -- python jobs/rank_catalog.py --set catalog=s3://bucket/catalog

Writes ranks as Parquet (item_id, segment, task, mean, std, value, rank, percentile) by mean, lower
bound and expected rank, and the look-up files from which ``/v1/rank`` answers item ids. A snapshot
is ranked once: run again, it says where the ranks are.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job


def main(argv: list[str]) -> None:
    """Parses the command line, ranks, says where the ranks are."""
    from beholder.catalog.ranks import RankConfig, rank_catalog
    from beholder.ranking import Rule

    config = job_arguments(RankConfig, argv, __doc__ or "").config
    began = time.monotonic()
    record, made = rank_catalog(config)
    seconds = time.monotonic() - began
    if not made:
        print(f"{record.snapshot} is ranked already, on {record.made_at:%Y-%m-%d %H:%M} UTC")
    for task, about in record.tasks.items():
        print(f"{task}: {about.rows} items")
        if not about.spread:
            print(f"  scores are points without a spread: ordered by {Rule.MEAN} alone")
    for rule, parts in record.ranks.items():
        for folder in sorted({part.path.rpartition("/")[0] for part in parts}):
            print(f"by {rule}: {config.catalog}/{folder}/*.parquet")
    if made and (rows := sum(about.rows for about in record.tasks.values())):
        print(f"{seconds:.0f} s, {seconds / rows * 1e6:.1f} s a million scores")


if __name__ == "__main__":
    run_job(main)
