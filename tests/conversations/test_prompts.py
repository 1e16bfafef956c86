"""The five prompt variants, letter by letter."""

import pytest

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

GOOD, FAIR = (Slot("quality", " good"),), (Slot("quality", " fair"),)
ASK = "How would you rate the quality of this image?"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


def written(conversation: Conversation) -> str:
    """The conversation in the released template, media as ``<|image|>``, slots filled or as []."""
    said = []
    for turn in conversation.turns:
        words = "".join(
            part.text
            if isinstance(part, Text)
            else "<|image|>"
            if isinstance(part, Media)
            else part.text or "[]"
            for part in turn.parts
        )
        name = {"user": "USER", "assistant": "ASSISTANT"}[turn.role]
        said.append(f"{name}: {words}")
    head = f"{conversation.system} " if conversation.system else ""
    return head + conversation.separator.join(said)


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ("scorer", f"USER: {ASK}\n<|image|>\nASSISTANT: The quality of the image is[]"),
        ("eval", f"USER: {ASK}\n<|image|> ASSISTANT: The quality of the image is[]"),
        ("eval_iaa", f"USER: <|image|>{ASK} ASSISTANT: The quality of the image is[]"),
        ("score_method", f"USER: {ASK}\n<|image|>\nASSISTANT: The image of the quality is[]"),
        ("training", f"{SYSTEM} USER: <|image|>\n{ASK} ASSISTANT: The quality of the image is[]"),
        ("unanswered", f"USER: <|image|>\n{ASK} ASSISTANT: []"),
    ],
)
def test_variants(variant: str, text: str) -> None:
    assert written(scoring(variant, "quality", "image", 0)) == text


def test_the_five_in_use_are_there_and_two_of_ours() -> None:
    released = {"scorer", "eval", "eval_iaa", "score_method", "training"}
    assert set(PROMPTS) == released | {"brief", "unanswered"}


def test_words_change_with_task_and_kind() -> None:
    assert written(scoring("scorer", "aesthetics", "image", 0)) == (
        "USER: How would you rate the aesthetics of this image?\n<|image|>\n"
        "ASSISTANT: The aesthetics of the image is[]"
    )
    assert written(scoring("score_method", "quality", "video", 0)).endswith(
        "The video of the quality is[]"
    )


def test_training_answers() -> None:
    conversation = training("training", "quality", "image", 3, GOOD, question=1)
    assert written(conversation) == (
        f"{SYSTEM} USER: <|image|>\nWhat do you think about the quality of this image? "
        "ASSISTANT: The quality of the image is good."
    )
    assert conversation.complete
    assert Media(3) in conversation.turns[0].parts
    assert conversation.turns[1].parts[1] == Slot("quality", " good")


def test_training_and_scoring_agree_up_to_the_slot() -> None:
    for variant in PROMPTS:
        asked = written(scoring(variant, "quality", "image", 0)).removesuffix("[]")
        answered = written(training(variant, "quality", "image", 0, FAIR, question=0))
        assert answered == f"{asked} fair."


def test_where_nothing_is_written_the_slot_stays_open() -> None:
    nothing = (Slot("quality"),)
    for variant in PROMPTS:
        taught = training(variant, "quality", "image", 0, nothing, question=0)
        assert taught == scoring(variant, "quality", "image", 0)
    other = training("unanswered", "quality", "image", 0, nothing, question=1)
    assert "What do you think" in written(other)


def test_paraphrases() -> None:
    asked = questions("aesthetics", "video")
    assert len(set(asked)) == 10
    assert all("aesthetics" in q and "video" in q and "{" not in q for q in asked)
    around = training("training", "quality", "image", 0, FAIR, question=len(asked))
    assert around == training("training", "quality", "image", 0, FAIR, question=0)


def test_unknown_variant() -> None:
    with pytest.raises(KeyError, match=r"unknown prompt variant 'scorr'.*scorer"):
        scoring("scorr", "quality", "image", 0)


def test_nothing_follows_an_open_slot() -> None:
    with pytest.raises(ValueError, match="slot 'quality' is not filled"):
        Conversation((Turn("assistant", (Slot("quality"), Text("."))),))
    assert not scoring("scorer", "quality", "image", 0).complete


def test_several_attributes_in_one_sentence() -> None:
    said = training("brief", "aesthetics", "image", 0, GOOD, 0, [("color", FAIR), ("light", GOOD)])
    asked = "How would you rate the aesthetics of this image?"
    answer = "The aesthetics of the image is good, its color is fair, its light is good."
    assert written(said) == f"USER: <|image|>\n{asked} ASSISTANT: {answer}"
    told = [("aesthetics", GOOD), ("color", FAIR)]
    opened = written(scoring("brief", "light", "image", 0, told=told))
    assert opened == written(said).removesuffix(" good.") + "[]"


def test_a_slot_may_open_behind_what_is_written() -> None:
    asked = scoring("scorer", "quality", "image", 0, written=" 3.")
    assert written(asked).endswith("ASSISTANT: The quality of the image is 3.[]")
    assert not asked.complete


def test_scoring_asks_in_any_words() -> None:
    for number in (0, 1, 11):
        asked = written(scoring("brief", "quality", "image", 0, question=number))
        taught = written(training("brief", "quality", "image", 0, FAIR, question=number))
        assert taught == asked.removesuffix("[]") + " fair."
