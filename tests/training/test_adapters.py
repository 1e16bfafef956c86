"""LoRA: what moves, what is merged, what is refused, and that a resume is exact."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from beholder.backbones import Backbone, Batch, MediaShape
from beholder.backbones.loading import load_weights
from beholder.backbones.pocket.tower import Tower
from beholder.config import ConfigError, load_config
from beholder.conversations import scoring
from beholder.datasets import TrainingSet
from beholder.opinions import Scale
from beholder.scoring import Scorer, TaskSpec
from beholder.scoring.adapter import merged
from beholder.training.adapters import (
    adapted_layers,
    add_adapters,
    is_adapter,
    merge_adapters,
    remove_adapters,
)
from beholder.training.config import LoraConfig, TrainConfig
from beholder.training.engine import whole_state
from beholder.training.feed import CachedStates, MediaSource, Opinion, calibrate, opinions
from beholder.training.folds import mix_of, train_rows
from beholder.training.loop import Mix, Trainer
from beholder.training.model import freeze
from beholder.training.plan import describe_run
from beholder.training.start import start_backbone

pytestmark = pytest.mark.usefixtures("world")

TINY = "backbone.settings={image_size: 96, hidden_size: 32, heads: 2, dropout: 0.1}"
LORA = "backbone.lora={rank: 4, alpha: 8, dropout: 0.1}"
ROWS = 6


def pocket(project: Path, *overrides: str, base: str = "onealign_pocket") -> TrainConfig:
    small = [
        "workers.count=1",
        TINY,
        "backbone.train=[projector]",
        LORA,
        "prompt=scorer",  # one question, no paraphrases
        "cache_features=false",
        "evaluate=[mos]",
        "schedule.global_batch=4",
        "schedule.micro_batch=2",
        "schedule.epochs=3",
        "schedule.checks=1",
        "schedule.learning_rate=0.01",
        "schedule.weight_decay=0",
    ]
    return load_config(TrainConfig, project / f"configs/train/{base}.yaml", [*small, *overrides])


@dataclass
class Runs:
    """Trains a config on the same six random pictures each time; keeps every checkpoint."""

    source: Callable[[Sequence[NDArray[np.uint8]]], MediaSource]
    folder: Path

    def shown(self, config: TrainConfig) -> list[NDArray[np.uint8]]:
        side = start_backbone(config, weights=False).spec.pixels.size
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(ROWS)]

    def __call__(self, config: TrainConfig, name: str, resume: Path | None = None) -> Trainer:
        scale = Scale(1, 5)
        mos = np.random.default_rng(1).uniform(1, 5, ROWS)
        rows = [Opinion("image", "quality", m, scale, "quality", 1, 0.5, 0) for m in mos]
        mix = Mix(rows, np.arange(ROWS), np.arange(ROWS), ["demo"] * ROWS)
        trainer = Trainer(config, start_backbone(config), mix, self.source(self.shown(config)))

        def keep(metrics: dict[str, float], checkpoint: Path) -> None:
            shutil.copytree(checkpoint, self.folder / name / f"{metrics['step']:.0f}")

        trainer.run(keep, resume)
        return trainer


@pytest.fixture
def runs(pictures: Callable[[Sequence[NDArray[np.uint8]]], MediaSource], tmp_path: Path) -> Runs:
    return Runs(pictures, tmp_path / "runs")


def raw_state(trainer: Trainer) -> dict[str, Tensor]:
    """Weights with their adapters, gathered."""
    stage = trainer.config.deepspeed.stage
    return dict(whole_state(trainer.engine, trainer.backbone, stage))


@pytest.fixture(params=["pocket", "mplug_owl2"])
def config(project: Path, tiny_owl: list[str], request: pytest.FixtureRequest) -> TrainConfig:
    """Pocket under ZeRO-2, mPLUG-Owl2 under ZeRO-3; the projector trained whole beside LoRA."""
    overrides = [*tiny_owl, "backbone.train=[projector]"] if request.param != "pocket" else []
    return pocket(project, *overrides)


# --- what is adapted ----------------------------------------------------------------------------


def test_the_released_targets_are_queries_and_the_image_half_of_values(
    project: Path, tiny_owl: list[str]
) -> None:
    config = pocket(project, *tiny_owl, "backbone.train=[projector]")
    backbone = start_backbone(config)
    layers = len(backbone.model.layers)  # type: ignore[union-attr,arg-type]
    found = adapted_layers(backbone, LoraConfig())
    expected = {
        f"model.layers.{i}.self_attn.{name}"
        for i in range(layers)
        for name in ("q_proj", "v_proj.multiway.1")
    }
    assert set(found) == expected
    every = adapted_layers(backbone, LoraConfig(targets="all-linear"))
    # q, o, both halves of k and v, and the MLP's three; neither head nor anything visual.
    assert len(every) == 9 * layers
    assert all(name.startswith("model.layers.") for name in every)


def test_pockets_targets_leave_the_abstractors_attention_alone(project: Path) -> None:
    config = pocket(project)
    found = adapted_layers(start_backbone(config, weights=False), LoraConfig())
    assert found == [f"layers.{i}.attention.{n}" for i in (0, 1) for n in ("query", "key_value")]


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ("[attention.query, c_attn, wte]", "called 'c_attn', 'wte': its names end in attention"),
        ("[query_projection]", "called 'query_projection'"),
        ("[lm_head]", "called 'lm_head'"),  # trained whole or not at all
        ("[stages.0]", r"called 'stages\.0'"),  # of the projector
        ("[]", "called nothing"),
    ],
)
def test_targets_that_match_nothing_are_named_at_the_door(
    project: Path, targets: str, sentence: str
) -> None:
    config = pocket(project, f"backbone.lora.targets={targets}")
    with pytest.raises(ConfigError, match=sentence):
        start_backbone(config, weights=False)


def test_lora_and_a_trained_language_part_exclude_each_other(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"set backbone\.train to \[vision\], or lora to null"):
        pocket(project, "backbone.train=[vision, language]")


def test_every_worker_starts_with_the_same_adapters(project: Path) -> None:
    config = pocket(project)
    states = []
    for before in range(2):
        backbone = start_backbone(config, weights=False)
        torch.manual_seed(before)  # whatever was drawn until then
        add_adapters(backbone, LoraConfig(rank=4), seed=3)
        states.append({n: t for n, t in backbone.state_dict().items() if is_adapter(n)})
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
        assert bool(tensor.any()) == (".lora_A." in name), "B is 0: training starts from the model"


# --- merging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_is_w_plus_scaled_ba(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, down, up = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((5, 7), (3, 7), (5, 3))
    )
    state = {
        "a.base_layer.weight": weight,
        "a.base_layer.bias": torch.ones(5, dtype=dtype),
        "a.lora_A.default.weight": down,
        "a.lora_B.default.weight": up,
        "b.weight": torch.zeros(2, dtype=dtype),
    }
    merged = merge_adapters(state, 2.5)
    assert set(merged) == {"a.weight", "a.bias", "b.weight"}
    exact = weight.double() + 2.5 * up.double() @ down.double()
    assert merged["a.weight"].dtype == dtype
    # Rounded once, at the end: in bfloat16 the nearest number, not a sum of rounded ones.
    torch.testing.assert_close(merged["a.weight"], exact.to(dtype), rtol=1e-6, atol=1e-6)
    assert merged["b.weight"] is state["b.weight"]


def test_merged_weights_do_what_the_adapted_model_does(config: TrainConfig, runs: Runs) -> None:
    """In a forward of hidden states and logits, with adapters far from zero."""
    backbone = start_backbone(config)
    assert config.backbone.lora is not None
    lora = config.backbone.lora
    before = backbone.state_dict()
    add_adapters(backbone, lora, seed=0)
    for name, parameter in backbone.named_parameters():
        if is_adapter(name):
            torch.nn.init.normal_(parameter, std=0.3)
    backbone.eval()
    item = _some_batch(backbone, runs.shown(config))
    adapted = backbone(*item)
    merged = merge_adapters(backbone.state_dict(), lora.scaling)
    assert set(merged) == set(before)
    plain = start_backbone(config, weights=False).eval()
    plain.load_state_dict(merged)
    read = plain(*item)
    torch.testing.assert_close(read.hidden, adapted.hidden, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(read.logits, adapted.logits, rtol=1e-4, atol=1e-4)
    remove_adapters(backbone)
    assert set(backbone.state_dict()) == set(before)
    unadapted = backbone(*item)
    assert (unadapted.logits - adapted.logits).abs().max() > 0.01, "adapters did something"


def _some_batch(backbone: Backbone, shown: Sequence[NDArray[np.uint8]]) -> tuple[Batch, Tensor]:
    pixels = torch.from_numpy(np.stack(shown[:2]))
    shapes = [MediaShape(1, *pixels.shape[1:3])] * 2
    asked = [scoring("scorer", "quality", "image", at) for at in range(2)]
    encoded = backbone.encode(asked, shapes)
    positions = torch.stack([torch.arange(2), encoded.slots[:, 0]], 1)
    return Batch(encoded, shapes, pixels=pixels), positions


# --- training -----------------------------------------------------------------------------------


def test_only_adapters_and_named_parts_move_and_the_scorer_has_them_merged(
    config: TrainConfig, runs: Runs, tmp_path: Path
) -> None:
    start = start_backbone(config)
    trainer = runs(config, "run")
    parts = start.spec.parts
    raw = raw_state(trainer)
    changed = set()
    for name, tensor in start.state_dict().items():
        layer, _, rest = name.rpartition(".")
        now = raw.get(name, raw.get(f"{layer}.base_layer.{rest}"))
        assert now is not None, name
        if not torch.equal(tensor, now):
            changed.add(next(p for p, prefixes in parts.items() if name.startswith(prefixes)))
    assert changed == {"projector"}, "vision and language weights stay, bit by bit"
    ups = [tensor for name, tensor in raw.items() if name.endswith("lora_B.default.weight")]
    assert len(ups) == len(adapted_layers(start, LoraConfig()))
    assert all(up.abs().max() > 0 for up in ups), "every adapter has learned"

    (last,) = (runs.folder / "run").iterdir()
    saved = load_file(last / "model.safetensors")
    assert set(saved) == set(start.state_dict()), "the official keys"
    factors = load_file(last / "adapter.safetensors")
    assert len(factors) == 2 * len(ups)
    for name in {name.rpartition(".")[0] for name in factors}:
        down, up = factors[f"{name}.lora_A"], factors[f"{name}.lora_B"]
        assert torch.equal(merged(start.state_dict()[name], down, up, 2.0), saved[name])
    backbone = start_backbone(config, weights=False)  # as a run takes its best checkpoint up
    load_weights(backbone, last)
    tasks = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
    Scorer(backbone, trainer.readout, tasks, config.prompt).save(tmp_path / "scorer")
    pictures = [Image.fromarray(picture) for picture in runs.shown(config)]
    scores = Scorer.load(tmp_path / "scorer").score(pictures)
    means = [float(score.tasks["quality"].mean) for score in scores]
    predicted = trainer.predict(np.arange(ROWS))
    np.testing.assert_allclose(means, predicted, atol=5e-5)
    assert len(set(np.round(predicted, 4))) > 1


def test_a_resume_is_exact(config: TrainConfig, runs: Runs) -> None:
    """Two steps, a checkpoint and two more are four, adapters' dropout included."""
    schedule = {"epochs": 2, "global_batch": 3, "micro_batch": 3, "checks": 2}
    short = config.model_copy(update={"schedule": config.schedule.model_copy(update=schedule)})
    whole = runs(short, "whole")
    assert sorted(path.name for path in (runs.folder / "whole").iterdir()) == ["2", "4"]
    resumed = runs(short, "resumed", resume=runs.folder / "whole" / "2")
    assert [path.name for path in (runs.folder / "resumed").iterdir()] == ["4"]
    assert resumed.curve == whole.curve
    first, second = raw_state(whole), raw_state(resumed)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_adapters_alone_can_be_trained(project: Path, runs: Runs) -> None:
    """No vector is trained then, which leaves the optimizer one group."""
    config = pocket(project, "backbone.train=[]")
    trainer = runs(config, "run")
    start = start_backbone(config).state_dict()
    raw = raw_state(trainer)
    trained = {n for n, p in trainer.backbone.named_parameters() if p.requires_grad}
    assert trained == {name for name in raw if is_adapter(name)}
    assert torch.equal(raw["abstractor.stages.0.weight"], start["abstractor.stages.0.weight"])
    assert trainer.curve[-1]["loss"] < trainer.curve[0]["loss"]


