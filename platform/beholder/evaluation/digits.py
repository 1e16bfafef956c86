"""Whether digits are read as one number: RealQA's NCM and NCM* (Next Token Is Enough, 3.2).

Cross-entropy counts 4.99 as nearer to 3.99 than 4.01 is, for it has two digits in common with
the truth and the other none. Both metrics go by the number instead. They are monitors: the loss
stays cross-entropy.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIGITS = 10


class WithoutTrue(StrEnum):
    """How NCM* leaves the true digit out of a digit's expectation."""

    RENORMALISED = "renormalised"
    """The other nine digits' probabilities are scaled to sum to 1."""
    PAPER_EQ6 = "paper_eq6"
    """Only the numerator loses the digit (Eq. 6 as printed, and the release), so that a sharp
    reader's expectation goes to 0 and NCM* to the mean square of the truth."""


def digit_expectation(probs: ArrayLike) -> NDArray[np.float64]:
    """The expected score, ``sum_i 10^-i sum_v v p_i(v)`` for i = 0..M-1 (Eq. 3 and 4).

    Args:
        probs: each digit's distribution over 0..9, most significant digit first. (..., M, 10).

    Returns:
        Scores in [0, 10), not rounded to M digits. (...).

    Raises:
        ValueError: as :func:`ncm`, but for the truth.
    """
    return _number(_distributions(probs) @ np.arange(DIGITS))


def ncm(probs: ArrayLike, true: ArrayLike) -> float:
    """The numerical continuity metric: mean squared error of :func:`digit_expectation` (Eq. 5).

    Args:
        probs: each digit's distribution over 0..9, most significant first. (N, M, 10).
        true: opinions in [0, 10); they count as rounded to M digits, as they are written (Eq. 2).
            (N,).

    Returns:
        0 or more, in squared units of the score.

    Raises:
        ValueError: a shape doesn't fit, probabilities are negative, not finite or don't sum to
            1 within 1e-4, or an opinion is not finite or doesn't round into [0, 10).
    """
    return float(ncm_errors(probs, true).mean())


def ncm_errors(probs: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """The squared errors of which :func:`ncm` is the mean, for intervals. (N,)."""
    p = _distributions(probs)
    digits = _true_digits(true, p)
    return _squares(p @ np.arange(DIGITS), digits)


def ncm_star(
    probs: ArrayLike, true: ArrayLike, form: WithoutTrue = WithoutTrue.RENORMALISED
) -> float:
    """NCM*, the same error with the true digit left out of each expectation (Eq. 6 and 7).

    It is small where the next likely digits are the true one's neighbours. The printed equation
    and the prose disagree on the denominator, see :class:`WithoutTrue`.

    Args:
        probs: as for :func:`ncm`. (N, M, 10).
        true: as for :func:`ncm`. (N,).
        form: how the digit is left out.

    Raises:
        ValueError: as :func:`ncm`, or ``renormalised`` is asked where a true digit has all of
            the probability, so that nothing is left to renormalise.
    """
    return float(ncm_star_errors(probs, true, form).mean())


def ncm_star_errors(
    probs: ArrayLike, true: ArrayLike, form: WithoutTrue = WithoutTrue.RENORMALISED
) -> NDArray[np.float64]:
    """The squared errors of which :func:`ncm_star` is the mean, for intervals. (N,)."""
    p = _distributions(probs)
    digits = _true_digits(true, p)
    others = np.where(np.arange(DIGITS) == digits[..., None], 0.0, p)
    if WithoutTrue(form) is WithoutTrue.RENORMALISED:
        left = others.sum(axis=-1, keepdims=True)  # not 1 - p, which rounds to 0 too early
        empty = np.argwhere(left[..., 0] == 0)
        if len(empty):
            row, place = empty[0]
            raise ValueError(
                f"digit {place} of row {row} has probability 1 for its true value, which leaves "
                "nothing for NCM*: take the softmax in double precision"
            )
        others = others / left
    return _squares(others @ np.arange(DIGITS), digits)


def _squares(expected: NDArray[np.float64], digits: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray((_number(expected) - _number(digits)) ** 2)


def _number(digits: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """(..., M) digits or their expectations to (...) numbers; w = (1, .1, ..., 10^(1-M))."""
    return np.asarray(digits @ (10.0 ** -np.arange(digits.shape[-1])))


def _distributions(probs: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(probs, dtype=np.float64)
    if p.ndim < 2 or p.shape[-1] != DIGITS or 0 in p.shape:
        raise ValueError(f"digit probabilities must be of shape (..., M, 10), got {p.shape}")
    if not np.all(np.isfinite(p)) or np.any(p < 0):
        raise ValueError("digit probabilities must be finite and not negative")
    sums = p.sum(axis=-1)
    if np.any(np.abs(sums - 1) > 1e-4):
        worst = float(sums.flat[int(np.argmax(np.abs(sums - 1)))])
        raise ValueError(f"a digit's probabilities must sum to 1, they sum to {worst:.6g}")
    return p


def _true_digits(true: ArrayLike, probs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The M digits of each opinion (Eq. 2), (N, M)."""
    t = np.asarray(true, dtype=np.float64)
    if probs.ndim != 3 or t.shape != probs.shape[:1]:
        raise ValueError(
            f"digit probabilities of shape {probs.shape} and true scores of shape {t.shape} must "
            "be (N, M, 10) and (N,)"
        )
    places = probs.shape[1]
    number = np.round(t * 10.0 ** (places - 1))
    wrong = np.flatnonzero(~((number >= 0) & (number < 10**places)))
    if len(wrong):
        raise ValueError(
            f"true score of row {wrong[0]} is {t[wrong[0]]}, which {places} digits can't write "
            f"below 10: map it to [0, 10) and clip at {10 - 10.0 ** (1 - places):g}"
        )
    scale = 10 ** np.arange(places - 1, -1, -1)
    return number.astype(np.int64)[:, None] // scale % 10
