"""A training run from config to scorer folder: Ray Data feeds, Ray Train runs the workers."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.train
import torch
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.torch import TorchConfig, TorchTrainer
from safetensors.torch import load_file
from torch import Tensor

from beholder.backbones.loading import load_weights
from beholder.catalog.session import connect
from beholder.config import ConfigError, dump_config
from beholder.datasets import concatenate
from beholder.datasets.manifests import load_manifest
from beholder.errors import UserError
from beholder.logs import event, setup_logging
from beholder.media.conditional import WriteConflictError, create
from beholder.media.storage import (
    copy_tree,
    exists,
    open_filesystem,
    read_bytes,
    write_bytes,
)
from beholder.readouts import load_head, make_readout
from beholder.scoring import Scorer, TaskSpec
from beholder.scoring.adapter import FACTORS, save_adapter
from beholder.scoring.scorer import library_versions
from beholder.training import checkpoints
from beholder.training.config import TrainConfig
from beholder.training.features import cache_states
from beholder.training.feed import CachedStates, MediaSource, calibrate, opinions
from beholder.training.golden_panel import panel_of
from beholder.training.loop import Mix, Trainer
from beholder.training.measure import measure
from beholder.training.order import order_of
from beholder.training.sets import load_set, look_for_media, rows_of
from beholder.training.start import start_backbone
from beholder.training.stream import StreamedPixels

log = logging.getLogger(__name__)


def train(config: TrainConfig) -> dict[str, Any]:
    """Runs a training job and returns its summary.

    The run's folder ``storage/name`` ends with ``config.yaml``, ``mix.parquet``,
    ``checkpoints/``, ``scorer/``, after LoRA over given weights ``adapter/``, and, written last,
    ``summary.json``. A run of the same name and config that was cut short goes on from its last
    checkpoint.

    Raises:
        UserError: a manifest, the storage or the start weights are not usable, or a finished
            run of that name is there.
    """
    run = f"{config.storage.rstrip('/')}/{config.name}"
    began = time.monotonic()
    sets = [load_set(some, config) for some in config.sets]
    mix = concatenate([replace(one, table=rows_of(one, "train", "val")) for one in sets])
    mix = mix.append_column("row", pa.array(np.arange(mix.num_rows)))
    order_of(config, mix.filter(pc.equal(mix["split"], "train"))["set"].to_pylist())
    start_backbone(config, weights=False)
    look_for_media(mix, config)
    connect()  # only now: what is wrong with the input is said without a cluster
    claim(run, config, mix)
    if config.cache_features and not exists(f"{run}/states.parquet"):
        _write_table(cache_states(mix, config), f"{run}/states.parquet")
    event(log, "training", rows=mix.num_rows, workers=config.workers.count)
    fitted = time.monotonic()
    best = _fit(config, run)
    seconds = {"train": time.monotonic() - fitted}
    with TemporaryDirectory() as name:
        folder = Path(name)
        scorer, factors, curve = _scorer_of(best, config)
        scorer.panel = panel_of(sets, scorer)
        scorer.save(folder)
        copy_tree(folder, f"{run}/scorer")
    metrics = measure(sets, f"{run}/scorer", f"{run}/test", config)
    scorer.file.metrics = metrics
    with TemporaryDirectory() as name:
        scorer.save(Path(name))
        copy_tree(Path(name), f"{run}/scorer")
    _keep_adapter(scorer, factors, config, run)
    seconds["total"] = time.monotonic() - began
    summary = {
        "scorer": f"{run}/scorer",
        "fingerprint": scorer.fingerprint,
        "metrics": metrics,
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "curve": curve,
        "made_with": library_versions(),
    }
    write_bytes(f"{run}/summary.json", json.dumps(summary, indent=1).encode())
    return summary


def claim(run: str, config: TrainConfig, mix: pa.Table) -> None:
    """Takes the run's folder, or refuses one that is finished or another config's.

    Raises:
        ConfigError: see above.
    """
    resolved = dump_config(config)
    if exists(f"{run}/summary.json"):
        raise ConfigError(f"run {run} is finished: choose another name, or remove its folder")
    if exists(f"{run}/config.yaml"):
        if read_bytes(f"{run}/config.yaml").decode() != resolved:
            raise ConfigError(
                f"run {run} was begun with another config: choose another name, or remove its "
                "folder"
            )
        if not _read_table(f"{run}/mix.parquet").equals(mix):
            raise ConfigError(f"run {run} was begun with other manifests: choose another name")
        return
    _write_table(mix, f"{run}/mix.parquet")
    try:
        create(f"{run}/config.yaml", resolved.encode())
    except WriteConflictError as error:
        raise ConfigError(
            f"run {run} was begun by somebody else this moment: choose another name"
        ) from error


def _fit(config: TrainConfig, run: str) -> Checkpoint:
    """Runs the workers; returns the checkpoint with the best validation SRCC."""
    filesystem, path = open_filesystem(run)
    workers = config.workers
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"config": config.model_dump(mode="json"), "run": run},
        torch_config=TorchConfig(backend="nccl" if workers.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers.count,
            use_gpu=bool(workers.gpus),
            resources_per_worker={"CPU": workers.cpus} | ({"GPU": 1} if workers.gpus else {}),
        ),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=path,
            storage_filesystem=PyFileSystem(FSSpecHandler(filesystem)),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=CheckpointConfig(
                num_to_keep=2,
                checkpoint_score_attribute="selection",
                checkpoint_score_order="max",
            ),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise UserError(f"run {run} failed on its workers: {error}") from error
    if not result.best_checkpoints:
        raise UserError(f"run {run} ended without a checkpoint: see the workers' logs")
    ranked = [(m["selection"], c) for c, m in result.best_checkpoints]
    return max(ranked, key=lambda pair: pair[0])[1]


def _worker(loop: dict[str, Any]) -> None:
    """What runs on every Ray Train worker."""
    setup_logging()
    config = TrainConfig.model_validate(loop["config"])
    context = ray.train.get_context()
    torch.set_num_threads(max(1, int(config.workers.cpus)))
    rows = _read_table(f"{loop['run']}/mix.parquet")
    backbone = start_backbone(config)
    train_rows, validation = (
        np.flatnonzero(np.array(rows["split"].to_pylist()) == split) for split in ("train", "val")
    )
    media: MediaSource
    if config.cache_features:
        media = CachedStates(_read_table(f"{loop['run']}/states.parquet"), rows["uri"].to_pylist())
    else:
        media = StreamedPixels(rows, backbone.spec.pixels)
    if config.workers.gpus:
        backbone.cuda()
    calibrate(backbone, media, train_rows, config.seed)
    mix = Mix(opinions(rows), train_rows, validation, rows["set"].to_pylist())
    rank, world = context.get_world_rank(), context.get_world_size()
    trainer = Trainer(config, backbone, mix, media, rank, world)

    def report(metrics: dict[str, float], folder: Path) -> None:
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(str(folder)))

    last = ray.train.get_checkpoint()
    if last is None:
        trainer.run(report)
        return
    with last.as_directory() as folder:
        trainer.run(report, resume=Path(folder))


def _scorer_of(
    best: Checkpoint, config: TrainConfig
) -> tuple[Scorer, dict[str, Tensor], list[dict[str, float]]]:
    """A scorer from a checkpoint's whole weights, LoRA's A and B, and the run's loss curve."""
    backbone = start_backbone(config, weights=False)
    readout = make_readout(config.readout.model_dump(mode="json"))
    head = readout.head(backbone.spec.hidden_size)
    with best.as_directory() as name:
        load_weights(backbone, Path(name))
        load_head(head, Path(name))
        factors = load_file(Path(name) / FACTORS) if config.backbone.lora else {}
        curve = json.loads((Path(name) / checkpoints.CURVE).read_text("utf-8"))
    made_with = {"seed": config.seed, "config": config.model_dump(mode="json")}
    scorer = Scorer(
        backbone,
        readout,
        tasks_of(config),
        config.prompt,
        made_with=made_with | {"libraries": library_versions()},
        head=head,
    )
    return scorer, factors, curve


