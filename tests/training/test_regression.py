"""The regression head and two words in training: learned by heart, kept, the same when loaded."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from beholder.backbones.loading import load_weights
from beholder.backbones.pocket.tower import Tower
from beholder.config import load_config
from beholder.opinions import NoSpreadError, Scale
from beholder.readouts import HEAD_FILE, RegressionReadout, load_head
from beholder.scoring import Scorer, TaskSpec
from beholder.training import folds
from beholder.training.batch import TrainBatch
from beholder.training.config import TrainConfig
from beholder.training.feed import BatchBuilder, CachedStates, Looked, MediaSource, Opinion
from beholder.training.loop import Mix, Trainer
from beholder.training.model import TrainingModel
from beholder.training.objective import Objective
from beholder.training.objectives import squared_error
from beholder.training.order import FILLER
from beholder.training.plan import describe_run
from beholder.training.start import start_backbone

pytestmark = pytest.mark.usefixtures("world")

ROWS = 32
TINY = "backbone.settings={image_size: 96, hidden_size: 32, heads: 2, dropout: 0.0}"
HEART = (
    "schedule.global_batch=16",
    "schedule.micro_batch=16",
    "schedule.epochs=80",
    "schedule.learning_rate=0.01",
    "schedule.weight_decay=0",
)


def _config(project: Path, name: str, *overrides: str) -> TrainConfig:
    small = ["workers.count=1", "schedule.checks=1", TINY, *overrides]
    return load_config(TrainConfig, project / f"configs/train/{name}_pocket.yaml", small)


def _trained(config: TrainConfig, media: MediaSource, rows: list[Opinion], folder: Path) -> Trainer:
    """Validated on what it learns; the last weights are kept in the folder."""
    every = np.arange(len(rows))
    mix = Mix(rows, every, every, ["demo"] * len(rows))
    trainer = Trainer(config, start_backbone(config), mix, media)

    def keep(metrics: dict[str, float], checkpoint: Path) -> None:
        for file in checkpoint.glob("*.safetensors"):
            (folder / file.name).write_bytes(file.read_bytes())

    trainer.run(keep)
    return trainer


def _opinions(count: int = ROWS) -> list[Opinion]:
    mos = np.random.default_rng(1).uniform(1, 5, count)
    return [Opinion("image", "quality", m, Scale(1, 5), "quality", 1.0, 0.5, 0) for m in mos]


@pytest.mark.parametrize("prompt", ["unanswered", "brief"])
def test_a_head_learns_thirty_two_samples_by_heart(
    project: Path, tmp_path: Path, states: CachedStates, prompt: str
) -> None:
    """Mean absolute error below .1 of 1..5, at the question's end and behind a sentence."""
    rows = _opinions()
    trainer = _trained(
        _config(project, "regression", *HEART, f"prompt={prompt}"), states, rows, tmp_path
    )
    predicted = trainer.predict(np.arange(ROWS))
    mos = np.array([row.mos for row in rows])
    assert np.abs(trainer.readout.invert(predicted, Scale(1, 5)) - mos).mean() < 0.1
    assert np.ptp(predicted) > 0.8
    with pytest.raises(NoSpreadError, match="without probabilities"):
        trainer.distributions(np.arange(ROWS))


def test_two_words_learn_thirty_two_samples_by_heart(
    project: Path, tmp_path: Path, states: CachedStates
) -> None:
    """The probability of good is the opinion's place on its scale."""
    rows = _opinions()
    trainer = _trained(_config(project, "binary", *HEART), states, rows, tmp_path)
    mos = np.array([row.mos for row in rows])
    good = trainer.distributions(np.arange(ROWS))[:, 1]
    assert np.abs(good - (mos - 1) / 4).mean() < 0.1 / 4
    predicted = trainer.predict(np.arange(ROWS))
    assert np.abs(trainer.readout.invert(predicted, Scale(1, 5)) - mos).mean() < 0.1


