"""Damage to how pleasing a picture is, at a continuous strength (see ``distortions``)."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from beholder.datasets.demo.distortions import Distortion, luma, to_pixels
from beholder.datasets.demo.sources import Pixels

WORDS = ("SALE", "CLICK HERE", "NEW!", "-50%", "follow me", "@user", "wow", "FREE")
STICKERS = 10


def bad_crop(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Cuts a corner of 1 - 0.72 s of each side and enlarges it: the subject is cut off."""
    height, width = pixels.shape[:2]
    keep = 1.0 - 0.72 * strength
    right, bottom = rng.integers(0, 2, size=2)
    left, top = right * (1 - keep) * width, bottom * (1 - keep) * height
    box = (left, top, left + keep * width, top + keep * height)
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box=box))


def tilt(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Turns by 30 s^1.5 degrees either way and keeps the largest frame of the same shape."""
    height, width = pixels.shape[:2]
    angle = 30.0 * strength**1.5 * (1 if rng.random() < 0.5 else -1)
    turned = Image.fromarray(pixels).rotate(angle, Image.Resampling.BICUBIC)
    sine, cosine = np.sin(np.radians(abs(angle))), np.cos(np.radians(angle))
    long, short = max(height, width), min(height, width)
    # A frame of the same shape scaled by k fits if both of its turned extents fit.
    k = min(1.0, short / (short * cosine + long * sine))
    left, top = (1 - k) * width / 2, (1 - k) * height / 2
    box = (left, top, width - left, height - top)
    return np.asarray(turned.resize((width, height), Image.Resampling.BICUBIC, box=box))


def over_saturation(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Moves colours from grey at equal luma, so that the mean distance d is d^(1-s) 120^s.

    The distance is per channel, before clipping, in grey levels; its factor is at most 15.
    """
    values = pixels.astype(np.float32)
    grey = luma(values)
    distance = max(float(np.abs(values - grey).mean()), 1.0)
    factor = min(15.0, max(1.0, 120.0 / distance)) ** strength
    return to_pixels(grey + np.float32(factor) * (values - grey))


def colour_cast(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Moves the mean of (Cb, Cr) by a part s of its way to a point 60 units from grey.

    That point lies within a quarter turn of the picture's own cast: a cast in the opposite
    direction would first make the picture more neutral.
    """
    mean = pixels.reshape(-1, 3).mean(axis=0)
    own = np.array([-0.169, -0.331, 0.5]) @ mean, np.array([0.5, -0.419, -0.081]) @ mean
    angle = np.arctan2(own[1], own[0]) + rng.uniform(-np.pi / 2, np.pi / 2)
    cb = strength * (60.0 * np.cos(angle) - own[0])
    cr = strength * (60.0 * np.sin(angle) - own[1])
    # BT.601: the RGB that a shift of Cb and Cr amounts to.
    shift = np.array([1.402 * cr, -0.344 * cb - 0.714 * cr, 1.772 * cb])
    return to_pixels(pixels.astype(np.float32) + shift.astype(np.float32))


def clutter(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Up to ten stickers and captions, each up to a third of the longer side, growing with s."""
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for i in range(STICKERS):
        x, y, shape = (
            rng.uniform(0, width),
            rng.uniform(0, height),
            int(rng.integers(3)),
        )
        colour = tuple(int(c) for c in rng.choice([0, 60, 200, 255], 3))
        word = WORDS[int(rng.integers(len(WORDS)))]
        # The first grows from strength 0, the last from 0.4; all are full-grown at 1.
        start = 0.4 * i / (STICKERS - 1)
        side = 0.33 * max(height, width) * max(0.0, (strength - start) / (1 - start))
        if side < 2:
            continue
        _stick(draw, shape, (x, y), side, colour, word)
    return np.asarray(picture)


def _stick(
    draw: ImageDraw.ImageDraw,
    shape: int,
    centre: tuple[float, float],
    side: float,
    colour: tuple[int, ...],
    word: str,
) -> None:
    x, y = centre
    box = (x - side / 2, y - side / 3, x + side / 2, y + side / 3)
    if shape == 0:
        draw.rectangle(box, fill=colour, outline="white")
    elif shape == 1:
        draw.ellipse(box, fill=colour, outline="black")
    else:
        font = ImageFont.load_default(max(4.0, 0.45 * side))
        draw.text(centre, word, fill=colour, font=font, anchor="mm", stroke_width=1)


BAD_CROP = Distortion("bad_crop", "framing", 2.6, 1.0, bad_crop)
TILT = Distortion("tilt", "tilt", 2.4, 1.0, tilt)
OVER_SATURATION = Distortion("over_saturation", "colour", 3.0, 1.0, over_saturation, True)
COLOUR_CAST = Distortion("colour_cast", "colour", 2.8, 1.0, colour_cast)
CLUTTER = Distortion("clutter", "clutter", 3.0, 1.0, clutter)

AESTHETIC = (BAD_CROP, TILT, OVER_SATURATION, COLOUR_CAST, CLUTTER)
"""In the order of application: framing, colour, then what is pasted on top."""
