"""Several attributes in one answer (ROC4MLLM on AADB and PARA), a slot each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from beholder.backbones import Backbone
from beholder.backbones.contract import IGNORED
from beholder.backbones.loading import load_weights
from beholder.backbones.pocket.tower import Tower
from beholder.config import ConfigError, load_config
from beholder.items import ManifestError
from beholder.opinions import Scale
from beholder.readouts import LevelReadout, ScoreTokenReadout
from beholder.scoring import Scorer, ScorerError, TaskSpec
from beholder.training.batch import TrainBatch
from beholder.training.config import TrainConfig
from beholder.training.feed import BatchBuilder, CachedStates, Looked, MediaSource, Opinion
from beholder.training.learning_config import ObjectiveConfig
from beholder.training.loop import Mix, Trainer
from beholder.training.objective import Objective
from beholder.training.objectives import smooth_l1
from beholder.training.order import FILLER
from beholder.training.plan import training_rows
from beholder.training.run import tasks_of
from beholder.training.sets import load_set
from beholder.training.start import start_backbone

pytestmark = pytest.mark.usefixtures("world")

READOUT = ScoreTokenReadout()
FIVE = Scale(1, 5)
TINY = "backbone.settings={image_size: 96, hidden_size: 32, heads: 2, dropout: 0.0}"


def _config(project: Path, *overrides: str) -> TrainConfig:
    small = ["workers.count=1", "schedule.checks=1", TINY, "objective={smooth_l1: 1}", *overrides]
    return load_config(TrainConfig, project / "configs/train/roc_pocket.yaml", small)


def _row(mos: float, color: float | None, depth: float | None, **changes: object) -> Opinion:
    one = Opinion("image", "aesthetics", mos, FIVE, "quality", 1.0, 0.5, 0)
    return replace(one, further=(("color", color), ("depth of field", depth)), **changes)


def _rows(count: int) -> list[Opinion]:
    drawn = np.random.default_rng(1).uniform(1.2, 4.8, (count, 3))
    return [_row(*(float(value) for value in row)) for row in drawn]


# --- what is taught -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(project: Path) -> Backbone:
    backbone = start_backbone(_config(project), weights=False).eval()
    for stage in backbone.abstractor.stages:  # type: ignore[union-attr]
        torch.nn.init.normal_(stage.weight, std=0.3)  # type: ignore[arg-type]
    return backbone


def _item(backbone: Backbone, rows: Sequence[Opinion], indices: Sequence[int]) -> TrainBatch:
    blank = torch.zeros(1, Tower.width)
    builder = BatchBuilder(backbone, {"quality": READOUT}, rows, "brief", 0, blank)
    states = torch.randn(8, 1, Tower.width, generator=torch.Generator().manual_seed(1))
    media = [None if i == FILLER else Looked(states=states[i]) for i in indices]
    return builder.build(np.array(indices), media, 0)


def _objective(backbone: Backbone, **config: object) -> Objective:
    ids = backbone.token_ids(READOUT.words())
    return Objective(ObjectiveConfig(**config), ids, torch.from_numpy(READOUT.support))


def _loss(backbone: Backbone, objective: Objective, item: TrainBatch) -> float:
    with torch.no_grad():
        logits = backbone(item.batch, objective.positions(item)).logits
        return float(objective(logits, item))


PARTLY = [_row(2, 3, 4), _row(4, None, 2, weight=3.0), _row(3, None, None)]


def test_a_row_counts_once_however_many_slots_it_has(backbone: Backbone) -> None:
    item = _item(backbone, PARTLY, [0, 1, 2, FILLER])
    assert item.slots.tolist() == [
        [0, 0], [0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [3, 0], [3, 1], [3, 2],
    ]  # fmt: skip
    weights = [1 / 3, 1 / 3, 1 / 3, 1.5, 1.5, 1, 0, 0, 0]
    assert item.slot_weights.tolist() == pytest.approx(weights)
    assert item.scores[:6].tolist() == pytest.approx([3.25, 5.5, 7.75, 7.75, 3.25, 5.5])
    objective = _objective(backbone, smooth_l1=2.0, next_token=0)
    assert objective.counts(item).tolist()[3] == pytest.approx(5)
    logits = torch.randn(len(objective.positions(item)), backbone.spec.vocabulary)
    probs = logits[-9:, backbone.token_ids(READOUT.words())].softmax(1)
    mean = probs @ torch.arange(1.0, 11)
    expected = smooth_l1(mean, item.scores.float(), torch.tensor(weights))
    assert float(objective(logits, item)) == pytest.approx(2 * float(expected), rel=1e-5)


def test_what_nobody_rated_is_not_learned(backbone: Backbone) -> None:
    """Its position token is no target of the text either, the words around it are."""
    encoded = _item(backbone, PARTLY, [0, 1, 2]).batch.encoded
    (position,) = backbone.token_ids(["[SCORE]"])
    assert (encoded.ids == position).sum(1).tolist() == [3, 3, 3]
    assert (encoded.labels == position).sum(1).tolist() == [3, 2, 1]
    after = encoded.slots[1, 1] + 2
    assert encoded.labels[1, after] == encoded.ids[1, after] != IGNORED


@pytest.mark.parametrize("cut", [2, 1])
def test_a_step_is_the_same_however_it_is_cut(backbone: Backbone, cut: int) -> None:
    objective = _objective(backbone, smooth_l1=1, vote_ce=1)
    indices = [0, 1, 2, FILLER]
    parts = [_item(backbone, PARTLY, indices[at : at + cut]) for at in range(0, 4, cut)]
    counts = torch.stack([objective.counts(part) for part in parts])
    totals = counts.sum(0).clamp_min(1e-12)
    losses = [
        _loss(backbone, objective, replace(part, share=count / totals))
        for part, count in zip(parts, counts, strict=True)
    ]
    whole = _loss(backbone, objective, _item(backbone, PARTLY, indices))
    assert sum(losses) == pytest.approx(whole, rel=1e-5)


def test_the_second_slot_does_not_depend_on_the_first_ones_target(backbone: Backbone) -> None:
    low, high = (_item(backbone, [_row(mos, 3, 4)], [0]) for mos in (1.5, 4.5))
    assert torch.equal(low.batch.encoded.ids, high.batch.encoded.ids)
    assert low.scores[0] != high.scores[0]
    assert low.scores[1:].tolist() == high.scores[1:].tolist()
    # The loss at the second slot alone, as a row that nobody rated on the others.
    objective = _objective(backbone, smooth_l1=1, next_token=0)
    at = objective.positions(low)
    logits = backbone(low.batch, at).logits.detach().requires_grad_()
    gradients = []
    for item in (low, high):
        (gradient,) = torch.autograd.grad(objective(logits, item), logits)
        gradients.append(gradient[-2:])
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


# --- training to scoring ------------------------------------------------------------------------

NAMES = ("aesthetics", "color", "depth of field")
TASKS = {
    name: TaskSpec(kinds=("image",), scale=(1, 5), after=NAMES[:at])
    for at, name in enumerate(NAMES)
}


def test_thirty_two_samples_are_learned_by_heart_at_every_slot(
    project: Path, tmp_path: Path, states: CachedStates
) -> None:
    config = _config(
        project,
        "schedule.global_batch=16",
        "schedule.micro_batch=16",
        "schedule.epochs=150",
        "schedule.learning_rate=0.01",
        "schedule.weight_decay=0",
        "prompt=scorer",
    )
    rows = _rows(32)
    mix = Mix(rows, np.arange(32), np.arange(32), ["demo"] * 32)
    trainer = Trainer(config, start_backbone(config), mix, states)
    trainer.run(lambda metrics, folder: None)
    item = trainer.builder.build(np.arange(32), next(states.batches([np.arange(32)])), 0)
    logits = trainer.model(item, read=True).logits.detach().view(32, 3, -1)
    probs = logits[:, :, trainer.token_ids].softmax(-1)
    read = READOUT.invert((probs.double() @ torch.from_numpy(READOUT.support)).numpy(), FIVE)
    said = np.array([[row.mos, *(mos for _, mos in row.further if mos)] for row in rows])
    assert (np.abs(read - said).mean(0) < 0.1).all()
    assert np.abs(read[:, 0] - said[:, 1]).mean() > 0.5, "each slot has a score of its own"
    predicted = READOUT.invert(trainer.predict(np.arange(32)), FIVE)
    np.testing.assert_allclose(predicted, read[:, 0], atol=1e-4)


@pytest.mark.parametrize("name", ["pocket", "mplug_owl2"])
def test_every_attribute_is_read_at_its_slot_in_one_pass(
    project: Path,
    tmp_path: Path,
    tiny_owl: list[str],
    pictures: Callable[[Sequence[NDArray[np.uint8]]], MediaSource],
    name: str,
) -> None:
    config = _config(
        project,
        *(tiny_owl if name == "mplug_owl2" else []),
        "prompt=scorer",
        "cache_features=false",
        "schedule.global_batch=4",
        "schedule.micro_batch=2",
        "schedule.epochs=4",
    )
    side = start_backbone(config, weights=False).spec.pixels.size
    rng = np.random.default_rng(0)
    shown = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(4)]
    mix = Mix(_rows(4), np.arange(4), np.arange(4), ["demo"] * 4)
    trainer = Trainer(config, start_backbone(config), mix, pictures(shown))

    def keep(metrics: dict[str, float], checkpoint: Path) -> None:
        (checkpoint / "model.safetensors").rename(tmp_path / "model.safetensors")

    trainer.run(keep)
    predicted = trainer.predict(np.arange(4))
    backbone = start_backbone(config, weights=False)
    load_weights(backbone, tmp_path)
    made = Scorer(backbone, trainer.readout, TASKS, config.prompt)
    made.save(tmp_path / "scorer")
    scorer = Scorer.load(tmp_path / "scorer")
    assert scorer.fingerprint == made.fingerprint
    alone = Scorer(backbone, trainer.readout, {"aesthetics": TASKS["aesthetics"]}, config.prompt)
    assert alone.fingerprint != made.fingerprint

    images = [Image.fromarray(picture) for picture in shown]
    passes: list[int] = []
    handle = scorer.backbone.register_forward_hook(lambda *_: passes.append(1))
    together = scorer.score(images)
    assert len(passes) == 1
    handle.remove()
    np.testing.assert_allclose([s.tasks["aesthetics"].mean for s in together], predicted, atol=2e-5)
    for task in NAMES:
        ours = [float(s.tasks[task].mean) for s in together]
        each = [float(scorer.score([i], [task])[0].tasks[task].mean) for i in images]
        np.testing.assert_allclose(each, ours, atol=1e-5)
    backwards = scorer.score(images[::-1], ["depth of field", "aesthetics"])[::-1]
    for one, other in zip(together, backwards, strict=True):
        assert set(other.tasks) == {"depth of field", "aesthetics"}
        np.testing.assert_allclose(
            other.tasks["depth of field"].probs, one.tasks["depth of field"].probs, atol=1e-5
        )
    slots = [[float(s.tasks[task].mean) for task in NAMES] for s in together]
    assert np.ptp(slots, axis=1).min() > 1e-4, "three slots are three places"


def test_only_answers_of_one_text_are_shared(small_scorer: Scorer, tmp_path: Path) -> None:
    tasks = {"quality": TASKS["aesthetics"], "color": TASKS["color"]}
    with pytest.raises(ValueError, match=r"task 'color' is read behind others .* readout levels"):
        Scorer(small_scorer.backbone, LevelReadout(), tasks, "brief")
    small_scorer.save(tmp_path)
    text = (tmp_path / "scorer.json").read_text("utf-8")
    assert text.count('"after": []') == 2
    changed = text.replace('"after": []', '"after": ["quality"]')
    (tmp_path / "scorer.json").write_text(changed, "utf-8")
    with pytest.raises(ScorerError, match="is read behind others in one answer"):
        Scorer.load(tmp_path)


# --- the door -----------------------------------------------------------------------------------

COLOURED = "sets.1.attributes={color: color, depth of field: dof}"


def _manifest(folder: Path, **changes: object) -> str:
    table = {
        "item_id": [f"i{i}" for i in range(4)],
        "uri": ["a", "b", "c", "d"],
        "kind": ["image"] * 4,
        "mos": [2.0, 3.0, 4.0, 3.0],
        "color": [1.0, None, 5.0, 2.0],
        "dof": [3, 4, None, 2],
        "split": ["train", "train", "val", "test"],
    } | changes
    path = folder / "set.parquet"
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), path)
    return f"sets.1.manifest={path}"


def test_a_set_names_its_columns(project: Path, tmp_path: Path) -> None:
    config = _config(project, COLOURED, _manifest(tmp_path), "evaluate=[mos]")
    found = load_set(config.sets[1], config)
    assert dict(found.attributes) == {"color": "color", "depth of field": "dof"}
    assert training_rows(config.sets[1], config) == (2, "counted")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"color": None}, "set 'aesthetics' has no column 'color' for one of its attributes"),
        ({"color": ["a"] * 4}, "column 'color' holds string, not mean opinions"),
        ({"dof": [3, 9, None, 2]}, r"item 'i1' has dof 9.0, outside its declared scale \[1"),
        ({"color": [1.0, float("nan"), 5.0, 2.0]}, "item 'i1' has color nan, outside"),
    ],
)
def test_columns_that_are_none_are_refused(
    project: Path, tmp_path: Path, changes: dict[str, object], sentence: str
) -> None:
    config = _config(project, COLOURED, _manifest(tmp_path, **changes), "evaluate=[mos]")
    with pytest.raises(ManifestError, match=sentence):
        training_rows(config.sets[1], config)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["readout={name: levels}", "objective={next_token: 1}"], "not with levels"),
        (["objective={smooth_l1: 1, fidelity: 1}"], "fidelity compares mos alone"),
        (["sets.0.attributes={color: c}"], "attribute 'color' must be a name of its own"),
        (["sets.1.attributes={quality: q}"], "attribute 'quality' must be a name of its own"),
        (["sets.1.attributes={'{kind}': q}"], "must be a name of its own, without braces"),
        (
            ["sets.0.task=aesthetics", "sets.0.attributes={color: c}"],
            r"attributes \['color', 'depth of field'\] and another set's \['color'\] of task",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(project: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        _config(project, COLOURED, *overrides)


def test_a_scorer_has_a_task_for_each(project: Path, tmp_path: Path) -> None:
    one = _manifest(tmp_path)
    path = one.split("=")[1]
    config = _config(project, COLOURED, one, f"sets.0.manifest={path}", f"sets.2.manifest={path}")
    assert tasks_of(config) == {"quality": TaskSpec(kinds=("image",), scale=(1, 5)), **TASKS}
