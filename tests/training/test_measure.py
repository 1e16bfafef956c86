"""The end of a run: scores beside what people said, on the set's own scale."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beholder.catalog.manifest_pass import SUMMARY
from beholder.config import load_config
from beholder.datasets import TrainingSet
from beholder.evaluation import mae
from beholder.opinions import Scale
from beholder.training import measure as module
from beholder.training.config import TrainConfig


def _measured(
    mean: np.ndarray,
    mos: np.ndarray,
    config: str,
    tmp_path: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    std: float | None = 0.5,
    mass: float | None = 0.9,
) -> dict[str, Any]:
    """Metrics of 40 scores and one failure, on a set of 0..100."""
    scores = pa.table(
        {
            "item_id": [f"item-{i}" for i in range(41)],
            "task": ["quality"] * 41,
            "source": [f"photo-{i % 9}" for i in range(41)],
            "mean": [*mean, None],
            "std": pa.array([*[std] * 40, None], pa.float64()),
            "mass": pa.array([*[mass] * 40, None], pa.float64()),
            "mos": [*mos, 50.0],
            "latent": [*mean, 3.0],
            "manifest_std": [*np.full(39, 25.0), None, 25.0],
            "failure_code": [*[None] * 40, "decode.truncated"],
        }
    )
    (tmp_path / "own" / "scores").mkdir(parents=True)
    (tmp_path / "own" / "scores" / SUMMARY).write_text("{}")  # scored already
    monkeypatch.setattr(module, "read_scores", lambda uri: scores)
    table = pa.table({"item_id": ["item-0"], "split": ["test"]})
    own = TrainingSet("own", table, "quality", Scale(0, 100))
    loaded = load_config(TrainConfig, project / f"configs/train/{config}.yaml", [])
    metrics: dict[str, Any] = module.measure([own], "scorer", str(tmp_path), loaded)["own"]
    json.dumps(metrics, allow_nan=False)
    return metrics


def test_mos_is_compared_on_its_own_scale(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    level = rng.uniform(1, 5, 40)
    mos = (level - 1) / 4 * 100 + rng.normal(size=40)
    metrics = _measured(level, mos, "onealign_pocket", tmp_path, project, monkeypatch)
    assert (metrics["items"], metrics["failed"], metrics["sources"]) == (40, 1, 9)
    assert metrics["mass"] == pytest.approx(0.9)
    on_scale = metrics["mos"]["on_scale"]
    assert on_scale["ends"]["mae"] == pytest.approx(mae((level - 1) / 4 * 100, mos))
    assert on_scale["centres"]["mae"] == pytest.approx(mae((level - 0.5) / 5 * 100, mos))
    assert on_scale["ends"]["distances"]["rows"] == 39
    assert on_scale["ends"]["calibration"]["std_ratio"] == pytest.approx(0.5)
    assert list(metrics["latent"]["on_scale"]) == ["given"]
    assert metrics["latent"]["srcc"] == pytest.approx(1)


def test_a_set_without_test_rows_says_so(tmp_path: Path, project: Path) -> None:
    table = pa.table({"item_id": ["item-0"], "split": ["train"]})
    own = TrainingSet("own", table, "quality", Scale(0, 100))
    config = load_config(TrainConfig, project / "configs/train/onealign_pocket.yaml", [])
    metrics = module.measure([own], "scorer", str(tmp_path), config)
    assert metrics == {"own": {"items": 0, "not_measured": "no row in split 'test'"}}
    assert not list(tmp_path.iterdir())


def test_score_tokens_are_compared_through_their_own_map(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1..10 onto 0..100: a step is 100 / 9, and no level is asked for."""
    rng = np.random.default_rng(0)
    token = rng.uniform(1, 10, 40)
    mos = (token - 1) / 9 * 100 + rng.normal(size=40)
    metrics = _measured(token, mos, "roc_pocket", tmp_path, project, monkeypatch)
    on_scale = metrics["mos"]["on_scale"]
    assert list(on_scale) == ["ends"]
    assert on_scale["ends"]["mae"] == pytest.approx(mae((token - 1) / 9 * 100, mos))
    assert on_scale["ends"]["mae"] < 1
    ratio = 0.5 / 9 * 100 / 25  # predicted stds on 0..100 over people's
    assert on_scale["ends"]["calibration"]["std_ratio"] == pytest.approx(ratio)


def test_attributes_are_compared_with_their_own_columns(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its task's rows; ``mean`` is a score's own column, so the manifest's is renamed."""
    tokens = np.random.default_rng(0).uniform(1, 10, (3, 20))
    count = 20
    color = [None, *((tokens[1] - 1) / 9 * 4 + 1)[1:]]
    scores = pa.table(
        {
            "item_id": [f"item-{i}" for i in range(count)] * 3,
            "task": np.repeat(["aesthetics", "color", "light"], count),
            "mean": tokens.ravel(),
            "std": np.full(3 * count, 0.5),
            "mass": np.full(3 * count, 0.9),
            "mos": np.tile((tokens[0] - 1) / 9 * 4 + 1, 3),
            "manifest_mean": pa.array(color * 3, pa.float64()),
            "l": pa.nulls(3 * count, pa.float64()),
            "failure_code": pa.nulls(3 * count, pa.string()),
        }
    )
    (tmp_path / "own" / "scores").mkdir(parents=True)
    (tmp_path / "own" / "scores" / SUMMARY).write_text("{}")
    monkeypatch.setattr(module, "read_scores", lambda uri: scores)
    table = pa.table({"item_id": ["item-0"], "split": ["test"]})
    columns = {"color": "mean", "light": "l"}
    own = TrainingSet("own", table, "aesthetics", Scale(1, 5), attributes=columns)
    loaded = load_config(TrainConfig, project / "configs/train/roc_pocket.yaml", [])
    metrics = module.measure([own], "scorer", str(tmp_path), loaded)["own"]
    assert metrics["items"] == count
    assert metrics["mos"]["on_scale"]["ends"]["mae"] == pytest.approx(0, abs=1e-12)
    assert metrics["attributes"]["color"]["rows"] == count - 1
    assert metrics["attributes"]["color"]["srcc"] == pytest.approx(1)
    assert metrics["attributes"]["color"]["on_scale"]["ends"]["mae"] == pytest.approx(0, abs=1e-12)
    assert metrics["attributes"]["light"] is None


def test_points_have_errors_and_say_why_no_distances(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regression head on 0..1: the set's ends are its ends."""
    rng = np.random.default_rng(0)
    unit = rng.uniform(0, 1, 40)
    mos = 100 * unit + rng.normal(size=40)
    metrics = _measured(
        unit, mos, "regression_pocket", tmp_path, project, monkeypatch, std=None, mass=None
    )
    assert "mass" not in metrics
    (name, on_scale) = next(iter(metrics["mos"]["on_scale"].items()))
    assert name == "ends"
    assert on_scale["mae"] == pytest.approx(mae(100 * unit, mos))
    assert (on_scale["distances"], on_scale["calibration"]) == (None, None)
    assert on_scale["without"] == "the scores come without a spread, as a regression head's"
