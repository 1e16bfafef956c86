import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beholder.media import PixelSpec
from beholder.media import preprocess as subject
from beholder.media.preprocess import pad_to_square, to_pixels

GOLDEN = Path(__file__).parents[1] / "golden/mplug_owl2/preprocess448"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
CASES = [case for case in EXPECTED["cases"] if "size" in case]
SPEC = PixelSpec(
    448,
    tuple(EXPECTED["background_rgb"]),
    tuple(EXPECTED["image_mean"]),
    tuple(EXPECTED["image_std"]),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "strips"])
def test_golden(case: dict[str, str], whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        monkeypatch.setattr(subject, "WHOLE_PIXELS", 0)
    pixels = to_pixels(Image.open(GOLDEN / case["file"]).convert("RGB"), SPEC)
    assert pixels.shape == (448, 448, 3) and pixels.dtype == np.uint8
    found = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert found == case["sha256_uint8_hwc_after_resize"]
    scaled = (pixels * (1 / 255)).astype(np.float32)
    values = (scaled - np.array(SPEC.mean, np.float32)) / np.array(SPEC.std, np.float32)
    chw = np.ascontiguousarray(values.transpose(2, 0, 1))
    assert hashlib.sha256(chw.tobytes()).hexdigest() == case["sha256_float32_chw"]


@pytest.mark.parametrize("size", [(1, 1), (448, 448), (1, 700), (700, 1), (900, 601), (300, 999)])
def test_strips_give_the_same_pixels(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    whole = to_pixels(image, SPEC)
    monkeypatch.setattr(subject, "WHOLE_PIXELS", 0)
    assert (to_pixels(image, SPEC) == whole).all()


def test_padding_is_centred_and_rounds_down() -> None:
    square = np.asarray(pad_to_square(Image.new("RGB", (2, 5), "white"), (1, 2, 3)))
    assert square.shape == (5, 5, 3)
    assert (square[:, 1:3] == 255).all()
    assert (square[:, [0, 3, 4]] == (1, 2, 3)).all()


def test_a_thread_of_pixels_takes_little_memory() -> None:
    # Its padded square would have 3.6 G pixels.
    assert to_pixels(Image.new("RGB", (60_000, 1)), SPEC).shape == (448, 448, 3)
