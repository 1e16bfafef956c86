"""The modality-adaptive LLaMA: text and media have norms, keys and values of their own.

Letters: B rows, L positions of the longest row, T real positions of all rows, H hidden size,
D size of a head.

Everything but attention works position by position, so the decoder keeps the T real positions
in one tensor, text first, media after: each modality is then one contiguous slice and padding
costs nothing. Only attention sees rows.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beholder.backbones.contract import Encoded
from beholder.backbones.mplug_owl2.layers import run_layers
from beholder.backbones.mplug_owl2.spec import OwlConfig


@dataclass(frozen=True)
class Layout:
    """The way between rows and the packed order.

    Attributes:
        rows: B.
        columns: L.
        text: how many of the T packed positions are text; the rest are media.
        order: for each packed position, its place row * L + column. (T,).
        place: for each place, its packed position; 0 in the padding. (B * L,).
    """

    rows: int
    columns: int
    text: int
    order: Tensor
    place: Tensor

    @classmethod
    def of(cls, encoded: Encoded) -> "Layout":
        """The layout of a batch."""
        rows, columns = encoded.ids.shape
        steps = torch.arange(columns, device=encoded.ids.device)
        real = (steps < encoded.lengths[:, None]).flatten()
        media = (encoded.modality == 1).flatten()
        text = torch.nonzero(real & ~media).squeeze(1)
        order = torch.cat([text, torch.nonzero(real & media).squeeze(1)])
        place = torch.zeros(rows * columns, dtype=torch.int64, device=order.device)
        place[order] = torch.arange(len(order), device=order.device)
        return cls(rows, columns, len(text), order, place)

    def unpack(self, packed: Tensor) -> Tensor:
        """(T, ...) to (B, L, ...); the padding holds whatever stands first."""
        return packed.index_select(0, self.place).unflatten(0, (self.rows, self.columns))

    def pack(self, rows: Tensor) -> Tensor:
        """(B, L, ...) to (T, ...)."""
        return rows.flatten(0, 1).index_select(0, self.order)


class RMSNorm(nn.Module):
    """Root-mean-square norm, in fp32 whatever the model's type."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) to the same."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Multiway(nn.Module):
    """One module for text, one for media."""

    def __init__(self, text: nn.Module, media: nn.Module) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([text, media])

    def forward(self, x: Tensor, text: int) -> Tensor:
        """Packed (T, ...) of which the first ``text`` positions are text.

        Both modules run even over nothing, so that every rank of a sharded run gathers the
        same parameters in the same order.
        """
        return torch.cat([self.multiway[0](x[:text]), self.multiway[1](x[text:])])


def rotary(length: int, size: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of positions 0..length-1, each (length, D), in the type of ``like``."""
    steps = torch.arange(0, size, 2, device=like.device, dtype=torch.float32) / size
    positions = torch.arange(length, device=like.device, dtype=torch.float32)
    angles = torch.outer(positions, 1.0 / theta**steps).repeat(1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, the two halves of a head being the two coordinates. (B, heads, L, D)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class DecoderAttention(nn.Module):
    """Causal attention; keys and values are projected by modality.

    Rows are padded on the right, so causality alone hides the padding from every real
    position and no mask is made: the fused kernels apply, and nothing of size L x L is stored.
    They keep the softmax in fp32.
    """

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        hidden, self.heads = config.hidden_size, config.num_attention_heads
        self.key_value_heads = config.key_value_heads
        kept = hidden // self.heads * self.key_value_heads
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = Multiway(*(nn.Linear(hidden, kept, bias=False) for _ in range(2)))
        self.v_proj = Multiway(*(nn.Linear(hidden, kept, bias=False) for _ in range(2)))
        self.o_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, layout: Layout, cos: Tensor, sin: Tensor) -> Tensor:
        """Packed (T, H) to the same."""
        query = self._split(layout.unpack(self.q_proj(x)), self.heads)
        key = self._split(layout.unpack(self.k_proj(x, layout.text)), self.key_value_heads)
        value = self._split(layout.unpack(self.v_proj(x, layout.text)), self.key_value_heads)
        mixed = F.scaled_dot_product_attention(
            rotate(query, cos, sin),
            rotate(key, cos, sin),
            value,
            is_causal=True,
            enable_gqa=self.heads != self.key_value_heads,
        )
        return self.o_proj(layout.pack(mixed.transpose(1, 2).flatten(2)))

    @staticmethod
    def _split(x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class DecoderMLP(nn.Module):
    """LLaMA's gated MLP, shared by both modalities."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(T, H) to the same."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """A pre-norm block whose norms are by modality."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = Multiway(RMSNorm(hidden, eps), RMSNorm(hidden, eps))
        self.self_attn = DecoderAttention(config)
        self.post_attention_layernorm = Multiway(RMSNorm(hidden, eps), RMSNorm(hidden, eps))
        self.mlp = DecoderMLP(config)

    def forward(self, x: Tensor, layout: Layout, cos: Tensor, sin: Tensor) -> Tensor:
        """Packed (T, H) to the same."""
        x = x + self.self_attn(self.input_layernorm(x, layout.text), layout, cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x, layout.text))


def decode(
    layers: nn.ModuleList, x: Tensor, layout: Layout, config: OwlConfig, recompute: bool
) -> Tensor:
    """All decoder layers; positions are 0..L-1 in every row.

    Args:
        layers: :class:`DecoderLayer` s.
        x: embeddings in packed order, (T, H).
        layout: from packed order to rows.
        config: gives the size of a head and the rotary base.
        recompute: gradient checkpointing.
    """
    size = config.hidden_size // config.num_attention_heads
    cos, sin = rotary(layout.columns, size, config.rope_theta, like=x)
    return run_layers(layers, x, layout, cos, sin, recompute=recompute)
