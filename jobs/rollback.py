"""Lets readers of a catalog see an earlier snapshot again, or a later one that was rolled back.

::

    python jobs/rollback.py --set catalog=s3://bucket/catalog --set to=2026-11-19.0

Nothing is written but HEAD, and ``scorers/current`` where the snapshot is of another scorer. The
next night starts from what readers see.
"""

import getpass
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from pydantic import Field

from beholder.catalog.locations import Location
from beholder.config import JobConfig, job_arguments, run_job


class RollbackConfig(JobConfig):
    """Where to go back to."""

    catalog: Location = Field(description="URI of the catalog's folder")
    to: str | None = Field(None, description="a snapshot, as 2026-11-19.0; none: the parent")
    reason: str = Field("rolled back", description="why, for HEAD and whoever reads it")


def main(argv: list[str]) -> None:
    """Parses the command line, moves HEAD, says where it is."""
    from beholder.catalog.current_scorer import settle_current
    from beholder.catalog.head import roll_back
    from beholder.catalog.layout import Layout

    config = job_arguments(RollbackConfig, argv, __doc__ or "").config
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    layout = Layout(config.catalog.rstrip("/"))
    head = roll_back(layout, config.to, by, config.reason)
    print(f"readers of {config.catalog} see {head.snapshot} now")
    current = settle_current(layout)
    if current and current.snapshot == head.snapshot:
        print(f"the current scorer is {current.scorer} ({current.fingerprint}) again")
    if head.withdrawn:
        print(f"rolled back so far: {', '.join(head.withdrawn)}; --set to=… brings one back")


if __name__ == "__main__":
    run_job(main)