def test_one_hot_words_learn_the_half(project: Path, tmp_path: Path, states: CachedStates) -> None:
    hard = ["readout.labels=one_hot", "objective.soft_label=0"]
    rows = _opinions()
    trainer = _trained(_config(project, "binary", *HEART, *hard), states, rows, tmp_path)
    above = np.array([row.mos > 3 for row in rows])
    assert np.abs(trainer.distributions(np.arange(ROWS))[:, 1] - above).mean() < 0.1


@pytest.mark.parametrize("readout", ["regression", "binary"])
@pytest.mark.parametrize("name", ["pocket", "mplug_owl2"])
def test_what_training_reads_the_saved_scorer_reads(
    project: Path,
    tmp_path: Path,
    tiny_owl: list[str],
    pictures: Any,
    name: str,
    readout: str,
) -> None:
    """mPLUG-Owl2 runs under ZeRO-3, where the head's weights are shards, too."""
    config = _config(
        project,
        readout,
        *(tiny_owl if name == "mplug_owl2" else []),
        "prompt=scorer",  # one question, no paraphrases
        "cache_features=false",
        "schedule.global_batch=4",
        "schedule.micro_batch=2",
        "schedule.epochs=4",
    )
    side = start_backbone(config, weights=False).spec.pixels.size
    rng = np.random.default_rng(0)
    seen = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(6)]
    trainer = _trained(config, pictures(seen), _opinions(6), tmp_path)
    made = _scorer(config, trainer, tmp_path)
    made.save(tmp_path / "scorer")
    scorer = Scorer.load(tmp_path / "scorer")
    assert scorer.fingerprint == made.fingerprint
    scores = scorer.score([Image.fromarray(picture) for picture in seen])
    means = [float(score.tasks["quality"].mean) for score in scores]
    predicted = trainer.predict(np.arange(6))
    np.testing.assert_allclose(means, predicted, atol=2e-5)
    assert len(set(np.round(predicted, 4))) > 1
    if readout == "regression":
        start = trainer.readout.head(trainer.backbone.spec.hidden_size, config.seed)
        assert start is not None
        moved = load_file(tmp_path / HEAD_FILE)["weight"] - start.state_dict()["weight"]
        assert moved.abs().min() > 0, "the head has learned"


def _scorer(config: TrainConfig, trainer: Trainer, folder: Path) -> Scorer:
    """As a run takes its best checkpoint up."""
    backbone = start_backbone(config, weights=False)
    load_weights(backbone, folder)
    head = trainer.readout.head(backbone.spec.hidden_size)
    load_head(head, folder)
    tasks = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
    return Scorer(backbone, trainer.readout, tasks, config.prompt, head=head)


def test_a_resumed_run_has_the_heads_weights_and_moments(
    project: Path, states: CachedStates, tmp_path: Path
) -> None:
    """Cut after one of two checkpoints, the run ends as the one that was not cut."""
    config = _config(
        project,
        "regression",
        "schedule.checks=2",
        "schedule.epochs=2",
        "schedule.global_batch=16",
        "schedule.micro_batch=16",
    )
    rows, every = _opinions(), np.arange(ROWS)
    mix = Mix(rows, every, every, ["demo"] * ROWS)

    def run(resume: Path | None = None) -> Trainer:
        trainer = Trainer(config, start_backbone(config), mix, states)
        trainer.run(keep, resume)
        return trainer

    kept: list[Path] = []

    def keep(metrics: dict[str, float], checkpoint: Path) -> None:
        kept.append(tmp_path / str(len(kept)))
        shutil.copytree(checkpoint, kept[-1])

    whole = run()
    again = run(kept[0])
    assert (kept[0] / HEAD_FILE).is_file()
    assert again.curve == whole.curve
    head, other = (load_file(folder / HEAD_FILE) for folder in (kept[1], kept[2]))
    assert torch.equal(head["weight"], other["weight"])
    assert not torch.equal(head["weight"], load_file(kept[0] / HEAD_FILE)["weight"])


