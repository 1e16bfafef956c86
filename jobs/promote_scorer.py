"""Lets readers of a catalog see the scores of the scorer that has filled its shadow.

::

    python jobs/promote_scorer.py --catalog s3://bucket/catalog --scorer s3://bucket/runs/x/scorer

Both scorers are compared first, on what both have scored: agreement, rank churn, and a calibration
map, written to ``promotions/`` in the catalog's folder. Exit codes: 0 promoted (or promoted
before), 3 refused: too little is covered, or the scorers are too far apart; 2 for whatever else is
wrong. A promotion that died goes on with the same command; jobs/rollback.py takes one back.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job


def main(argv: list[str]) -> int:
    """Parses the command line, promotes, says how it ended."""
    from beholder.catalog.promotion import promote
    from beholder.catalog.promotion_report import PromotionConfig

    options = {"catalog": "catalog", "scorer": "scorer"}
    config = job_arguments(PromotionConfig, argv, __doc__ or "", options=options).config
    found = promote(config)
    if found.name == "refused":
        print(f"REFUSED: readers still see {found.snapshot}")
        print("\n".join(f"  {sentence}" for sentence in found.refused))
    elif found.name == "standing":
        print(f"{found.snapshot} is of this scorer already: nothing was done")
    else:
        print(f"readers see {found.snapshot} now, with scores of {config.scorer}")
    if found.report:
        print(f"report at {found.report}")
    return found.exit_code


if __name__ == "__main__":
    run_job(main)
