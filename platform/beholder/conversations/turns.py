"""Turns of text, media and slots: what every backbone encodes and no backbone alters."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Text:
    """Words as they stand, spaces included."""

    text: str


@dataclass(frozen=True)
class Media:
    """A picture, or all sampled frames of a clip.

    Attributes:
        index: which one, among the media of the *batch*. Two conversations that name the same
            index share its features: that is how one look serves several tasks.
    """

    index: int


@dataclass(frozen=True)
class Slot:
    """The place where an opinion is written, and read.

    Attributes:
        name: which opinion, e.g. the task.
        text: what stands there, with its leading space (" good"); None where the model is
            asked: the conversation then ends here.
    """

    name: str
    text: str | None = None


Part = Text | Media | Slot


@dataclass(frozen=True)
class Turn:
    """What one side says. Only ``assistant`` turns are supervised."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Conversation:
    """One question and its answer.

    Attributes:
        turns: in order; an unfilled slot may only be the last part of the last turn.
        system: a sentence before the first turn, or None.
        separator: what a template without turn tokens of its own puts between two turns.

    Raises:
        ValueError: something follows an unfilled slot.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    separator: str = " "

    def __post_init__(self) -> None:
        parts = [part for turn in self.turns for part in turn.parts]
        for part in parts[:-1]:
            if isinstance(part, Slot) and part.text is None:
                raise ValueError(f"slot '{part.name}' is not filled but something follows it")

    @property
    def complete(self) -> bool:
        """Whether the answer stands, so that the row can be trained on."""
        last = self.turns[-1]
        return last.role == "assistant" and not (
            isinstance(last.parts[-1], Slot) and last.parts[-1].text is None
        )
