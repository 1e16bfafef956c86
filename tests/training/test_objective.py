"""The objective's terms: each is the mean over the whole step, however the step is cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.backbones.pocket.tower import Tower
from beholder.opinions import Scale
from beholder.readouts import LevelReadout, Readout, ScoreTokenReadout
from beholder.training.batch import TrainBatch
from beholder.training.feed import BatchBuilder, Looked, Opinion
from beholder.training.learning_config import ObjectiveConfig
from beholder.training.objective import Objective
from beholder.training.objectives import fidelity_loss, score_moments, soft_label_kl
from beholder.training.order import FILLER

READOUT = LevelReadout(labels="soft")
ROWS = 8


@pytest.fixture(scope="module")
def backbone() -> Pocket:
    torch.manual_seed(0)
    backbone = Pocket(PocketConfig(image_size=64, hidden_size=16, dropout=0.0), default_tokenizer())
    for stage in backbone.abstractor.stages:
        torch.nn.init.normal_(stage.weight, std=0.3)  # type: ignore[arg-type]
    return backbone.eval()


@pytest.fixture(scope="module")
def builder(backbone: Pocket) -> BatchBuilder:
    rng = np.random.default_rng(0)
    rows = [
        Opinion("image", "quality", m, Scale(1, 5), "quality", 1.0 + i % 2, 0.6, i // 4)
        for i, m in enumerate(rng.uniform(1.5, 4.5, ROWS))
    ]
    blank = torch.zeros(1, Tower.width)
    return BatchBuilder(backbone, {"quality": READOUT}, rows, "brief", 0, blank)


def _media(indices: np.ndarray) -> list[Looked | None]:
    states = torch.randn(ROWS, 1, Tower.width, generator=torch.Generator().manual_seed(1))
    return [None if i == FILLER else Looked(states=states[i]) for i in indices]


def _objective(backbone: Pocket, **config: object) -> Objective:
    ids = backbone.token_ids(READOUT.words())
    return Objective(ObjectiveConfig(**config), ids, torch.from_numpy(READOUT.support))


def _loss(backbone: Pocket, objective: Objective, item: TrainBatch) -> Tensor:
    return objective(backbone(item.batch, objective.positions(item)).logits, item)


DEQA = {"next_token": 0.05, "soft_label": 0.05, "fidelity": 1.0}


@pytest.mark.parametrize("cut", [4, 2])
@pytest.mark.parametrize("config", [{}, DEQA, {**DEQA, "binary": True, "spread": "fixed"}])
def test_a_step_is_the_same_however_it_is_cut(
    backbone: Pocket, builder: BatchBuilder, cut: int, config: dict
) -> None:
    objective = _objective(backbone, **config)
    indices = np.array([0, 1, 2, 3, 4, 5, FILLER, FILLER])
    whole = builder.build(indices, _media(indices), 0)
    parts = [builder.build(some, _media(some), 0) for some in np.split(indices, ROWS // cut)]
    counts = torch.stack([objective.counts(part) for part in parts])
    torch.testing.assert_close(counts.sum(0), objective.counts(whole))
    totals = counts.sum(0).clamp_min(1e-12)
    summed = sum(
        _loss(backbone, objective, replace(part, share=count / totals)).item()
        for part, count in zip(parts, counts, strict=True)
    )
    assert summed == pytest.approx(float(_loss(backbone, objective, whole)), rel=1e-5)


def test_the_terms_are_what_their_functions_say(backbone: Pocket, builder: BatchBuilder) -> None:
    indices = np.arange(ROWS)
    item = builder.build(indices, _media(indices), 0)
    rows = torch.arange(ROWS)
    at = torch.stack([rows, item.batch.encoded.slots[:, 0]], 1)
    logits = backbone(item.batch, at).logits
    ids = torch.tensor(backbone.token_ids(READOUT.words()))
    support = torch.from_numpy(READOUT.support).float()
    kl = soft_label_kl(logits, ids, item.targets.float(), item.weights)
    alone = _objective(backbone, next_token=0, soft_label=1)
    assert float(_loss(backbone, alone, item)) == pytest.approx(float(kl), rel=1e-5)
    mean, std = score_moments(logits[:, ids].softmax(-1), support)
    rank = fidelity_loss(
        mean, item.mos.float(), item.sets, item.weights, std=std, mos_std=item.mos_std.float()
    )
    every = _objective(backbone, next_token=0, fidelity=1, pairs="all")
    assert float(_loss(backbone, every, item)) == pytest.approx(float(rank), rel=1e-5)


def test_soft_labels_take_the_level_out_of_next_token(
    backbone: Pocket, builder: BatchBuilder
) -> None:
    """The positions that next-token CE reads hold the slot without them, and not with them."""
    indices = np.arange(ROWS)
    item = builder.build(indices, _media(indices), 0)
    for config, moves in ((DEQA, False), ({}, True)):
        objective = _objective(backbone, **{**config, "fidelity": 0.0})
        positions = objective.positions(item)
        slots = (positions[:, 1] == item.batch.encoded.slots[positions[:, 0], 0]).clone()
        slots[-ROWS:] = False  # those are where soft labels are read, not next tokens
        assert bool(slots.any()) == moves


def test_pairs_of_two_sets_and_fillers_count_nothing(
    backbone: Pocket, builder: BatchBuilder
) -> None:
    objective = _objective(backbone, next_token=0, fidelity=1)
    for indices in (np.array([0, 4]), np.array([0, FILLER])):
        item = builder.build(indices, _media(indices), 0)
        assert float(objective.counts(item)[2]) == 0
        assert float(_loss(backbone, objective, item)) == 0


@pytest.mark.parametrize("readout", [LevelReadout(), ScoreTokenReadout()], ids=["eq_3", "eq_6"])
def test_only_coupled_text_pulls_an_exact_score_away(readout: Readout) -> None:
    """ROC4MLLM's Eq. 3 and Eq. 6 are one objective, next_token 1 and smooth_l1 1, on two readouts.

    The predicted score is people's, so that its loss has no gradient, and the text is as sure as
    it can be. Its target at the slot is one of the scored words in Eq. 3 and pulls by ``q - 1``
    there and ``q`` at the others; in Eq. 6 it is the position token and leaves them alone.
    """
    backbone = Pocket(PocketConfig(image_size=64, hidden_size=16), default_tokenizer())
    backbone.add_tokens(readout.new_tokens())
    row = Opinion("image", "quality", 3.4, Scale(1, 5), "quality", 1.0, 0.6, 0)
    blank = torch.zeros(1, Tower.width)
    builder = BatchBuilder(backbone, {"quality": readout}, [row], "brief", 0, blank)
    item = builder.build(np.array([0]), [Looked(states=blank)], 0)
    ids, support = backbone.token_ids(readout.words()), torch.from_numpy(readout.support)
    objective = Objective(ObjectiveConfig(next_token=1, smooth_l1=1), ids, support)

    shares = (1 - (support - item.scores).abs()).clamp_min(1e-9)  # of the two words beside it
    positions = objective.positions(item)
    at_slot = (positions == positions[-1]).all(1).nonzero()[:, 0]  # as a text and as a score
    logits = torch.full((len(positions), backbone.spec.vocabulary), -40.0)
    logits[at_slot[:, None], torch.tensor(ids)] = shares.log().float()
    if readout.new_tokens():
        logits[at_slot, backbone.token_ids(["[SCORE]"])[0]] = 40.0
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(objective(logits, item), logits)
    pulled = gradient[at_slot][:, ids].sum(0) * float(objective.counts(item)[0])
    expected = torch.zeros(len(ids))
    if not readout.new_tokens():
        expected[2:4] = torch.tensor([0.5 - 1, 0.5])  # "fair" is written; 3.5 lies between
    torch.testing.assert_close(pulled, expected, atol=1e-5, rtol=0)
