"""How well the pocket scorer rates pictures of scenes that it has never seen.

Cross-validation on the demo set: 5 folds over all sources, 3 seeds, SRCC against latent quality on
sources never trained on, the median of the 15 and the interval that holds 95% of bootstrapped
medians.
"""

import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from beholder.config import load_config
from beholder.datasets import TrainingSet
from beholder.datasets.demo import GROUPS, build_demo
from beholder.datasets.manifests import load_manifest
from beholder.opinions import Scale
from beholder.training.config import TrainConfig
from beholder.training.folds import Fold, mix_of, run_fold, spread, vision_states
from bench import BUILD, ROOT, Row

CONFIG = ROOT / "configs/train/onealign_pocket.yaml"
# Two processes of one thread each are faster here than one of two, and don't fight.
FOLDS, SEEDS, PROCESSES = 5, 3, 2
BARS = {"quality": ">= 0.78"}


def rows() -> list[Row]:
    """SRCC by set over folds and seeds."""
    began = time.monotonic()
    mix_path, states_path = prepare(BUILD)
    jobs = [
        (str(mix_path), str(states_path), fold, seed)
        for seed in range(SEEDS)
        for fold in range(FOLDS)
    ]
    found: list[Fold] = list(spread(one_fold, jobs, "folds", PROCESSES))
    folds = [asdict(one) for one in found]
    (BUILD / "folds.json").write_text(json.dumps(folds, indent=1) + "\n", "utf-8")
    made = []
    for name in ("quality", "aesthetics", "video"):
        values = np.array([one.srcc[name] for one in found])
        low, high = median_interval(values)
        note = f"median of {len(values)}, 95% {low:.3f} to {high:.3f}, worst {values.min():.3f}"
        made.append(Row(f"{name} SRCC", float(np.median(values)), "", BARS.get(name, ""), note))
    made.append(Row("cross-validation", time.monotonic() - began, "s"))
    return made


def prepare(output: Path) -> tuple[Path, Path]:
    """The demo set on disk and its vision states."""
    demo = build_demo(output / "demo", workers=PROCESSES)
    sets = [
        TrainingSet(name, load_manifest(demo.manifests[name], ("mos",)), task, Scale(1, 5))
        for name, task in (
            ("quality", "quality"),
            ("aesthetics", "aesthetics"),
            ("video", "quality"),
        )
    ]
    mix = mix_of(sets)
    mix_path, states_path = output / "mix.parquet", output / "states.parquet"
    pq.write_table(mix, mix_path)
    _, first = np.unique(mix["uri"].to_numpy(), return_index=True)
    jobs = [(str(mix_path), part.tolist()) for part in np.array_split(first, 16)]
    pq.write_table(pa.concat_tables(spread(look, jobs, "look at pictures", PROCESSES)), states_path)
    return mix_path, states_path


def look(mix: str, rows: list[int]) -> pa.Table:
    """Vision states of some rows."""
    torch.set_num_threads(1)
    return vision_states(pq.read_table(mix).take(rows), load_config(TrainConfig, CONFIG))


def one_fold(mix: str, states: str, fold: int, seed: int) -> Fold:
    """One training."""
    torch.set_num_threads(1)
    config = load_config(TrainConfig, CONFIG)
    alone = [
        "workers.count=1",
        f"schedule.micro_batch={config.schedule.global_batch}",
        f"seed={seed}",
    ]
    config = load_config(TrainConfig, CONFIG, alone)
    return run_fold(pq.read_table(mix), pq.read_table(states), config, GROUPS, FOLDS, fold)


def median_interval(values: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """95% percentile bootstrap of the median."""
    drawn = np.random.default_rng(0).choice(values, (resamples, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)
