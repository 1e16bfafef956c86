"""One pass over a manifest: fetch, decode, score, write. Guarantees across runs are not here."""

import json
import logging
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from pydantic import Field

from beholder.catalog.config import ScoringConfig
from beholder.catalog.locations import Location
from beholder.catalog.rows import SCORE_FIELDS
from beholder.catalog.session import connect, in_blocks, say_if_short
from beholder.catalog.stages import Decode, Score
from beholder.datasets.manifests import load_manifest
from beholder.errors import UserError
from beholder.logs import Progress
from beholder.media.conditional import WriteConflictError, create
from beholder.media.storage import exists, open_filesystem, read_bytes
from beholder.scoring import check_tasks, outline_scorer

log = logging.getLogger(__name__)

SUMMARY = "scores.json"
"""Written last; a folder without it holds no scores."""


class ManifestPassConfig(ScoringConfig):
    """One scoring pass."""

    manifest: Location = Field(description="URI of the Parquet manifest to score")
    output: Location = Field(description="URI of a folder that holds no scores yet")


def score_manifest(config: ManifestPassConfig) -> dict[str, Any]:
    """Scores a manifest and returns the summary that stands beside the scores.

    Data files go into a folder of their own a run, and ``scores.json``,
    written last, names it: a run that dies leaves nothing that a reader takes for scores.

    Raises:
        UserError: the output already holds scores; or manifest or scorer are not usable.
    """
    if exists(f"{config.output}/{SUMMARY}"):
        raise UserError(
            f"{config.output} already holds scores: name another output folder, or remove it"
        )
    manifest = load_manifest(config.manifest)
    scorer = outline_scorer(config.scorer)
    check_tasks(scorer.file.tasks, config.tasks)
    connect()  # only now: what is wrong with the input is said without a cluster
    began = time.monotonic()
    attempt = f"{config.output}/data-{uuid.uuid4().hex[:12]}"
    counts: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    items: set[str] = set()
    with Progress(manifest.num_rows, "score") as bar:
        for number, table in enumerate(_scored(config, manifest, scorer.pixels)):
            _write(table, f"{attempt}/part-{number:06d}.parquet")
            failed = table.filter(table["failure_code"].is_valid())
            codes.update(failed["failure_code"].to_pylist())
            counts["failed_rows"] += failed.num_rows
            counts["scored_rows"] += table.num_rows - failed.num_rows
            seen = set(table["item_id"].to_pylist())
            bar.advance(len(seen - items))
            items |= seen
            counts["failed"] += len(set(failed["item_id"].to_pylist()))
    counts["scored"] = len(items) - counts["failed"]
    summary = {
        "data": attempt.rsplit("/", 1)[1],
        "items": manifest.num_rows,
        **{name: counts[name] for name in ("scored", "failed", "scored_rows", "failed_rows")},
        "failures": dict(codes),
        "fingerprint": scorer.file.fingerprint,
        "seconds": round(time.monotonic() - began, 3),
        "config": config.model_dump(mode="json"),
    }
    if len(items) != manifest.num_rows:
        raise UserError(
            f"{manifest.num_rows} items went in and {len(items)} came out: nothing was published"
        )
    try:
        create(f"{config.output}/{SUMMARY}", json.dumps(summary, indent=1).encode())
    except WriteConflictError as error:
        raise UserError(
            f"another pass filled {config.output} meanwhile: its scores stand, these are not "
            "published; name another output folder"
        ) from error
    return summary


def _scored(config: ManifestPassConfig, manifest: pa.Table, spec: Any) -> Iterator[pa.Table]:
    """Score rows in batches, as they come."""
    say_if_short(0.5 * config.decoders + config.cpus * config.scorers, config.gpus * config.scorers)
    rows = in_blocks(manifest, min(manifest.num_rows // config.batch, 200))
    decoded = rows.map_batches(
        Decode,
        fn_constructor_args=(spec, config.limits(), False, config.decode_seconds),
        batch_size=config.batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=config.decoders),
        num_cpus=0.5,
    )
    device = "cuda" if config.gpus else "cpu"
    scored = decoded.map_batches(
        Score,
        fn_constructor_args=(
            config.scorer,
            config.tasks,
            device,
            max(1, int(config.cpus)),
        ),
        batch_size=config.batch,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=config.scorers),
        num_cpus=config.cpus,
        num_gpus=config.gpus or None,
    )
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow")


def _write(table: pa.Table, uri: str) -> None:
    filesystem, path = open_filesystem(uri)
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    with filesystem.open(path, "wb") as file:
        pq.write_table(table, file)


def read_scores(output: str) -> pa.Table:
    """The rows of a finished pass.

    Raises:
        StorageError: there is no finished pass at ``output``.
    """
    summary = json.loads(read_bytes(f"{output}/{SUMMARY}"))
    filesystem, path = open_filesystem(f"{output}/{summary['data']}")
    tables = []
    for name in sorted(filesystem.ls(path, detail=False)):
        with filesystem.open(name, "rb") as file:
            tables.append(pq.read_table(file))
    return (
        pa.concat_tables(tables, promote_options="default")
        if tables
        else SCORE_FIELDS.empty_table()
    )
