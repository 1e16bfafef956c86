"""Released labels and metrics of a golden folder against ours.

``jobs/check_parity.py`` compares the whole folder: see :mod:`beholder.training.parity`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from beholder.backbones import Read
from beholder.backbones.mplug_owl2.golden import Array, GoldenSet, Line, difference, worst_lines
from beholder.evaluation.correlations import logistic_fit, plcc, plcc_fitted, srcc
from beholder.evaluation.distances import gaussian_distances
from beholder.opinions import LEVEL_WORDS, Levels
from beholder.opinions.normalise import RangeRule, normalise_mos, normalise_std, score_range
from beholder.opinions.soft_labels import Density, Form, soft_labels
from beholder.readouts import LevelReadout

EVALUATED = {"level_logits", "gt", "gt_std"}
"""What the metrics are made of."""

Rows = list[dict[str, Any]]
Found = Iterator[tuple[str, float]]


def soft_label_lines(golden: GoldenSet) -> Iterator[Line]:
    """The labels of each set in ``soft_labels.json``, and the words of their answers."""
    for name, recorded in golden.json("soft_labels.json").items():
        found = _set_differences(recorded)
        yield from worst_lines(f"soft_labels/{name}", found, golden.tolerances, own="soft_labels")


def _set_differences(recorded: Mapping[str, Any]) -> Found:
    given = {n: (float(o["mos"]), float(o["std"])) for n, o in recorded["mos_json"].items()}
    # Over train and test together, as released.
    scale, _ = score_range([mos for mos, _ in given.values()], RangeRule.MIN_MAX)
    for split in ("train", "test"):
        rows = recorded[f"expected_{split}"]
        mos, std = np.array([given[name] for name in recorded[f"{split}_names"]]).T
        mean, spread = normalise_mos(mos, scale), normalise_std(std, scale)
        yield "soft_labels", difference(mean, [row["gt_score_norm"] for row in rows])
        yield "soft_labels", difference(spread, [row["std_norm"] for row in rows])
        if split == "train":  # only those have labels
            yield from _label_differences(recorded, rows, mean, spread)
            yield "words", _word_difference(rows, Levels(scale), mos)


def _label_differences(
    recorded: Mapping[str, Any], rows: Rows, mean: Array, spread: Array
) -> Found:
    """Of the labels, and of what our alpha and beta make of the recorded raw probabilities."""
    ours = soft_labels(
        mean,
        spread,
        density=Density(recorded["density_type"]),
        form=Form.RELEASED,
        min_std=recorded["thre_std"],
        max_error=recorded["thre_diff"],
    )
    probs = np.array([row["level_probs"] for row in rows])[:, ::-1]  # recorded best level first
    raw = np.array([row["level_probs_org"] for row in rows])[:, ::-1]
    yield "soft_labels", difference(ours.probs, probs)
    solved = ~ours.interpolated
    adjusted = np.maximum(ours.alpha[:, None] * raw + ours.beta[:, None], 0)
    yield "soft_labels", difference(adjusted[solved], probs[solved])


def _word_difference(rows: Rows, levels: Levels, mos: Array) -> float:
    """0 where each recorded answer has the word of the mos's bin and no other level word."""
    words = [[word in row["answer"] for word in levels.words] for row in rows]
    return difference(np.eye(len(levels.words))[levels.index(mos)], words)


def metric_lines(golden: GoldenSet) -> Iterator[Line]:
    """The released evaluation: scores from level logits, and metrics of the recorded scores.

    The folder states no tolerance for metrics: they have the scores'.
    """
    recorded = golden.json("eval_metrics.json")
    groups = {
        "scores": _scores(recorded["level_logits"]),
        "distances": _distances(recorded),
        "correlations": _correlations(recorded),
    }
    for group, ours in groups.items():
        found = [("scores", difference(value, recorded[field])) for field, value in ours.items()]
        yield from worst_lines(f"eval_metrics/{group}", found, golden.tolerances, own="scores")
    covered = EVALUATED.union(*groups.values())
    yield from (Line(f"eval_metrics/{field}") for field in recorded if field not in covered)


def _scores(rows: list[dict[str, float]]) -> dict[str, ArrayLike]:
    words = LEVEL_WORDS
    logits = torch.tensor([[row[word] for word in words] for row in rows], dtype=torch.float64)
    read = LevelReadout().read(Read(logits[:, :0], logits), [*range(len(words))]).distribution
    unit = (read.mean - 1) / (len(words) - 1)  # Q-Align's weights 0, .25, .5, .75, 1
    return {"pred_score": read.mean, "pred_std": read.std, "wa5_0_1": unit}


def _distances(recorded: Mapping[str, Any]) -> dict[str, ArrayLike]:
    d = gaussian_distances(*(recorded[name] for name in ("pred_score", "pred_std", "gt", "gt_std")))
    return {"kl": d.kl, "js": d.js, "wd": d.wasserstein}


def _correlations(recorded: Mapping[str, Any]) -> dict[str, ArrayLike]:
    score, gt = recorded["pred_score"], recorded["gt"]
    return {
        "plcc_raw": plcc(score, gt),
        "srcc_raw": srcc(score, gt),
        "plcc_after_logistic4": plcc_fitted(score, gt),
        "srcc_after_logistic4": srcc(logistic_fit(score, gt), gt),
    }
