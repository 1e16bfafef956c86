"""Digits against RealQA's equations and numbers anybody can recompute."""

import json
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from beholder.backbones import Read
from beholder.conversations import Slot, Text
from beholder.evaluation.digits import digit_expectation
from beholder.opinions import NoSpreadError, Scale
from beholder.readouts import DigitReadout, make_readout, read_slots
from beholder.readouts.contract import Reading

IDS = [*range(20, 30)]  # in a vocabulary of 40
REALQA = Scale(0, 10)

Model = Callable[[str], Mapping[int, float]]
"""What stands before a digit, to probabilities of digits; the rest is on other words."""


def read(readout: DigitReadout, *models: Model) -> tuple[Reading, list[list[str]]]:
    """What is read of one opinion a model, and what was written before each pass."""
    passes: list[list[str]] = []

    def look(written: list[str]) -> Read:
        passes.append(written)
        probs = torch.full((len(models), 40), 1e-30, dtype=torch.float64)
        for row, (model, text) in enumerate(zip(models, written, strict=True)):
            for digit, p in model(text).items():
                probs[row, IDS[digit]] = p
            probs[row, 0] = max(1e-30, 1 - float(sum(model(text).values())))
        return Read(torch.zeros(len(models), 3), probs.log())

    return read_slots(readout, IDS, len(models), look), passes


def torn(text: str) -> Mapping[int, float]:
    """3.99 and 4.00, each as likely."""
    written = {
        " ": {3: 0.5, 4: 0.5}, " 3.": {9: 1}, " 3.9": {9: 1}, " 4.": {0: 1}, " 4.0": {0: 1},
    }  # fmt: skip
    return written.get(text, even(text))


def even(text: str) -> Mapping[int, float]:
    return dict.fromkeys(range(10), 0.1)


def random_model(seed: int, sharpness: float) -> Model:
    """Every beginning has digits of its own."""

    @cache
    def model(text: str) -> Mapping[int, float]:
        rng = np.random.default_rng([seed, *text.encode()])
        logits = sharpness * rng.standard_normal(10)
        p = np.exp(logits) / np.exp(logits).sum()
        return {digit: float(value) for digit, value in enumerate(p)}

    return model


