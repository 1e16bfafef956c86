"""What others need to know of the pocket backbone."""

from beholder.backbones.contract import BackboneSpec
from beholder.media.pixels import PixelSpec


def make_spec(size: int, hidden: int, vocabulary: int, tokens: int) -> BackboneSpec:
    """The spec for a frame of ``size`` pixels and ``tokens`` tokens a frame."""
    pixels = PixelSpec(
        size=size,
        # The padding is the tower's zero, so that it adds nothing to the statistics but area.
        background=(127, 127, 127),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
    return BackboneSpec(
        pixels=pixels,
        hidden_size=hidden,
        vocabulary=vocabulary,
        tokens_per_frame=tokens,
        parts={
            "vision": ("tower.",),
            "projector": ("abstractor.",),
            "language": ("embed_tokens.", "positions.", "layers.", "norm.", "lm_head."),
        },
        embeddings=("embed_tokens.", "lm_head."),
        lora_targets=("attention.query", "attention.key_value"),
    )
