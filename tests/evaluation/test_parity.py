"""The comparison of labels and metrics: what it sees, by changing the record or our code."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder.backbones.mplug_owl2.golden import GoldenSet, Line
from beholder.evaluation import parity
from beholder.evaluation.parity import metric_lines, soft_label_lines
from beholder.opinions import Levels, soft_labels
from beholder.opinions.levels import LevelRule

SETS = ("koniq_like", "spaq_like", "kadid_like")


@pytest.fixture(scope="module")
def opened(golden: Path) -> GoldenSet:
    return GoldenSet(golden)


@pytest.fixture
def recorded(opened: GoldenSet, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The two files' contents, which may be changed and are what the comparison reads."""
    files = {name: opened.json(name) for name in ("soft_labels.json", "eval_metrics.json")}
    contents = deepcopy(files)
    monkeypatch.setattr(opened, "json", contents.__getitem__)
    return contents


def failed(lines: Iterator[Line]) -> set[str]:
    return {line.name for line in lines if not line.ok}


def test_all_is_within_tolerance(opened: GoldenSet) -> None:
    labels, metrics = [*soft_label_lines(opened)], [*metric_lines(opened)]
    assert {line.name: line.tolerance for line in labels} == {
        f"soft_labels/{name}{part}": tolerance
        for name in SETS
        for part, tolerance in (("", 1e-6), ("/words", 0))
    }
    assert {line.name: line.tolerance for line in metrics} == {
        f"eval_metrics/{group}": 1e-4 for group in ("scores", "distances", "correlations")
    }
    assert all(line.difference is not None and line.ok for line in labels + metrics)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("field", ["gt_score_norm", "std_norm", "level_probs", "level_probs_org"])
def test_every_number_of_a_label_counts(
    opened: GoldenSet, recorded: dict[str, Any], name: str, field: str
) -> None:
    # Of an interpolated label raw probabilities say nothing, nor of the uniform one at mos 3.
    row = next(
        row
        for row in recorded["soft_labels.json"][name]["expected_train"]
        if min(row["level_probs"]) > 0 and len({*row["level_probs"]}) > 1
    )
    if isinstance(row[field], list):
        row[field][2] += 0.01
    else:
        row[field] += 0.01
    assert failed(soft_label_lines(opened)) == {f"soft_labels/{name}"}


def test_labels_of_test_rows_count(opened: GoldenSet, recorded: dict[str, Any]) -> None:
    recorded["soft_labels.json"]["spaq_like"]["expected_test"][-1]["std_norm"] += 0.01
    assert failed(soft_label_lines(opened)) == {"soft_labels/spaq_like"}


def test_another_word_is_seen(opened: GoldenSet, recorded: dict[str, Any]) -> None:
    row = recorded["soft_labels.json"]["koniq_like"]["expected_train"][7]
    assert row["answer"] == "The quality of the image is fair."
    row["answer"] = "The quality of the image is good."
    assert failed(soft_label_lines(opened)) == {"soft_labels/koniq_like/words"}


def test_a_row_too_few_is_seen(opened: GoldenSet, recorded: dict[str, Any]) -> None:
    recorded["soft_labels.json"]["koniq_like"]["expected_test"].pop()
    assert failed(soft_label_lines(opened)) == {"soft_labels/koniq_like"}


def test_exact_labels_are_not_the_released_ones(
    opened: GoldenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exact(*opinions: Any, form: str, **rest: Any) -> Any:
        return soft_labels(*opinions, **rest)

    monkeypatch.setattr(parity, "soft_labels", exact)
    assert failed(soft_label_lines(opened)) == {f"soft_labels/{name}" for name in SETS}


def test_words_of_the_other_rule_are_seen(
    opened: GoldenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "Levels", lambda scale: Levels(scale, rule=LevelRule.LEFT_CLOSED))
    assert failed(soft_label_lines(opened)) == {f"soft_labels/{name}/words" for name in SETS}


@pytest.mark.parametrize(
    ("field", "group"),
    [
        ("wa5_0_1", "scores"),
        ("kl", "distances"),
        ("js", "distances"),
        ("wd", "distances"),
        ("plcc_raw", "correlations"),
        ("srcc_raw", "correlations"),
        ("plcc_after_logistic4", "correlations"),
        ("srcc_after_logistic4", "correlations"),
    ],
)
def test_every_metric_counts(
    opened: GoldenSet, recorded: dict[str, Any], field: str, group: str
) -> None:
    metrics = recorded["eval_metrics.json"]
    if isinstance(metrics[field], list):
        metrics[field][-1] += 0.01
    else:
        metrics[field] += 0.01
    assert failed(metric_lines(opened)) == {f"eval_metrics/{group}"}


@pytest.mark.parametrize("field", ["pred_score", "pred_std"])
def test_every_score_counts(opened: GoldenSet, recorded: dict[str, Any], field: str) -> None:
    recorded["eval_metrics.json"][field][-1] += 0.01
    assert "eval_metrics/scores" in failed(metric_lines(opened))


def test_another_metric_is_named(opened: GoldenSet, recorded: dict[str, Any]) -> None:
    recorded["eval_metrics.json"]["hellinger"] = 0.3
    named = [line.name for line in metric_lines(opened) if line.difference is None]
    assert named == ["eval_metrics/hellinger"]


def test_a_variance_for_a_spread_is_seen(
    opened: GoldenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = parity.gaussian_distances
    monkeypatch.setattr(
        parity,
        "gaussian_distances",
        lambda mean, std, mos, mos_std: right(mean, np.square(std), mos, np.square(mos_std)),
    )
    assert failed(metric_lines(opened)) == {"eval_metrics/distances"}


def test_the_raw_correlation_is_not_the_fitted_one(
    opened: GoldenSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "plcc_fitted", parity.plcc)
    assert failed(metric_lines(opened)) == {"eval_metrics/correlations"}
