"""Prompt variants and paraphrases, read from ``prompts.yaml``: a new one is data, not code."""

from collections.abc import Sequence
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
FURTHER: str = _DATA["further"]
"""What stands before the slot of every attribute but the first, with ``{attribute}``."""

Told = tuple[str, Sequence[Part]]
"""An attribute's name, and what the answer says of it: slots and the text between them."""


def questions(attribute: str, kind: Kind) -> tuple[str, ...]:
    """All paraphrases of one question."""
    return tuple(q.format(attribute=attribute, kind=kind) for q in _QUESTIONS)


def scoring(
    prompt: str,
    attribute: str,
    kind: Kind,
    media: int,
    question: int = 0,
    written: str = "",
    told: Sequence[Told] = (),
) -> Conversation:
    """The conversation up to an open slot, ready to be read.

    Args:
        prompt: a variant's name.
        attribute: what is rated: ``quality`` or ``aesthetics``, or one of the further ones.
        kind: what it is called in the sentence.
        media: index of the picture or clip in its batch.
        question: which paraphrase, as for :func:`training`.
        written: the part of the opinion that is written before its open slot (`` 3.``).
        told: attributes that the answer speaks of before, in order; the first is asked for.

    Raises:
        KeyError: no variant of that name; the message lists those there are.
    """
    opened: tuple[Part, ...] = (Text(written), Slot(attribute)) if written else (Slot(attribute),)
    return _build(prompt, kind, media, question, (*told, (attribute, opened)), close=False)


def training(
    prompt: str,
    attribute: str,
    kind: Kind,
    media: int,
    answer: Sequence[Part],
    question: int,
    further: Sequence[Told] = (),
) -> Conversation:
    """The conversation with its answer.

    Args:
        prompt: a variant's name; ``training`` is what the released trainers write.
        attribute: what is rated.
        kind: what it is called.
        media: index of the picture or clip in its batch.
        answer: the opinion as the readout writes it; an open slot where it writes nothing: the
            conversation then ends there, as in :func:`scoring`.
        question: which paraphrase, taken modulo their number; only variants whose text has
            ``{question}`` use it.
        further: attributes of which the same sentence speaks behind it, in order.
    """
    return _build(prompt, kind, media, question, ((attribute, answer), *further), close=True)


def _build(
    name: str, kind: Kind, media: int, question: int, answers: Sequence[Told], close: bool
) -> Conversation:
    prompt, asked = _variant(name), answers[0][0]
    words = prompt.user.format(
        attribute=asked,
        kind=kind,
        question=questions(asked, kind)[question % len(_QUESTIONS)],
    )
    before, after = words.split("<media>")
    around: tuple[Part, ...] = (Text(before), Media(media), Text(after))
    user = tuple(part for part in around if not (isinstance(part, Text) and not part.text))
    said: list[Part] = []
    for attribute, parts in answers:
        lead = FURTHER if said else prompt.answer
        said += [Text(lead.format(attribute=attribute, kind=kind)), *parts] if lead else parts
    last = said[-1]
    if close and not (isinstance(last, Slot) and last.text is None):
        said.append(Text(prompt.close))
    return Conversation(
        turns=(Turn("user", user), Turn("assistant", tuple(said))),
        system=prompt.system,
        separator=prompt.separator,
    )


def _variant(name: str) -> Prompt:
    if name not in PROMPTS:
        raise KeyError(f"unknown prompt variant '{name}': use one of {', '.join(PROMPTS)}")
    return PROMPTS[name]
