"""Distances against the release's figures, the paper's formulas and scipy."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from beholder.evaluation import gaussian_distances, wasserstein_1
from beholder.opinions import Scale, ScoreDistribution


def test_released_evaluation(golden: Path) -> None:
    """The release adds 1e-8 to two denominators, which moves its figures by 4e-8 at most."""
    recorded = json.loads((golden / "eval_metrics.json").read_text("utf-8"))
    found = gaussian_distances(
        *(recorded[name] for name in ("pred_score", "pred_std", "gt", "gt_std"))
    )
    assert found.rows == 80
    assert found.kl == pytest.approx(recorded["kl"], abs=1e-7)
    assert found.js == pytest.approx(recorded["js"], abs=1e-7)
    assert found.wasserstein == pytest.approx(recorded["wd"], abs=1e-12)
    assert found.js_true < found.js


def test_two_gaussians() -> None:
    people, predicted = ([3.0], [0.6]), ([3.5], [0.8])
    found = gaussian_distances(*predicted, *people)
    assert found.kl == pytest.approx(0.26424, abs=5e-6)
    assert found.js == pytest.approx(0.08291, abs=5e-6)
    assert found.js_true == pytest.approx(0.07384, abs=5e-6)
    assert found.wasserstein == pytest.approx(0.53852, abs=5e-6)
    back = gaussian_distances(*people, *predicted)
    assert back.kl == pytest.approx(0.44843, abs=5e-6)
    assert back.js == pytest.approx(found.js)


def test_rows_are_averaged() -> None:
    found = gaussian_distances([3.5, 2], [0.8, 0.4], [3, 2], [0.6, 0.4])
    assert found.kl == pytest.approx(0.26424 / 2, abs=5e-6)
    assert found.wasserstein == pytest.approx(0.53852 / 2, abs=5e-6)


def test_the_unit_matters_to_wasserstein_alone() -> None:
    rows = [np.array(values) for values in ([3.5, 2], [0.8, 0.4], [3, 2.2], [0.6, 0.5])]
    here = gaussian_distances(*rows)
    there = gaussian_distances(
        *(25 * r - shift for r, shift in zip(rows, (25, 0, 25, 0), strict=True))
    )
    assert there.wasserstein == pytest.approx(25 * here.wasserstein)
    for name in ("kl", "js", "js_true"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), abs=1e-9)


def test_a_point_is_no_gaussian() -> None:
    with pytest.raises(ValueError, match="std of row 1 is 0"):
        gaussian_distances([3, 3], [1, 0], [3, 3], [1, 1])
    with pytest.raises(ValueError, match="std of the opinions of row 0 is nan"):
        gaussian_distances([3, 3], [1, 1], [3, 3], [np.nan, 1])


def test_wasserstein_between_votes() -> None:
    rng = np.random.default_rng(0)
    support, scale = np.array([1.0, 2.0, 2.5, 4.0, 5.0]), Scale(1, 5)
    first, second = rng.dirichlet(np.ones(5), 20), rng.dirichlet(np.ones(5), 20)
    found = wasserstein_1(
        ScoreDistribution(support, first, scale), ScoreDistribution(support, second, scale)
    )
    expected = [
        wasserstein_distance(support, support, p, q) for p, q in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_wasserstein_by_hand_and_its_ends() -> None:
    support, scale = np.arange(1.0, 6), Scale(1, 5)
    p, q = ([0.05, 0.15, 0.4, 0.3, 0.1], [0.1, 0.2, 0.3, 0.25, 0.15])
    one, other = (ScoreDistribution(support, np.array(v), scale) for v in (p, q))
    assert wasserstein_1(one, other) == pytest.approx(0.05 + 0.1 + 0 + 0.05)
    worst, best = (ScoreDistribution(support, np.eye(5)[i], scale) for i in (0, 4))
    assert wasserstein_1(worst, best) == pytest.approx(4)
    elsewhere = ScoreDistribution(support, np.array(p), Scale(0, 10))
    with pytest.raises(ValueError, match=r"Scale\(minimum=0, maximum=10\)"):
        wasserstein_1(one, elsewhere)
