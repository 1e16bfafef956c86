"""ROC4MLLM in training: tokens before the first step, the terms at the slot, the door."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from beholder.datasets import concatenate
from beholder.opinions import Scale, ScoreDistribution
from beholder.readouts import ScoreTokenReadout
from beholder.scoring import Scorer, TaskSpec
from beholder.training.batch import TrainBatch
from beholder.training.config import TrainConfig
from beholder.training.feed import (
    BatchBuilder,
    CachedStates,
    Looked,
    MediaSource,
    Opinion,
    opinions,
)
from beholder.training.learning_config import ObjectiveConfig
from beholder.training.loop import Mix, Trainer
from beholder.training.objective import Objective
from beholder.training.objectives import earth_movers_distance, smooth_l1, soft_cross_entropy
from beholder.training.order import FILLER
from beholder.training.plan import describe_run
from beholder.training.sets import load_set
from beholder.training.start import start_backbone

pytestmark = pytest.mark.usefixtures("world")

ROWS = 32
TINY = "backbone.settings={image_size: 96, hidden_size: 32, heads: 2, dropout: 0.0}"


def _config(project: Path, *overrides: str) -> TrainConfig:
    small = ["workers.count=1", "schedule.checks=1", TINY, *overrides]
    return load_config(TrainConfig, project / "configs/train/roc_pocket.yaml", small)


def _opinions(seed: int = 1) -> list[Opinion]:
    """Votes of 20 raters on 1..5 and their mean."""
    rng = np.random.default_rng(seed)
    rows = []
    for quality in rng.uniform(1.2, 4.8, ROWS):
        votes = np.bincount(np.clip(np.rint(rng.normal(quality, 0.7, 20)), 1, 5).astype(int))
        votes = np.pad(votes, (0, 6 - len(votes)))[1:]
        mos = float(votes @ np.arange(1, 6)) / 20
        one = Opinion("image", "quality", mos, Scale(1, 5), "quality", 1.0, 0.5, 0)
        rows.append(replace(one, votes=votes.tolist()))
    return rows


def _trained(config: TrainConfig, media: Any, rows: list[Opinion], folder: Path) -> Trainer:
    mix = Mix(rows, np.arange(len(rows)), np.arange(len(rows)), ["demo"] * len(rows))
    trainer = Trainer(config, start_backbone(config), mix, media)

    def keep(metrics: dict[str, float], checkpoint: Path) -> None:
        (folder / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())

    trainer.run(keep)
    return trainer


@pytest.mark.parametrize(
    "objective",
    [
        "{smooth_l1: 1}",  # the paper, on all sets
        "{smooth_l1: 1, vote_ce: 1}",  # the paper, on AVA
        "{vote_ce: 10}",  # its release, on AVA
    ],
)
def test_thirty_two_samples_are_learned_by_heart(
    project: Path, tmp_path: Path, states: CachedStates, objective: str
) -> None:
    """Mean absolute error below .1 of the readout's unit, a ninth of the scale."""
    config = _config(
        project,
        f"objective={objective}",
        "schedule.global_batch=16",
        "schedule.micro_batch=16",
        "schedule.epochs=80",
        "schedule.learning_rate=0.01",
        "schedule.weight_decay=0",
    )
    rows = _opinions()
    trainer = _trained(config, states, rows, tmp_path)
    predicted = trainer.predict(np.arange(ROWS))
    mos = np.array([row.mos for row in rows])
    own = 1 + 9 * (mos - 1) / 4
    assert np.abs(predicted - own).mean() < 0.1
    assert np.abs(trainer.readout.invert(predicted, Scale(1, 5)) - mos).mean() < 0.1 * 4 / 9
    assert np.abs(predicted - predicted.mean()).mean() > 1, "the scores must differ to be learned"
    if config.objective.needs_votes:
        votes = np.array([row.votes for row in rows]) / 20
        deviation = np.arange(1, 6) - mos[:, None]
        people = 9 / 4 * np.sqrt((votes * deviation**2).sum(1))
        probs = trainer.distributions(np.arange(ROWS))
        own = ScoreDistribution(trainer.readout.support, probs, trainer.readout.scale)
        assert np.abs(own.std - people).mean() < 0.25, "the votes' spread is learned with them"


