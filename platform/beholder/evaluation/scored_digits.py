"""Digits of finished scores: what NCM and NCM* need, out of the tables that a pass keeps.

A readout of digits leaves the probabilities of all ``10^M`` numbers of an item, ``P(d1 .. dM)``.
A digit's distribution behind those before it is a quotient of sums over them,
``p(d | d1 .. di) = P(d1 .. di d) / P(d1 .. di)``, where P of a beginning is the sum over the
numbers that begin so. Here the digits before are the true ones.

What that equals depends on how the numbers were read. Of a ``tree`` it is the softmax of the
logits behind the true digits (teacher-forced), which cross-entropy teaches and the validations of
a training run print, as far as the tree followed the true beginning; behind one that it did not,
digits are even, which moves an item's expectation by at most half a unit of the beginning's last
digit. ``eq4`` keeps its digits as if they were independent, so that the same quotient is the
softmax behind the *written* digits, whatever the true ones are. Such tables are told by being a
product of their digits' distributions.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from beholder.evaluation.digits import DIGITS

Array = NDArray[np.float64]

EVEN = 1e-12
"""Digits whose probabilities differ by less than this part of each other were never looked at."""
PRODUCT = 1e-9
"""How closely, relative to itself, a table is the product of its digits' distributions."""


@dataclass(frozen=True)
class ScoredDigits:
    """The digits of one pass over a set.

    Attributes:
        rows: those of the pass's scored rows that can be measured, ascending. (n,).
        probs: each digit's distribution behind the digits before it, (n, M, 10).
        true: the opinions as the readout writes them, in [0, 10). (n,).
        behind: whether the digits before are the true ones or the written ones.
        followed: part of the rows of which every digit was looked at behind the true ones.
    """

    rows: NDArray[np.int64]
    probs: Array
    true: Array
    behind: Literal["true", "written"]
    followed: float


def places_of(support: Array) -> int | None:
    """M if a support is that of all numbers of M digits below 10, None if it is another one."""
    for places in (1, 2, 3):
        if np.array_equal(support, np.arange(DIGITS**places) / DIGITS ** (places - 1)):
            return places
    return None


def scored_digits(numbers: Array, true: Array, single: NDArray[np.bool_]) -> ScoredDigits:
    """The distributions of each digit behind the true ones.

    Args:
        numbers: each item's probabilities of all numbers of M digits, (N, 10^M).
        true: its opinion on 0..10; written as at most ``10 - 10^(1-M)``. (N,).
        single: whether the item is one clip; the numbers of several are a mixture, in which no
            digit stands behind one other. (N,).

    Returns:
        Rows of one clip, but for those whose true beginning has no probability at all, or whose
        true digit has all of it, which leaves nothing for NCM*.
    """
    places = round(np.log10(numbers.shape[1]))
    written = np.minimum(true, DIGITS - 10.0 ** (1 - places))
    number = np.round(written * 10.0 ** (places - 1)).astype(np.int64)
    probs = _behind(numbers, number, places)
    digits = number[:, None] // DIGITS ** np.arange(places - 1, -1, -1) % DIGITS  # (N, M)
    others = np.where(np.arange(DIGITS) == digits[..., None], 0.0, probs).sum(-1)
    rows = np.flatnonzero(single & np.isfinite(probs).all((1, 2)) & (others > 0).all(1))
    probs, numbers = probs[rows], numbers[rows]
    later = probs[:, 1:]
    looked = (np.ptp(later, axis=-1) > EVEN * later.max(-1, initial=0.0)).all(-1)
    product = places > 1 and bool(len(rows)) and _is_product(numbers, places)
    return ScoredDigits(
        rows=rows,
        probs=probs,
        true=written[rows],
        behind="written" if product else "true",
        followed=float(looked.mean()) if len(rows) else 0.0,
    )


def _behind(numbers: Array, true: NDArray[np.int64], places: int) -> Array:
    """``p(d | true digits before)`` of each place, (N, M, 10); NaN behind what can't be."""
    rows, found = np.arange(len(numbers)), []
    for place in range(places):
        begun = numbers.reshape(len(numbers), DIGITS**place, DIGITS, -1).sum(-1)
        here = begun[rows, true // DIGITS ** (places - place)]  # (N, 10)
        whole = here.sum(-1, keepdims=True)
        found.append(np.divide(here, whole, out=np.full_like(here, np.nan), where=whole > 0))
    return np.stack(found, 1)


def _is_product(numbers: Array, places: int) -> bool:
    """Whether every row is the product of its digits' marginal distributions."""
    joint = numbers.reshape(len(numbers), *[DIGITS] * places)
    product = np.ones((len(numbers), 1))
    for place in range(places):
        others = tuple(axis for axis in range(1, places + 1) if axis != place + 1)
        product = (product[:, :, None] * joint.sum(others)[:, None]).reshape(len(numbers), -1)
    return bool(np.allclose(product, numbers, rtol=PRODUCT, atol=0.0))
