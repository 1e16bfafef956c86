"""Soft labels against the paper's and the release's numbers, and what the exact form promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from beholder.opinions import Density, Form, ScoreDistribution, SoftLabels, recovered, soft_labels
from beholder.opinions.scale import Scale

SETS = ("koniq_like", "spaq_like", "kadid_like")


@pytest.fixture(scope="module")
def recorded(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "soft_labels.json").read_text())
    return content


def one(mos: float, std: float, **options: Any) -> SoftLabels:
    return soft_labels([mos], [std], **options)


def random_rows(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform rows; every whole and half level, and mos from 1e-12 to 1e-3 off the middle."""
    rng = np.random.default_rng(k)
    mos = rng.uniform(1, k, 20_000)
    mos[:600] = rng.integers(2, 2 * k + 1, 600) / 2
    mos[600:1200] = (k + 1) / 2 + rng.normal(size=600) * 10.0 ** rng.uniform(-12, -4, 600)
    std = rng.uniform(0, (k - 1) / 2, len(mos))
    std[::500] = 0
    return mos, std


@pytest.mark.parametrize("name", SETS)
def test_released_labels(recorded: dict[str, Any], name: str) -> None:
    record = recorded[name]
    rows = record["expected_train"]
    labels = soft_labels(
        [row["gt_score_norm"] for row in rows],
        [row["std_norm"] for row in rows],
        density=Density(record["density_type"]),
        form=Form.RELEASED,
        min_std=record["thre_std"],
        max_error=record["thre_diff"],
    )
    for row, probs in zip(rows, labels.probs, strict=True):
        expected = row["level_probs"][::-1]  # recorded best level first
        np.testing.assert_allclose(probs, expected, atol=1e-12, err_msg=row["id"])
    assert labels.interpolated.any() and not labels.interpolated.all()
    assert labels.probs.sum(axis=1).max() > 1.04


def test_released_middle_is_uniform_and_exact_is_not(recorded: dict[str, Any]) -> None:
    row = recorded["koniq_like"]["expected_train"][2]
    mos, std = row["gt_score_norm"], row["std_norm"]
    assert mos == 3
    released = one(mos, std, form=Form.RELEASED)
    np.testing.assert_allclose(released.probs, [[0.2] * 5], atol=1e-15)
    assert released.alpha[0] == 0
    exact = one(mos, std)
    assert exact.probs[0, 2] > exact.probs[0, 1] + 0.1  # a hill, at the mos
    assert recovered(exact.probs)[1] == pytest.approx(std, abs=0.1)
    assert recovered(released.probs)[1] == pytest.approx(np.sqrt(2))  # whatever the std was


@pytest.mark.parametrize("form", Form)
def test_a_narrow_opinion_between_two_levels(form: Form) -> None:
    # DeQA-Score, Fig. A2: its std comes back as .5.
    labels = one(3.5, 0.25, form=form)
    np.testing.assert_allclose(labels.probs, [[0, 0, 0.5, 0.5, 0]], atol=1e-7)
    assert recovered(labels.probs)[1] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("form", Form)
def test_a_label_that_needs_no_clipping(form: Form) -> None:
    labels = one(3.8, 0.6, form=form)
    np.testing.assert_allclose(
        labels.probs, [[0.00045, 0.00781, 0.27327, 0.62821, 0.09025]], atol=5e-6
    )
    assert labels.alpha[0] == pytest.approx(0.99809, abs=5e-6)
    assert labels.beta[0] == pytest.approx((1 - labels.alpha[0] * raw_sum(3.8, 0.6)) / 5)


def raw_sum(mos: float, std: float) -> float:
    return float(norm.pdf(np.arange(1, 6), mos, std).sum())


@pytest.mark.parametrize("form", Form)
def test_an_opinion_at_the_end_falls_back_to_two_levels(form: Form) -> None:
    labels = one(1.2, 0.6, form=form)
    np.testing.assert_allclose(labels.probs, [[0.8, 0.2, 0, 0, 0]], atol=1e-7)
    assert labels.interpolated[0] == (form is Form.RELEASED)  # exact: the two that survive


def test_thresholds_of_the_interpolation() -> None:
    np.testing.assert_allclose(one(3.3, 0.199).probs, [[0, 0, 0.7, 0.3, 0]], atol=1e-15)
    assert one(3.5, 0.199).interpolated[0] and not one(3.5, 0.201).interpolated[0]
    assert not one(3.5, 0.15, min_std=0.1).interpolated[0]
    # Clipping takes the mean of N(1.2, .6^2) to 1.34.
    assert one(1.2, 0.6, form=Form.RELEASED, max_error=0.1).interpolated[0]
    kept = one(1.2, 0.6, form=Form.RELEASED, max_error=0.2)
    assert not kept.interpolated[0]
    assert recovered(kept.probs)[0] == pytest.approx(1.34, abs=0.005)


def test_interpolated_rows_count_as_not_adjusted() -> None:
    labels = soft_labels([3.3, 3.3], [0.1, 0.6])
    assert (labels.alpha[0], labels.beta[0]) == (1, 0)
    assert labels.alpha[1] != 1


