"""RealQA in training: numbers learned as text, read in steps, the same in a saved scorer."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from beholder.backbones import MediaFeatures, MediaShape
from beholder.backbones.loading import load_weights
from beholder.backbones.pocket.tower import Tower
from beholder.config import ConfigError, load_config
from beholder.evaluation.digits import ncm
from beholder.opinions import Scale
from beholder.readouts import DigitReadout
from beholder.scoring import Scorer, ScorerError, TaskSpec
from beholder.training.config import TrainConfig
from beholder.training.feed import BatchBuilder, CachedStates, Looked, MediaSource, Opinion
from beholder.training.loop import Mix, Trainer
from beholder.training.objective import Objective
from beholder.training.start import start_backbone

pytestmark = pytest.mark.usefixtures("world")

ROWS = 32
TINY = "backbone.settings={image_size: 96, hidden_size: 32, heads: 2, dropout: 0.0}"


def _config(project: Path, *overrides: str) -> TrainConfig:
    small = ["workers.count=1", "schedule.checks=1", TINY, *overrides]
    return load_config(TrainConfig, project / "configs/train/realqa_pocket.yaml", small)


def _opinions(count: int = ROWS) -> list[Opinion]:
    mos = np.random.default_rng(1).uniform(1, 5, count)
    return [Opinion("image", "quality", m, Scale(1, 5), "quality", 1.0, 0.5, 0) for m in mos]


@pytest.mark.parametrize("name", ["tree", "eq4", "greedy"])
def test_thirty_two_samples_are_learned_by_heart(
    learned: Trainer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Mean absolute error below .1 of 1..5, whichever way the numbers are read."""
    readout = DigitReadout(reading=name)  # type: ignore[arg-type]
    monkeypatch.setattr(learned, "readout", readout)
    predicted = learned.predict(np.arange(ROWS))
    mos = np.array([row.mos for row in _opinions()])
    assert np.abs(readout.invert(predicted, Scale(1, 5)) - mos).mean() < 0.1
    assert mos.std() > 1, "the scores must differ to be learned"


@pytest.fixture(scope="module")
def learned(project: Path, world: None, states: CachedStates) -> Trainer:
    config = _config(
        project,
        "schedule.global_batch=16",
        "schedule.micro_batch=16",
        "schedule.epochs=150",
        "schedule.learning_rate=0.01",
        "schedule.weight_decay=0",
    )
    everything = np.arange(ROWS)
    mix = Mix(_opinions(), everything, everything, ["demo"] * ROWS)
    trainer = Trainer(config, start_backbone(config), mix, states)
    trainer.run(lambda metrics, folder: None)
    return trainer


def test_continuity_reaches_a_person(learned: Trainer) -> None:
    """NCM of numbers that are known by heart is small; both stand in the curve that a run keeps."""
    last = learned.curve[-1]
    assert 0 <= last["demo_ncm"] < 0.05
    assert last["demo_ncm_star"] > last["demo_ncm"]
    assert last["demo_srcc"] > 0.98
    assert "demo_ncm" not in learned.curve[0]
    json.dumps(last, allow_nan=False)
    always_five = np.eye(10)[np.full((ROWS, 3), 5)]
    guessed = [10 * (row.mos - 1) / 4 for row in _opinions()]
    assert ncm(always_five, np.minimum(guessed, 9.99)) > 5, "a reader that knows nothing"


@pytest.mark.parametrize("name", ["pocket", "mplug_owl2"])
def test_what_training_reads_the_saved_scorer_reads(
    project: Path,
    tmp_path: Path,
    tiny_owl: list[str],
    pictures: Callable[[Sequence[NDArray[np.uint8]]], MediaSource],
    name: str,
) -> None:
    """mPLUG-Owl2 runs under ZeRO-3, where every pass must gather the weights again."""
    overrides = tiny_owl if name == "mplug_owl2" else []
    config = _config(
        project,
        *overrides,
        "prompt=scorer",  # one question, no paraphrases
        "cache_features=false",
        "schedule.global_batch=4",
        "schedule.micro_batch=2",
        "schedule.epochs=4",
    )
    side = start_backbone(config, weights=False).spec.pixels.size
    rng = np.random.default_rng(0)
    shown = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(6)]
    mix = Mix(_opinions(6), np.arange(6), np.arange(6), ["demo"] * 6)
    trainer = Trainer(config, start_backbone(config), mix, pictures(shown))

    def keep(metrics: dict[str, float], checkpoint: Path) -> None:
        (tmp_path / "model.safetensors").write_bytes(
            (checkpoint / "model.safetensors").read_bytes()
        )

    trainer.run(keep)
    predicted = trainer.distributions(np.arange(6))

    backbone = start_backbone(config, weights=False)
    load_weights(backbone, tmp_path)
    tasks = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
    made = Scorer(backbone, trainer.readout, tasks, config.prompt)
    made.save(tmp_path / "scorer")
    scorer = Scorer.load(tmp_path / "scorer")
    assert scorer.fingerprint == made.fingerprint
    assert scorer.readout.config() == trainer.readout.config()
    images = [Image.fromarray(picture) for picture in shown]
    scores = scorer.score(images)
    probs = [score.tasks["quality"].probs for score in scores]
    np.testing.assert_allclose(probs, predicted, atol=1e-5)
    alone = [scorer.score([image])[0].tasks["quality"] for image in images]
    np.testing.assert_allclose(probs, [one.probs for one in alone], atol=1e-5)
    assert len({round(float(one.mean), 4) for one in alone}) > 1
    assert all(0 < score.mass["quality"] < 1 for score in scores)
    other = Scorer(backbone, DigitReadout(branches=9), tasks, config.prompt)
    assert other.fingerprint != made.fingerprint, "what is read otherwise is not compared"


