"""Numbers below 10 as text: ``3.99`` is the slots 3, 9 and 9 with a point after the first."""

from dataclasses import dataclass

import torch

from beholder.backbones import Backbone
from beholder.conversations import Conversation, Part, Slot, Text, Turn

DIGITS = tuple("0123456789")
BASE = len(DIGITS)


@dataclass(frozen=True)
class Numbers:
    """All numbers of M digits, counted from 0 in steps of ``10^(1-M)``.

    The space before a number is text and not a part of its first digit: LLaMA and Qwen2 make it a
    token of its own, behind which the digit is then read as it was taught.

    Attributes:
        digits: M.
    """

    digits: int

    def text(self, number: int, places: int) -> str:
        """What stands before digit ``places``, with the space and the point: ``3.9`` of 39, 2."""
        if not places:
            return " "
        written = f"{number:0{places}d}"
        return f" {written[0]}.{written[1:]}" if self.digits > 1 else f" {written}"

    def parts(self, name: str, number: int) -> tuple[Part, ...]:
        """A whole number with a slot a digit."""
        first, *others = (Slot(name, digit) for digit in f"{number:0{self.digits}d}")
        point = (Text("."),) if others else ()
        return (Text(" "), first, *point, *others)

    def token_ids(self, backbone: Backbone) -> list[int]:
        """The ids of the ten digits, the same in every number and at every place.

        Raises:
            ValueError: the tokenizer writes a number otherwise than with one token a digit and
                one for the point, or reads a digit elsewhere than it is taught; names the number.
        """
        count = BASE**self.digits
        whole = backbone.encode(
            [_said(*self.parts("", number), Text(".")) for number in range(count)], []
        )
        numbers, places = torch.arange(count), self.digits
        powers = BASE ** torch.arange(places - 1, -1, -1)
        digits = numbers[:, None] // powers % BASE  # (N, M)
        ids = whole.ids.gather(1, whole.slots + 1)
        known = ids[:BASE, -1]
        wrong = (ids != known[digits]).any(1)
        for place in range(places):
            opened = backbone.encode(
                [_said(Text(self.text(n, place)), Slot("")) for n in range(BASE**place)], []
            )
            before = numbers // BASE ** (places - place)  # what is written of each number
            slot = whole.slots[:, place]
            wrong |= slot != opened.slots[before, 0]
            wrong |= slot - whole.slots[:, 0] != place + (place > 0)
            width = min(opened.ids.shape[1], whole.ids.shape[1])
            differs = whole.ids[:, :width] != opened.ids[before, :width]
            wrong |= (differs & (torch.arange(width) <= slot[:, None])).any(1)
        if wrong.any() or len(known.unique()) < BASE:
            number = int(wrong.int().argmax())
            raise ValueError(
                f"this backbone's tokenizer does not write '{self.text(number, places).strip()}' "
                "with one token a digit: use readout levels or score_tokens with it, or a "
                "backbone that keeps digits apart, as LLaMA and Qwen2 do"
            )
        return [int(one) for one in known]


def _said(*answer: Part) -> Conversation:
    return Conversation((Turn("assistant", (Text("The quality of the image is"), *answer)),))
