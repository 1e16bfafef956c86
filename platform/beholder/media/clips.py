"""Seconds to clips, and what decoding gives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from beholder.items import Kind
from beholder.media.limits import Limits


@dataclass(frozen=True)
class Decoded:
    """An item's pixels.

    Attributes:
        kind: what it is.
        clips: uint8 (T, S, S, 3) each, T at most the limit's ``clip_frames``; a picture is one
            clip of one frame.
        seconds: how long each clip lasts, by which clips are weighed; 0.0 for a picture.
        coverage: the part of the item's seconds that the clips cover, 0..1.
    """

    kind: Kind
    clips: tuple[NDArray[np.uint8], ...]
    seconds: tuple[float, ...]
    coverage: float


@dataclass(frozen=True)
class ClipPlan:
    """Which seconds of a video are looked at.

    Attributes:
        clips: the frames of each clip; frame i stands for second i.
        seconds: how long each clip lasts; a video's last clip takes its odd end.
        coverage: the part of the duration that is looked at, 0..1.
    """

    clips: tuple[range, ...]
    seconds: tuple[float, ...]
    coverage: float


def plan_clips(duration: float, limits: Limits) -> ClipPlan:
    """Cuts a video into consecutive clips and chooses at most ``max_clips``, spread evenly.

    Args:
        duration: seconds, above 0; it has max(1, floor(duration)) frames at 1 fps.
        limits: ``clip_frames`` and ``max_clips``.
    """
    frames = max(1, int(duration))
    starts = range(0, frames, limits.clip_frames)
    count = min(len(starts), limits.max_clips)
    # The middles of ``count`` equal parts of the sequence of clips; all of them where all fit.
    chosen = [starts[(2 * k + 1) * len(starts) // (2 * count)] for k in range(count)]
    clips = tuple(range(start, min(start + limits.clip_frames, frames)) for start in chosen)
    seconds = tuple(
        float(duration - clip.start if clip.stop == frames else len(clip)) for clip in clips
    )
    return ClipPlan(clips, seconds, min(1.0, sum(seconds) / duration))
