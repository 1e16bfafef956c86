"""Readouts and objectives side by side: same pictures, folds, start, batches and steps.

Each variant is a list of overrides of one config. Its learning rate is the one with the best
validation SRCC over some folds of the first seed; test pictures are never looked at for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from beholder.config import JobConfig, load_config
from beholder.datasets.demo.comparison import COMPARED, RATED
from beholder.evaluation import clustered_interval, compare, plcc, srcc
from beholder.opinions import ScoreDistribution
from beholder.opinions.votes import onto_levels
from beholder.training.config import TrainConfig
from beholder.training.folds import splits_of, train_rows

Array = NDArray[np.float64]


class ComparisonConfig(JobConfig):
    """What is compared."""

    recipe: str = Field(description="training config that every variant starts from")
    variants: dict[str, tuple[str, ...]] = Field(
        description="overrides by variant, as --set takes them; the first is compared with"
    )
    learning_rates: tuple[float, ...] = Field(
        min_length=1, description="tried for each variant on validation pictures"
    )
    rate_folds: int = Field(2, ge=1, description="folds of the first seed on which they are tried")
    folds: int = Field(5, ge=2, description="parts of the sources, each held out once")
    seeds: int = Field(3, ge=1, description="repetitions with other splits and starts")
    share: float = Field(1.0, gt=0, le=1, description="part of the pictures, for a quick look")
    output: str = Field("build/compare_readouts", description="folder to fill")


@dataclass(frozen=True)
class Trial:
    """One training and what it gave.

    Attributes:
        variant: name, rate: peak learning rate, fold and seed.
        selection: validation SRCC.
        rows: test rows of the mix.
        probs: predicted distributions of 1..5 for them, (N, 5); None where the readout gives
            points.
        mean: predicted scores by the readout's own support, on 1..5. (N,).
        on_scale: the same on each row's set's scale, by the readout's inverse map. (N,).
    """

    variant: str
    rate: float
    fold: int
    seed: int
    selection: float
    rows: NDArray[np.int64]
    probs: Array | None
    mean: Array
    on_scale: Array


def run_trial(
    mix: pa.Table,
    states: pa.Table,
    config: ComparisonConfig,
    groups: dict[str, str],
    variant: str,
    rate: float,
    fold: int,
    seed: int,
) -> Trial:
    """Trains one variant on one fold's training sources and predicts its held-out ones."""
    overrides = [
        "workers.count=1",
        f"seed={seed}",
        f"schedule.learning_rate={rate}",
        *config.variants[variant],
    ]
    chosen = load_config(TrainConfig, Path(config.recipe), overrides)
    micro = f"schedule.micro_batch={chosen.schedule.global_batch}"
    chosen = load_config(TrainConfig, Path(config.recipe), [*overrides, micro])
    train, validation, test = splits_of(mix, groups, config.folds, fold, seed)
    names = np.array(mix["set"].to_pylist())
    learned = np.isin(names, [one.name for one in COMPARED if one.trained])
    trainer, selection = train_rows(
        mix, states, chosen, train[learned[train]], validation[learned[validation]]
    )
    readout = trainer.readout
    levels = None
    if readout.has_spread:
        probs = trainer.distributions(test)
        own = ScoreDistribution(readout.support, probs, readout.scale)
        score, levels = own.mean, onto_levels(own, 5).probs
    else:
        score = trainer.predict(test)
    on_scale = np.empty(len(test))
    for one in COMPARED:
        here = names[test] == one.name
        on_scale[here] = readout.invert(score[here], one.scale)
    mean = RATED.minimum + readout.scale.to_unit(score) * RATED.width
    return Trial(variant, rate, fold, seed, selection, test, levels, mean, on_scale)


def best_rates(trials: Sequence[Trial]) -> dict[str, float]:
    """The learning rate of each variant by its mean validation SRCC; the lower one if equal."""
    found: dict[str, dict[float, list[float]]] = {}
    for trial in trials:
        found.setdefault(trial.variant, {}).setdefault(trial.rate, []).append(trial.selection)
    return {
        variant: max(sorted(rates), key=lambda rate: float(np.mean(rates[rate])))
        for variant, rates in found.items()
    }


