"""mPLUG-Owl2 as a backbone: pictures and conversations in, hidden states and logits out.

Letters as in the contract; C channels of the vision tower, P its positions per frame.
Our own writing of the published architecture; the state-dict keys are the official ones.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from beholder.backbones.contract import (
    Backbone,
    Batch,
    Encoded,
    MediaFeatures,
    MediaShape,
    Read,
)
from beholder.backbones.mplug_owl2.abstractor import VisualAbstractor
from beholder.backbones.mplug_owl2.language import DecoderLayer, Layout, RMSNorm, decode
from beholder.backbones.mplug_owl2.preprocess import OwlText, read_tokenizer
from beholder.backbones.mplug_owl2.spec import OwlConfig, backbone_spec, read_config
from beholder.backbones.mplug_owl2.vision import VisionModel, normalise
from beholder.backbones.vocabulary import append_mean_rows, lacking_words, with_words
from beholder.conversations import Conversation


class OwlModules(nn.Module):
    """Everything but the head: the ``model.`` level of the official keys. Holds, never runs."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.vision_model = VisionModel(config.vision)
        self.visual_abstractor = VisualAbstractor(config)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class MplugOwl2(Backbone):
    """The model under One-Align, DeQA-Score and ROC4MLLM.

    Args:
        config: the content of ``config.json``.
        tokenizer: path of ``tokenizer.json``; without one the model takes rows of ids
            (``vicuna.assemble``) but cannot :meth:`encode`.

    Attributes:
        gradient_checkpointing: keep only layer inputs for the backward, non-reentrant.

    Raises:
        ValueError: config or tokenizer are missing something, or don't fit each other.
    """

    name: ClassVar[str] = "mplug_owl2"

    def __init__(self, config: Mapping[str, Any], tokenizer: Path | None = None) -> None:
        super().__init__()
        self.owl = read_config(config)
        self.spec = backbone_spec(self.owl)
        self.gradient_checkpointing = False
        self._config = deepcopy(dict(config))
        self._text = None if tokenizer is None else self._read_text(tokenizer)
        self.model = OwlModules(self.owl)
        self.lm_head = nn.Linear(self.owl.hidden_size, self.owl.vocab_size, bias=False)
        self.apply(self._initialise)

    def _read_text(self, tokenizer: Path) -> OwlText:
        text = OwlText(read_tokenizer(tokenizer), self.spec.tokens_per_frame)
        if text.highest_id >= self.owl.vocab_size:
            raise ValueError(
                f"'{tokenizer}' knows token {text.highest_id} but config.json's vocab_size is "
                f"{self.owl.vocab_size}: they are of different models"
            )
        return text

    def _initialise(self, module: nn.Module) -> None:
        std = self.owl.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, OwlModules):
            embeddings, abstractor = (
                module.vision_model.embeddings,
                module.visual_abstractor,
            )
            for token in (
                embeddings.cls_token,
                embeddings.position_embedding,
                abstractor.query_embeds,
                abstractor.vit_eos,
            ):
                nn.init.normal_(token, std=std)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tokenizer: Path) -> "MplugOwl2":
        """The model with fresh weights; see the class for what it refuses."""
        return cls(config, tokenizer)

    def initialise(self) -> None:
        """Refuses: this model only starts from a released checkpoint.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "mplug_owl2 has no start of its own: give the folder of a converted checkpoint"
        )

    def config(self) -> dict[str, Any]:
        """The ``config.json`` that makes it, all official fields kept."""
        return deepcopy(self._config)

    @property
    def text(self) -> OwlText:
        """Template and tokenizer.

        Raises:
            ValueError: the model was made without a tokenizer.
        """
        if self._text is None:
            raise ValueError("this mplug_owl2 was made without a tokenizer: give tokenizer.json")
        return self._text

    def tokenizer_json(self) -> str:
        """The content of ``tokenizer.json``."""
        return self.text.json

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """The id of each word as it stands after a space inside an answer."""
        return self.text.token_ids(words)

    def add_tokens(self, words: Sequence[str]) -> list[str]:
        """See :class:`beholder.backbones.Backbone`; ids follow ``vocab_size``, which grows."""
        new = lacking_words(self.text.json, words)
        if new:
            grown = with_words(self.text.json, new, self.owl.vocab_size)
            self._text = OwlText(grown, self.spec.tokens_per_frame)
            self._config["vocab_size"] = self.owl.vocab_size + len(new)
            self.owl = read_config(self._config)
            self.spec = backbone_spec(self.owl)
            for layer in (self.model.embed_tokens, self.lm_head):
                append_mean_rows(layer, len(new))
        return new

    def encode(
        self, conversations: Sequence[Conversation], shapes: Sequence[MediaShape]
    ) -> Encoded:
        """Conversations to numbers, by the Vicuna template."""
        return self.text.encode(conversations, shapes)

    @property
    def _recompute(self) -> bool:
        return self.gradient_checkpointing and torch.is_grad_enabled()

    def vision(self, pixels: Tensor) -> Tensor:
        """uint8 (F, S, S, 3) to (F, P, C); normalised on the pixels' device."""
        return self.model.vision_model(normalise(pixels, self.spec.pixels), self._recompute)

    def project(self, states: Tensor, shapes: Sequence[MediaShape]) -> MediaFeatures:
        """(F, P, C) to (F * tokens per frame, H), frame by frame whatever the media."""
        frames = sum(shape.frames for shape in shapes)
        if len(states) != frames:
            raise ValueError(f"{len(states)} frames were given but the media have {frames}")
        return MediaFeatures(self.model.visual_abstractor(states, self._recompute).flatten(0, 1))

    def forward(self, batch: Batch, positions: Tensor) -> Read:
        """Splices the media in, runs the decoder, reads the asked positions only."""
        layout = Layout.of(batch.encoded)
        hidden = decode(
            self.model.layers,
            self._embeddings(batch, layout),
            layout,
            self.owl,
            self._recompute,
        )
        asked = layout.place[positions[:, 0] * layout.columns + positions[:, 1]]
        read = self.model.norm(hidden.index_select(0, asked))  # (M, H)
        return Read(hidden=read, logits=self.lm_head(read).float())

    def _embeddings(self, batch: Batch, layout: Layout) -> Tensor:
        """What enters the decoder, in packed order: (T, H)."""
        encoded = batch.encoded
        embedded = self.model.embed_tokens(encoded.ids.flatten())
        if batch.shapes:
            tokens = self.features_of(batch).tokens.to(embedded.dtype)
            splice = encoded.splice
            places = splice.row * layout.columns + splice.column
            embedded = embedded.index_copy(0, places, tokens.index_select(0, splice.source))
        return embedded.index_select(0, layout.order)
