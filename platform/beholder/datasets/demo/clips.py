"""Short clips: frames out of real videos and pans over photographs, and mp4 files out of frames."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from beholder.datasets.demo.distortions import (
    BLUR,
    LOW_CONTRAST,
    NOISE,
    OVER_EXPOSURE,
    UNDER_EXPOSURE,
    Distortion,
)
from beholder.datasets.demo.sources import MAX_SIDE, Pixels

SIDE = 272
"""Longer side of a clip in pixels; clips are never enlarged."""
PAN_RATE = Fraction(12)
STORE_CRF = 14


def unchanged(pixels: Pixels, strength: float, rng: np.random.Generator) -> Pixels:
    """Bit-rate damage is done by the encoder, not to the frames."""
    return pixels


def crf(strength: float) -> int:
    """x264's rate factor at a strength of compression: 22 + 29 s, up to its worst, 51."""
    return round(22 + 29 * strength)


COMPRESSION = Distortion("compression", "compression", 3.2, 1.4, unchanged)
CLIP_TYPES = (BLUR, OVER_EXPOSURE, UNDER_EXPOSURE, LOW_CONTRAST, NOISE, COMPRESSION)
"""What a clip suffers, in the order of application."""


def read_frames(path: Path) -> tuple[list[Pixels], Fraction]:
    """Every second frame of a video, and their rate in frames a second.

    Frames keep their size up to a longer side of 640 px (as photographs do) and are shrunk to it
    beyond.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or Fraction(25)
        scale = min(1.0, MAX_SIDE / max(stream.width, stream.height))
        width, height = round(stream.width * scale), round(stream.height * scale)
        frames = [
            np.asarray(frame.to_ndarray(format="rgb24", width=width, height=height), np.uint8)
            for i, frame in enumerate(container.decode(video=0))
            if i % 2 == 0
        ]
    return frames, Fraction(rate) / 2


def cut(frames: Sequence[Pixels], rate: Fraction, rng: np.random.Generator) -> list[Pixels]:
    """3 to 5 consecutive seconds of a video, mirrored half the time, at 272 px or below."""
    seconds = min(float(rng.uniform(3, 5)), len(frames) / float(rate))
    count = max(1, int(seconds * rate))
    start = int(rng.integers(0, len(frames) - count + 1))
    mirror = bool(rng.random() < 0.5)
    height, width = frames[0].shape[:2]
    keep = float(rng.uniform(0.8, 1.0))
    left, top = rng.uniform(0, 1 - keep) * width, rng.uniform(0, 1 - keep) * height
    box = (left, top, left + keep * width, top + keep * height)
    return [_window(frame, box, mirror) for frame in frames[start : start + count]]


def pan(photo: Pixels, rng: np.random.Generator) -> list[Pixels]:
    """3 or 4 seconds of a camera that moves over a photograph at 12 frames a second."""
    height, width = photo.shape[:2]
    count = int(rng.integers(3, 5)) * int(PAN_RATE)
    size = min(height, width) * rng.uniform(0.6, 0.85, size=2)  # at the start and the end
    reach = np.array([width, height]) - size[:, None] * [1.0, 0.75]
    corner = reach * rng.uniform(0, 1, size=(2, 2))
    mirror = bool(rng.random() < 0.5)
    frames = []
    for t in np.linspace(0, 1, count):
        (left, top), side = (
            (1 - t) * corner[0] + t * corner[1],
            (1 - t) * size[0] + t * size[1],
        )
        frames.append(_window(photo, (left, top, left + side, top + 0.75 * side), mirror, size[0]))
    return frames


def _window(
    frame: Pixels,
    box: tuple[float, float, float, float],
    mirror: bool,
    natural: float | None = None,
) -> Pixels:
    """The box of a frame at an even size that is at most 272 px and no enlargement."""
    long = max(box[2] - box[0], box[3] - box[1])
    scale = min(1.0, SIDE / (natural or long)) * (natural or long) / long
    width, height = (2 * max(8, round((box[i + 2] - box[i]) * scale / 2)) for i in (0, 1))
    picture = Image.fromarray(frame)
    # reducing_gap lets Pillow shrink by whole factors first, at no visible difference.
    small = picture.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    pixels = np.asarray(small)
    return pixels[:, ::-1] if mirror else pixels


def encode(frames: Sequence[Pixels], rate: Fraction, rate_factor: int) -> bytes:
    """An H.264 mp4 of frames of one even size; the same bytes every time.

    That takes one thread and a preset without macroblock trees, which in x264 165 read memory
    beyond frames whose sides are not multiples of 16.
    """
    buffer = io.BytesIO()
    height, width = frames[0].shape[:2]
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(rate_factor), "preset": "superfast"}
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