def test_folds_keep_the_best_head_with_its_weights(
    project: Path, monkeypatch: pytest.MonkeyPatch, states: CachedStates
) -> None:
    """The validation SRCC that a fold reports is that of the weights that it hands back."""
    config = _config(project, "regression", "schedule.checks=4", "schedule.epochs=8", *HEART[:2])
    monkeypatch.setattr(folds, "opinions", lambda mix: _opinions())
    monkeypatch.setattr(folds, "CachedStates", lambda table, uris: states)
    mix = pa.table({"uri": [str(i) for i in range(ROWS)], "set": ["demo"] * ROWS})
    rows = np.arange(ROWS)
    trainer, selected = folds.train_rows(mix, mix, config, rows[:24], rows[24:])
    assert trainer.validate()["selection"] == pytest.approx(selected)


# --- the term -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(project: Path) -> tuple[TrainingModel, BatchBuilder]:
    config = _config(project, "regression")
    backbone, readout = start_backbone(config, weights=False).eval(), RegressionReadout()
    for stage in backbone.abstractor.stages:  # type: ignore[union-attr]
        torch.nn.init.normal_(stage.weight, std=0.3)  # type: ignore[arg-type]
    rows = [replace(row, weight=1.0 + i % 2) for i, row in enumerate(_opinions(8))]
    blank = torch.zeros(1, Tower.width)
    builder = BatchBuilder(backbone, {"quality": readout}, rows, config.prompt, 0, blank)
    objective = Objective(config.objective, [], torch.zeros(0))
    head = readout.head(backbone.spec.hidden_size)
    return TrainingModel(backbone, objective, head), builder


def _item(builder: BatchBuilder, indices: Sequence[int]) -> TrainBatch:
    states = torch.randn(8, 1, Tower.width, generator=torch.Generator().manual_seed(1))
    media = [None if i == FILLER else Looked(states=states[i]) for i in indices]
    return builder.build(np.array(indices), media, 0)


def test_the_term_is_what_its_function_says(parts: tuple[TrainingModel, BatchBuilder]) -> None:
    model, builder = parts
    item = _item(builder, [*range(6), FILLER])
    with torch.no_grad():
        read = model(item, read=True)
    scores = RegressionReadout().read(read, []).distribution.mean
    expected = squared_error(
        torch.from_numpy(scores), item.scores, torch.tensor([1.0, 2, 1, 2, 1, 2, 0])
    )
    loss = model(item)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert model.head is not None
    assert all(p.grad is not None and p.grad.abs().min() > 0 for p in model.head.parameters())
    assert all(p.grad is not None for p in model.backbone.lm_head.parameters()), "all parts run"
    model.zero_grad()


@pytest.mark.parametrize("cut", [4, 2])
def test_a_step_is_the_same_however_it_is_cut(
    parts: tuple[TrainingModel, BatchBuilder], cut: int
) -> None:
    """Over micro-batches as over workers, whose gradients are averaged."""
    model, builder = parts
    indices = [0, 1, 2, 3, 4, 5, FILLER, FILLER]
    pieces = [_item(builder, indices[at : at + cut]) for at in range(0, 8, cut)]
    counts = torch.stack([model.objective.counts(piece) for piece in pieces])
    totals = counts.sum(0).clamp_min(1e-12)
    with torch.no_grad():
        whole = float(model(_item(builder, indices)))
        summed = sum(
            float(model(replace(piece, share=count / totals)))
            for piece, count in zip(pieces, counts, strict=True)
        )
    assert summed == pytest.approx(whole, rel=1e-5)


def test_the_dry_run_counts_the_head(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    expected = [f"sets.{at}.rows=64" for at in range(3)]
    lines = describe_run(_config(project, "regression", *expected)).splitlines()
    assert any(line.split() == ["readout", "33", "trained"] for line in lines)  # 32 and a bias
