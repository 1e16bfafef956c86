"""Erases items, or all items of some owners, from a catalog, its kept snapshots and its shadows.

::

    export BEHOLDER_ERASURE_KEY=$(cat erasure.key)   # made once: openssl rand -hex 32
    python jobs/erase.py --set catalog=s3://bucket/catalog --set items=[photo-17,photo-18]
    python jobs/erase.py --set catalog=s3://bucket/catalog --set owners=[ada]
    python jobs/erase.py --set catalog=s3://bucket/catalog --set file=ids.txt

Readers see nothing of them from the first second on. Their rows are removed from all objects in the
same call, unless a night is at work: then the job says for whom it waits and ends with 4, and is to
be called again, with or without names. 0: all is gone, a receipt is written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job


def main(argv: list[str]) -> int:
    """Parses the command line, erases, says what became of it."""
    from beholder.catalog.erase import EraseConfig, erase, lift

    config = job_arguments(EraseConfig, argv, __doc__ or "").config
    if config.lift:
        lift(config)
        print(f"erasure {config.lift} holds no more")
        return 0
    outcome = erase(config)
    if outcome.erasure:
        print(f"erasure {outcome.erasure}: readers see nothing of it from now on")
    if outcome.unknown:  # by number, as no name shall stand in a log
        numbers = ", ".join(map(str, outcome.unknown[:10])) + ", ..." * (len(outcome.unknown) > 10)
        print(
            f"{len(outcome.unknown)} of the items that were named, number {numbers}, were not in "
            "the snapshot that readers saw: check their ids, unless they were erased before"
        )
    for uri, receipt in outcome.receipts.items():
        print(f"{receipt.erasure} is removed, receipt at {uri}")
    for receipt in list(outcome.receipts.values())[:1]:
        print(
            f"{receipt.item_rows} item rows and {receipt.score_rows} score rows are gone from "
            f"{len(receipt.snapshots)} snapshots"
        )
    if outcome.waits_for:
        print(f"its rows are not removed yet: {outcome.waits_for}; then call this job again")
        return 4
    if not outcome.receipts:
        print("nothing was left to remove")
    return 0


if __name__ == "__main__":
    run_job(main)
