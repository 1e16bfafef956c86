"""Pocket: a scorer's backbone for CPUs, on the same contract as the large ones.

A frozen ImageNet tower, an abstractor that turns its statistics into twelve tokens a frame, and a
decoder of two layers trained from scratch that writes the same conversations as mPLUG-Owl2 does.
It is narrow on purpose: with the few scenes of the demo set, wider decoders learned the scenes by
heart and rated new ones worse. The second layer, and a second token a stage, let it answer one
picture differently for two tasks: what the first layer finds at the task's word decides in the
second which tokens are looked at.
Set beside the large models it knows only what it was taught: use it to try things, on
catalogs where CPUs must do, and as the cheap first stage of a cascade.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beholder.backbones.contract import (
    Backbone,
    Batch,
    Encoded,
    MediaFeatures,
    MediaShape,
    Read,
)
from beholder.backbones.pocket import tower
from beholder.backbones.pocket.fast import frame_by_frame
from beholder.backbones.pocket.preprocess import PocketText
from beholder.backbones.pocket.spec import make_spec
from beholder.backbones.vocabulary import append_mean_rows, lacking_words, with_words
from beholder.conversations import Conversation


@dataclass(frozen=True)
class PocketConfig:
    """Sizes, as ``config.json`` keeps them.

    Attributes:
        image_size: side of a frame in pixels.
        hidden_size: width of abstractor and decoder.
        tokens_per_stage: media tokens that a stage's statistics become.
        layers: decoder layers.
        heads: attention heads of both.
        max_positions: longest row, media tokens included.
        dropout: in training, on statistics, attention outputs and feed-forwards.
    """

    image_size: int = 256
    hidden_size: int = 48
    tokens_per_stage: int = 2
    layers: int = 2
    heads: int = 2
    max_positions: int = 512
    dropout: float = 0.1


class _Attention(nn.Module):
    """Multi-head self-attention, pre-normed by the caller."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        def split(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.key_value(x).chunk(2, dim=-1)
        y = F.scaled_dot_product_attention(
            split(self.query(x)), split(key), split(value), is_causal=causal
        )
        return self.out(y.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, heads)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), causal))
        return x + self.dropout(self.feed(self.norm2(x)))


