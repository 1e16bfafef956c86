"""How much one item may cost."""

from dataclasses import dataclass

PILLOW_BOMB_PIXELS = 178_956_970
"""Pillow itself refuses any picture above this, so a higher limit would be a promise not kept."""


@dataclass(frozen=True)
class Limits:
    """What an item may cost before it is refused.

    Attributes:
        max_bytes: encoded bytes, of a picture or a video. The default holds ten minutes at
            7 Mbit/s.
        max_pixels: width times height of a picture or a video's frame. The default holds the
            largest phone pictures (50 MP) twice; decoded that is 300 MB of RGB.
        max_side: pixels of the longer side: padding to a square takes memory by the side.
            The default is JPEG's own bound.
        max_seconds: a video's duration in seconds. The default is two hours; above it frame
            times stored as float32 get too coarse.
        max_clips: clips of a video that are looked at; 4 clips of 30 frames at 448 pixels
            are 72 MB.
        clip_frames: frames of a clip, one a second.

    Raises:
        ValueError: a limit is not positive, or ``max_pixels`` is above Pillow's own bound.
    """

    max_bytes: int = 512 * 2**20
    max_pixels: int = 100_000_000
    max_side: int = 65_535
    max_seconds: float = 7200.0
    max_clips: int = 4
    clip_frames: int = 30

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limit {name} is {value}: give a positive number")
        if self.max_pixels > PILLOW_BOMB_PIXELS:
            raise ValueError(
                f"limit max_pixels is {self.max_pixels}: give at most {PILLOW_BOMB_PIXELS}, "
                "the bound above which Pillow opens nothing"
            )
