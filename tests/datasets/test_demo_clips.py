from fractions import Fraction
from pathlib import Path

import decord
import numpy as np
import pytest

from beholder.datasets.demo import find_sources
from beholder.datasets.demo.clips import SIDE, cut, encode, pan, read_frames
from beholder.datasets.demo.sources import load_photo


def test_an_encoded_clip_has_the_right_frames(tmp_path: Path) -> None:
    frames = [np.full((64, 128, 3), 8 * i, dtype=np.uint8) for i in range(25)]
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(frames, Fraction(12), 14))
    reader = decord.VideoReader(str(path))
    assert len(reader) == 25
    assert reader.get_avg_fps() == pytest.approx(12)
    assert reader[0].asnumpy().shape == (64, 128, 3)
    for i in (0, 12, 24):
        assert reader[i].asnumpy().mean() == pytest.approx(8 * i, abs=6)


def test_a_higher_rate_factor_makes_a_smaller_file() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(8)]
    assert len(encode(frames, Fraction(12), 51)) < len(encode(frames, Fraction(12), 22)) / 3


def test_every_second_frame_is_read_at_half_the_rate() -> None:
    frames, rate = read_frames(find_sources()["carphone"])
    assert len(frames) == 60 and frames[0].shape == (144, 176, 3)
    assert float(rate) == pytest.approx(15, abs=0.1)


def test_cuts_last_three_to_five_seconds_and_have_even_sides() -> None:
    frames = [np.zeros((272, 640, 3), dtype=np.uint8)] * 100
    for seed in range(10):
        clip = cut(frames, Fraction(25, 2), np.random.default_rng(seed))
        height, width, _ = clip[0].shape
        assert 37 <= len(clip) <= 63
        assert height % 2 == width % 2 == 0 and max(height, width) <= SIDE + 1


def test_a_pan_moves_over_the_photo() -> None:
    photo = load_photo(find_sources()["ruin"])
    for seed in range(5):
        clip = pan(photo, np.random.default_rng(seed))
        assert len(clip) in (36, 48) and len({f.shape for f in clip}) == 1
        assert np.abs(clip[0].astype(int) - clip[-1]).mean() > 5