def exact(model: Model) -> NDArray[np.float64]:
    """P(3.99) = p(3) p(9|3.) p(9|3.9), and so on. (1000,)."""
    return np.array(
        [
            model(" ")[n // 100] * model(f" {n // 100}.")[n // 10 % 10]
            * model(f" {n // 100}.{n // 10 % 10}")[n % 10]
            for n in range(1000)
        ]
    )  # fmt: skip


def test_only_the_tree_sees_that_399_and_400_are_neighbours() -> None:
    means = {way: read(DigitReadout(reading=way), torn)[0] for way in ("tree", "eq4", "greedy")}
    assert float(means["tree"].distribution.mean[0]) == pytest.approx(3.995, abs=1e-12)
    assert float(means["tree"].distribution.std[0]) == pytest.approx(0.005, abs=1e-9)
    # Along 3.99 the next digits are 9 and 9, whichever the first is.
    assert float(means["eq4"].distribution.mean[0]) == pytest.approx(3.5 + 0.99)
    assert float(means["greedy"].distribution.mean[0]) == pytest.approx(3.99)
    assert [float(one.mass[0]) for one in means.values()] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("readout", [DigitReadout(branches=b) for b in (1, 3, 10, 100)])
def test_uniform_digits_are_in_the_middle(readout: DigitReadout) -> None:
    assert float(read(readout, even)[0].distribution.mean[0]) == pytest.approx(4.995)
    np.testing.assert_allclose(read(readout, even)[0].distribution.probs, 0.001)


def test_uniform_digits_by_equation_4() -> None:
    reading, _ = read(DigitReadout(reading="eq4"), even)
    assert float(reading.distribution.mean[0]) == pytest.approx(4.995)
    assert float(read(DigitReadout(1), even)[0].distribution.mean[0]) == pytest.approx(4.5)
    assert float(read(DigitReadout(2), even)[0].distribution.mean[0]) == pytest.approx(4.95)


def test_a_whole_tree_is_the_exact_distribution() -> None:
    models = [random_model(seed, 1.5) for seed in range(3)]
    reading, passes = read(DigitReadout(branches=100), *models)
    np.testing.assert_allclose(reading.distribution.probs, [exact(m) for m in models], atol=1e-12)
    np.testing.assert_allclose(reading.mass, 1)
    assert len(passes) == 1 + 10 + 100


@pytest.mark.parametrize("branches", [3, 10, 30])
def test_what_a_tree_leaves_out_costs_less_than_half_a_unit(branches: int) -> None:
    models = [random_model(seed, 1.5) for seed in range(20)]
    reading, _ = read(DigitReadout(branches=branches), *models)
    wrong = np.abs(reading.distribution.mean - np.array([exact(m) for m in models]) @ SUPPORT)
    left = 1 - reading.mass
    assert (left > 0.01).all(), "a tree that leaves nothing out would prove nothing"
    followed = 0.05 if branches >= 10 else 0.5  # the unit of the beginnings that are dropped
    assert (wrong <= followed * left + 1e-12).all()
    # Tenths are exact where every first digit is followed.
    if branches >= 10:
        tenths = np.array([exact(m) for m in models]).reshape(20, 100, 10).sum(2)
        ours = reading.distribution.probs.reshape(20, 100, 10).sum(2)
        np.testing.assert_allclose(ours, tenths, atol=1e-12)


SUPPORT = np.arange(1000) / 100


def test_equation_4_goes_along_the_written_digits() -> None:
    """The evaluation's own Eq. 4, over the conditionals behind the greedy digits."""
    model = random_model(3, 1.0)
    first = max(model(" "), key=lambda d: model(" ")[d])
    behind = model(f" {first}.")
    second = max(behind, key=lambda d: behind[d])
    digits = [list(model(t).values()) for t in (" ", f" {first}.", f" {first}.{second}")]
    reading, passes = read(DigitReadout(reading="eq4"), model)
    assert passes == [[" "], [f" {first}."], [f" {first}.{second}"]]
    assert float(reading.distribution.mean[0]) == pytest.approx(float(digit_expectation(digits)))
    third = int(np.argmax(digits[2]))
    greedy, _ = read(DigitReadout(reading="greedy"), model)
    expected = first + second / 10 + third / 100
    assert float(greedy.distribution.mean[0]) == pytest.approx(expected)
    assert not DigitReadout(reading="greedy").has_spread
    with pytest.raises(NoSpreadError, match="nor has a number read as it is written"):
        _ = greedy.distribution.std


@pytest.mark.parametrize(("reading", "count"), [("greedy", 3), ("eq4", 3), ("tree", 21)])
def test_passes_are_as_many_whatever_is_read(reading: str, count: int) -> None:
    for models in ([even], [torn_everywhere, random_model(0, 9.0), even]):
        _, passes = read(DigitReadout(reading=reading), *models)  # type: ignore[arg-type]
        assert len(passes) == count
        assert {len(written) for written in passes} == {len(models)}


def torn_everywhere(text: str) -> Mapping[int, float]:
    return {3: 0.5, 4: 0.5}


def test_the_mass_is_what_the_full_softmax_gives_to_the_numbers_read() -> None:
    def half(text: str) -> Mapping[int, float]:  # half of it on other words, at each digit
        return {7: 0.4, 8: 0.1}

    for way, expected in (("tree", 0.125), ("eq4", 0.125)):
        reading, _ = read(DigitReadout(reading=way), half)  # type: ignore[arg-type]
        assert float(reading.mass[0]) == pytest.approx(expected)
    one, _ = read(DigitReadout(branches=1), half)  # follows 7.7 alone
    assert float(one.mass[0]) == pytest.approx(0.4 * 0.4 * 0.5)


def test_numbers_that_no_digit_is_likely_in_are_still_a_distribution() -> None:
    logits = torch.zeros(1, 40, dtype=torch.float64)
    logits[0, 0] = 4000.0
    logits[0, IDS[6]] = 9.0
    reading = read_slots(DigitReadout(), IDS, 1, lambda written: Read(logits, logits))
    assert float(reading.distribution.mean[0]) == pytest.approx(6.66, abs=0.05)
    assert float(reading.mass[0]) == 0


def test_an_opinion_is_a_slot_a_digit() -> None:
    parts = DigitReadout().answer("quality", 3.9, Scale(0, 10))
    three, nine, zero = (Slot("quality", digit) for digit in "390")
    assert parts == (Text(" "), three, Text("."), nine, zero)
    assert DigitReadout(1).answer("q", 3.9, REALQA) == (Text(" "), Slot("q", "4"))


def text_of(readout: DigitReadout, mos: float, scale: Scale) -> str:
    return "".join(p.text or "" for p in readout.answer("q", mos, scale))  # type: ignore[union-attr]


def test_labels_are_rounded_mapped_by_the_sets_ends_and_clipped() -> None:
    """RealQA, section 3.2: 3.9845 is 4.0 in two digits and 3.98 in three."""
    assert text_of(DigitReadout(2), 3.9845, REALQA) == " 4.0"
    assert text_of(DigitReadout(3), 3.9845, REALQA) == " 3.98"
    written = [text_of(DigitReadout(), mos, Scale(1, 5)) for mos in (1, 3, 4.996, 5)]
    assert written == [" 0.00", " 5.00", " 9.99", " 9.99"]
    readout, koniq = DigitReadout(), Scale(0, 100)
    mos = np.array([0.0, 39.9, 100])
    np.testing.assert_allclose(readout.scores(mos, koniq), [0, 3.99, 10])
    np.testing.assert_allclose(readout.invert(readout.scores(mos, koniq), koniq), mos)
    ((name, invert),) = readout.inverse_maps(koniq).items()
    assert name == "ends"
    np.testing.assert_allclose(invert(np.array([0.0, 3.99])), [0, 39.9])


def test_the_text_alone_is_taught_and_labels_off_the_scale_are_refused() -> None:
    readout = DigitReadout()
    assert readout.targets(np.array([1.0, 5.0]), None, Scale(1, 5)).shape == (2, 0)
    assert (readout.mode, readout.needs_std, readout.new_tokens()) == ("stepped", False, ())
    for mos in (5.1, np.nan):
        with pytest.raises(ValueError, match=r"row 1 has an opinion of (5.1|nan) outside"):
            readout.targets(np.array([1.0, mos]), None, Scale(1, 5))


def test_config_round_trip() -> None:
    for readout in (DigitReadout(2, "eq4"), DigitReadout(3, "tree", 7)):
        again = make_readout(json.loads(json.dumps(readout.config())))
        assert again.config() == readout.config()
        np.testing.assert_array_equal(again.support, readout.support)
    np.testing.assert_array_equal(DigitReadout(2).support, np.arange(100) / 10)
    assert DigitReadout(2, "eq4").config() == {"name": "digits", "digits": 2, "reading": "eq4"}


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 3 digits, not in 4"):
        DigitReadout(4)
    with pytest.raises(ValueError, match="not as 'beam'"):
        DigitReadout(reading="beam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one branch, got 0"):
        DigitReadout(branches=0)
