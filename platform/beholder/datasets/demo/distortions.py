"""Technical damage to a picture, at a continuous strength.

Strength is perceptual: it runs from 0 (not to be seen) to 1 (the worst of the type), and each
type maps it to its physical parameter by a curve that its function states. The damage in points
of the 1..5 scale is ``worst * strength ** power``. Curves and worst cases were set so that equal
damage looks about equally bad across types, following the order of magnitude of the mean
opinions by type and level that KADID-10k (Lin et al., QoMEX 2019) reports for blur, motion blur,
noise, JPEG, brightening, darkening and contrast.

Lengths in pixels are for a picture whose longer side is 272 and grow with it.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from beholder.datasets.demo.sources import Pixels

REFERENCE_SIDE = 272
Float = NDArray[np.float32]
Apply = Callable[[Pixels, float, np.random.Generator], Pixels]


@dataclass(frozen=True)
class Distortion:
    """One type of damage.

    Attributes:
        name: its key.
        family: two types of one family (over- and under-exposure) are never combined.
        worst: damage at strength 1, in points of the 1..5 scale.
        power: of the strength in the damage.
        apply: pixels (height, width, 3), strength 0..1 and a generator to pixels of that shape.
        needs_colour: it does not show on a grey picture.
    """

    name: str
    family: str
    worst: float
    power: float
    apply: Apply
    needs_colour: bool = False

    def damage(self, strength: float) -> float:
        """Points of the 1..5 scale that the picture loses; rises strictly with the strength."""
        return self.worst * strength**self.power


def combined_damage(*damages: float) -> float:
    """The damage of several distortions at once: ``sqrt(sum of squares)``.

    The larger one dominates, as in Minkowski pooling with exponent 2 (Quick, 1974): a noisy
    picture that is also a little soft looks hardly worse than a noisy one.
    """
    return float(np.sqrt(np.sum(np.square(damages))))


def to_pixels(values: NDArray[np.floating]) -> Pixels:
    """Rounds and clips to 0..255. Same shape."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def luma(pixels: NDArray[np.floating]) -> NDArray[np.floating]:
    """BT.601 luma, 0..255. Shape (height, width, 1)."""
    return (pixels @ np.array([0.299, 0.587, 0.114], dtype=pixels.dtype))[..., None]


def _scale(pixels: Pixels) -> float:
    return max(pixels.shape[:2]) / REFERENCE_SIDE


def blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Gaussian blur; sigma = 0.2 * 12^s px (0.2 to 2.4): Weber's law."""
    sigma = 0.2 * 12.0**strength * _scale(pixels)
    smooth = ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), truncate=3)
    return to_pixels(smooth)


def motion_blur(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """A straight shake of 11 s^1.5 px in a random direction, 24 samples."""
    length = 11.0 * strength**1.5 * _scale(pixels)
    angle = rng.uniform(0, np.pi)
    step = length * np.array([np.sin(angle), np.cos(angle)])
    half = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), dtype=np.float32)
    for t in np.linspace(-0.5, 0.5, 24):
        _splat(kernel, half + t * step[0], half + t * step[1])
    kernel /= kernel.sum()
    planes = [
        ndimage.convolve(pixels[..., c].astype(np.float32), kernel, mode="nearest")
        for c in range(3)
    ]
    return to_pixels(np.stack(planes, axis=-1))


def _splat(kernel: Float, y: float, x: float) -> None:
    """Adds a unit of weight at a fractional position, shared by its four neighbours."""
    top, left = int(y), int(x)
    dy, dx = y - top, x - left
    corner = np.outer([1 - dy, dy], [1 - dx, dx])
    kernel[top : top + 2, left : left + 2] += corner.astype(np.float32)


def over_exposure(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """More light, clipped at white, until the mean luma m is m + s (235 - m).

    Aiming at a brightness instead of at a number of stops makes strength 1 a blown-out picture
    whether the photo was taken at noon or at dusk. Black stays black, so a photo with much of
    it may end a little darker.
    """
    mean = float(luma(pixels.astype(np.float32)).mean())
    return _expose(pixels, mean + strength * max(0.0, 235 - mean))


def under_exposure(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Less light until the mean luma m is m^(1-s) 16^s: almost black at strength 1."""
    mean = float(luma(pixels.astype(np.float32)).mean())
    return _expose(pixels, mean ** (1 - strength) * min(16.0, mean) ** strength)


def _expose(pixels: Pixels, target: float) -> Pixels:
    """Multiplies linear light (gamma 2.2) so that the mean luma is ``target``, by bisection."""
    weights = np.array([0.299, 0.587, 0.114]) / pixels[..., 0].size
    counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
    histogram = weights @ np.array(counts)
    light = (np.arange(256) / 255.0) ** 2.2
    low, high = -8.0, 8.0  # stops
    for _ in range(30):
        stops = (low + high) / 2
        table = 255.0 * np.minimum(light * 2.0**stops, 1.0) ** (1 / 2.2)
        low, high = (stops, high) if histogram @ table < target else (low, stops)
    return to_pixels(table)[pixels]


def low_contrast(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Pulls every colour to the mean until the luma's deviation d is d^(1-s) 6^s grey levels."""
    spread = float(luma(pixels.astype(np.float32)).std())
    factor = min(1.0, 6.0 / max(spread, 6.0)) ** strength
    mean = pixels.reshape(-1, 3).mean(axis=0)
    tables = to_pixels(mean + factor * (np.arange(256)[:, None] - mean))
    return np.stack([tables[pixels[..., c], c] for c in range(3)], axis=-1)


def noise(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """White Gaussian noise in each channel; sigma = 2.5 * 18^s grey levels (2.5 to 45)."""
    sigma = np.float32(2.5 * 18.0**strength)
    return to_pixels(pixels + sigma * rng.standard_normal(pixels.shape, dtype=np.float32))


def jpeg(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """JPEG at quality 75 * (4 / 75)^s, 75 to 4, rounded; colour at half resolution."""
    quality = round(75 * (4 / 75) ** strength)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer))


BLUR = Distortion("blur", "sharpness", 3.2, 1.0, blur)
MOTION_BLUR = Distortion("motion_blur", "sharpness", 3.0, 1.0, motion_blur)
OVER_EXPOSURE = Distortion("over_exposure", "exposure", 3.1, 1.0, over_exposure)
UNDER_EXPOSURE = Distortion("under_exposure", "exposure", 3.0, 1.0, under_exposure)
LOW_CONTRAST = Distortion("low_contrast", "contrast", 2.8, 1.0, low_contrast)
NOISE = Distortion("noise", "noise", 3.1, 1.0, noise)
JPEG = Distortion("jpeg", "compression", 3.2, 1.4, jpeg)

TECHNICAL = (
    BLUR,
    MOTION_BLUR,
    OVER_EXPOSURE,
    UNDER_EXPOSURE,
    LOW_CONTRAST,
    NOISE,
    JPEG,
)
"""In the order in which a camera inflicts them, which is also the order of application."""