@pytest.mark.parametrize("name", ["pocket", "mplug_owl2"])
def test_what_training_reads_the_saved_scorer_reads(
    project: Path,
    tiny_owl: list[str],
    pictures: Callable[[Sequence[NDArray[np.uint8]]], MediaSource],
    tmp_path: Path,
    name: str,
) -> None:
    """Training reads a slot that is filled, scoring an open one of a loaded scorer.

    mPLUG-Owl2 runs under ZeRO-3, which takes the weights apart after tokens were added.
    """
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
    trainer = _trained(config, pictures(shown), _opinions()[:6], tmp_path)
    predicted = trainer.predict(np.arange(6))

    backbone = start_backbone(config, weights=False)  # as a run takes its best checkpoint up
    load_weights(backbone, tmp_path)
    tasks = {"quality": TaskSpec(kinds=("image",), scale=(1, 5))}
    made = Scorer(backbone, trainer.readout, tasks, config.prompt)
    made.save(tmp_path / "scorer")
    scorer = Scorer.load(tmp_path / "scorer")
    assert scorer.fingerprint == made.fingerprint
    assert isinstance(scorer.readout, ScoreTokenReadout)
    scores = scorer.score([Image.fromarray(picture) for picture in shown])
    means = [float(score.tasks["quality"].mean) for score in scores]
    np.testing.assert_allclose(means, predicted, atol=2e-5)
    start = start_backbone(config).state_dict()["lm_head.weight"]
    moved = backbone.state_dict()["lm_head.weight"][-10:] - start[-10:]
    assert moved.abs().amax(dim=1).min() > 0, "every score token has learned"
    assert len(set(np.round(predicted, 4))) > 1


def test_every_worker_starts_with_the_same_tokens(project: Path) -> None:
    config = _config(project)
    plain = _config(project, "readout={name: levels}", "objective={next_token: 1}")
    first, second = (start_backbone(config, weights=False) for _ in range(2))
    assert first.tokenizer_json() == second.tokenizer_json()
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    without = start_backbone(plain, weights=False)
    assert first.spec.vocabulary == without.spec.vocabulary + 11
    old = without.state_dict()["lm_head.weight"]
    assert torch.equal(first.state_dict()["lm_head.weight"][: len(old)], old)


def test_the_dry_run_counts_the_new_rows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    text = describe_run(load_config(TrainConfig, project / "configs/train/roc.yaml"))
    assert f"{8_197_859_328 + 2 * 11 * 4096:,}" in text
    assert "235,600 rows x 2 epochs / 16" in text


def test_tokens_need_a_language_part_that_learns(project: Path) -> None:
    frozen = _config(project, "backbone.train=[projector]")
    with pytest.raises(ConfigError, match=r"'\[SCORE\]' .*: add language to backbone.train"):
        start_backbone(frozen, weights=False)


# --- the terms at the slot ----------------------------------------------------------------------

READOUT = ScoreTokenReadout()


@pytest.fixture(scope="module")
def backbone(project: Path) -> Backbone:
    backbone = start_backbone(_config(project), weights=False).eval()
    for stage in backbone.abstractor.stages:  # type: ignore[union-attr]
        torch.nn.init.normal_(stage.weight, std=0.3)  # type: ignore[arg-type]
    return backbone


@pytest.fixture(scope="module")
def builder(backbone: Backbone) -> BatchBuilder:
    rows = [replace(row, weight=1.0 + i % 2) for i, row in enumerate(_opinions()[:8])]
    blank = torch.zeros(1, Tower.width)
    return BatchBuilder(backbone, {"quality": READOUT}, rows, "brief", 0, blank, votes=True)


def _item(builder: BatchBuilder, indices: Sequence[int]) -> TrainBatch:
    states = torch.randn(8, 1, Tower.width, generator=torch.Generator().manual_seed(1))
    media = [None if i == FILLER else Looked(states=states[i]) for i in indices]
    return builder.build(np.array(indices), media, 0)


def _objective(backbone: Backbone, **config: object) -> Objective:
    ids = backbone.token_ids(READOUT.words())
    return Objective(ObjectiveConfig(**config), ids, torch.from_numpy(READOUT.support))


@pytest.mark.parametrize("term", ["smooth_l1", "emd", "vote_ce"])
def test_the_terms_are_what_their_functions_say(
    backbone: Backbone, builder: BatchBuilder, term: str
) -> None:
    item = _item(builder, [*range(6), FILLER])
    objective = _objective(backbone, next_token=0, **{term: 2.0})
    logits = torch.randn(len(objective.positions(item)), backbone.spec.vocabulary)
    closed = logits[-7:, backbone.token_ids(READOUT.words())]
    probs, mos = closed.softmax(1), item.mos.float()
    mean = (probs * torch.arange(1, 11)).sum(1)
    votes = item.targets.float()
    assert item.weights.tolist() == [1, 2, 1, 2, 1, 2, 0]
    torch.testing.assert_close(item.targets @ torch.from_numpy(READOUT.support), item.scores)
    expected = {
        "smooth_l1": smooth_l1(mean, 1 + 9 * (mos - 1) / 4, item.weights),
        "emd": earth_movers_distance(probs, votes, item.weights),
        "vote_ce": soft_cross_entropy(closed, votes, item.weights),
    }[term]
    assert float(objective(logits, item)) == pytest.approx(2 * float(expected), rel=1e-5)


