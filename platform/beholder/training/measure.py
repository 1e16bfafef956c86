"""The end of a run: the test split scored as any catalog is, and what people said beside it."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beholder.catalog.manifest_pass import (
    SUMMARY,
    ManifestPassConfig,
    read_scores,
    score_manifest,
)
from beholder.catalog.rows import SCORE_FIELDS
from beholder.datasets import TrainingSet
from beholder.evaluation import evaluate, mean_mass
from beholder.logs import event
from beholder.media.storage import exists, write_bytes
from beholder.readouts import Readout, make_readout
from beholder.training.config import TrainConfig
from beholder.training.sets import NO_TEST_ROWS

log = logging.getLogger(__name__)


def measure(
    sets: Sequence[TrainingSet], scorer: str, output: str, config: TrainConfig
) -> dict[str, Any]:
    """Metrics by set and column of ``config.evaluate``, on rows of split ``test``.

    Against ``mos`` errors and spreads are on the set's own scale, through the readout's inverse
    maps; other columns, whose scale nobody declared, are compared with its scores as they are.
    Further attributes are compared with their own columns, like ``mos``, under ``attributes``.
    Intervals are clustered by the manifest's column ``source`` where it has one. A set without
    test rows has ``not_measured``, the reason, in place of metrics.

    Args:
        sets: the mix's.
        scorer: URI of the scorer's folder.
        output: URI under which manifest and scores of each set's test rows are kept.
        config: the run's.
    """
    readout = make_readout(config.readout.model_dump(mode="json"))
    metrics: dict[str, Any] = {}
    for one in sets:
        rows = one.table.filter(pc.equal(one.table["split"], "test"))
        if not rows.num_rows:
            event(log, "set.not_measured", set=one.name, reason=NO_TEST_ROWS)
            metrics[one.name] = {"items": 0, "not_measured": NO_TEST_ROWS}
            continue
        manifest = f"{output}/{one.name}/manifest.parquet"
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        write_bytes(manifest, sink.getvalue().to_pybytes())
        scores_uri = f"{output}/{one.name}/scores"
        if not exists(f"{scores_uri}/{SUMMARY}"):  # else this run was cut short right after it
            score_manifest(
                ManifestPassConfig(
                    manifest=manifest,
                    scorer=scorer,
                    output=scores_uri,
                    tasks=(one.task, *one.attributes),
                    scorers=config.workers.count,
                    cpus=config.workers.cpus,
                    gpus=config.workers.gpus,
                )
            )
        metrics[one.name] = _metrics(read_scores(scores_uri), one, readout, config.evaluate)
    return metrics


def _metrics(
    scores: pa.Table, one: TrainingSet, readout: Readout, columns: Sequence[str]
) -> dict[str, Any]:
    scored = scores.filter(pc.is_null(scores["failure_code"]))
    good = scored.filter(pc.equal(scored["task"], one.task))
    names = good.column_names
    clusters = good["source" if "source" in names else "item_id"].to_pylist()
    predicted = good["mean"].to_numpy()
    found: dict[str, Any] = {
        "items": good.num_rows,
        "failed": len(scores["item_id"].unique()) - good.num_rows,
        "sources": len(set(clusters)),
    }
    if not good.num_rows:
        return found
    if not good["mass"].null_count:  # else the readout has no words
        found["mass"] = mean_mass(good["mass"].to_numpy())
    for column in columns:
        if column in names:
            true = good[column].to_numpy()
            on_scale = _own_scale(good, one, readout) if column == "mos" else {}
            found[column] = evaluate(predicted, true, np.array(clusters), **on_scale).as_dict()
    if one.attributes:
        found["attributes"] = {
            name: _of_attribute(scored.filter(pc.equal(scored["task"], name)), column, one, readout)
            for name, column in one.attributes.items()
        }
    return found


def _of_attribute(
    good: pa.Table, column: str, one: TrainingSet, readout: Readout
) -> dict[str, Any] | None:
    """A further attribute's scores against its own column, None where fewer than two are rated."""
    column = f"manifest_{column}" if column in SCORE_FIELDS.names else column
    rated = good.filter(pc.is_valid(good[column]))
    if rated.num_rows < 2:
        return None
    clusters = rated["source" if "source" in rated.column_names else "item_id"].to_pylist()
    true = rated[column].to_numpy().astype(np.float64)
    maps = readout.inverse_maps(one.scale)
    return evaluate(rated["mean"].to_numpy(), true, np.array(clusters), maps=maps).as_dict()


def _own_scale(good: pa.Table, one: TrainingSet, readout: Readout) -> dict[str, Any]:
    """What :func:`evaluate` needs to compare scores with the set's own ``mos`` and ``std``."""
    known = "manifest_std" in good.column_names  # the score's own column took the name
    return {
        "maps": readout.inverse_maps(one.scale),
        "std": None if good["std"].null_count else good["std"].to_numpy(),
        "true_std": good["manifest_std"].to_numpy() if known else None,
    }
