"""Scores a manifest in object storage into Parquet, one row an item and task.

::

    ray job submit --working-dir . -- python jobs/score_manifest.py \\
        --set manifest=s3://bucket/catalog.parquet --set scorer=s3://bucket/runs/x/scorer \\
        --set output=s3://bucket/scores/2026-11-20

An item that can't be scored becomes a row with its failure's code; it ends no job.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job


def main(argv: list[str]) -> None:
    """Parses the command line, scores, prints the counts."""
    from beholder.catalog.manifest_pass import ManifestPassConfig, score_manifest

    config = job_arguments(ManifestPassConfig, argv, __doc__ or "").config
    summary = score_manifest(config)
    print(f"{summary['scored']} items scored, {summary['failed']} failed")
    for code, count in sorted(summary["failures"].items()):
        print(f"  {code}: {count} rows")
    print(f"scores at {config.output} by scorer {summary['fingerprint']}")


if __name__ == "__main__":
    run_job(main)
