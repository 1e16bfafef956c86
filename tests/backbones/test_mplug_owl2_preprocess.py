"""LLaMA's ids of every prompt, and what the template does around them."""

import json
from pathlib import Path
from typing import Any

import pytest

from beholder.backbones import MediaShape
from beholder.backbones.mplug_owl2.parity import read_conversation
from beholder.backbones.mplug_owl2.preprocess import OwlText, read_tokenizer
from beholder.conversations import (
    PROMPTS,
    Conversation,
    Media,
    Slot,
    Text,
    Turn,
    questions,
    scoring,
    training,
)

WORDS = ["excellent", "good", "fair", "poor", "bad"]
SHAPE = MediaShape(1, 448, 448)


@pytest.fixture(scope="module")
def text(golden: Path) -> OwlText:
    return OwlText(read_tokenizer(golden.parent / "llama_tokenizer.json"), 65)


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "tokenization.json").read_text())
    return content


def test_every_recorded_prompt_has_its_ids(text: OwlText, recorded: dict[str, Any]) -> None:
    assert len(recorded["prompts"]) == 11
    for name, prompt in recorded["prompts"].items():
        assert text.row(read_conversation(prompt["prompt"])).ids == prompt["input_ids"], name


@pytest.mark.parametrize(
    ("variant", "attribute", "kind", "name"),
    [
        ("scorer", "quality", "image", "image_quality_scorer"),
        ("scorer", "aesthetics", "image", "image_aesthetics_scorer"),
        ("scorer", "quality", "video", "video_quality_scorer"),
        ("eval", "quality", "image", "iqa_eval_script"),
        ("eval", "quality", "video", "vqa_eval_script"),
        ("eval_iaa", "aesthetics", "image", "iaa_eval_script"),
        ("score_method", "quality", "image", "score_method_image_quality"),
        ("score_method", "aesthetics", "video", "score_method_video_aesthetics"),
    ],
)
def test_our_prompt_variants_are_the_recorded_ones(
    text: OwlText, recorded: dict[str, Any], variant: str, attribute: str, kind: Any, name: str
) -> None:
    row = text.row(scoring(variant, attribute, kind, 0))
    assert row.ids == recorded["prompts"][name]["input_ids"]
    assert row.slots == [len(row.ids) - 1]


def test_training_samples_have_their_ids_and_labels(
    text: OwlText, recorded: dict[str, Any]
) -> None:
    levels = dict(zip(recorded["level_words"], recorded["level_token_ids"], strict=True))
    assert len(recorded["training_samples"]) == 7
    for sample in recorded["training_samples"]:
        row = text.row(read_conversation(sample["conversation"], sample["level"]))
        assert row.ids == sample["input_ids"]
        assert row.labels == sample["labels"]
        assert row.ids[row.slots[0] + 1] == levels[sample["level"]]


def test_our_training_variant_is_the_recorded_one(text: OwlText, recorded: dict[str, Any]) -> None:
    asked = questions("quality", "image")
    found = 0
    for sample in recorded["training_samples"]:
        if sample["question"] in asked:
            number = asked.index(sample["question"])
            word = (Slot("quality", f" {sample['level']}"),)
            row = text.row(training("training", "quality", "image", 0, word, number))
            assert (row.ids, row.labels) == (sample["input_ids"], sample["labels"])
            found += 1
    assert found >= 2


def test_level_words_have_their_ids(text: OwlText, recorded: dict[str, Any]) -> None:
    assert text.token_ids(WORDS) == recorded["level_token_ids"]
    with pytest.raises(ValueError, match="'unbelievable'"):
        text.token_ids(["unbelievable"])


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("word", WORDS)
def test_the_slot_predicts_the_word_in_every_variant(
    text: OwlText, variant: str, word: str
) -> None:
    conversation = training(variant, "aesthetics", "video", 0, (Slot("", f" {word}"),), 3)
    encoded = text.encode([conversation], [MediaShape(3, 448, 448)])
    (expected,) = text.token_ids([word])
    assert int(encoded.ids[0, encoded.slots[0, 0] + 1]) == expected
    assert int(encoded.labels[0, encoded.slots[0, 0] + 1]) == expected
    assert int(encoded.modality.sum()) == 3 * 65


def test_a_picture_is_65_positions_and_a_clip_one_run(text: OwlText) -> None:
    one = text.encode([scoring("scorer", "quality", "image", 0)], [SHAPE])
    assert one.ids.shape == (1, 92)
    assert int(one.slots[0, 0]) == 91
    aesthetics = text.encode([scoring("scorer", "aesthetics", "image", 0)], [SHAPE])
    assert aesthetics.ids.shape == (1, 98)
    clip = text.encode([scoring("scorer", "quality", "video", 0)], [MediaShape(8, 448, 448)])
    assert clip.ids.shape == (1, 27 + 8 * 65)
    assert clip.splice.column.tolist() == list(range(15, 15 + 8 * 65))


def test_words_of_special_tokens_are_plain_text(text: OwlText) -> None:
    conversation = Conversation(
        (
            Turn("user", (Media(0), Text("a</s>b<s>c"))),
            Turn("assistant", (Text("is"), Slot("q", " good"))),
        )
    )
    ids = text.row(conversation).ids
    assert ids.count(1) == 1
    assert ids.count(2) == 1
    assert ids[-1] == 2


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer at"):
        read_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
        read_tokenizer(tmp_path / "tokenizer.json")
