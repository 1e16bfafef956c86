"""Encoded videos to frames at 1 fps, by time stamp."""

import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beholder.items import FailureCode, ItemError
from beholder.media.clips import Decoded, plan_clips
from beholder.media.containers import check_whole
from beholder.media.images import check_pixels
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.preprocess import to_pixels
from beholder.media.sniff import MediaType

CONSTANT_S = 0.001
"""Frames that lie closer than this to ``k / fps`` have a constant rate, stored in milliseconds."""
TICK_S = 1e-6
"""Tolerance for seconds that are sums and quotients of floats."""


def decode_video(data: bytes, media_type: MediaType, spec: PixelSpec, limits: Limits) -> Decoded:
    """A video's clips, one frame a second, upright as its rotation metadata says.

    Frame i is the last one with a time stamp of at most i seconds after the first, for
    i < max(1, floor(duration)); at constant rates this is the released ``int(fps * i)``.

    Raises:
        ItemError: ``decode.truncated``, ``decode.unsupported``, ``video.no_frames``,
            ``limit.duration`` or ``limit.pixels``. Duration is checked before any frame is
            decoded, size with the first one.
    """
    check_whole(data, media_type)
    # The file is unlinked from the start, so that a killed decoder leaves nothing behind.
    # decord also reads from memory, but then prints the media's bytes in its error messages.
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        reader, times, duration = _open(f"/dev/fd/{file.fileno()}", media_type)
        if duration > limits.max_seconds:
            raise ItemError(
                FailureCode.LIMIT_DURATION,
                f"the video lasts {duration:.0f} s, above the limit of {limits.max_seconds:g} s: "
                "cut it or raise the limit",
            )
        plan = plan_clips(duration, limits)
        clips = tuple(
            np.stack([_pixels(reader, at, spec, limits) for at in frame_indices(times, clip)])
            for clip in plan.clips
        )
        return Decoded("video", clips, plan.seconds, plan.coverage)


def frame_times(stamps: NDArray[np.float32], fps: float) -> tuple[NDArray[np.float64], float]:
    """When each frame is shown, from the first one on, and how long the video lasts.

    Args:
        stamps: start and end of each frame in seconds. (N, 2), N above 0.
        fps: the average rate that the container states.

    Returns:
        Start times in ascending order, (N,), and the duration, both in seconds. float32
        stamps are too coarse to tell frames from seconds in long videos, so at a constant
        rate ``k / fps`` takes their place.
    """
    starts = np.sort(stamps[:, 0].astype(np.float64))
    end = float(stamps[:, 1].max()) - starts[0]
    starts -= starts[0]
    count = len(starts)
    if fps > 0:
        even = np.arange(count) / fps
        if np.abs(starts - even).max() < CONSTANT_S:
            return even, count / fps
    # A container that stores no frame durations ends the last frame where it begins.
    if end <= starts[-1]:
        end = starts[-1] + (starts[-1] / (count - 1) if count > 1 else 1.0)
    return starts, float(end)


def frame_indices(times: NDArray[np.float64], seconds: range) -> list[int]:
    """The index of the last frame that is shown at or before each second."""
    after = np.searchsorted(times, np.asarray(seconds) + TICK_S, side="right")
    return [int(index) for index in np.maximum(after - 1, 0)]


def _open(path: str, media_type: MediaType) -> tuple[Any, NDArray[np.float64], float]:
    import decord  # Here because it takes 0.2 s, which pictures need not wait for.

    try:
        # One thread: the pool runs decoders side by side, and one is deterministic.
        reader = decord.VideoReader(path, num_threads=1)
        stamps = reader.get_frame_timestamp(range(len(reader)))
        return reader, *frame_times(stamps, reader.get_avg_fps())
    except AssertionError as error:
        raise ItemError(
            FailureCode.VIDEO_NO_FRAMES, f"the {media_type.name} video has no frames"
        ) from error
    except (decord.DECORDError, RuntimeError) as error:
        if "cannot find video stream" in str(error):
            raise ItemError(
                FailureCode.VIDEO_NO_FRAMES, f"the {media_type.name} file has no video stream"
            ) from error
        raise ItemError(
            FailureCode.DECODE_UNSUPPORTED,
            f"the {media_type.name} video can't be opened: its header is damaged or its codec "
            "is not supported",
        ) from error


def _pixels(reader: Any, at: int, spec: PixelSpec, limits: Limits) -> NDArray[np.uint8]:
    import decord

    try:
        frame = reader[at].asnumpy()
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError) as error:
        raise ItemError(
            FailureCode.DECODE_TRUNCATED, f"frame {at} of the video is cut off or damaged"
        ) from error
    height, width = frame.shape[:2]
    check_pixels(width, height, limits)
    # Where a narrow frame's padded rows are a multiple of its width (16, 24, 32, 48 and 96
    # pixels), decord takes the padding for more channels: (H, W, 4) and more, rows intact.
    rows = frame.reshape(height, -1)[:, : 3 * width]
    return to_pixels(Image.fromarray(rows.reshape(height, width, 3)), spec)
