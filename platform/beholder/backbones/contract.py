"""The contract of a backbone: pixels and conversations in, hidden states and logits out.

Shapes use these letters: F frames in a batch (all media one after another), S the side of a
frame in pixels, B rows, L positions of the longest row, N media tokens in a batch, H the
language model's hidden size, V its vocabulary, M read positions.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from beholder.conversations import Conversation
from beholder.media.pixels import PixelSpec

IGNORED = -100
"""The label of a position that is not supervised."""


@dataclass(frozen=True)
class MediaShape:
    """How many frames of what size one medium has; a picture has one."""

    frames: int
    height: int
    width: int


class Splice(NamedTuple):
    """Where media tokens go: token ``source[i]`` stands at ``(row[i], column[i])``. Each (P,)."""

    row: Tensor
    column: Tensor
    source: Tensor


@dataclass
class Encoded:
    """Conversations as numbers, right-padded.

    Attributes:
        ids: token ids, 0 where a media token stands or nothing does. int64 (B, L).
        labels: the token at each position where it is supervised, else -100: position t is
            predicted by position t - 1. int64 (B, L).
        modality: 0 text, 1 media; 0 in the padding. int64 (B, L).
        lengths: positions of each row that are not padding. int64 (B,).
        splice: where the media tokens go.
        slots: the position that PREDICTS each row's slots, in the order in which they stand;
            rows with fewer slots are filled with -1. int64 (B, S).
    """

    ids: Tensor
    labels: Tensor
    modality: Tensor
    lengths: Tensor
    splice: Splice
    slots: Tensor

    def to(self, device: torch.device) -> "Encoded":
        """The same on a device."""
        return Encoded(
            self.ids.to(device),
            self.labels.to(device),
            self.modality.to(device),
            self.lengths.to(device),
            Splice(*(part.to(device) for part in self.splice)),
            self.slots.to(device),
        )


@dataclass
class MediaFeatures:
    """Media as the language model takes them; opaque to readouts and the engine.

    Attributes:
        tokens: all media's tokens one after another. (N, H).
    """

    tokens: Tensor


@dataclass
class Batch:
    """One forward's input.

    Attributes:
        encoded: the rows.
        shapes: the media that the rows name, in order.
        pixels: uint8 (F, S, S, 3), or None where ``states`` or ``features`` are given.
        states: what :meth:`Backbone.vision` makes of the pixels, (F, ...): may be cached where
            the vision part is frozen.
        features: what :meth:`Backbone.embed` makes of them, shared by several rows.
    """

    encoded: Encoded
    shapes: Sequence[MediaShape]
    pixels: Tensor | None = None
    states: Tensor | None = None
    features: MediaFeatures | None = None


@dataclass
class Read:
    """What a forward answers at the positions that were asked.

    Attributes:
        hidden: last hidden states, after the final norm. (M, H).
        logits: over the full vocabulary, fp32. (M, V).
        values: what a readout's trained head makes of ``hidden``; no backbone fills it, see
            :func:`beholder.readouts.through_head`. fp32 (M, ...).
    """

    hidden: Tensor
    logits: Tensor
    values: Tensor | None = None


@dataclass(frozen=True)
class BackboneSpec:
    """What others need to know of a backbone without looking inside.

    Attributes:
        pixels: the preprocessing it wants.
        hidden_size: H.
        vocabulary: V.
        tokens_per_frame: media tokens that a frame takes in a row.
        parts: parameter-name prefixes of ``vision``, ``projector`` and ``language``.
        embeddings: parameter-name prefixes of the token embedding and of the head, whose rows
            are the vocabulary.
        lora_targets: module-name endings that LoRA adapts by default.
    """

    pixels: PixelSpec
    hidden_size: int
    vocabulary: int
    tokens_per_frame: int
    parts: Mapping[str, tuple[str, ...]]
    embeddings: tuple[str, ...]
    lora_targets: tuple[str, ...]


class Backbone(nn.Module, ABC):
    """A multimodal language model. Its ``state_dict`` keys are the official release's."""

    name: ClassVar[str]
    """The folder's name, written into ``config.json`` as ``model_type``."""
    spec: BackboneSpec
    calibrates: ClassVar[bool] = False
    """Whether :meth:`calibrate` does anything."""
    gradient_checkpointing: bool = False
    """Whether training recomputes activations in the backward pass to save memory; a backbone
    too small to gain by it takes no notice."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any], tokenizer: Path) -> "Backbone":
        """The model with fresh weights.

        Args:
            config: the content of ``config.json``.
            tokenizer: path of ``tokenizer.json``.

        Raises:
            ValueError: the config lacks a field or asks for what this code can't do.
        """

    @abstractmethod
    def initialise(self) -> None:
        """Loads what a fresh model starts from when no weights are given.

        Raises:
            ValueError: this backbone has no start of its own.
        """

    def calibrate(self, states: Tensor) -> None:
        """Sees vision states of training pictures (F, ...) once, before the first step."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The content of ``config.json`` from which :meth:`from_config` makes this model."""

    @abstractmethod
    def tokenizer_json(self) -> str:
        """The content of ``tokenizer.json``."""

    @abstractmethod
    def token_ids(self, words: Sequence[str]) -> list[int]:
        """The id of each word as it stands after a space inside an answer.

        Raises:
            ValueError: a word takes more than one token; the message names it.
        """

    @abstractmethod
    def add_tokens(self, words: Sequence[str]) -> list[str]:
        """Makes words tokens of their own, where they aren't: tokenizer, embeddings, config.

        Every new row of the input and output embeddings is the mean of the old ones. Called
        once, before training divides the weights among workers; a saved scorer has them.

        Args:
            words: a readout's new tokens.

        Returns:
            Those that it lacked, and now has.
        """

    @abstractmethod
    def encode(
        self, conversations: Sequence[Conversation], shapes: Sequence[MediaShape]
    ) -> Encoded:
        """Conversations to numbers; owns the chat template, tokenizer and media expansion."""

    @abstractmethod
    def vision(self, pixels: Tensor) -> Tensor:
        """The vision tower alone: uint8 (F, S, S, 3) to states (F, ...), frame by frame."""

    @abstractmethod
    def project(self, states: Tensor, shapes: Sequence[MediaShape]) -> MediaFeatures:
        """Vision states to the language model's tokens."""

    def embed(self, pixels: Tensor, shapes: Sequence[MediaShape]) -> MediaFeatures:
        """Pixels to media tokens, :meth:`vision` then :meth:`project`."""
        return self.project(self.vision(pixels), shapes)

    def features_of(self, batch: Batch) -> MediaFeatures:
        """The batch's media tokens, from whatever form of the media it carries."""
        if batch.features is not None:
            return batch.features
        if batch.states is not None:
            return self.project(batch.states, batch.shapes)
        assert batch.pixels is not None, "a batch carries pixels, states or features"
        return self.embed(batch.pixels, batch.shapes)

    @abstractmethod
    def forward(self, batch: Batch, positions: Tensor) -> Read:
        """The only call that training makes.

        Args:
            batch: the rows and their media.
            positions: int64 (M, 2), (row, column) of each position to read.
        """


def pad_rows(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of unequal length as one right-padded int64 tensor (B, L)."""
    longest = max((len(row) for row in rows), default=0)
    padded = [[*row, *([fill] * (longest - len(row)))] for row in rows]
    return torch.tensor(padded, dtype=torch.int64)