class _Abstractor(nn.Module):
    """Tower statistics (F, W) to the stages' tokens (F, N, H), which look at each other."""

    def __init__(self, config: PocketConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.register_buffer("centre", torch.zeros(tower.Tower.width))
        self.register_buffer("spread", torch.ones(tower.Tower.width))
        self.stages = nn.ModuleList(
            nn.Linear(2 * c, config.tokens_per_stage * width) for c in tower.CHANNELS
        )
        self.width = width
        self.layer = _Layer(width, config.heads, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        # Statistics start without influence beside large biases: layer norms then pass them on
        # almost linearly, and a short training acts like shrinkage, as in ridge regression.
        for linear in self.stages:
            assert isinstance(linear, nn.Linear)
            nn.init.zeros_(linear.weight)
            nn.init.normal_(linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        centre, spread = self.get_buffer("centre"), self.get_buffer("spread")
        states = ((states - centre) / spread).clamp(-6, 6).to(self.layer.norm1.weight.dtype)
        states = self.dropout(states)
        stages = zip(self.stages, tower.split(states), strict=True)
        tokens = torch.cat(
            [stage(some).unflatten(1, (-1, self.width)) for stage, some in stages], 1
        )
        return self.layer(tokens, causal=False)


class Pocket(Backbone):
    """EfficientNet-Lite0, a small abstractor and a small decoder."""

    name: ClassVar[str] = "pocket"
    calibrates: ClassVar[bool] = True

    def __init__(self, config: PocketConfig, tokenizer: str) -> None:
        super().__init__()
        self.settings = config
        tokens, width = len(tower.TAPS) * config.tokens_per_stage, config.hidden_size
        self.text = PocketText(tokenizer, tokens)
        self.spec = make_spec(config.image_size, width, self.text.vocabulary, tokens)
        self.tower = tower.Tower()
        self.abstractor = _Abstractor(config)
        self.embed_tokens = nn.Embedding(self.text.vocabulary, width)
        self.positions = nn.Embedding(config.max_positions, width)
        self.layers = nn.ModuleList(
            _Layer(width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, self.text.vocabulary, bias=False)
        for embedding in (self.embed_tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)
        nn.init.normal_(self.lm_head.weight, std=0.02)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], tokenizer: Path) -> "Pocket":
        """See :class:`beholder.backbones.Backbone`."""
        fields = {k: v for k, v in config.items() if k != "model_type"}
        try:
            settings = PocketConfig(**fields)
        except TypeError as error:
            raise ValueError(f"config.json of a pocket model: {error}") from error
        return cls(settings, tokenizer.read_text("utf-8"))

    def initialise(self) -> None:
        """Loads the pretrained tower into a fresh model."""
        self.tower.load_imagenet()

    def calibrate(self, states: Tensor) -> None:
        """Standardises the tower's statistics by those of training pictures (F, W)."""
        self.abstractor.get_buffer("centre").copy_(states.mean(0))
        self.abstractor.get_buffer("spread").copy_(states.std(0).clamp_min(1e-4))

    def config(self) -> dict[str, Any]:
        """See :class:`beholder.backbones.Backbone`."""
        return {"model_type": self.name, **asdict(self.settings)}

    def tokenizer_json(self) -> str:
        """See :class:`beholder.backbones.Backbone`."""
        return self.text.json

    def token_ids(self, words: Sequence[str]) -> list[int]:
        """See :class:`beholder.backbones.Backbone`."""
        return self.text.token_ids(words)

    def add_tokens(self, words: Sequence[str]) -> list[str]:
        """See :class:`beholder.backbones.Backbone`."""
        new = lacking_words(self.text.json, words)
        if new:
            grown = with_words(self.text.json, new, self.text.vocabulary)
            self.text = PocketText(grown, self.spec.tokens_per_frame)
            self.spec = replace(self.spec, vocabulary=self.text.vocabulary)
            for layer in (self.embed_tokens, self.lm_head):
                append_mean_rows(layer, len(new))
        return new

    def encode(
        self, conversations: Sequence[Conversation], shapes: Sequence[MediaShape]
    ) -> Encoded:
        """See :class:`beholder.backbones.Backbone`."""
        return self.text.encode(conversations, shapes)

    def vision(self, pixels: Tensor) -> Tensor:
        """uint8 (F, S, S, 3) to statistics (F, W); always in inference mode, it is frozen."""
        with torch.no_grad():
            return frame_by_frame(self._look, pixels)

    def _look(self, pixels: Tensor) -> Tensor:
        spec = self.spec.pixels
        mean = torch.tensor(spec.mean, device=pixels.device)
        std = torch.tensor(spec.std, device=pixels.device)
        x = ((pixels / 255 - mean) / std).to(self.lm_head.weight.dtype)
        return self.tower(x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last))

    def project(self, states: Tensor, shapes: Sequence[MediaShape]) -> MediaFeatures:
        """See :class:`beholder.backbones.Backbone`."""
        return MediaFeatures(self.abstractor(states).flatten(0, 1))

    def forward(self, batch: Batch, positions: Tensor) -> Read:
        """See :class:`beholder.backbones.Backbone`."""
        encoded = batch.encoded
        x = self.embed_tokens(encoded.ids)
        row, column, source = encoded.splice
        media = self.features_of(batch).tokens[source]
        x = x.index_put((row, column), media.to(x.dtype))
        # Called as a module: ZeRO-3 keeps weights empty outside a forward.
        x = x + self.positions(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            # Rows are right-padded and attention is causal: padding is never attended to.
            x = layer(x, causal=True)
        hidden = self.norm(x[positions[:, 0], positions[:, 1]])
        return Read(hidden, self.lm_head(hidden).float())
