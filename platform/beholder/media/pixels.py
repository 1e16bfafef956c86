"""What a backbone wants to see, and how a picture is brought to it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PixelSpec:
    """Pad to a centred square, then resize, as Q-Align and DeQA-Score release it.

    Attributes:
        size: side of the square in pixels.
        background: RGB of the padding, 0..255.
        mean: per channel, subtracted from pixels scaled to 0..1, on the device.
        std: per channel, divided by, on the device.
    """

    size: int
    background: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
