"""New tokens on both backbones: one token each, rows that start as the mean of the old ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from beholder.backbones import Backbone, Batch, MediaShape
from beholder.backbones.loading import load_weights, make_backbone
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.backbones.vocabulary import append_mean_rows, lacking_words, with_words
from beholder.conversations import Conversation, Media, Part, Slot, Text, Turn, scoring, training
from beholder.opinions import Scale
from beholder.readouts import LevelReadout, ScoreTokenReadout

NEW = ("[SCORE]", "[IMG0]", "[IMG1]", "[IMG10]")
OUTPUT = "lm_head.weight"


def _pocket(golden: Path) -> Backbone:
    torch.manual_seed(0)
    config = PocketConfig(image_size=56, hidden_size=16, dropout=0.0)
    return Pocket(config, default_tokenizer()).eval()


def _owl(golden: Path) -> Backbone:
    folder = golden / "tiny_mplug_owl2"
    config = json.loads((folder / "config.json").read_text("utf-8"))
    made = MplugOwl2.from_config(config, golden.parent / "tiny_tokenizer.json")
    load_weights(made, folder)
    return made.eval()


@pytest.fixture(params=[_pocket, _owl], ids=["pocket", "mplug_owl2"])
def make(request: pytest.FixtureRequest, golden: Path) -> Callable[[], Backbone]:
    """The same backbone at every call."""
    return lambda: request.param(golden)


def _rows(backbone: Backbone) -> list[torch.Tensor]:
    state = backbone.state_dict()
    inside = next(name for name in state if name.endswith("embed_tokens.weight"))
    return [state[inside], state[OUTPUT]]


def _logits(backbone: Backbone, conversations: list[Conversation]) -> torch.Tensor:
    shapes = [MediaShape(1, 56, 56)]
    pixels = torch.randint(
        0, 256, (1, 56, 56, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    encoded = backbone.encode(conversations, shapes)
    at = torch.stack([torch.arange(len(conversations)), encoded.slots[:, -1]], 1)
    with torch.no_grad():
        return backbone(Batch(encoded, shapes, pixels=pixels), at).logits


def test_new_rows_are_the_mean_of_the_old_ones_only(make: Callable[[], Backbone]) -> None:
    old, grown = make(), make()
    assert grown.add_tokens(NEW) == list(NEW)
    for before, after in zip(_rows(old), _rows(grown), strict=True):
        assert torch.equal(after[: len(before)], before)
        expected = before.mean(0).expand(len(NEW), -1)
        torch.testing.assert_close(after[len(before) :], expected, rtol=0, atol=1e-7)
        assert before.mean(0).abs().max() > 1e-4, "a mean of zeros would prove nothing"


def test_each_is_one_token_wherever_it_stands(make: Callable[[], Backbone]) -> None:
    backbone = make()
    first = len(_rows(backbone)[0])
    backbone.add_tokens(NEW)
    assert backbone.token_ids(NEW) == list(range(first, first + len(NEW)))
    assert backbone.spec.vocabulary == first + len(NEW) == len(_rows(backbone)[0])
    for text in ("{}", "is {}", "is {}.", "x{}y", "{}{}", "({})", "is\n{}", "  {} is"):
        for word in NEW:
            turn = Turn("user", (Text(text.replace("{}", word)),))
            ids = backbone.encode([Conversation((turn,))], []).ids[0].tolist()
            assert ids.count(backbone.token_ids([word])[0]) == text.count("{}"), text
            assert sum(i >= first for i in ids) == text.count("{}"), text


def test_words_that_it_has_are_not_added_again(make: Callable[[], Backbone]) -> None:
    backbone = make()
    backbone.add_tokens(NEW[:2])
    rows = len(_rows(backbone)[0])
    assert backbone.add_tokens(NEW) == list(NEW[2:])
    assert backbone.add_tokens(NEW) == backbone.add_tokens(()) == []
    assert len(_rows(backbone)[0]) == rows + 2
    assert len(set(backbone.token_ids(NEW))) == len(NEW)


def test_nothing_else_changes(make: Callable[[], Backbone]) -> None:
    asked = [training("scorer", "quality", "image", 0, (Slot("quality", " good"),), 0)]
    old, grown = make(), make()
    grown.add_tokens(NEW)
    before, after = _logits(old, asked), _logits(grown, asked)
    torch.testing.assert_close(after[:, : before.shape[1]], before)
    shapes = [MediaShape(1, 56, 56)]
    assert torch.equal(old.encode(asked, shapes).ids, grown.encode(asked, shapes).ids)
    assert set(grown.config()) == set(old.config())


def test_the_files_make_the_same_backbone_again(
    make: Callable[[], Backbone], tmp_path: Path
) -> None:
    backbone = make()
    backbone.add_tokens(NEW)
    (tmp_path / "tokenizer.json").write_text(backbone.tokenizer_json(), "utf-8")
    again = make_backbone(json.loads(json.dumps(backbone.config())), tmp_path / "tokenizer.json")
    again.load_state_dict(backbone.state_dict())
    assert again.token_ids(NEW) == backbone.token_ids(NEW)
    assert again.tokenizer_json() == backbone.tokenizer_json()
    asked = [scoring("scorer", "quality", "image", 0)]
    assert torch.equal(_logits(again.eval(), asked), _logits(backbone, asked))


@pytest.mark.parametrize("prompt", ["scorer", "training", "brief", "eval_iaa"])
def test_the_word_before_predicts_it_in_training_and_scoring(
    make: Callable[[], Backbone], prompt: str
) -> None:
    """An open slot ends with the word before: a lone space would stand between in LLaMA."""
    backbone = make()
    backbone.add_tokens(NEW)
    shapes = [MediaShape(1, 56, 56)]
    shown = training(prompt, "quality", "image", 0, (Slot("quality", " [SCORE]"),), 0)
    taught = backbone.encode([shown], shapes)
    asked = backbone.encode([scoring(prompt, "quality", "image", 0)], shapes)
    slot = int(taught.slots[0, 0])
    assert taught.ids[0, slot + 1] == taught.labels[0, slot + 1] == backbone.token_ids(NEW)[0]
    assert slot == int(asked.slots[0, 0]) == int(asked.lengths[0]) - 1
    assert torch.equal(taught.ids[0, : slot + 1], asked.ids[0])


def test_several_slots_in_a_sentence(make: Callable[[], Backbone]) -> None:
    """What is read at the second depends on words, never on what the first was taught."""
    backbone = make()
    backbone.add_tokens(NEW)
    position, good, bad = backbone.token_ids(["[SCORE]", "good", "bad"])

    def row(*first: Part) -> Conversation:
        told = (Text("The quality is"), *first, Text(", the aesthetics is"))
        answer = (*told, Slot("aesthetics", " [SCORE]"), Text("."))
        return Conversation((Turn("user", (Media(0),)), Turn("assistant", answer)))

    shapes = [MediaShape(1, 56, 56)]
    words = [Slot("quality", f" {word}") for word in ("[SCORE]", "good", "bad")]
    encoded = backbone.encode([row(word) for word in words], shapes)
    following = encoded.ids.gather(1, encoded.slots + 1)
    assert following.tolist() == [[position] * 2, [good, position], [bad, position]]
    # Position tokens say nothing of the score; level words in their place do.
    for readout, moves in ((ScoreTokenReadout(4), False), (LevelReadout(), True)):
        told = [row(*readout.answer("quality", mos, Scale(1, 10))) for mos in (1.5, 9.5)]
        after_low, after_high = _logits(backbone, told)
        assert ((after_low - after_high).abs().max() > 1e-6) == moves


def test_a_vocabulary_with_gaps_gives_the_ids_that_are_asked(golden: Path) -> None:
    """390 pieces with ids below 512: counted on, 390 would be another piece's."""
    text = (golden.parent / "tiny_tokenizer.json").read_text("utf-8")
    assert Tokenizer.from_str(text).get_vocab_size() == 390
    grown = Tokenizer.from_str(with_words(text, NEW, 512))
    assert [grown.token_to_id(word) for word in NEW] == [512, 513, 514, 515]
    assert lacking_words(text, [*NEW, NEW[0], "</s>", "▁good"]) == list(NEW)
    assert lacking_words(with_words(text, NEW, 512), NEW) == []


def test_rows_keep_type_and_freedom_and_are_averaged_exactly() -> None:
    layer = torch.nn.Linear(8, 3000, bias=False, dtype=torch.bfloat16)
    torch.nn.init.constant_(layer.weight, 1.01)
    layer.weight.data[0] = -2.0
    layer.weight.requires_grad_(False)
    expected = layer.weight.float().mean(0).bfloat16()
    append_mean_rows(layer, 2)
    assert layer.weight.dtype == torch.bfloat16
    assert not layer.weight.requires_grad
    assert layer.out_features == len(layer.weight) == 3002
    assert torch.equal(layer.weight[3000:], expected.expand(2, -1))
