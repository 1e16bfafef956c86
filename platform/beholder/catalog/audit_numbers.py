"""Whether the numbers of scores are some: finite, probabilities that sum to 1, means of them.

In numpy, as DuckDB's list functions end a query at a null in any row's list.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SUM_TOLERANCE = 1e-6

Mask = NDArray[np.bool_]


def wrong_numbers(rows: pa.Table) -> dict[str, Mask]:
    """Which rows break which of the checks ``finite``, ``sums`` and ``means``.

    A row that is not finite is held against nothing else. A point has neither support nor probs,
    and its scale's ends stand for the support's; a readout without words has no mass.

    Args:
        rows: columns of :data:`~beholder.catalog.tables.SCORES`.

    Returns:
        A mask of the rows (N,) a check.
    """
    mean, mass, std, entropy = (_numbers(rows[n]) for n in ("mean", "mass", "std", "entropy"))
    scale, support, probs = (_Lists.of(rows[n]) for n in ("scale", "support", "probs"))
    point = support.missing & probs.missing
    low, high = np.where(point, scale.least(), support.least()), support.greatest()
    high = np.where(point, scale.greatest(), high)
    width = scale.last() - scale.first()
    whole = np.isfinite(support.sum()) & np.isfinite(probs.sum()) & (probs.least() >= 0)
    whole &= np.isfinite(std) & np.isfinite(entropy)
    whole &= (support.lengths == probs.lengths) & (probs.lengths > 0)
    finite = np.isfinite(mean)
    finite &= pc.is_null(rows["mass"]).to_numpy() | ((mass >= 0) & (mass <= 1 + SUM_TOLERANCE))
    finite &= (scale.lengths == 2) & np.isfinite(scale.sum()) & (width > 0)
    finite &= point | whole
    room = SUM_TOLERANCE * width
    inside = (mean >= low - room) & (mean <= high + room)
    room = SUM_TOLERANCE * np.maximum(1, high - low)
    inside &= point | (np.abs(_products(probs, support, finite) - mean) <= room)
    return {
        "finite": ~finite,
        "sums": finite & ~point & ~(np.abs(probs.sum() - 1) <= SUM_TOLERANCE),
        "means": finite & ~inside,
    }


@dataclass(frozen=True)
class _Lists:
    """A column of lists of numbers.

    Attributes:
        flat: all their numbers, NaN for null.
        lengths: of each list, 0 for null. (N,)
        missing: whether it is null. (N,)
    """

    flat: NDArray[np.float64]
    lengths: NDArray[np.int64]
    missing: Mask

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "_Lists":
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
        return cls(_numbers(pc.list_flatten(column)), lengths, pc.is_null(column).to_numpy())

    def owners(self) -> NDArray[np.int64]:
        """The row of each number."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def sum(self) -> NDArray[np.float64]:
        # Empty weights would make counts of it.
        return np.bincount(self.owners(), self.flat, len(self.lengths)).astype(np.float64)

    def first(self) -> NDArray[np.float64]:
        return self._at(self.lengths.cumsum() - self.lengths)

    def last(self) -> NDArray[np.float64]:
        return self._at(self.lengths.cumsum() - 1)

    def least(self) -> NDArray[np.float64]:
        return self._reduced(np.minimum)

    def greatest(self) -> NDArray[np.float64]:
        return self._reduced(np.maximum)

    def _at(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.full(len(self.lengths), np.nan)
        filled = self.lengths > 0
        found[filled] = self.flat[places[filled]]
        return found

    def _reduced(self, by: np.ufunc) -> NDArray[np.float64]:
        """NaN for an empty list, and for one that holds a NaN."""
        found = np.full(len(self.lengths), np.nan)
        filled = self.lengths > 0
        if filled.any():
            found[filled] = by.reduceat(self.flat, (self.lengths.cumsum() - self.lengths)[filled])
        return found


def _products(probs: _Lists, support: _Lists, among: Mask) -> NDArray[np.float64]:
    """``sum p w`` of the rows ``among`` whose lists fit, NaN of the others."""
    found = np.full(len(among), np.nan)
    rows = among & ~probs.missing
    owners = probs.owners()
    p, w = probs.flat[rows[owners]], support.flat[rows[support.owners()]]
    found[rows] = np.bincount(owners[rows[owners]], p * w, len(among))[rows]
    return found


def _numbers(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """Floats, NaN for null."""
    found: NDArray[np.float64] = pc.fill_null(column, np.nan).to_numpy(zero_copy_only=False)
    return found
