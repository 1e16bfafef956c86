"""The end of a run: scores beside what people said, on the set's own scale."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beholder.catalog.run import SUMMARY
from beholder.config import load_config
from beholder.datasets import TrainingSet
from beholder.evaluation import mae
from beholder.opinions import Scale
from beholder.training import measure as module
from beholder.training.config import TrainConfig


def test_mos_is_compared_on_its_own_scale(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    level = rng.uniform(1, 5, 40)
    mos = (level - 1) / 4 * 100 + rng.normal(size=40)
    scores = pa.table(
        {
            "item_id": [f"item-{i}" for i in range(41)],
            "source": [f"photo-{i % 9}" for i in range(41)],
            "mean": [*level, None],
            "std": [*np.full(40, 0.5), None],
            "mass": [*np.full(40, 0.9), None],
            "mos": [*mos, 50.0],
            "latent": [*level, 3.0],
            "manifest_std": [*np.full(39, 25.0), None, 25.0],
            "failure_code": [*[None] * 40, "decode.truncated"],
        }
    )
    (tmp_path / "own" / "scores").mkdir(parents=True)
    (tmp_path / "own" / "scores" / SUMMARY).write_text("{}")  # scored already
    monkeypatch.setattr(module, "read_scores", lambda uri: scores)
    table = pa.table({"item_id": ["item-0"], "split": ["test"]})
    own = TrainingSet("own", table, "quality", Scale(0, 100))
    config = load_config(TrainConfig, project / "configs/train/onealign_pocket.yaml", [])
    metrics = module.measure([own], "scorer", str(tmp_path), config)["own"]

    assert (metrics["items"], metrics["failed"], metrics["sources"]) == (40, 1, 9)
    assert metrics["mass"] == pytest.approx(0.9)
    on_scale = metrics["mos"]["on_scale"]
    assert on_scale["ends"]["mae"] == pytest.approx(mae((level - 1) / 4 * 100, mos))
    assert on_scale["centres"]["mae"] == pytest.approx(mae((level - 0.5) / 5 * 100, mos))
    assert on_scale["ends"]["distances"]["rows"] == 39
    assert on_scale["ends"]["calibration"]["std_ratio"] == pytest.approx(0.5)
    assert list(metrics["latent"]["on_scale"]) == ["given"]
    assert metrics["latent"]["srcc"] == pytest.approx(1)
    json.dumps(metrics, allow_nan=False)
