import dataclasses

import numpy as np
import pytest

from beholder.datasets.demo import SOURCES, DemoError, find_sources
from beholder.datasets.demo.sources import _locate, load_photo


def test_enough_distinct_scenes_are_found() -> None:
    paths = find_sources()
    assert len(paths) == len(SOURCES) >= 26
    assert len({path.read_bytes() for path in paths.values()}) == len(paths)
    assert sum(s.has_stills for s in SOURCES) >= 26


def test_photos_are_large_enough_and_not_blank() -> None:
    paths = find_sources()
    for source in SOURCES:
        if source.group != "clip":
            pixels = load_photo(paths[source.name])
            assert min(pixels.shape[:2]) >= 256 and max(pixels.shape[:2]) <= 640, source.name
            assert pixels.shape[2] == 3 and pixels.std() > 10, source.name


def test_grey_sources_are_grey_and_others_are_not() -> None:
    paths = find_sources()
    for source in SOURCES:
        if source.group != "clip":
            pixels = load_photo(paths[source.name]).astype(int)
            assert (np.ptp(pixels, axis=-1).mean() < 1) == source.grey, source.name


@pytest.mark.parametrize("change", [{"package": "no-such-package"}, {"file": "no/such.png"}])
def test_a_missing_picture_names_itself_and_the_remedy(change: dict[str, str]) -> None:
    wrong = dataclasses.replace(SOURCES[0], **change)
    with pytest.raises(DemoError, match=rf"{next(iter(change.values()))}.*make install"):
        _locate(wrong)
