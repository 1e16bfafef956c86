"""The Vicuna chat template and its rows: ``USER: ... ASSISTANT: ...</s>``.

mPLUG-Owl2 was trained with it and pocket follows; backbones with a template of their own bring
their own text side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from tokenizers import Tokenizer

from beholder.backbones.contract import IGNORED, Encoded, MediaShape, Splice, pad_rows
from beholder.conversations import Conversation, Media, Slot, Text

PLACEHOLDER = -200
"""The id that stands for one medium before it is expanded to its tokens."""


@dataclass
class Row:
    """One conversation's ids before media are expanded.

    Attributes:
        ids: token ids, ``PLACEHOLDER`` for each medium.
        labels: the token where it is supervised, else -100; as long as ``ids``.
        media: batch index of each placeholder's medium, in order.
        slots: index in ``ids`` of the token that predicts each slot.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    media: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


def assemble(rows: Sequence[Row], shapes: Sequence[MediaShape], tokens_per_frame: int) -> Encoded:
    """Expands media and pads: a medium of T frames takes T * ``tokens_per_frame`` positions.

    Args:
        rows: B conversations; several may name the same medium.
        shapes: the batch's media, in the order in which their tokens will come.
        tokens_per_frame: as in the backbone's spec.
    """
    sizes = [shape.frames * tokens_per_frame for shape in shapes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    ids, labels, modality, slots = [], [], [], []
    splice: list[tuple[int, int, int]] = []
    for number, row in enumerate(rows):
        columns: list[int] = []  # of each id's last position
        flat_ids: list[int] = []
        flat_labels: list[int] = []
        flat_modality: list[int] = []
        media = iter(row.media)
        for token, label in zip(row.ids, row.labels, strict=True):
            if token == PLACEHOLDER:
                index = next(media)
                if not 0 <= index < len(shapes):
                    raise ValueError(
                        f"conversation {number} shows medium {index}, but the batch has "
                        f"{len(shapes)}: give one shape a medium"
                    )
                at, size = len(flat_ids), sizes[index]
                splice += [(number, at + i, starts[index] + i) for i in range(size)]
                flat_ids += [0] * size
                flat_labels += [IGNORED] * size
                flat_modality += [1] * size
            else:
                flat_ids.append(token)
                flat_labels.append(label)
                flat_modality.append(0)
            columns.append(len(flat_ids) - 1)
        ids.append(flat_ids)
        labels.append(flat_labels)
        modality.append(flat_modality)
        slots.append([columns[i] for i in row.slots])
    cells = torch.tensor(splice, dtype=torch.int64).reshape(-1, 3)
    return Encoded(
        ids=pad_rows(ids, 0),
        labels=pad_rows(labels, IGNORED),
        modality=pad_rows(modality, 0),
        lengths=torch.tensor([len(row) for row in ids]),
        splice=Splice(cells[:, 0], cells[:, 1], cells[:, 2]),
        slots=pad_rows(slots, -1),
    )


class VicunaText:
    """Tokenizer and template.

    Args:
        tokenizer_json: content of ``tokenizer.json``.
        tokens_per_frame: media positions a frame.
        bos: id before the first chunk, eos: id after a complete answer.
    """

    def __init__(self, tokenizer_json: str, tokens_per_frame: int, bos: int, eos: int) -> None:
        self.json = tokenizer_json
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"tokenizer.json is none: {error}: copy it again") from error
        self._tokens_per_frame = tokens_per_frame
        self._bos, self._eos = bos, eos
        self.vocabulary = self._tokenizer.get_vocab_size()

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """The id of each word after a space, as at a slot.

        Raises:
            ValueError: a word takes more than one token.
        """
        before = self._tokenizer.encode("is", add_special_tokens=False).ids
        found = []
        for word in words:
            ids = self._tokenizer.encode(f"is {word}", add_special_tokens=False).ids
            if ids[: len(before)] != before or len(ids) != len(before) + 1:
                raise ValueError(
                    f"the tokenizer splits the word '{word}' into {len(ids) - len(before)} tokens: "
                    "choose a word that is one token"
                )
            found.append(ids[-1])
        return found

    def row(self, conversation: Conversation) -> Row:
        """One conversation's ids; each chunk between media is tokenised on its own."""
        row = Row([self._bos], [IGNORED])
        for chunk in _chunks(conversation):
            if isinstance(chunk, Media):
                row.ids.append(PLACEHOLDER)
                row.labels.append(IGNORED)
                row.media.append(chunk.index)
            else:
                self._add_text(row, chunk)
        if conversation.complete:
            row.ids.append(self._eos)
            row.labels.append(self._eos)
        return row

    def _add_text(self, row: Row, chunk: "_Chunk") -> None:
        encoding = self._tokenizer.encode(chunk.text, add_special_tokens=False)
        first = len(row.ids)
        row.ids += encoding.ids
        for token, (_, end) in zip(encoding.ids, encoding.offsets, strict=True):
            inside = any(start < end <= stop for start, stop in chunk.supervised)
            row.labels.append(token if inside else IGNORED)
        for start in chunk.slots:
            # The token that covers the slot's first letter is predicted by the one before it;
            # an open slot begins behind the last token.
            covering = [i for i, (a, b) in enumerate(encoding.offsets) if a <= start < b]
            at = covering[0] if covering else len(encoding.ids)
            row.slots.append(first + at - 1)

    def encode(
        self, conversations: Sequence[Conversation], shapes: Sequence[MediaShape]
    ) -> Encoded:
        """Conversations to numbers, see :meth:`beholder.backbones.Backbone.encode`."""
        rows = [self.row(conversation) for conversation in conversations]
        return assemble(rows, shapes, self._tokens_per_frame)


@dataclass
class _Chunk:
    """Text between media, with the character ranges that matter."""

    text: str = ""
    supervised: list[tuple[int, int]] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)


def _chunks(conversation: Conversation) -> list[_Chunk | Media]:
    chunks: list[_Chunk | Media] = [_Chunk()]

    def text() -> _Chunk:
        last = chunks[-1]
        if isinstance(last, Media):
            last = _Chunk()
            chunks.append(last)
        return last

    if conversation.system:
        text().text += f"{conversation.system} "
    for before, turn in pairwise((None, *conversation.turns)):
        assert turn is not None
        if before is not None:
            text().text += conversation.separator
        text().text += "USER:" if turn.role == "user" else "ASSISTANT:"
        first = turn.parts[0]
        if not isinstance(first, Slot) and not (isinstance(first, Text) and first.text[:1] == " "):
            text().text += " "  # an answer without a sentence brings its own, or is open
        for part in turn.parts:
            if isinstance(part, Media):
                chunks.append(part)
                continue
            chunk = text()
            start = len(chunk.text)
            match part:
                case Text():
                    chunk.text += part.text
                case Slot(text=None):
                    chunk.slots.append(start)
                case Slot():
                    assert part.text is not None
                    chunk.slots.append(start + len(part.text) - len(part.text.lstrip()))
                    chunk.text += part.text
            if turn.role == "assistant" and len(chunk.text) > start:
                chunk.supervised.append((start, len(chunk.text)))
    return chunks
