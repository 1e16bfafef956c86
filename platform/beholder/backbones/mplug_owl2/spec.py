"""mPLUG-Owl2 in numbers: what a ``config.json`` must say, parameters by part, work per clip.

The real sizes stand in ``config.json`` beside this file (8,197,859,328 parameters).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beholder.backbones.contract import BackboneSpec
from beholder.backbones.loading import unallocated
from beholder.media.pixels import PixelSpec

# The mean and deviation that CLIP's pictures were normalised with; the padding is their mean.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BACKGROUND = (122, 116, 104)

PARTS: Mapping[str, tuple[str, ...]] = {
    "vision": ("model.vision_model.",),
    "projector": ("model.visual_abstractor.",),
    "language": ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."),
}
EMBEDDINGS = ("model.embed_tokens.", "lm_head.")
LORA_TARGETS = ("q_proj", "v_proj.multiway.1")
"""The queries and the image half of the values, as the released trainers adapt."""


class _Section(BaseModel):
    # The official files carry many fields of their library's own: those are kept, not read.
    model_config = ConfigDict(extra="ignore", frozen=True)


class VisionConfig(_Section):
    """The vision tower, ``visual_config.visual_model``; sizes in channels and pixels."""

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    image_size: int = Field(gt=0)
    patch_size: int = Field(gt=0)
    layer_norm_eps: float = Field(gt=0)
    num_channels: Literal[3] = 3
    hidden_act: Literal["quick_gelu"] = "quick_gelu"

    @property
    def positions(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class AbstractorConfig(_Section):
    """The visual abstractor, ``visual_config.visual_abstractor``."""

    hidden_size: int = Field(gt=0)
    encoder_hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_learnable_queries: int = Field(gt=0)
    grid_size: int = Field(gt=0)
    layer_norm_eps: float = Field(gt=0)


class VisualConfig(_Section):
    """Both visual parts."""

    visual_model: VisionConfig
    visual_abstractor: AbstractorConfig


class OwlConfig(_Section):
    """What this code reads of an official ``config.json``."""

    model_type: Literal["mplug_owl2"]
    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int | None = None
    vocab_size: int = Field(gt=0)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(10000.0, gt=0)
    initializer_range: float = Field(0.02, gt=0)
    rope_scaling: None = None
    hidden_act: Literal["silu"] = "silu"
    attention_bias: Literal[False] = False
    tie_word_embeddings: Literal[False] = False
    visual_config: VisualConfig

    @property
    def vision(self) -> VisionConfig:
        """The vision tower's section."""
        return self.visual_config.visual_model

    @property
    def abstractor(self) -> AbstractorConfig:
        """The abstractor's section."""
        return self.visual_config.visual_abstractor

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values; as many as queries where the config doesn't say."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def tokens_per_frame(self) -> int:
        """The queries and the token that ends a frame."""
        return self.abstractor.num_learnable_queries + 1


def read_config(config: Mapping[str, Any]) -> OwlConfig:
    """The checked part of a ``config.json``.

    Raises:
        ValueError: a field is missing, or its value is not one that this code can do; one
            sentence names the field.
    """
    try:
        owl = OwlConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(step) for step in first["loc"])
        got = "" if first["type"] == "missing" else f" (it says {first['input']!r})"
        problem = f"config.json of mplug_owl2, '{field}': {first['msg']}{got}"
        raise ValueError(f"{problem}; correct config.json") from None
    _check_sizes(owl)
    return owl


def _check_sizes(owl: OwlConfig) -> None:
    vision, abstractor = owl.vision, owl.abstractor
    for name, width, heads in (
        ("the language model", owl.hidden_size, owl.num_attention_heads),
        ("visual_model", vision.hidden_size, vision.num_attention_heads),
        ("visual_abstractor", abstractor.hidden_size, abstractor.num_attention_heads),
        ("key and value heads", owl.num_attention_heads, owl.key_value_heads),
    ):
        if width % heads:
            raise ValueError(f"config.json: {name}: {width} is not divisible by {heads} heads")
    if vision.image_size % vision.patch_size:
        raise ValueError(
            f"config.json: image_size {vision.image_size} is not a multiple of "
            f"patch_size {vision.patch_size}"
        )
    if abstractor.grid_size**2 + 1 != vision.positions:
        raise ValueError(
            f"config.json: grid_size {abstractor.grid_size} does not fit the "
            f"{vision.positions - 1} patches of a frame"
        )
    if not abstractor.hidden_size == abstractor.encoder_hidden_size == vision.hidden_size:
        raise ValueError(
            "config.json: the abstractor joins its queries with the vision states, so its "
            f"hidden_size ({abstractor.hidden_size}), its encoder_hidden_size "
            f"({abstractor.encoder_hidden_size}) and visual_model's hidden_size "
            f"({vision.hidden_size}) must be equal"
        )


