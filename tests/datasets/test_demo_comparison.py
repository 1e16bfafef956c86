from collections import Counter

import numpy as np
import pytest

from beholder.datasets.demo.comparison import COMPARED, build_compared
from beholder.datasets.demo.sources import SOURCES


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    few = [s for s in SOURCES if s.has_stills][:1]
    patch = pytest.MonkeyPatch()
    patch.setattr("beholder.datasets.demo.comparison.SOURCES", few)
    yield build_compared(tmp_path_factory.mktemp("compared"), seed=0, workers=1).to_pylist()
    patch.undo()


def test_every_source_gives_eighty_pictures(rows):
    assert Counter(r["set"] for r in rows) == {one.name: one.count for one in COMPARED}
    assert len(rows) == 80


def test_the_narrow_set_is_narrow_and_the_wide_one_is_not(rows):
    latent = {name: [r["latent"] for r in rows if r["set"] == name] for name in ("narrow", "wide")}
    assert all(2.5 <= q <= 3.5 for q in latent["narrow"])
    assert np.std(latent["wide"]) > 2 * np.std(latent["narrow"])


def test_opinions_stand_on_their_sets_scale_and_truth_on_the_raters(rows):
    for row in rows:
        mean = np.dot(row["votes"], np.arange(1, 6)) / sum(row["votes"])
        unit = (row["mos"] - row["scale_min"]) / (row["scale_max"] - row["scale_min"])
        assert unit == pytest.approx((mean - 1) / 4)
        assert sum(row["population"]) == pytest.approx(1)
        assert np.dot(row["population"], np.arange(1, 6)) == pytest.approx(row["latent"], abs=0.6)
