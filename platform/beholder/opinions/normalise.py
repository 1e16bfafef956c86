"""Opinions on a set's own scale to the levels' 1..K (DeQA-Score, section 3.2)."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.opinions.levels import trimmed_range
from beholder.opinions.scale import Scale

DEFAULT_STD_SHARE = 0.2
"""Std as a share of the score range where a set has none (DeQA-Score, PIPAL, Table A1)."""

TOLERANCE = 1e-6
"""How far a mos may leave 1..K by rounding."""


class RangeRule(StrEnum):
    """Which range of a set's scores becomes 1..K."""

    DECLARED = "declared"
    """What raters could answer."""
    MIN_MAX = "min_max"
    """The smallest to the largest mos; DeQA-Score takes both over train and test together."""
    TRIMMED = "trimmed"
    """Without a thousandth at each end, whose rows are dropped: :func:`trimmed_range`."""


def score_range(
    mos: ArrayLike, rule: RangeRule, declared: Scale | None = None
) -> tuple[Scale, NDArray[np.bool_]]:
    """The range of a set by a named rule, and the rows that it keeps.

    Args:
        mos: all mean opinions of the set, on its own scale. (N,).
        rule: the rule.
        declared: the set's declared scale; only :attr:`RangeRule.DECLARED` reads it.

    Returns:
        The range, and a mask that is true where a row is kept. (N,).

    Raises:
        ValueError: there is no row, a mos is not finite, all are equal under a rule that takes
            the range from them, or the rule is ``declared`` and no scale is, or a mos lies
            outside of it.
    """
    values = np.asarray(mos, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"a range is taken over one row of mos, got shape {values.shape}")
    _refuse(~np.isfinite(values), values, "mos", "not finite: leave the row out")
    rule = RangeRule(rule)
    if rule is not RangeRule.DECLARED:
        if values.min() == values.max():
            raise ValueError(
                f"all {len(values)} mos are {values[0]:g}, which has no range: declare the scale"
            )
        if rule is RangeRule.TRIMMED:
            return trimmed_range(values)
        return Scale(float(values.min()), float(values.max())), np.ones(len(values), dtype=bool)
    if declared is None:
        raise ValueError("range rule 'declared' needs the scale: declare it or use 'min_max'")
    outside = (values < declared.minimum) | (values > declared.maximum)
    bounds = f"[{declared.minimum:g}, {declared.maximum:g}]"
    _refuse(outside, values, "mos", f"outside the declared scale {bounds}: correct either")
    return declared, np.ones(len(values), dtype=bool)


def normalise_mos(mos: ArrayLike, scale: Scale, k: int = 5) -> NDArray[np.float64]:
    """``(K-1) (mos - min) / (max - min) + 1``: the scale's ends become 1 and K. (N,).

    The inverse is :meth:`beholder.opinions.Levels.invert` through the ends.
    """
    return (k - 1) * scale.to_unit(mos) + 1


def normalise_std(std: ArrayLike | None, scale: Scale, k: int = 5) -> NDArray[np.float64]:
    """``(K-1) std / (max - min)``: a spread in levels; a fifth of K-1 where none is known.

    Args:
        std: on the set's own scale, NaN in rows where none is known, None where none is
            known at all. (N,).
        scale: the range that the mos were normalised with.
        k: how many levels.

    Returns:
        (N,), or a single number where ``std`` is None.
    """
    known = np.asarray(np.nan if std is None else std, dtype=np.float64)
    return np.where(np.isnan(known), DEFAULT_STD_SHARE * (k - 1), (k - 1) * known / scale.width)


def require_normalised(mos: ArrayLike, std: ArrayLike, k: int) -> None:
    """Refuses labels that were never mapped to 1..K: training on such gave an SRCC of 0.4.

    The largest std allowed is ``(K-1) / sqrt 2``, that of two raters who gave 1 and K: no
    ratings on 1..K have a larger sample std.

    Args:
        mos: mean opinions. (N,).
        std: their spreads. (N,).
        k: how many levels.

    Raises:
        ValueError: a mos is outside 1..K, or a std is negative or larger than can be; NaN too.
    """
    values, spreads = np.asarray(mos, dtype=np.float64), np.asarray(std, dtype=np.float64)
    inside = (values >= 1 - TOLERANCE) & (values <= k + TOLERANCE)
    _refuse(~inside, values, "mos", f"not within 1..{k}: map it there with normalise_mos first")
    largest = (k - 1) / np.sqrt(2)
    possible = (spreads >= 0) & (spreads <= largest + TOLERANCE)
    _refuse(
        ~possible,
        spreads,
        "std",
        f"not within 0..{largest:.3g}, all that ratings on 1..{k} can have: map it there with "
        "normalise_std, by the declared scale if it was by a narrower range",
    )


def _refuse(
    wrong: NDArray[np.bool_], values: NDArray[np.float64], name: str, complaint: str
) -> None:
    """One sentence on the first wrong row."""
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} of row {row} is {values.flat[row]:g}, {complaint}")