@pytest.mark.parametrize("density", Density)
@pytest.mark.parametrize("k", [2, 3, 5, 7, 10, 12])
def test_exact_labels_sum_to_one_and_have_the_mos_as_mean(k: int, density: Density) -> None:
    mos, std = random_rows(k)
    labels = soft_labels(mos, std, k, density=density)
    assert labels.probs.shape == (len(mos), k)
    assert labels.probs.min() >= 0
    np.testing.assert_allclose(labels.probs.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(recovered(labels.probs)[0], mos, atol=1e-11)


def test_exact_labels_of_tiny_stds() -> None:
    mos, std = random_rows(5)
    for share in (1, 1e-2, 1e-5):
        labels = soft_labels(mos, std * share, min_std=0)
        np.testing.assert_allclose(labels.probs.sum(axis=1), 1, atol=1e-9)
        np.testing.assert_allclose(recovered(labels.probs)[0], mos, atol=1e-9)


def test_where_nothing_is_clipped_both_forms_agree() -> None:
    mos, std = random_rows(5)
    exact, released = soft_labels(mos, std), soft_labels(mos, std, form=Form.RELEASED)
    off_middle = np.abs(mos - 3) > 0.01
    same = (released.probs > 0).all(axis=1) & (exact.probs > 0).all(axis=1) & off_middle
    assert same.sum() > 4000
    np.testing.assert_allclose(exact.probs[same], released.probs[same], atol=1e-6)


def test_exact_labels_pass_smoothly_through_the_middle() -> None:
    for density in Density:
        mos = 3 + np.linspace(-2e-5, 2e-5, 41)  # the limit's region lies inside
        labels = soft_labels(mos, np.full(41, 0.7), density=density)
        assert np.ptp(labels.alpha) < 1e-7
        assert np.abs(np.diff(labels.probs, axis=0)).max() < 1e-5


@pytest.mark.parametrize("density", Density)
def test_a_mirrored_opinion_has_the_mirrored_label(density: Density) -> None:
    # Rounding must not decide what is dropped: on whole and half levels it would.
    mos, std = random_rows(7)
    there = soft_labels(mos, std, 7, density=density)
    back = soft_labels(8 - mos, std, 7, density=density)
    np.testing.assert_allclose(there.probs, back.probs[:, ::-1], atol=1e-6)


def test_worst_level_first() -> None:
    assert one(1.1, 0.3).probs.argmax() == 0
    assert one(4.9, 0.3).probs.argmax() == 4


def test_cdf_is_the_mass_within_half_a_level() -> None:
    labels = one(2.9, 0.8, density=Density.CDF, form=Form.RELEASED)
    mass = np.array(
        [norm.cdf(c + 0.5, 2.9, 0.8) - norm.cdf(c - 0.5, 2.9, 0.8) for c in range(1, 6)]
    )
    expected = labels.alpha[0] * mass + labels.beta[0]
    np.testing.assert_allclose(labels.probs[0], expected.clip(0), atol=1e-12)


def test_recovered_is_mean_and_std() -> None:
    mean, std = recovered([0.05, 0.15, 0.4, 0.3, 0.1])
    assert (mean, std**2) == (pytest.approx(3.25), pytest.approx(0.9875))
    mean, std = recovered(np.full(5, 0.2))
    assert (mean, std) == (pytest.approx(3), pytest.approx(1.41421, abs=5e-6))


def test_recovered_agrees_with_the_distribution() -> None:
    mos, std = random_rows(5)
    probs = soft_labels(mos[:50], std[:50]).probs
    distribution = ScoreDistribution(np.arange(1.0, 6.0), probs, Scale(1, 5))
    mean, spread = recovered(probs)
    np.testing.assert_allclose(mean, distribution.mean, atol=1e-12)
    np.testing.assert_allclose(spread, distribution.std, atol=1e-7)


def test_spreads_come_back_in_the_middle_of_the_scale() -> None:
    mos = np.linspace(2.7, 3.3, 13)
    for std in (0.6, 0.7, 0.8):  # the sets' mean stds are .57 to .88
        spread = recovered(soft_labels(mos, np.full(13, std)).probs)[1]
        np.testing.assert_allclose(spread, std, atol=0.05)


def test_one_level_that_survives_is_certain() -> None:
    # Where the limit of alpha is large, a mos on a level takes all its neighbours' probability.
    labels = one(3, 0.4)
    np.testing.assert_allclose(labels.probs, [[0, 0, 1, 0, 0]], atol=1e-12)
    assert labels.interpolated[0]


def test_one_std_for_all_rows() -> None:
    many = soft_labels([2.2, 3.1], 0.8)
    np.testing.assert_array_equal(many.probs, soft_labels([2.2, 3.1], [0.8, 0.8]).probs)


def test_what_is_not_normalised_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mos of row 1 is 77.4, not within 1..5"):
        soft_labels([3, 77.4], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"std of row 0 is 13.9, not within 0..2.83"):
        soft_labels([3], [13.9])
    with pytest.raises(ValueError, match="one row of numbers"):
        soft_labels([[3.0]], [[0.5]])
    with pytest.raises(ValueError, match="at least two levels, got 1"):
        soft_labels([1], [0.5], k=1)
