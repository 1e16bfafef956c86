"""Ranges by name, and the refusal of labels that nobody normalised."""

import numpy as np
import pytest

from beholder.opinions import (
    Levels,
    RangeRule,
    Scale,
    normalise_mos,
    normalise_std,
    require_normalised,
    score_range,
)

PIPAL = Scale(934.95, 1835.99)  # DeQA-Score, appendix B.1


def test_mos_and_std_to_levels() -> None:
    np.testing.assert_allclose(normalise_mos([0, 25, 50, 100], Scale(0, 100)), [1, 2, 3, 5])
    np.testing.assert_allclose(normalise_std([0, 25, 50], Scale(0, 100)), [0, 1, 2])
    np.testing.assert_allclose(normalise_mos([1, 5.5, 10], Scale(1, 10), k=10), [1, 5.5, 10])
    np.testing.assert_allclose(normalise_std([1.5], Scale(1, 10), k=10), [1.5])


def test_the_inverse_goes_through_the_ends() -> None:
    mos = np.random.default_rng(0).uniform(3, 90, 100)
    levels = Levels(Scale(3, 90), words="abcdefg")
    normal = normalise_mos(mos, levels.scale, k=7)
    np.testing.assert_allclose(levels.invert(normal, through="ends"), mos)
    assert np.abs(levels.invert(normal) - mos).max() > 1


def test_a_std_not_known_is_a_fifth_of_the_range() -> None:
    # PIPAL has none: the paper takes 180.21 on its own scale.
    assert normalise_std(None, PIPAL) == pytest.approx(0.8)
    assert normalise_std(None, PIPAL) == pytest.approx(float(normalise_std(180.208, PIPAL)))
    np.testing.assert_allclose(normalise_std([25, np.nan], Scale(0, 100)), [1, 0.8])


def test_ranges_by_name() -> None:
    mos = np.random.default_rng(1).permutation(2500) / 25
    declared, kept = score_range(mos, RangeRule.DECLARED, Scale(0, 100))
    assert (declared, kept.all()) == (Scale(0, 100), True)
    observed, kept = score_range(mos, RangeRule.MIN_MAX)
    assert (observed, kept.all()) == (Scale(0, 2499 / 25), True)
    trimmed, kept = score_range(mos, RangeRule.TRIMMED)
    assert trimmed == Scale(2 / 25, 2498 / 25)
    assert kept.sum() == 2496


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="declare it or use 'min_max'"):
        score_range([1, 2], RangeRule.DECLARED)
    with pytest.raises(ValueError, match=r"mos of row 1 is 101, outside .* \[0, 100\]"):
        score_range([1, 101], RangeRule.DECLARED, Scale(0, 100))
    with pytest.raises(ValueError, match="mos of row 2 is nan, not finite"):
        score_range([1, 2, float("nan")], RangeRule.MIN_MAX)
    for rule in (RangeRule.MIN_MAX, RangeRule.TRIMMED):
        with pytest.raises(ValueError, match="all 3 mos are 4"):
            score_range([4, 4, 4], rule)
    with pytest.raises(ValueError, match="shape"):
        score_range([], RangeRule.MIN_MAX)
    with pytest.raises(ValueError, match="'widest' is not a valid RangeRule"):
        score_range([1, 2], "widest")  # type: ignore[arg-type]


def test_labels_on_another_scale_are_refused() -> None:
    require_normalised([1, 5, 3], [0, 2.8, 0.6], 5)
    with pytest.raises(ValueError, match=r"mos of row 1 is 77.3, not within 1..5: .*normalise_mos"):
        require_normalised([3.2, 77.3], [0.5, 0.5], 5)
    with pytest.raises(ValueError, match=r"mos of row 0 is 0.4, not within 1..5"):
        require_normalised([0.4], [0.1], 5)
    with pytest.raises(
        ValueError, match=r"std of row 1 is 13.9, not within 0..2.83.*normalise_std"
    ):
        require_normalised([3.2, 3.2], [0.5, 13.9], 5)
    with pytest.raises(ValueError, match=r"std of row 0 is -0\.1"):
        require_normalised([3], [-0.1], 5)
    with pytest.raises(ValueError, match="mos of row 0 is nan"):
        require_normalised([float("nan")], [1], 5)
    with pytest.raises(ValueError, match="std of row 0 is nan"):
        require_normalised([3], [float("nan")], 5)


def test_ends_missed_by_rounding_pass() -> None:
    scale = Scale(6.68487394958, 85.35625)
    for k in (5, 7, 12):
        mos = normalise_mos([scale.minimum, scale.maximum], scale, k)
        require_normalised(mos + np.array([-1e-9, 1e-9]), [1, 1], k)


def test_two_raters_at_the_ends_are_possible() -> None:
    for k in (2, 5, 12):
        require_normalised([(k + 1) / 2], [np.std([1, k], ddof=1)], k)
