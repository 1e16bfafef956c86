"""Numbers in real tokenizers: a digit is read where it was taught, or refused by name."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from beholder.backbones import Backbone, Encoded, MediaShape
from beholder.backbones.mplug_owl2.preprocess import OwlText
from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.backbones.vicuna import VicunaText
from beholder.conversations import PROMPTS, scoring, training
from beholder.opinions import Scale
from beholder.readouts import DigitReadout
from beholder.readouts.numbers import Numbers

SHAPES = [MediaShape(1, 8, 8)]


@pytest.fixture(params=["llama_tokenizer.json", "tiny_tokenizer.json", "pocket"])
def text(request: pytest.FixtureRequest, golden: Path) -> VicunaText:
    if request.param == "pocket":
        return VicunaText(default_tokenizer(), 3, 1, 2)
    return OwlText((golden.parent / request.param).read_text("utf-8"), 3)


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_every_number_is_its_digits(text: VicunaText, digits: int) -> None:
    ids = Numbers(digits).token_ids(text)  # type: ignore[arg-type]
    tokens = [Tokenizer.from_str(text.json).id_to_token(one) for one in ids]
    assert tokens == list("0123456789")


def test_llama_has_the_recorded_ids(golden: Path) -> None:
    """LLaMA's ids of the digits are 29896..29929, of 0 29900 and of a lone space 29871."""
    text = OwlText((golden.parent / "llama_tokenizer.json").read_text("utf-8"), 3)
    ids = Numbers(3).token_ids(text)  # type: ignore[arg-type]
    assert ids == [29900, 29896, 29906, 29941, 29946, 29945, 29953, 29955, 29947, 29929]


def _same(taught: Encoded, slot: int, asked: Encoded) -> bool:
    at = int(taught.slots[0, slot])
    same_place = at == int(asked.slots[0, 0]) == int(asked.lengths[0]) - 1
    return same_place and torch.equal(taught.ids[0, : at + 1], asked.ids[0])


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_digit_is_read_where_it_was_taught(text: VicunaText, prompt: str) -> None:
    answer = DigitReadout().answer("quality", 3.99, Scale(0, 10))
    taught = text.encode([training(prompt, "quality", "image", 0, answer, 0)], SHAPES)
    following = taught.ids.gather(1, taught.slots + 1)
    assert torch.equal(following, taught.labels.gather(1, taught.slots + 1))
    assert taught.slots.shape == (1, 3)
    for slot, written in enumerate((" ", " 3.", " 3.9")):
        asked = scoring(prompt, "quality", "image", 0, written=written)
        assert _same(taught, slot, text.encode([asked], SHAPES)), written
    asked = scoring(prompt, "quality", "image", 0)
    assert not _same(taught, 0, text.encode([asked], SHAPES)), "the lone space would be missing"


def _pocket(tokenizer: str) -> Backbone:
    return Pocket(PocketConfig(image_size=64, hidden_size=8), tokenizer)


def _bpe(numbers: list[str], lone_space: bool = True) -> str:
    """A byte-level BPE that has seen some numbers often enough to merge them."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.ByteLevel(False, use_regex=not lone_space)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(numbers * 9, trainer)
    return tokenizer.to_str()


@pytest.mark.parametrize(
    ("tokenizer", "sentence"),
    [
        (_bpe(["99"]), "does not write '0.99' with one token a digit"),
        (_bpe([".9"]), r"does not write '0\.90'"),  # "3", ".9", "9", the paper's own example
        (_bpe(["9.9"]), r"does not write '\d\.\d\d'"),
        (_bpe(["9."]), r"does not write '\d\.\d\d'"),  # would swallow the sentence's end
        (_bpe([" 3"], lone_space=False), r"does not write '3\.00'"),  # as GPT-2 does
    ],
)
def test_a_tokenizer_that_merges_digits_is_refused_by_name(tokenizer: str, sentence: str) -> None:
    backbone = _pocket(tokenizer)
    with pytest.raises(ValueError, match=sentence + ".*levels or score_tokens"):
        DigitReadout().token_ids(backbone)


def test_words_without_digits_are_refused() -> None:
    """A vocabulary that knows no 7."""
    content = json.loads(default_tokenizer())
    content["model"]["unk_token"] = "<pad>"
    for lost in "78":
        content["model"]["vocab"][f"<{lost}>"] = content["model"]["vocab"].pop(lost)
    with pytest.raises(ValueError, match=r"does not write '\d\.\d\d'"):
        DigitReadout().token_ids(_pocket(json.dumps(content)))
