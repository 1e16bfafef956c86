"""The vision tower: a CLIP-like ViT whose class token and patches all go on.

Letters: F frames, S side in pixels, P positions (patches + 1), C channels of the tower.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from beholder.backbones.mplug_owl2.layers import run_layers
from beholder.backbones.mplug_owl2.spec import VisionConfig
from beholder.media.pixels import PixelSpec


def normalise(pixels: Tensor, spec: PixelSpec) -> Tensor:
    """Pixels scaled to 0..1, less the mean, over the deviation, on the pixels' device.

    Args:
        pixels: uint8 (F, S, S, 3).
        spec: mean and deviation per channel.

    Returns:
        fp32 (F, 3, S, S), bit for bit what the released preprocessing gives.
    """
    mean = torch.tensor(spec.mean, dtype=torch.float32, device=pixels.device)
    std = torch.tensor(spec.std, dtype=torch.float32, device=pixels.device)
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


class VisionEmbeddings(nn.Module):
    """Patches, class token, positions, a norm."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embedding = nn.Parameter(torch.zeros(1, config.positions, width))
        self.patch_embed = nn.Conv2d(config.num_channels, width, patch, stride=patch, bias=False)
        self.pre_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised (F, 3, S, S) to (F, P, C)."""
        patches = self.patch_embed(pixels.to(self.cls_token.dtype)).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(len(patches), -1, -1)
        return self.pre_layernorm(torch.cat([cls, patches], dim=1) + self.position_embedding)


class VisionAttention(nn.Module):
    """Self-attention whose joint projection is laid out [heads, 3, head size]."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(F, P, C) to the same."""
        frames, positions, width = x.shape
        joint = self.query_key_value(x).view(frames, positions, self.heads, 3, -1)
        query, key, value = joint.permute(3, 0, 2, 1, 4)  # each (F, heads, P, head size)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.dense(mixed.transpose(1, 2).reshape(frames, positions, width))


class VisionMLP(nn.Module):
    """Two layers with QuickGELU, x * sigmoid(1.702 x), between."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(F, P, C) to the same."""
        inner = self.fc1(x)
        return self.fc2(inner * torch.sigmoid(1.702 * inner))


class VisionLayer(nn.Module):
    """A pre-norm block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = VisionAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """(F, P, C) to the same."""
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class VisionEncoder(nn.Module):
    """The blocks; a level of their own in the official keys."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, recompute: bool) -> Tensor:
        """(F, P, C) to the same."""
        return run_layers(self.layers, x, recompute=recompute)


class VisionModel(nn.Module):
    """Normalised pixels to states, frame by frame."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor, recompute: bool = False) -> Tensor:
        """(F, 3, S, S) to (F, P, C); all positions are normed and go on."""
        return self.post_layernorm(self.encoder(self.embeddings(pixels), recompute))