def real_config() -> dict[str, Any]:
    """The ``config.json`` of the released 7B models."""
    content: dict[str, Any] = json.loads(files(__package__).joinpath("config.json").read_text())
    return content


def backbone_spec(owl: OwlConfig) -> BackboneSpec:
    """What others need to know of a model of these sizes."""
    return BackboneSpec(
        pixels=PixelSpec(owl.vision.image_size, BACKGROUND, CLIP_MEAN, CLIP_STD),
        hidden_size=owl.hidden_size,
        vocabulary=owl.vocab_size,
        tokens_per_frame=owl.tokens_per_frame,
        parts=PARTS,
        embeddings=EMBEDDINGS,
        lora_targets=LORA_TARGETS,
    )


def parameter_counts(config: Mapping[str, Any]) -> dict[str, int]:
    """Parameters by part, without allocating any.

    Returns:
        ``vision``, ``projector``, ``language`` (decoder layers and final norm) and
        ``embeddings`` (token embedding and head); their sum is the model's size.
    """
    from beholder.backbones.mplug_owl2.model import MplugOwl2

    with unallocated():
        model = MplugOwl2(config)
    counts = dict.fromkeys((*PARTS, "embeddings"), 0)
    for name, parameter in model.named_parameters():
        part = next(part for part, prefixes in PARTS.items() if name.startswith(prefixes))
        counts["embeddings" if name.startswith(EMBEDDINGS) else part] += parameter.numel()
    return counts


@dataclass(frozen=True)
class Work:
    """Floating-point operations of one row's forward; a multiply-add counts as two."""

    vision: float
    projector: float
    language: float
    head: float

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.vision + self.projector + self.language + self.head


def forward_work(owl: OwlConfig, frames: int, text_positions: int, reads: int) -> Work:
    """The work of one forward of one row; matrix products only.

    Attention is counted over the full square, as published figures are, although the causal
    half would do. The backward costs twice this, and once more with gradient checkpointing.

    Args:
        owl: the sizes.
        frames: 1 for a picture.
        text_positions: positions that are not media (27 for the quality question).
        reads: positions at which the head is computed.
    """
    v, a = owl.vision, owl.abstractor
    vision = _block_work(v.positions, v.hidden_size, 4 * v.hidden_size, v.intermediate_size, 2)
    patches = 2 * (v.positions - 1) * v.hidden_size * v.num_channels * v.patch_size**2
    queries, keys = a.num_learnable_queries, a.num_learnable_queries + v.positions
    abstractor = (
        2 * a.hidden_size**2 * (2 * queries + 2 * keys)
        + 4 * queries * keys * a.hidden_size
        + 2 * queries * 3 * a.hidden_size * a.intermediate_size
    )
    to_language = 2 * queries * a.hidden_size * owl.hidden_size
    positions = frames * owl.tokens_per_frame + text_positions
    key_value = owl.hidden_size * owl.key_value_heads // owl.num_attention_heads
    projections = 2 * owl.hidden_size + 2 * key_value
    decoder = _block_work(positions, owl.hidden_size, projections, owl.intermediate_size, 3)
    return Work(
        vision=frames * (v.num_hidden_layers * vision + patches),
        projector=frames * (a.num_hidden_layers * abstractor + to_language),
        language=owl.num_hidden_layers * decoder,
        head=2 * reads * owl.hidden_size * owl.vocab_size,
    )


def _block_work(positions: int, hidden: int, attention: int, inner: int, matrices: int) -> float:
    """A transformer block: attention projections of that joint width, attention, an MLP."""
    products = 2 * positions * hidden * (attention + matrices * inner)
    return products + 4 * positions**2 * hidden
