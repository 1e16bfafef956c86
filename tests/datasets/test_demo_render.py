from collections import Counter

import numpy as np
import pytest

from beholder.datasets.demo import SOURCES, Recipe, find_sources
from beholder.datasets.demo.aesthetics import AESTHETIC
from beholder.datasets.demo.distortions import TECHNICAL
from beholder.datasets.demo.render import (
    FELT,
    crop,
    latent_quality,
    photo_offset,
    plan_damage,
    render_source,
)

TINY = Recipe(
    seed=1, quality_per_photo=3, aesthetics_per_photo=5, clips_per_scene=1, clips_per_photo=1
)


def test_a_fifth_carry_two_distortions_of_different_families() -> None:
    plans = plan_damage(TECHNICAL, 350, np.random.default_rng(0))
    doubles = [plan for plan in plans if len(plan) == 2]
    assert len(doubles) in (70, 71)
    order = [kind.name for kind in TECHNICAL]
    for first, second in doubles:
        assert first[0].family != second[0].family
        assert order.index(first[0].name) < order.index(second[0].name)


def test_strengths_are_spread_evenly_by_type() -> None:
    plans = plan_damage(TECHNICAL, 140, np.random.default_rng(0))
    singles = [plan[0] for plan in plans if len(plan) == 1]
    for kind in TECHNICAL:
        strengths = [s for k, s in singles if k is kind]
        assert min(strengths) < 0.2 and max(strengths) > 0.8 and len(set(strengths)) > 10
    assert max(Counter(k.name for k, _ in singles).values()) <= 20


def test_latent_quality_stays_on_the_scale() -> None:
    worst = [(kind, 1.0) for kind in AESTHETIC]
    assert latent_quality(-0.5, worst) == 1.0
    assert latent_quality(0.5, []) == 5.0


def test_photos_differ_in_offset_by_about_a_fifth_of_a_point() -> None:
    offsets = [photo_offset(s, source.name, "quality") for s in range(20) for source in SOURCES]
    assert np.std(offsets) == pytest.approx(0.2, abs=0.02)
    assert np.abs(offsets).max() <= 0.5


def test_crops_differ_in_place_and_shape_and_are_never_enlarged() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    shapes = set()
    for i in range(30):
        height, width, _ = crop(photo, np.random.default_rng(i)).shape
        assert height <= 300 and width <= 400 and max(height, width) <= 320
        assert 0.7 < width / height < 1.4
        shapes.add((height, width))
    assert len(shapes) > 20


@pytest.mark.parametrize("name", ["lion", "camera", "carphone"])
def test_rendering_repeats_to_the_byte(name: str) -> None:
    source = next(s for s in SOURCES if s.name == name)
    path = find_sources()[name]
    once, again = render_source(source, path, TINY), render_source(source, path, TINY)
    assert once == again
    assert len(once) == (1 if name == "carphone" else 9)
    other = render_source(source, path, Recipe(2, 3, 5, 1, 1))
    assert {m.data for m in once}.isdisjoint(m.data for m in other)


def test_every_third_picture_is_rated_for_both_tasks() -> None:
    """... and there its damage is felt in part: it scores better where it was not damaged for."""
    source = next(s for s in SOURCES if s.name == "lion")
    made = render_source(source, find_sources()["lion"], Recipe(0, 60, 60, 0, 0))
    both = [m for m in made if len(m.rows) == 2]
    assert len(both) == len(made) / 3
    for own, other in (("quality", "aesthetics"), ("aesthetics", "quality")):
        pairs = [m.rows for m in both if m.path.startswith(own)]
        lost = {t: np.array([4.5 - rows[t]["latent"] for rows in pairs]) for t in (own, other)}
        assert np.corrcoef(lost[own], lost[other])[0, 1] > 0.95
        assert np.polyfit(lost[own], lost[other], 1)[0] == pytest.approx(FELT[other], abs=0.05)


def test_grey_photos_are_never_over_saturated() -> None:
    source = next(s for s in SOURCES if s.name == "camera")
    made = render_source(source, find_sources()["camera"], Recipe(0, 0, 40, 0, 0))
    assert len(made) == 40
    assert not [m for m in made if "over_saturation" in m.rows["aesthetics"]["distortion"]]