@pytest.mark.parametrize("term", ["smooth_l1", "emd", "vote_ce"])
def test_score_terms_move_score_tokens_at_the_slot_only_and_keep_their_sum(
    backbone: Backbone, builder: BatchBuilder, term: str
) -> None:
    item = _item(builder, range(4))
    objective = _objective(backbone, next_token=0, **{term: 1.0})
    shape = (len(objective.positions(item)), backbone.spec.vocabulary)
    logits = torch.randn(shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(logits, item), logits)
    ids = backbone.token_ids(READOUT.words())
    at_slots = gradient[-4:, ids]
    assert at_slots.abs().amax(1).min() > 1e-5
    assert at_slots.sum(1).abs().max() < 1e-6
    gradient[-4:, ids] = 0
    assert gradient.abs().max() == 0


def test_the_position_token_stays_a_target_of_the_text(
    backbone: Backbone, builder: BatchBuilder
) -> None:
    """Eq. 6: its cross-entropy is one of the answer's, and no score token is a target."""
    item = _item(builder, range(4))
    labels = item.batch.encoded.labels
    position, *scores = backbone.token_ids(["[SCORE]", *READOUT.words()])
    assert (labels == position).sum(1).tolist() == [1] * 4
    assert not torch.isin(labels[labels != IGNORED], torch.tensor(scores)).any()
    every = _objective(backbone, smooth_l1=1, vote_ce=1)
    assert float(every.counts(item)[0]) == float(
        (item.weights[:, None] * (labels != IGNORED)).sum()
    )


@pytest.mark.parametrize("cut", [4, 2])
def test_a_step_is_the_same_however_it_is_cut(
    backbone: Backbone, builder: BatchBuilder, cut: int
) -> None:
    objective = _objective(backbone, smooth_l1=1, vote_ce=10, fidelity=0.5)
    indices = [0, 1, 2, 3, 4, 5, FILLER, FILLER]
    whole = _item(builder, indices)
    parts = [_item(builder, indices[at : at + cut]) for at in range(0, 8, cut)]
    counts = torch.stack([objective.counts(part) for part in parts])
    totals = counts.sum(0).clamp_min(1e-12)
    shared = [
        replace(part, share=count / totals) for part, count in zip(parts, counts, strict=True)
    ]
    with torch.no_grad():
        expected, *losses = (
            float(objective(backbone(one.batch, objective.positions(one)).logits, one))
            for one in (whole, *shared)
        )
    assert sum(losses) == pytest.approx(expected, rel=1e-5)


# --- the door -----------------------------------------------------------------------------------


def _manifest(folder: Path, **changes: object) -> Path:
    count = 4
    table = {
        "item_id": [f"i{i}" for i in range(count)],
        "uri": [f"uri {i}" for i in range(count)],
        "kind": ["image"] * count,
        "mos": [2.0, 3.0, 4.0, 3.0],
        "votes": [[0, 9, 0, 0, 0], [1, 2, 3, 2, 1], [0, 0, 0, 9, 0], [0, 0, 9, 0, 0]],
        "split": ["train", "train", "val", "test"],
    } | changes
    path = folder / "set.parquet"
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), path)
    return path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"votes": None}, "set quality: .*no column 'votes', which objective.emd and"),
        (
            {"votes": [[0, 9, 0, 0, 0], None, [0, 0, 0, 9, 0], [0, 0, 9, 0, 0]]},
            "set quality: item 'i1' has no votes, .*leave it out, or set both to 0",
        ),
        ({"votes": [[0, 9, 0, 0, 0], [0] * 5, [0, 0, 0, 9, 0], None]}, "row 1 has no votes"),
        ({"mos": [2.0, 3.0, 2.0, 3.0]}, "mean at 75% of the scale and the mos is at 25%"),
    ],
)
def test_votes_are_asked_for_at_the_door(
    project: Path, tmp_path: Path, changes: dict[str, object], sentence: str | None
) -> None:
    config = _config(project, f"sets.0.manifest={_manifest(tmp_path, **changes)}", "evaluate=[mos]")
    if sentence is None:
        found = load_set(config.sets[0], config)
        assert opinions(concatenate([found]))[1].votes == [1, 2, 3, 2, 1]
        return
    with pytest.raises(ConfigError, match=sentence):
        load_set(config.sets[0], config)


@pytest.mark.parametrize("changes", [{"votes": None}, {"mos": [2.0, 3.0, 2.0, 3.0]}])
def test_without_a_vote_term_nobody_asks_for_votes(
    project: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    manifest = f"sets.0.manifest={_manifest(tmp_path, **changes)}"
    config = _config(project, manifest, "evaluate=[mos]", "objective.vote_ce=0")
    load_set(config.sets[0], config)


def test_votes_are_left_alone_where_no_term_is_about_them(backbone: Backbone) -> None:
    """A column 'votes' on another scale than the mos must not hurt smooth L1 alone."""
    rows = [replace(_opinions()[0], mos=4.9, votes=[9, 0, 0, 0, 0])]
    blank = torch.zeros(1, Tower.width)
    builder = BatchBuilder(backbone, {"quality": READOUT}, rows, "brief", 0, blank)
    item = builder.build(np.array([0]), [Looked(states=blank)], 0)
    assert float(item.targets @ torch.from_numpy(READOUT.support)) == pytest.approx(9.775)
    assert item.scores.tolist() == pytest.approx([9.775])
