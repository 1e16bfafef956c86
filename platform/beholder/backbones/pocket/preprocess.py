"""Pocket's text side: the Vicuna template with a small byte-level vocabulary of its own.

``tokenizer.json`` beside this file was made by ``python -m beholder.backbones.pocket.preprocess``
from the prompts, so that their words, the common level words and single digits are one token
each; any other text falls apart into shorter pieces and single bytes.
"""

from importlib.resources import files

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from beholder.backbones.vicuna import VicunaText
from beholder.conversations import PROMPTS, questions
from beholder.items import Kind

BOS, EOS = 1, 2
KINDS: tuple[Kind, ...] = ("image", "video")
_SPECIAL = ["<pad>", "<s>", "</s>"]
_WORDS = (
    "excellent good fair poor bad perfect great fine ok okay average mediocre terrible awful "
    "superb best better worse worst very high medium low higher lower lowest highest amazing "
    "acceptable unacceptable slightly annoying imperceptible perceptible wonderful horrible "
    "image video picture photo clip quality aesthetics rating score attribute"
)


def default_tokenizer() -> str:
    """Content of the ``tokenizer.json`` that fresh pocket models get."""
    return files(__package__).joinpath("tokenizer.json").read_text("utf-8")


class PocketText(VicunaText):
    """The Vicuna template over a pocket ``tokenizer.json``."""

    def __init__(self, tokenizer_json: str, tokens_per_frame: int) -> None:
        super().__init__(tokenizer_json, tokens_per_frame, BOS, EOS)


def _corpus() -> list[str]:
    lines: list[str] = []
    for attribute in ("quality", "aesthetics"):
        for kind in KINDS:
            lines += questions(attribute, kind)
            for prompt in PROMPTS.values():
                lines.append(prompt.answer.format(attribute=attribute, kind=kind))
    lines += [prompt.system for prompt in PROMPTS.values() if prompt.system]
    lines += [f"USER: \n ASSISTANT: It is {word}." for word in _WORDS.split()]
    return lines * 2


def make_tokenizer(vocabulary: int = 1024) -> str:
    """Trains the byte-level BPE on the prompts and returns its JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return tokenizer.to_str(pretty=True)


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).with_name("tokenizer.json").write_text(make_tokenizer(), "utf-8")