def test_media_are_looked_at_once_and_passes_are_as_many_for_every_row(
    learned: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, passes = [], []
    project = learned.backbone.project

    def counted(states: Tensor, shapes: Sequence[MediaShape]) -> MediaFeatures:
        looks.append(len(states))
        return project(states, shapes)

    monkeypatch.setattr(learned.backbone, "project", counted)
    handle = learned.backbone.register_forward_hook(lambda *_: passes.append(1))
    learned.predict(np.arange(16))
    learned.predict(np.arange(20))  # two micro-batches, the second with fillers
    handle.remove()
    assert looks == [16] * 3
    assert len(passes) == 3 * 21


def test_every_token_of_a_number_is_a_target_of_the_text(project: Path) -> None:
    """Eq. 1: space, digits, point, end; nothing is learned at the slots beside it."""
    config = _config(project)
    backbone = start_backbone(config, weights=False)
    readout = DigitReadout()
    rows = [replace(_opinions(1)[0], mos=2.596)]  # 3.99 of 0..10
    blank = torch.zeros(1, Tower.width)
    builder = BatchBuilder(backbone, {"quality": readout}, rows, "brief", 0, blank)
    item = builder.build(np.array([0]), [Looked(states=blank)], 0)
    encoded = item.batch.encoded
    ids = readout.token_ids(backbone)
    following = encoded.slots[0] + 1
    assert encoded.labels[0, following].tolist() == [ids[3], ids[9], ids[9]]
    assert encoded.labels[0, following[0] - 1] >= 0, "the space is learned, too"
    assert encoded.labels[0, following[0] + 1] >= 0, "and the point"
    objective = Objective(config.objective, ids, torch.from_numpy(readout.support))
    at = objective.positions(item)
    logits = torch.randn(len(at), backbone.spec.vocabulary)
    labels = encoded.labels[0][encoded.labels[0] >= 0]
    expected = torch.nn.functional.cross_entropy(logits[: len(labels)], labels)
    assert float(objective(logits, item)) == pytest.approx(float(expected), rel=1e-6)


# --- the door -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("readout.digits=4", "readout.digits' is 4"),
        ("readout.reading=beam", "readout.reading' is 'beam'"),
        ("readout.branches=0", "readout.branches' is 0"),
        ("readout.words=[a, b]", "readout.words': it does not belong to 'digits'"),
        ("objective.soft_label=1", "readout digits and objective.soft_label 1 don't go together"),
        ("objective.smooth_l1=1", "readout digits learns numbers as text"),
        ("objective.fidelity=1", "readout digits learns numbers as text"),
        ("objective.next_token=0", "every weight of the objective is 0"),
        ("sets.1.rule=left_closed", "edges of levels, of which readout digits has none"),
        ("sets.0.attributes={color: c}", "set quality: attributes share .* not with digits"),
    ],
)
def test_what_makes_no_sense_is_refused(project: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        _config(project, override)


def _merging(tokenizer: str) -> str:
    """A tokenizer that writes 99 as one token."""
    content = json.loads(tokenizer)
    content["pre_tokenizer"] = content["pre_tokenizer"]["pretokenizers"][1]
    content["model"]["vocab"]["99"] = content["model"]["vocab"].pop("[99]")
    content["added_tokens"].pop()
    content["model"]["merges"].append(["9", "9"])
    return json.dumps(content)


def test_a_tokenizer_that_merges_digits_is_refused_at_the_door(
    project: Path, tmp_path: Path
) -> None:
    plain = _config(project, "readout={name: levels}")
    backbone = start_backbone(plain, weights=False)
    backbone.add_tokens(["[99]"])  # a row of the embeddings for the token below
    tasks = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
    folder = tmp_path / "weights"
    Scorer(backbone, DigitReadout(), tasks, "brief").save(folder)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(_merging(tokenizer.read_text("utf-8")), "utf-8")
    with pytest.raises(ConfigError, match=r"readout digits and backbone pocket: .*'\d\.99'"):
        start_backbone(_config(project, f"backbone.weights={folder}"), weights=False)
    with pytest.raises(ScorerError, match=r"scorer folder .*does not write '\d\.99'"):
        Scorer.load(folder)


def test_words_that_are_several_tokens_are_refused_before_any_worker_starts(
    project: Path,
) -> None:
    words = _config(project, "readout={name: levels, words: [low, flabbergasting]}")
    with pytest.raises(ConfigError, match=r"readout levels and backbone pocket: .*flabbergasting"):
        start_backbone(words, weights=False)
