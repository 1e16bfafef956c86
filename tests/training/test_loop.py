"""The loop in one process: it learns, the same seed learns the same, bad media weigh nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.backbones.pocket.tower import Tower
from beholder.config import load_config
from beholder.errors import UserError
from beholder.opinions import Scale
from beholder.training.config import TrainConfig
from beholder.training.feed import CachedStates, Opinion, calibrate
from beholder.training.learning_config import ObjectiveConfig
from beholder.training.loop import Mix, Trainer
from beholder.training.readout_config import LevelsConfig

pytestmark = pytest.mark.usefixtures("world")

ROWS = 32


@pytest.fixture(scope="module")
def config(project: Path) -> TrainConfig:
    return load_config(
        TrainConfig,
        project / "configs/train/onealign_pocket.yaml",
        [
            "workers.count=1",
            "schedule.global_batch=16",
            "schedule.micro_batch=8",
            "schedule.epochs=150",
            "schedule.checks=1",
            "schedule.learning_rate=0.01",
            "schedule.weight_decay=0",
        ],
    )


def _table(states: Sequence[Sequence[float]]) -> pa.Table:
    """One frame a medium; no states, no frame."""
    rows = [{"uri": str(i), "frames": int(len(s) > 0), "states": s} for i, s in enumerate(states)]
    schema = [("uri", pa.string()), ("frames", pa.int64()), ("states", pa.list_(pa.float32()))]
    return pa.Table.from_pylist(rows, schema=pa.schema(schema))


def _states(missing: int | None = None) -> CachedStates:
    states = np.random.default_rng(0).standard_normal((ROWS, Tower.width)).astype(np.float32)
    table = _table([[] if i == missing else flat for i, flat in enumerate(states)])
    return CachedStates(table, [str(i) for i in range(ROWS)])


def _opinions(spoilt: int | None = None) -> list[Opinion]:
    mos = np.random.default_rng(1).uniform(1, 5, ROWS)
    if spoilt is not None:
        mos[spoilt] = 6 - mos[spoilt]
    scale = Scale(1, 5)
    return [Opinion("image", "quality", m, scale, "quality", 1.0, 0.5, 0) for m in mos]


def _trained(
    config: TrainConfig, opinions: list[Opinion], media: CachedStates, width: int = 32
) -> Trainer:
    torch.manual_seed(0)
    settings = PocketConfig(image_size=96, hidden_size=width, heads=2, dropout=0.0)
    backbone = Pocket(settings, default_tokenizer())
    everything = np.arange(ROWS)
    mix = Mix(opinions, everything, everything, ["demo"] * ROWS)
    trainer = Trainer(config, backbone, mix, media)
    trainer.run(lambda metrics, folder: None)
    return trainer


def test_thirty_two_samples_are_learned_by_heart(config: TrainConfig) -> None:
    """An overfit to the words themselves: mean absolute error below .1 level."""
    opinions = _opinions()
    trainer = _trained(config, opinions, _states())
    predicted = trainer.predict(np.arange(ROWS))
    levels = np.array([round((o.mos - 1) / 4 * 5 + 0.5) for o in opinions])
    assert np.abs(predicted - np.clip(levels, 1, 5)).mean() < 0.1
    assert trainer.curve[-1]["loss"] < 0.05 < trainer.curve[0]["loss"]


def test_one_picture_is_learned_differently_for_two_tasks(config: TrainConfig) -> None:
    """Row i + 16 shows row i's picture and asks for the other task, rated the other way round."""
    half = _opinions()[: ROWS // 2]
    other = [replace(o, task="aesthetics", mos=6 - o.mos) for o in half]
    rows = torch.randn(ROWS // 2, Tower.width, generator=torch.Generator().manual_seed(0))
    media = _table([flat.numpy() for flat in rows])
    schedule = config.schedule.model_copy(update={"epochs": 300, "learning_rate": 3e-3})
    patient = config.model_copy(update={"schedule": schedule})
    states = CachedStates(media, [str(i % (ROWS // 2)) for i in range(ROWS)])
    trainer = _trained(patient, half + other, states, width=48)
    first, second = np.split(trainer.predict(np.arange(ROWS)), 2)
    mos = np.array([o.mos for o in half])
    assert np.corrcoef(first, mos)[0, 1] > 0.95
    assert np.corrcoef(second, mos)[0, 1] < -0.95


def test_soft_labels_and_pairs_are_learned_by_heart(config: TrainConfig) -> None:
    """DeQA-Score's objective: the mean within .1 and the spread of the label, too."""
    deqa = config.model_copy(
        update={
            "readout": LevelsConfig(labels="soft"),
            "objective": ObjectiveConfig(next_token=0.05, soft_label=0.5, fidelity=1.0),
        }
    )
    opinions = _opinions()
    trainer = _trained(deqa, opinions, _states())
    predicted = trainer.predict(np.arange(ROWS))
    assert np.abs(predicted - [o.mos for o in opinions]).mean() < 0.1


def test_the_same_seed_gives_the_same_curve_and_another_another(config: TrainConfig) -> None:
    short = config.model_copy(update={"schedule": config.schedule.model_copy(update={"epochs": 2})})
    first, again = (_trained(short, _opinions(), _states()).curve for _ in range(2))
    other = _trained(short.model_copy(update={"seed": 1}), _opinions(), _states()).curve
    assert first == again
    assert first != other


def test_a_row_without_media_weighs_nothing(config: TrainConfig) -> None:
    short = config.model_copy(update={"schedule": config.schedule.model_copy(update={"epochs": 2})})
    without = _trained(short, _opinions(), _states(missing=3))
    spoilt = _trained(short, _opinions(spoilt=3), _states(missing=3))
    assert without.curve == spoilt.curve, "its label can not matter"
    assert np.isnan(without.predict(np.array([2, 3])))[1]
    assert without.curve != _trained(short, _opinions(), _states()).curve


def test_too_many_failed_media_end_the_run(config: TrainConfig) -> None:
    strict = config.model_copy(update={"max_failed": 0.01})
    with pytest.raises(UserError, match=r"of 4800 rows .* raise max_failed above 0\.01"):
        _trained(strict, _opinions(), _states(missing=3))


def test_calibration_standardises_the_training_rows_alone() -> None:
    backbone = Pocket(PocketConfig(image_size=96), default_tokenizer())
    media = _states(missing=0)
    rows = np.arange(20)
    calibrate(backbone, media, rows, seed=0)
    seen = torch.cat([found.states for i in rows if (found := media.get(int(i))) is not None])
    centre = backbone.abstractor.get_buffer("centre")
    assert torch.allclose(centre, seen.mean(0), atol=1e-5)
    with pytest.raises(UserError, match="not one picture"):
        calibrate(backbone, media, np.array([0]), seed=0)
