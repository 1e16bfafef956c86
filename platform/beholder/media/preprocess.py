"""Pad to a square and resize, bit for bit as Q-Align and DeQA-Score were released."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beholder.media.pixels import PixelSpec

STRIP_ROWS = 256
WHOLE_PIXELS = 64_000_000
"""Largest padded square that is made as a whole (192 MB)."""


def pad_to_square(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """The picture in the middle of a square of its longer side, offsets rounded down."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), background)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def to_pixels(image: Image.Image, spec: PixelSpec) -> NDArray[np.uint8]:
    """An RGB picture as the model's square: padded, then Pillow's bicubic in uint8.

    Returns:
        uint8 (S, S, 3), S the spec's size; not yet normalised, that is done on the device.
    """
    if max(image.size) ** 2 <= WHOLE_PIXELS:
        small = _shrink(pad_to_square(image, spec.background), (spec.size, spec.size))
    else:
        small = _by_strips(image, spec)
    return np.array(small)


def _shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BICUBIC)


def _by_strips(image: Image.Image, spec: PixelSpec) -> Image.Image:
    """The same pixels in memory of the order of the picture, however long and thin it is.

    Pillow resizes rows first and columns after, with uint8 between, and rows of background
    stay background; so strips of rows can be padded and narrowed one at a time.
    """
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    narrow = Image.new("RGB", (spec.size, side), spec.background)
    for y in range(0, image.height, STRIP_ROWS):
        rows = image.crop((0, y, image.width, min(y + STRIP_ROWS, image.height)))
        strip = Image.new("RGB", (side, rows.height), spec.background)
        strip.paste(rows, (left, 0))
        narrow.paste(_shrink(strip, (spec.size, rows.height)), (0, top + y))
    return _shrink(narrow, (spec.size, spec.size))
