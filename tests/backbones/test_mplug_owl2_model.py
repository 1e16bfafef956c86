"""The model against recorded numbers, and what must hold of any batch."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from beholder.backbones import Batch, MediaShape
from beholder.backbones.contract import IGNORED
from beholder.backbones.loading import load_weights
from beholder.backbones.mplug_owl2.golden import GoldenSet, read_batch
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.conversations import Conversation, Media, Slot, Text, Turn, scoring, training

TINY = "tiny_mplug_owl2"


@pytest.fixture(scope="module")
def config(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / TINY / "config.json").read_text())
    return content


@pytest.fixture(scope="module")
def recorded(golden: Path) -> GoldenSet:
    return GoldenSet(golden)


@pytest.fixture
def model(golden: Path, config: dict[str, Any]) -> MplugOwl2:
    made = MplugOwl2.from_config(config, golden.parent / "tiny_tokenizer.json").eval()
    load_weights(made, golden / TINY)
    return made


def slots(batch: Batch) -> torch.Tensor:
    return torch.stack([torch.arange(len(batch.encoded.ids)), batch.encoded.slots[:, 0]], dim=1)


def pictures(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 56, 56, 3), generator=generator, dtype=torch.uint8)


def answer_loss(model: MplugOwl2, batch: Batch) -> torch.Tensor:
    row, column = torch.nonzero(batch.encoded.labels != IGNORED, as_tuple=True)
    logits = model(batch, torch.stack([row, column - 1], dim=1)).logits
    return F.cross_entropy(logits, batch.encoded.labels[row, column])


def train_batch(recorded: GoldenSet) -> Batch:
    return read_batch(recorded, "train_ce")


def test_a_conversation_gives_the_recorded_score(model: MplugOwl2, recorded: GoldenSet) -> None:
    shapes = [MediaShape(1, 56, 56)] * 2
    conversations = [scoring("scorer", "quality", "image", i) for i in range(2)]
    batch = Batch(model.encode(conversations, shapes), shapes, pixels=recorded.pictures[:2])
    ids = model.token_ids(["excellent", "good", "fair", "poor", "bad"])
    assert ids == recorded.levels
    with torch.no_grad():
        closed = model(batch, slots(batch)).logits[:, ids].softmax(-1)
    scores = closed @ torch.tensor([5.0, 4, 3, 2, 1])
    assert np.allclose(scores, recorded.array("batch2_quality", "score_1_5"), atol=1e-4)


def test_scores_depend_on_no_neighbour_order_or_padding(model: MplugOwl2) -> None:
    frames = [1, 3, 2]
    pixels = pictures(6)
    asked = [
        scoring("scorer", "quality", "image", 0),
        scoring("scorer", "aesthetics", "video", 1),
        scoring("eval_iaa", "aesthetics", "video", 2),
    ]
    shapes = [MediaShape(n, 56, 56) for n in frames]
    together = Batch(model.encode(asked, shapes), shapes, pixels=pixels)
    reverse = Batch(model.encode(asked[::-1], shapes), shapes, pixels=pixels)
    assert len(set(together.encoded.lengths.tolist())) == 3
    with torch.no_grad():
        logits = model(together, slots(together)).logits
        backwards = model(reverse, slots(reverse)).logits.flip(0)
        alone = []
        for i, start in enumerate((0, 1, 4)):
            turns = scoring_with_first_medium(asked[i])
            shape = [shapes[i]]
            one = Batch(model.encode([turns], shape), shape, pixels[start : start + frames[i]])
            alone.append(model(one, slots(one)).logits[0])
    assert torch.allclose(logits, backwards, atol=1e-5)
    assert torch.allclose(logits, torch.stack(alone), atol=1e-5)


def scoring_with_first_medium(conversation: Conversation) -> Conversation:
    """The same conversation as the only one of its batch."""
    turns = tuple(
        Turn(t.role, tuple(Media(0) if isinstance(p, Media) else p for p in t.parts))
        for t in conversation.turns
    )
    return Conversation(turns, conversation.system, conversation.separator)


def test_two_tasks_share_one_look(model: MplugOwl2) -> None:
    shapes = [MediaShape(1, 56, 56)]
    tasks = [scoring("scorer", task, "image", 0) for task in ("quality", "aesthetics")]
    shared = Batch(model.encode(tasks, shapes), shapes, pixels=pictures(1))
    with torch.no_grad():
        logits = model(shared, slots(shared)).logits
        states = model.vision(shared.pixels)
        features = model.project(states, shapes)
        for given in ({"states": states}, {"features": features}):
            batch = Batch(shared.encoded, shapes, **given)
            assert torch.equal(model(batch, slots(batch)).logits, logits)
        one = Batch(model.encode(tasks[1:], shapes), shapes, features=features)
        assert torch.allclose(model(one, slots(one)).logits, logits[1:], atol=1e-5)


def test_frames_must_be_as_many_as_the_shapes_say(model: MplugOwl2) -> None:
    with pytest.raises(ValueError, match="3 frames were given but the media have 2"):
        model.embed(pictures(3), [MediaShape(2, 56, 56)])


def test_the_head_runs_at_the_asked_positions_only(model: MplugOwl2) -> None:
    shapes = [MediaShape(2, 56, 56)]
    batch = Batch(
        model.encode([scoring("scorer", "quality", "video", 0)], shapes), shapes, pictures(2)
    )
    seen = []
    model.lm_head.register_forward_hook(lambda module, given, made: seen.append(made.shape))
    read = model(batch, slots(batch))
    assert seen == [(1, 512)]
    assert read.hidden.shape == (1, 64)
    assert read.logits.dtype == torch.float32


def test_gradients_are_the_recorded_ones(
    golden: Path, model: MplugOwl2, recorded: GoldenSet
) -> None:
    norms = json.loads((golden / "grad_norms.json").read_text())["train_ce"]
    answer_loss(model, train_batch(recorded)).backward()
    parameters = dict(model.named_parameters())
    buffers = {name for name, _ in model.named_buffers()}
    assert parameters.keys() == norms.keys() - buffers
    unread = f"layers.{len(model.model.layers) - 1}.post_attention_layernorm.multiway.1.weight"
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        # A shift of all keys alike moves no softmax: its true gradient is zero.
        if name.endswith("crossattention.attention.key.bias"):
            continue
        ours = float(parameter.grad.norm())
        # Nobody reads what the last layer's MLP makes of media.
        assert (ours > 0) == (not name.endswith(unread)), name
        assert ours == pytest.approx(norms[name], rel=1e-4, abs=1e-6), name


def test_checkpointing_recomputes_and_changes_no_gradient(
    model: MplugOwl2, recorded: GoldenSet
) -> None:
    plain = copy.deepcopy(model)
    plain_loss = answer_loss(plain, train_batch(recorded))
    plain_loss.backward()
    calls = []
    for layers in (
        model.model.layers,
        model.model.vision_model.encoder.layers,
        model.model.visual_abstractor.encoder.layers,
    ):
        # Not a hook after the layer: recomputing stops as soon as it has what it needs.
        layers[0].register_forward_pre_hook(lambda module, given: calls.append(type(module)))
    model.gradient_checkpointing = True
    loss = answer_loss(model, train_batch(recorded))
    assert len(calls) == 3
    loss.backward()
    assert len(calls) == 6
    assert torch.equal(loss, plain_loss)
    for (name, ours), (_, theirs) in zip(
        model.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert ours.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name


def test_a_picture_that_no_row_names_still_runs_every_part(model: MplugOwl2) -> None:
    words = Conversation(
        (Turn("user", (Text("How are you?"),)), Turn("assistant", (Text("is"), Slot("a", " good"))))
    )
    shapes = [MediaShape(1, 56, 56)]
    batch = Batch(model.encode([words], shapes), shapes, pixels=pictures(1))
    answer_loss(model, batch).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert float(model.model.vision_model.post_layernorm.weight.grad.abs().sum()) == 0.0
    assert float(model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum()) > 0.0


def test_a_row_learns_only_at_its_answer(model: MplugOwl2) -> None:
    shapes = [MediaShape(1, 56, 56)]
    answer = (Slot("quality", " good"),)
    encoded = model.encode([training("training", "quality", "image", 0, answer, 1)], shapes)
    supervised = encoded.labels[0] != IGNORED
    assert int(supervised.sum()) == 9  # 6 of the prefix, the word, the stop, the end
    good = model.token_ids(["good"])[0]
    assert int(encoded.labels[0, encoded.slots[0, 0] + 1]) == good


def test_fewer_key_heads_equal_repeated_ones(config: dict[str, Any], recorded: GoldenSet) -> None:
    torch.manual_seed(0)
    grouped = MplugOwl2(config | {"num_key_value_heads": 2}).eval()
    full = MplugOwl2(config).eval()
    state = grouped.state_dict()
    for name, tensor in state.items():
        if ".k_proj." in name or ".v_proj." in name:
            state[name] = tensor.unflatten(0, (2, 16)).repeat_interleave(2, dim=0).flatten(0, 1)
    full.load_state_dict(state)
    batch = train_batch(recorded)
    with torch.no_grad():
        assert torch.allclose(answer_loss(grouped, batch), answer_loss(full, batch), atol=1e-6)


def test_half_precision_stays_close(model: MplugOwl2, recorded: GoldenSet) -> None:
    batch = read_batch(recorded, "batch2_quality")
    model.to(torch.bfloat16)
    with torch.no_grad():
        logits = model(batch, slots(batch)).logits
    closed = logits[:, recorded.levels].softmax(-1) @ torch.tensor([5.0, 4, 3, 2, 1])
    # The released code itself is .05 off in bfloat16 on these weights.
    assert np.allclose(closed, recorded.array("batch2_quality", "score_1_5"), atol=0.1)


def test_fresh_position_tables_are_the_released_ones(
    config: dict[str, Any], recorded: GoldenSet
) -> None:
    fresh = MplugOwl2(config)
    stored = dict(recorded.model.named_buffers())
    for name, table in fresh.named_buffers():
        assert torch.allclose(table, stored[name], atol=1e-6), name


def test_without_a_tokenizer_it_cannot_encode(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="made without a tokenizer"):
        MplugOwl2(config).token_ids(["good"])


def test_it_has_no_start_of_its_own(model: MplugOwl2) -> None:
    with pytest.raises(ValueError, match="converted checkpoint"):
        model.initialise()


def test_a_tokenizer_of_another_model_is_refused(golden: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="vocab_size is 512"):
        MplugOwl2.from_config(config, golden.parent / "llama_tokenizer.json")
