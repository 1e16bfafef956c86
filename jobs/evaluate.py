"""Tells how good scorers are on test sets, from passes that jobs/score_manifest.py finished.

::

    python jobs/evaluate.py --config configs/evaluate/example.yaml

Prints the tables and writes them to the output folder as evaluation.md, everything as
evaluation.json, a picture as evaluation.svg, and the resolved config. Nothing is scored and no
cluster is started; 10,000 items take about 15 seconds a scorer and set, nearly all for intervals.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import pyarrow as pa

from beholder.config import dump_config, job_arguments, run_job
from beholder.errors import UserError


def main(argv: list[str]) -> None:
    """Parses the command line, evaluates, writes, prints the tables."""
    from beholder.datasets.manifests import load_manifest
    from beholder.evaluation.forest import forest_svg
    from beholder.evaluation.matrix_page import as_markdown
    from beholder.evaluation.matrix_run import EvaluateConfig, evaluate_matrix
    from beholder.media.storage import write_bytes

    config = job_arguments(EvaluateConfig, argv, __doc__ or "").config
    found = evaluate_matrix(config, lambda uri: load_manifest(uri, need=("mos",)), finished_pass)
    text = as_markdown(found)
    for name, content in {
        "evaluation.md": text,
        "evaluation.json": json.dumps(found.as_dict(), indent=1, allow_nan=False) + "\n",
        "evaluation.svg": forest_svg(found),
        "config.yaml": dump_config(config),
    }.items():
        write_bytes(f"{config.output}/{name}", content.encode())
    print(text)
    print(f"written to {config.output}")


def finished_pass(uri: str) -> pa.Table:
    """The score rows of a pass.

    Raises:
        UserError: there is none, or storage can't be used.
    """
    from beholder.catalog.manifest_pass import SUMMARY, read_scores
    from beholder.media.storage import exists

    if not exists(f"{uri}/{SUMMARY}"):
        raise UserError(
            f"there is no finished pass at {uri}: run jobs/score_manifest.py with output={uri}"
        )
    return read_scores(uri)


if __name__ == "__main__":
    run_job(main)
