"""The visual abstractor: learnt queries look at a frame and become the decoder's tokens.

Letters: F frames, Q queries, P vision positions, C channels of the abstractor, H those of the
language model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beholder.backbones.mplug_owl2.layers import run_layers
from beholder.backbones.mplug_owl2.spec import AbstractorConfig, OwlConfig

NORM_EPS = 1e-5
"""Of the three norms around attention; only the one inside the MLP follows the config."""


def sincos(positions: Tensor, channels: int) -> Tensor:
    """Sine and cosine of positions at frequencies 10000^(-2i/channels). (N,) to (N, channels)."""
    half = torch.arange(channels // 2, dtype=torch.float64)
    angles = positions.double()[:, None] * 10000.0 ** (-half / (channels // 2))
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def grid_sincos(grid: int, channels: int) -> Tensor:
    """Column then row of each patch, half the channels each; the class token's row is zero.

    Returns:
        (grid * grid + 1, channels).
    """
    steps = torch.arange(grid)
    column, row = steps.repeat(grid), steps.repeat_interleave(grid)
    patches = torch.cat([sincos(column, channels // 2), sincos(row, channels // 2)], dim=1)
    return torch.cat([torch.zeros(1, channels), patches])


class CrossAttention(nn.Module):
    """Queries look at themselves and the frame; positions enter queries and keys, not values."""

    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        # Stored in checkpoints, which win over what is computed here; hence buffers.
        queries = torch.arange(config.num_learnable_queries)
        self.register_buffer("q_pos_embed", sincos(queries, width))
        self.register_buffer("k_pos_embed", grid_sincos(config.grid_size, width))

    def forward(self, queries: Tensor, frame: Tensor) -> Tensor:
        """(F, Q, C) and (F, P, C) to (F, Q, C), before the output projection."""
        seen = torch.cat([queries, frame], dim=1)  # (F, Q + P, C)
        positions = torch.cat([self.q_pos_embed, self.k_pos_embed])
        query = self._split(self.query(queries + self.q_pos_embed))
        key = self._split(self.key(seen + positions))
        value = self._split(self.value(seen))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class AbstractorMLP(nn.Module):
    """A gated MLP with a norm before its last layer."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.w1 = nn.Linear(width, inner)
        self.w2 = nn.Linear(inner, width)
        self.w3 = nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(F, Q, C) to the same."""
        return self.w2(self.ffn_ln(F.silu(self.w1(x)) * self.w3(x)))


class AbstractorOutput(nn.Module):
    """What follows attention; a level of its own in the official keys."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.mlp = AbstractorMLP(config)

    def forward(self, mixed: Tensor, base: Tensor) -> Tensor:
        """Both (F, Q, C): what attention gave and what it is added to."""
        y = base + self.out_proj(mixed)
        return y + self.mlp(self.norm2(y))


class CrossAttentionBlock(nn.Module):
    """Norms, attention and output; the residual starts from the normed queries."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)
        self.normk = nn.LayerNorm(config.encoder_hidden_size, eps=NORM_EPS)
        self.attention = CrossAttention(config)
        self.output = AbstractorOutput(config)

    def forward(self, queries: Tensor, frame: Tensor) -> Tensor:
        """(F, Q, C) and (F, P, C) to (F, Q, C)."""
        base = self.norm1(queries)
        return self.output(self.attention(base, self.normk(frame)), base)


class AbstractorLayer(nn.Module):
    """One layer; its only child's name is part of the official keys."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.crossattention = CrossAttentionBlock(config)

    def forward(self, queries: Tensor, frame: Tensor) -> Tensor:
        """(F, Q, C) and (F, P, C) to (F, Q, C)."""
        return self.crossattention(queries, frame)


class AbstractorEncoder(nn.Module):
    """The layers; a level of their own in the official keys."""

    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            AbstractorLayer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, queries: Tensor, frame: Tensor, recompute: bool) -> Tensor:
        """(F, Q, C) and (F, P, C) to (F, Q, C)."""
        return run_layers(self.layers, queries, frame, recompute=recompute)


class VisualAbstractor(nn.Module):
    """Vision states to Q + 1 tokens a frame: the queries' answers and an end-of-frame token."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        abstractor = config.abstractor
        queries, width = abstractor.num_learnable_queries, abstractor.hidden_size
        self.query_embeds = nn.Parameter(torch.zeros(1, queries, width))
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.encoder = AbstractorEncoder(abstractor)
        self.visual_fc = nn.Linear(width, config.hidden_size)

    def forward(self, states: Tensor, recompute: bool = False) -> Tensor:
        """(F, P, C) to (F, Q + 1, H)."""
        queries = self.query_embeds.expand(len(states), -1, -1)
        tokens = self.visual_fc(self.encoder(queries, states, recompute))
        return torch.cat([tokens, self.vit_eos.expand(len(states), -1, -1)], dim=1)
