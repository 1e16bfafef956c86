"""Turns a public set's annotation files, or a CSV of one's own, into a manifest.

::

    python jobs/build_manifest.py --list
    python jobs/build_manifest.py --set name=koniq --set root=/data/koniq10k \\
        --set output=s3://bucket/manifests/koniq.parquet
    python jobs/build_manifest.py --config configs/datasets/own.yaml

The set's terms of use are its owners'; the manifest carries where it comes from.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from beholder.config import job_arguments, run_job

FLAGS = {"list": "print the table of public sets with the files that each expects, and stop"}


def main(argv: list[str]) -> None:
    """Parses the command line, writes the manifest, prints what was found."""
    from beholder.datasets.build import ManifestConfig, build_manifest, sets_table

    if "--list" in argv:
        print(sets_table())
        return
    config = job_arguments(ManifestConfig, argv, __doc__ or "", FLAGS).config
    built = build_manifest(config)
    for path, digest in built.files.items():
        print(f"read {path} sha256 {digest[:16]}")
    stated = "" if built.expected is None else f" of {built.expected} that the owners state"
    print(f"{built.rows} rows{stated}: " + ", ".join(f"{n} {s}" for s, n in built.splits.items()))
    if built.unlisted:
        print(f"{built.unlisted} items are left out: {config.splits} does not name them")
    if built.missing:
        print(f"{built.missing} media are missing, as {built.example}")
    print(f"manifest at {config.output}")


if __name__ == "__main__":
    run_job(main)