def test_new_tokens_are_learned_beside_adapters(project: Path, runs: Runs) -> None:
    """Embedding and head are trained whole: rows of tokens that never occur stay in the one; in
    the other the softmax moves all."""
    config = pocket(project, "objective={smooth_l1: 1}", base="roc_pocket")
    start = start_backbone(config).state_dict()
    trainer = runs(config, "run")
    raw = raw_state(trainer)
    moved = {
        name: (raw[name] - start[name]).abs().amax(1) > 0
        for name in ("embed_tokens.weight", "lm_head.weight")
    }
    added = len(trainer.readout.new_tokens())
    position = trainer.backbone.token_ids(["[SCORE]"])[0]
    assert position == len(start["embed_tokens.weight"]) - added
    assert moved["lm_head.weight"].all()
    entering = moved["embed_tokens.weight"]
    assert entering[position], "it stands in the answer"
    assert not entering[position + 1 :].any(), "score tokens are read, never written"
    assert 0 < int(entering[:position].sum()) < position
    for name in ("positions.weight", "norm.weight", "layers.0.norm1.weight"):
        assert torch.equal(raw[name], start[name]), name


def test_a_fold_is_measured_with_the_merged_weights(project: Path) -> None:
    """What is kept of a fold reads as its adapted model did."""
    config = pocket(project)
    names = [str(i) for i in range(ROWS)]
    rated = {"item_id": names, "uri": names, "kind": ["image"] * ROWS}
    mos = np.random.default_rng(1).uniform(1, 5, ROWS)
    own = TrainingSet("demo", pa.table(rated | {"mos": mos}), "quality", Scale(1, 5))
    mix = mix_of([own])
    flat = np.random.default_rng(0).standard_normal((ROWS, Tower.width)).astype(np.float32)
    states = pa.table({"uri": names, "frames": [1] * ROWS, "states": list(flat)})
    every = np.arange(ROWS)
    trainer, _ = train_rows(mix, states, config, every, every)
    assert not any(is_adapter(name) for name in trainer.backbone.state_dict())

    media = CachedStates(states, names)
    backbone = start_backbone(config)
    calibrate(backbone, media, every, config.seed)
    adapted = Trainer(config, backbone, Mix(opinions(mix), every, every, ["demo"] * ROWS), media)
    adapted.run(lambda metrics, folder: None)
    predicted = adapted.predict(every)
    np.testing.assert_allclose(trainer.predict(every), predicted, atol=5e-5)
    assert len(set(np.round(predicted, 4))) > 1


