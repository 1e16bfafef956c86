"""Rows: what is supervised, where a slot is predicted, how media are expanded."""

from pathlib import Path

import pytest
import torch

from beholder.backbones import MediaShape
from beholder.backbones.contract import IGNORED
from beholder.backbones.pocket.preprocess import EOS, PocketText, default_tokenizer, make_tokenizer
from beholder.backbones.vicuna import VicunaText
from beholder.conversations import Conversation, Slot, Text, Turn, scoring, training
from beholder.opinions import LEVEL_WORDS

TOKENS = 3
PICTURE, CLIP = MediaShape(1, 8, 8), MediaShape(2, 8, 8)


@pytest.fixture(scope="module")
def text() -> PocketText:
    return PocketText(default_tokenizer(), TOKENS)


def test_only_the_answer_is_supervised(text: PocketText) -> None:
    answer = (Slot("quality", " good"),)
    encoded = text.encode([training("training", "quality", "image", 0, answer, 0)], [PICTURE])
    supervised = encoded.labels[0][encoded.labels[0] != IGNORED].tolist()
    words = ["The", "quality", "of", "the", "image", "is", "good"]
    period = supervised[-2]
    assert supervised == [*text.token_ids(words), period, EOS]
    at = encoded.labels[0] != IGNORED
    assert torch.equal(encoded.labels[0][at], encoded.ids[0][at])


def test_a_slot_is_the_position_that_predicts_its_word(text: PocketText) -> None:
    rows = [
        training("brief", "aesthetics", "video", 0, (Slot("", f" {word}"),), i)
        for i, word in enumerate(LEVEL_WORDS)
    ]
    encoded = text.encode(rows, [CLIP])
    following = encoded.ids[torch.arange(5), encoded.slots[:, 0] + 1]
    assert following.tolist() == text.token_ids(LEVEL_WORDS)


def test_an_open_slot_is_predicted_by_the_last_position(text: PocketText) -> None:
    rows = [scoring("scorer", "quality", "image", 0), scoring("scorer", "aesthetics", "image", 0)]
    encoded = text.encode(rows, [PICTURE])
    assert torch.equal(encoded.slots[:, 0], encoded.lengths - 1)


def test_an_unanswered_question_is_read_at_its_last_token(text: PocketText, golden: Path) -> None:
    """The colon of ``ASSISTANT:``, in which the word of a filled slot is predicted, too.

    With the real tokenizer a space behind the colon would be a token of its own, 29871.
    """
    vicuna = VicunaText((golden.parent / "llama_tokenizer.json").read_text("utf-8"), TOKENS, 1, 2)
    for tokenizer in (text, vicuna):
        conversations = [
            scoring("unanswered", "quality", "image", 0),
            training("unanswered", "quality", "image", 0, (Slot("quality", " good"),), 0),
        ]
        opened, filled = (tokenizer.encode([one], [PICTURE]) for one in conversations)
        at = int(opened.slots[0, 0])
        assert at == int(opened.lengths[0]) - 1 == int(filled.slots[0, 0])
        assert torch.equal(opened.ids[0, : at + 1], filled.ids[0, : at + 1])
        assert (opened.labels == IGNORED).all()
        assert filled.ids[0, at + 1].tolist() == tokenizer.token_ids(["good"])[0]
    assert int(opened.ids[0, -1]) == 29901  # the colon, as in Q-Align's 13566 29901


def test_media_take_their_tokens_and_may_be_shared(text: PocketText) -> None:
    rows = [scoring("brief", "quality", "video", 1), scoring("brief", "quality", "image", 0)]
    encoded = text.encode([*rows, rows[0]], [PICTURE, CLIP])
    for row, source in ((0, range(3, 9)), (1, range(3)), (2, range(3, 9))):
        here = encoded.splice.row == row
        assert encoded.splice.source[here].tolist() == list(source)
        columns = encoded.splice.column[here]
        assert encoded.modality[row].nonzero()[:, 0].tolist() == columns.tolist()


def test_conversations_without_slots_keep_integer_slots(text: PocketText) -> None:
    row = Conversation((Turn("user", (Text("hello"),)),))
    assert text.encode([row], []).slots.dtype == torch.int64


def test_a_word_that_the_tokenizer_splits_is_named(text: PocketText) -> None:
    with pytest.raises(ValueError, match="'flabbergasting' into"):
        text.token_ids(["good", "flabbergasting"])


def test_nothing_may_follow_an_open_slot() -> None:
    with pytest.raises(ValueError, match="'quality' is not filled"):
        Conversation((Turn("assistant", (Slot("quality"), Text("."))),))


def test_the_shipped_vocabulary_is_the_one_that_the_code_makes() -> None:
    assert make_tokenizer() == default_tokenizer()


def test_a_medium_that_is_not_in_the_batch_is_named(text: PocketText) -> None:
    with pytest.raises(ValueError, match="conversation 0 shows medium 1, but the batch has 1"):
        text.encode([scoring("brief", "quality", "image", 1)], [PICTURE])
