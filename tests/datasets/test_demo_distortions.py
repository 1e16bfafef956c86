from itertools import pairwise

import numpy as np
import pytest

from beholder.datasets.demo import find_sources
from beholder.datasets.demo.aesthetics import AESTHETIC
from beholder.datasets.demo.clips import CLIP_TYPES, crf
from beholder.datasets.demo.distortions import (
    LOW_CONTRAST,
    OVER_EXPOSURE,
    TECHNICAL,
    UNDER_EXPOSURE,
    Distortion,
    combined_damage,
    luma,
)
from beholder.datasets.demo.render import latent_quality
from beholder.datasets.demo.sources import Pixels, load_photo

EVERY = {d.name: d for d in (*TECHNICAL, *AESTHETIC, *CLIP_TYPES)}
SHOWN = TECHNICAL + AESTHETIC


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return load_photo(find_sources()["coffee"])[60:300, 150:420]


@pytest.mark.parametrize("kind", EVERY.values(), ids=EVERY.keys())
def test_latent_quality_falls_with_strength(kind: Distortion) -> None:
    latents = [latent_quality(0.0, [(kind, s)]) for s in np.linspace(0, 1, 21)]
    assert all(a > b for a, b in pairwise(latents))
    assert latents[0] == 4.5 and 1.0 < latents[-1] < 2.6


@pytest.mark.parametrize("kind", SHOWN, ids=lambda d: d.name)
def test_the_picture_departs_further_with_strength(kind: Distortion, photo: Pixels) -> None:
    def change(strength: float) -> float:
        after = kind.apply(photo, strength, np.random.default_rng(5))
        assert after.shape == photo.shape and after.dtype == np.uint8
        return float(np.abs(after.astype(float) - photo).mean())

    changes = [change(s) for s in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert changes[0] < 6 < changes[-1]
    # Framing moves whole objects, whose difference in pixels soon stops growing.
    slack = 0.75 if kind.name in ("tilt", "bad_crop") else 1.0
    assert all(b > slack * a for a, b in pairwise(changes))


@pytest.mark.parametrize("kind", SHOWN, ids=lambda d: d.name)
def test_the_same_seed_gives_the_same_pixels(kind: Distortion, photo: Pixels) -> None:
    once, again = (kind.apply(photo, 0.6, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(once, again)


def test_exposure_and_contrast_end_where_they_state(photo: Pixels) -> None:
    rng = np.random.default_rng(0)
    ends = {k.name: luma(k.apply(photo, 1.0, rng).astype(float)) for k in TECHNICAL}
    assert ends[OVER_EXPOSURE.name].mean() == pytest.approx(235, abs=10)  # its black stays black
    assert ends[UNDER_EXPOSURE.name].mean() == pytest.approx(16, abs=1)
    assert ends[LOW_CONTRAST.name].std() == pytest.approx(6, abs=0.5)


def test_extreme_pictures_survive_every_distortion() -> None:
    for fill in (0, 255):
        flat = np.full((48, 64, 3), fill, dtype=np.uint8)
        for kind in SHOWN:
            assert kind.apply(flat, 1.0, np.random.default_rng(0)).shape == flat.shape


def test_two_distortions_hurt_more_than_either_and_less_than_their_sum() -> None:
    assert combined_damage(0.7) == pytest.approx(0.7)
    assert combined_damage(3.0, 4.0) == pytest.approx(5.0)


def test_compression_spans_the_encoder() -> None:
    assert (crf(0.0), crf(1.0)) == (22, 51)