def _keep_adapter(
    scorer: Scorer, factors: Mapping[str, Tensor], config: TrainConfig, run: str
) -> None:
    """Writes ``adapter/``, the scorer as what it adds to ``backbone.weights``.

    Without those the model started from nothing that an endpoint could have as well.
    """
    lora = config.backbone.lora
    if lora is None or config.backbone.weights is None:
        return
    with TemporaryDirectory() as name:
        base = start_backbone(config).state_dict()
        save_adapter(scorer, base, factors, lora.scaling, Path(name))
        copy_tree(Path(name), f"{run}/adapter")


def tasks_of(config: TrainConfig) -> dict[str, TaskSpec]:
    """What a run's scorer can rate: each set's task and attributes, for the set's kinds.

    An attribute is read behind the task and the attributes before it, as it was taught.
    """
    tasks: dict[str, TaskSpec] = {}
    for some in config.sets:
        found = sorted(set(load_manifest(some.manifest)["kind"].to_pylist()))
        names = (some.task, *some.attributes)
        for at, name in enumerate(names):
            spec = tasks.get(name, TaskSpec(kinds=(), scale=some.scale, after=names[:at]))
            kinds = (*spec.kinds, *(kind for kind in found if kind not in spec.kinds))
            tasks[name] = spec.model_copy(update={"kinds": kinds})
    return tasks


def _write_table(table: pa.Table, uri: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_bytes(uri, sink.getvalue().to_pybytes())


def _read_table(uri: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(read_bytes(uri)))
