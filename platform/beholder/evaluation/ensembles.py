"""Several scorers taken together on the items that all of them have a score for."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from beholder.evaluation.comparison import zscore_ensemble
from beholder.evaluation.matrix import Array, MatrixError, Opinions, Predictions, Rows


def common_rows(scorers: Mapping[str, Rows], where: str) -> Rows:
    """The rows that all scorers have a score for, ascending.

    Raises:
        MatrixError: fewer than two.
    """
    first, *others = scorers.values()
    for other in others:
        first = np.intersect1d(first, other)
    if len(first) < 2:
        raise MatrixError(
            f"set '{where}': {' and '.join(scorers)} have {len(first)} scored items in common: "
            "score the same items with each"
        )
    return first


def ensemble(
    name: str, opinions: Opinions, members: Mapping[str, Predictions], columns: Sequence[str]
) -> Predictions:
    """The mean of z-scores of several scorers, and of outside scores that the manifest has.

    Mean and std of each are taken over the items that all have a score for. The result orders
    them and has no scale.

    Args:
        name: the ensemble's, for messages.
        opinions: the set's.
        members: scorers by name.
        columns: of the manifest, higher is better; rows without a finite number are left out.

    Raises:
        MatrixError: no items in common, a column isn't there or holds no numbers, or a member's
            scores are all equal.
    """
    scores: dict[str, Array] = {}
    have: dict[str, Rows] = {}
    for member, said in members.items():
        scores[member] = np.full(len(opinions.mos), np.nan)
        scores[member][said.rows] = said.mean
    for column in columns:
        scores[f"column '{column}'"] = _outside(opinions, column)
    for key, values in scores.items():
        have[key] = np.flatnonzero(np.isfinite(values))
    rows = common_rows(have, opinions.name)
    try:
        mean = zscore_ensemble({key: values[rows] for key, values in scores.items()})
    except ValueError as error:
        raise MatrixError(f"ensemble '{name}' on set '{opinions.name}': {error}") from error
    return Predictions(rows, mean, None, None, {}, None, None, {}, "")


def _outside(opinions: Opinions, column: str) -> Array:
    if column not in opinions.table.column_names:
        raise MatrixError(
            f"set '{opinions.name}' has no column '{column}': its manifest has "
            f"{opinions.table.column_names}"
        )
    try:
        numbers = opinions.table[column].cast(pa.float64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise MatrixError(
            f"set '{opinions.name}': column '{column}' holds {opinions.table[column].type}, not "
            "numbers: an ensemble needs an outside score"
        ) from None
    return np.array(numbers, dtype=np.float64)
