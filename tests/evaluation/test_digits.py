"""NCM and NCM* (RealQA, Eq. 3 to 7)."""

import numpy as np
import pytest

from beholder.evaluation import WithoutTrue, digit_expectation, ncm, ncm_star

UNIFORM = np.full((3, 10), 0.1)


def certain(*digits: int) -> np.ndarray:
    return np.eye(10)[list(digits)]


def first_digit(shares: dict[int, float]) -> np.ndarray:
    """A score of one digit, (1, 1, 10)."""
    probs = np.zeros((1, 1, 10))
    for digit, share in shares.items():
        probs[0, 0, digit] = share
    return probs


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_uniform_digits() -> None:
    assert digit_expectation(UNIFORM) == pytest.approx(4.5 * 1.11)


def test_the_most_significant_digit_weighs_most() -> None:
    assert digit_expectation(certain(3, 9, 9)) == pytest.approx(3.99)
    assert digit_expectation(certain(0, 0, 7)) == pytest.approx(0.07)
    assert digit_expectation(certain(4, 2)) == pytest.approx(4.2)


@pytest.mark.parametrize(("read", "value"), [((4, 0, 1), 0.0004), ((4, 9, 9), 1.0)])
def test_the_papers_example(read: tuple[int, ...], value: float) -> None:
    """Figure 4: truth 3.99; 4.01 is nearer than 4.99, whose digits agree in two places."""
    assert ncm([certain(*read)], [3.99]) == pytest.approx(value)


def test_the_truth_counts_as_it_is_written() -> None:
    """Eq. 2: 3.9845 is 3.98 in three digits and 4.0 in two."""
    assert ncm([certain(3, 9, 8)], [3.9845]) == pytest.approx(0)
    assert ncm([certain(4, 0)], [3.9845]) == pytest.approx(0)


def test_ncm_is_the_mean_over_rows_of_the_expectation() -> None:
    probs = softmax(np.random.default_rng(0).normal(size=(50, 3, 10)))
    true = np.random.default_rng(1).integers(0, 1000, 50) / 100
    by_hand = [
        (sum(v * p[i][v] / 10**i for i in range(3) for v in range(10)) - t) ** 2
        for p, t in zip(probs, true, strict=True)
    ]
    assert ncm(probs, true) == pytest.approx(np.mean(by_hand))


def test_both_forms_of_ncm_star() -> None:
    probs = first_digit({3: 0.5, 2: 0.25, 4: 0.25})  # E* is 3 renormalised and 1.5 as printed
    assert ncm_star(probs, [3]) == pytest.approx(0)
    assert ncm_star(probs, [3], WithoutTrue.PAPER_EQ6) == pytest.approx(1.5**2)
    assert ncm(probs, [3]) == pytest.approx(0)


def test_the_true_digit_of_every_place_is_left_out() -> None:
    probs = np.zeros((1, 3, 10))
    for place, digit in enumerate((3, 8, 5)):
        probs[0, place, [digit, digit + 1]] = 0.9, 0.1
    assert ncm_star(probs, [3.85]) == pytest.approx(1.11**2)  # reads 4.96
    assert ncm_star(probs, [3.85], WithoutTrue.PAPER_EQ6) == pytest.approx((0.496 - 3.85) ** 2)


def test_a_sharp_readers_neighbours_show_only_when_renormalised() -> None:
    """As printed, the error grows to the truth's square, past anything in the paper's Table 6."""
    true = np.random.default_rng(2).integers(100, 900, 200) / 100
    digits = np.stack([true // 1, true * 10 // 1 % 10, np.round(true * 100) % 10], axis=1)
    distance = np.abs(np.arange(10) - digits[..., None])
    sharp = softmax(-8 * distance)
    assert ncm_star(sharp, true) < 0.2
    printed = ncm_star(sharp, true, WithoutTrue.PAPER_EQ6)
    assert printed == pytest.approx((true**2).mean(), rel=0.02)
    assert printed > 10


def test_what_are_no_digits_is_refused() -> None:
    for probs, true, message in [
        (np.full((2, 3, 9), 1 / 9), [1, 2], r"\(\.\.\., M, 10\), got \(2, 3, 9\)"),
        ([UNIFORM], [1, 2], r"shape \(1, 3, 10\) and true scores of shape \(2,\)"),
        ([UNIFORM], [9.996], "row 0 is 9.996, .* clip at 9.99"),
        ([UNIFORM, UNIFORM], [5, -0.2], "row 1 is -0.2"),
        ([UNIFORM], [np.nan], "row 0 is nan"),
        ([UNIFORM * 1.1], [1], "sum to 1, they sum to 1.1"),
        ([-UNIFORM], [1], "not negative"),
    ]:
        with pytest.raises(ValueError, match=message):
            ncm(probs, true)
    with pytest.raises(ValueError, match="digit 2 of row 0 has probability 1"):
        ncm_star([np.concatenate([UNIFORM[:2], certain(9)])], [3.99])
    with pytest.raises(ValueError, match="literal"):
        ncm_star([UNIFORM], [3.99], "literal")  # type: ignore[arg-type]
