"""Removes what no kept snapshot of a catalog names.

::

    python jobs/collect_garbage.py --set catalog=s3://bucket/catalog --dry-run

Keeps the newest snapshots, the one that HEAD names, and its parent, also of each shadow; all of
them read back as before. A shadow that is given up goes with ``--set abandon=[FINGERPRINT]``. The
catalog is listed whole, a thousand objects a request.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job

DRY_RUN = {"dry-run": "say what would go, and remove nothing"}


def main(argv: list[str]) -> None:
    """Parses the command line, removes, says what."""
    from beholder.catalog.garbage import GarbageConfig, find_garbage, remove_garbage

    arguments = job_arguments(GarbageConfig, argv, __doc__ or "", DRY_RUN)
    garbage = find_garbage(arguments.config)
    dry = arguments.flags["dry-run"]
    if not dry:
        remove_garbage(arguments.config, garbage)
    print(f"kept: {', '.join(garbage.kept)}")
    for path in (*garbage.records, *(garbage.objects if dry else ())):
        print(f"{'would go' if dry else 'gone'}: {path}")
    objects, size = len(garbage.objects) + len(garbage.records), garbage.bytes / 2**20
    print(f"{objects} objects {'would go' if dry else 'are gone'}, {size:.1f} MiB")


if __name__ == "__main__":
    run_job(main)
