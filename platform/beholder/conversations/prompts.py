"""Prompt variants and paraphrases, read from ``prompts.yaml``: a new one is data, not code."""

from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict

from beholder.conversations.turns import Conversation, Media, Part, Slot, Text, Turn
from beholder.items import Kind


class Prompt(BaseModel):
    """One way of asking; the fields are explained at the head of ``prompts.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str
    separator: str
    answer: str
    system: str | None = None
    close: str = "."


_DATA = yaml.safe_load(files(__package__).joinpath("prompts.yaml").read_text("utf-8"))
PROMPTS: dict[str, Prompt] = {
    name: Prompt.model_validate(fields) for name, fields in _DATA["variants"].items()
}
_QUESTIONS: tuple[str, ...] = tuple(_DATA["questions"])


def questions(attribute: str, kind: Kind) -> tuple[str, ...]:
    """All paraphrases of one question."""
    return tuple(q.format(attribute=attribute, kind=kind) for q in _QUESTIONS)


def _build(
    prompt: Prompt, attribute: str, kind: Kind, media: int, question: str, answer: tuple[Part, ...]
) -> Conversation:
    words = prompt.user.format(attribute=attribute, kind=kind, question=question)
    before, after = words.split("<media>")
    around: tuple[Part, ...] = (Text(before), Media(media), Text(after))
    user = tuple(part for part in around if not (isinstance(part, Text) and not part.text))
    prefix = Text(prompt.answer.format(attribute=attribute, kind=kind))
    return Conversation(
        turns=(Turn("user", user), Turn("assistant", (prefix, *answer))),
        system=prompt.system,
        separator=prompt.separator,
    )


def scoring(prompt: str, attribute: str, kind: Kind, media: int) -> Conversation:
    """The conversation up to the slot, ready to be read.

    Args:
        prompt: a variant's name.
        attribute: what is rated: ``quality`` or ``aesthetics``.
        kind: what it is called in the sentence.
        media: index of the picture or clip in its batch.

    Raises:
        KeyError: no variant of that name; the message lists those there are.
    """
    variant = _variant(prompt)
    question = questions(attribute, kind)[0]
    return _build(variant, attribute, kind, media, question, (Slot(attribute),))


def training(
    prompt: str, attribute: str, kind: Kind, media: int, opinion: str, question: int
) -> Conversation:
    """The conversation with its answer.

    Args:
        prompt: a variant's name; ``training`` is what the released trainers write.
        attribute: what is rated.
        kind: what it is called.
        media: index of the picture or clip in its batch.
        opinion: the slot's text as the readout writes it, without the space (``good``).
        question: which paraphrase, taken modulo their number; only variants whose text has
            ``{question}`` use it.
    """
    variant = _variant(prompt)
    asked = questions(attribute, kind)[question % len(_QUESTIONS)]
    answer = (Slot(attribute, f" {opinion}"), Text(variant.close))
    return _build(variant, attribute, kind, media, asked, answer)


def _variant(name: str) -> Prompt:
    if name not in PROMPTS:
        raise KeyError(f"unknown prompt variant '{name}': use one of {', '.join(PROMPTS)}")
    return PROMPTS[name]