def figures(
    mix: pa.Table, trials: Sequence[Trial], variants: Sequence[str]
) -> list[dict[str, Any]]:
    """One row a variant and set: medians over trials, and tests against the first variant.

    ``srcc``, ``plcc``: with latent quality, median over folds and seeds. ``mae_own``: of the
    readout's own inverse map, in parts of the set's scale; ``mae_ends``: reading 1..5 as the
    scale's ends. ``kl``: of the population's distribution from the predicted one, nats; ``w1``
    between them, points of 1..5; a readout without a spread has neither. ``d_...``: difference
    from the first variant over all trials' rows with its 95% interval, drawn by source.
    """
    truth = _truth(mix)
    table = []
    for one in COMPARED:
        pooled = {
            v: _pool(truth, [t for t in trials if t.variant == v], one.name) for v in variants
        }
        first = pooled[variants[0]]
        for variant in variants:
            mine = [t for t in trials if t.variant == variant]
            by_trial = [_of_trial(truth, trial, one.name) for trial in mine]
            row: dict[str, Any] = {"variant": variant, "set": one.name, "trials": len(mine)}
            row |= {k: float(np.median([m[k] for m in by_trial])) for k in by_trial[0]}
            if variant != variants[0]:
                row |= _against(pooled[variant], first)
            table.append(row)
    return table


def _truth(mix: pa.Table) -> dict[str, NDArray[Any]]:
    columns = {name: np.array(mix[name].to_pylist()) for name in ("set", "source", "latent")}
    columns["population"] = np.array(mix["population"].to_pylist())
    return columns


def _rows(truth: Mapping[str, NDArray[Any]], trial: Trial, name: str) -> dict[str, NDArray[Any]]:
    """One trial's rows of one set, with each row's errors."""
    here = truth["set"][trial.rows] == name
    rows = trial.rows[here]
    latent, people = truth["latent"][rows], truth["population"][rows]
    scale = next(one.scale for one in COMPARED if one.name == name)
    unit = RATED.to_unit(latent)
    found = {
        "source": truth["source"][rows],
        "latent": latent,
        "mean": trial.mean[here],
        "mae_own": np.abs(scale.to_unit(trial.on_scale[here]) - unit),
        "mae_ends": np.abs(RATED.to_unit(trial.mean[here]) - unit),
    }
    if trial.probs is not None:
        probs = trial.probs[here]
        logs = np.log(np.maximum(people, 1e-300)) - np.log(np.maximum(probs, 1e-12))
        found["kl"] = (people * logs).sum(1)
        found["w1"] = np.abs((people - probs).cumsum(1)).sum(1)
    return found


def _of_trial(truth: Mapping[str, NDArray[Any]], trial: Trial, name: str) -> dict[str, float]:
    rows = _rows(truth, trial, name)
    errors = ("mae_own", "mae_ends", "kl", "w1")
    means = {key: float(rows[key].mean()) for key in errors if key in rows}
    return {
        "srcc": srcc(rows["mean"], rows["latent"]),
        "plcc": plcc(rows["mean"], rows["latent"]),
        **means,
    }


def _pool(
    truth: Mapping[str, NDArray[Any]], trials: Sequence[Trial], name: str
) -> dict[str, NDArray[Any]]:
    """All trials' rows of one set, in the same order for every variant."""
    ordered = sorted(trials, key=lambda trial: (trial.seed, trial.fold))
    parts = [_rows(truth, trial, name) for trial in ordered]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _against(mine: Mapping[str, NDArray[Any]], first: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    rank = compare(mine["mean"], first["mean"], mine["latent"], mine["source"])
    found: dict[str, Any] = {
        "d_srcc": rank.value,
        "d_srcc_interval": list(rank.interval),
        "d_srcc_p": rank.p,
    }
    for key in ("kl", "w1"):
        if key not in mine or key not in first:
            continue
        gap = clustered_interval(_mean_gap, mine[key], first[key], mine["source"], 1000, 0)
        found |= {f"d_{key}": _mean_gap(mine[key], first[key]), f"d_{key}_interval": list(gap)}
    return found


def _mean_gap(mine: Array, first: Array) -> float:
    return float(np.mean(mine - first))


def as_markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table a person reads."""
    head = (
        "set", "variant", "SRCC", "PLCC", "MAE own map", "MAE by ends", "KL", "W1",
        "SRCC - first", "KL - first",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in table:
        cells = [row["set"], row["variant"]]
        cells += [
            f"{row[k]:.3f}" if k in row else "no spread"
            for k in ("srcc", "plcc", "mae_own", "mae_ends", "kl", "w1")
        ]
        for key in ("srcc", "kl"):
            if f"d_{key}" in row:
                low, high = row[f"d_{key}_interval"]
                cells.append(f"{row[f'd_{key}']:+.3f} [{low:+.3f}, {high:+.3f}]")
            else:
                cells.append("")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
