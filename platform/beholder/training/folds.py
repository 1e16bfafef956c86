"""The honest figure for a small set: every source held out in turn, several seeds.

The same loop, config and data as the quick start's, without Ray: vision states are computed
once, then each fold trains a model of its own and is measured on sources that it never saw.
"""

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from beholder.backbones.loading import load_weights
from beholder.datasets import TrainingSet, concatenate, split_sources
from beholder.evaluation import srcc
from beholder.items import Item
from beholder.logs import Progress
from beholder.media.limits import Limits
from beholder.media.stage import Stage, Staged
from beholder.readouts import load_head
from beholder.training.adapters import remove_adapters
from beholder.training.config import TrainConfig
from beholder.training.engine import import_deepspeed
from beholder.training.feed import CachedStates, calibrate, opinions
from beholder.training.loop import Mix, Trainer
from beholder.training.start import start_backbone

VALIDATION_SOURCES = 4


@dataclass(frozen=True)
class Fold:
    """What one fold gave.

    Attributes:
        fold: which, seed: of the split and the training.
        srcc: against latent quality on the held-out sources, by set.
        sources: held-out sources.
        pictures: held-out rows of the first set.
    """

    fold: int
    seed: int
    srcc: dict[str, float]
    sources: int
    pictures: int


def vision_states(media: pa.Table, config: TrainConfig) -> pa.Table:
    """Columns ``uri, frames, states`` of media ``item_id, uri, kind``, in this process."""
    backbone = start_backbone(config).eval()
    stage = Stage(backbone.spec.pixels, Limits(max_clips=1))
    found = []
    for row in media.select(["item_id", "uri", "kind"]).to_pylist():
        staged = stage.stage(Item(row["item_id"], row["uri"], row["kind"]))
        assert isinstance(staged, Staged), f"{row['uri']}: {staged}"
        with torch.inference_mode():
            states = backbone.vision(torch.from_numpy(staged.clips[0])).numpy()
        flat = states.astype(np.float32).reshape(-1)
        found.append({"uri": row["uri"], "frames": len(states), "states": flat})
    schema = [("uri", pa.string()), ("frames", pa.int64()), ("states", pa.list_(pa.float32()))]
    return pa.Table.from_pylist(found, schema=pa.schema(schema))


def mix_of(sets: Sequence[TrainingSet]) -> pa.Table:
    """All rows of all sets, whatever their split, with their ``row``."""
    mix = concatenate(sets)
    return mix.append_column("row", pa.array(np.arange(mix.num_rows)))


def splits_of(
    mix: pa.Table, groups: dict[str, str], folds: int, fold: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row indices of training, validation and test; no source is in two of them.

    The validation sources come from the fold behind the test fold. Held-out pictures count only
    in the set that they were made for, as in the demo set's own split.
    """
    fold_of = split_sources(groups, folds, seed)
    behind = sorted(s for s in groups if fold_of[s] == (fold + 1) % folds)
    chosen = set(np.random.default_rng([seed, fold]).permutation(behind)[:VALIDATION_SOURCES])
    source = mix["source"].to_pylist()
    test = np.array([fold_of[s] == fold for s in source])
    validation = np.array([s in chosen for s in source])
    train = ~test & ~validation
    own = np.array(mix["made_for"].to_pylist()) == np.array(mix["set"].to_pylist())
    return np.flatnonzero(train), np.flatnonzero(validation & own), np.flatnonzero(test & own)


def run_fold(
    mix: pa.Table,
    states: pa.Table,
    config: TrainConfig,
    groups: dict[str, str],
    folds: int,
    fold: int,
) -> Fold:
    """Trains on all but one fold and measures on it; the seed is the config's."""
    train, validation, test = splits_of(mix, groups, folds, fold, config.seed)
    trainer, _ = train_rows(mix, states, config, train, validation)
    predicted = trainer.predict(test)
    latent = np.array(mix["latent"].to_pylist())[test]
    names = np.array(mix["set"].to_pylist())[test]
    source = np.array(mix["source"].to_pylist())[test]
    found = {s: srcc(predicted[names == s], latent[names == s]) for s in sorted(set(names))}
    counted = int((names == mix["set"][0].as_py()).sum())
    return Fold(fold, config.seed, found, len(set(source)), counted)


def train_rows(
    mix: pa.Table,
    states: pa.Table,
    config: TrainConfig,
    train: NDArray[np.int64],
    validation: NDArray[np.int64],
) -> tuple[Trainer, float]:
    """Trains on some rows; gives the trainer with its best weights, and their validation SRCC."""
    _alone()
    backbone = start_backbone(config)
    media = CachedStates(states, mix["uri"].to_pylist())
    calibrate(backbone, media, train, config.seed)
    rows = Mix(opinions(mix), train, validation, mix["set"].to_pylist())
    trainer = Trainer(config, backbone, rows, media)
    selected = -2.0
    with tempfile.TemporaryDirectory() as name:

        def report(metrics: dict[str, float], folder: Path) -> None:
            nonlocal selected
            if metrics["selection"] > selected:
                selected = metrics["selection"]
                for file in folder.glob("*.safetensors"):
                    file.replace(Path(name) / file.name)

        trainer.run(report)
        remove_adapters(backbone)  # they are merged into the best weights
        load_weights(backbone, Path(name))
        load_head(trainer.head, Path(name))
    return trainer, selected


def spread(
    work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], label: str, processes: int
) -> list[Any]:
    """Calls ``work(*job)`` for each job in processes of their own; results in the jobs' order."""
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, mp_context=context) as pool,
        Progress(len(jobs), label) as bar,
    ):
        running = [pool.submit(work, *job) for job in jobs]
        for future in running:
            future.add_done_callback(lambda _: bar.advance())
        return [future.result() for future in running]


def _alone() -> None:
    """A world of one worker for DeepSpeed."""
    if dist.is_initialized():
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    import_deepspeed(gpus=False).init_distributed("gloo", verbose=False)
