"""Compares readouts and objectives on the demo pictures, fairly, on CPUs.

    python jobs/compare_readouts.py --config configs/compare/readouts.yaml

Prints a table and writes it to the output folder as comparison.md and comparison.json, with the
resolved config. Takes about half an hour on two cores; ``--set share=0.2 --set seeds=1`` looks
quickly.
"""

import json
import os
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))
os.environ["OMP_NUM_THREADS"] = "1"  # two processes of one thread each don't fight

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beholder.config import dump_config, job_arguments, load_config, run_job
from beholder.training.folds import spread
from beholder.training.readout_comparison import (
    ComparisonConfig,
    Trial,
    as_markdown,
    best_rates,
    figures,
    run_trial,
)

PROCESSES = 2
SEED = 0


def main(argv: list[str]) -> None:
    """Builds the pictures, runs every trial, writes the table."""
    config = job_arguments(ComparisonConfig, argv, __doc__ or "").config
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(dump_config(config), "utf-8")
    prepare(config, output)
    trials = run_all(config, output)
    mix = pq.read_table(output / "mix.parquet")
    table = figures(mix, trials, list(config.variants))
    rates = {trial.variant: trial.rate for trial in trials}
    written = {"rows": table, "learning_rates": rates}
    (output / "comparison.json").write_text(json.dumps(written, indent=1) + "\n", "utf-8")
    text = as_markdown(table) + f"\nLearning rates: {rates}\n"
    (output / "comparison.md").write_text(text, "utf-8")
    print(text)


def prepare(config: ComparisonConfig, output: Path) -> None:
    """Pictures and their vision states, once for all trials."""
    from beholder.datasets.demo.comparison import build_compared

    mix = build_compared(output / "pictures", SEED, PROCESSES, config.share)
    pq.write_table(mix, output / "mix.parquet")
    parts = np.array_split(np.arange(mix.num_rows), 16)
    jobs = [(str(output), config.recipe, part.tolist()) for part in parts]
    pq.write_table(
        pa.concat_tables(spread(look, jobs, "look", PROCESSES)), output / "states.parquet"
    )


def look(output: str, base: str, rows: list[int]) -> pa.Table:
    """Vision states of some rows."""
    import torch

    from beholder.training.config import TrainConfig
    from beholder.training.folds import vision_states

    torch.set_num_threads(1)
    media = pq.read_table(f"{output}/mix.parquet").take(rows)
    return vision_states(media, load_config(TrainConfig, Path(base)))


def run_all(config: ComparisonConfig, output: Path) -> list[Trial]:
    """All learning rates on some folds, then the chosen ones on all the others."""
    first = product(config.variants, config.learning_rates, range(config.rate_folds), [0])
    jobs = [(str(output), config, *one) for one in first]
    tried: list[Trial] = spread(trial, jobs, "rates", PROCESSES)
    rates = best_rates(tried)
    kept = [one for one in tried if one.rate == rates[one.variant]]
    done = {(one.variant, one.fold, one.seed) for one in kept}
    others = product(config.variants, range(config.folds), range(config.seeds))
    rest = [
        (str(output), config, variant, rates[variant], fold, seed)
        for variant, fold, seed in others
        if (variant, fold, seed) not in done
    ]
    return kept + spread(trial, rest, "seeds", PROCESSES)


def trial(
    output: str, config: ComparisonConfig, variant: str, rate: float, fold: int, seed: int
) -> Trial:
    """One training, in a process of its own."""
    import torch

    from beholder.datasets.demo import GROUPS, SOURCES

    torch.set_num_threads(1)
    shown = {one.name for one in SOURCES if one.has_stills}
    groups = {name: group for name, group in GROUPS.items() if name in shown}
    mix = pq.read_table(f"{output}/mix.parquet")
    states = pq.read_table(f"{output}/states.parquet")
    return run_trial(mix, states, config, groups, variant, rate, fold, seed)


if __name__ == "__main__":
    run_job(main)