# --- the dry run --------------------------------------------------------------------------------


def test_parameters_of_the_released_recipe(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 128 on 4096 x 4096 queries and image values of 32 layers: 64 x 128 x 8192."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    path = project / "configs/train/onealign.yaml"
    lora = ["backbone.train=[projector]", "backbone.lora={}"]
    text = describe_run(load_config(TrainConfig, path, lora))
    adapters, everything = 64 * 128 * 8192, 8_197_859_328 + 64 * 128 * 8192
    assert adapters == 67_108_864
    assert f"{adapters:,} trained" in text
    assert f"{everything:,}" in text
    assert "adapters of rank 128, scaled by 2, in language" in text
    projector = next(line.split() for line in text.splitlines() if line.startswith("projector"))
    assert projector[2] == "trained"
    trained = int(projector[1].replace(",", "")) + adapters
    # Memory follows: bf16 weights and gradients over 8 workers at ZeRO-3, 12 bytes of AdamW.
    chosen = next(line for line in text.splitlines() if line.endswith("<- this config"))
    per_worker = [everything * 2, trained * 2, trained * 12]
    expected = [f"{count / 8 / 2**30:.2f}" for count in per_worker]
    assert chosen.split()[2:5] == expected


def test_parts_are_counted_with_their_adapters(project: Path) -> None:
    config = pocket(project)
    backbone = start_backbone(config, weights=False)
    plain = {
        part: sum(p.numel() for n, p in backbone.named_parameters() if n.startswith(prefixes))
        for part, prefixes in backbone.spec.parts.items()
    }
    counts = freeze(backbone, config)
    width, rank = 32, 4
    adapters = 2 * (rank * 2 * width + rank * 3 * width)  # two layers' query and key_value
    assert counts["vision"] == (plain["vision"], 0)
    assert counts["projector"] == (plain["projector"], plain["projector"])
    assert counts["language"] == (plain["language"] + adapters, adapters)
