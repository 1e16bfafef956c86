"""Scorers by test sets: what each scorer said of each set, beside what people said.

Nothing is scored here. Score rows come from finished passes, opinions from manifests, and both
meet by ``item_id``.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from beholder.datasets.splits import SPLITS
from beholder.errors import UserError
from beholder.evaluation.scored_digits import DIGITS, ScoredDigits, places_of, scored_digits
from beholder.evaluation.table import INVERSE_MAPS
from beholder.opinions import LEVEL_WORDS, Levels, Scale, vote_distribution

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class MatrixError(UserError, ValueError):
    """Scores and opinions that don't fit together; the message names scorer, set and remedy."""


@dataclass(frozen=True)
class Opinions:
    """What people said of a test set's N items.

    Attributes:
        name: the set's.
        task: what its ``mos`` rates.
        levels: the five words over the set's declared scale.
        row: by ``item_id``, its row 0..N-1; -1 for the manifest's items of other splits.
        mos: on the set's own scale. (N,).
        std: in the same unit, NaN where unknown. (N,).
        sources: each row's photo or scene. (N,).
        table: the manifest's rows, for outside scores.
    """

    name: str
    task: str
    levels: Levels
    row: Mapping[str, int]
    mos: Array
    std: Array
    sources: NDArray[np.str_]
    table: pa.Table


@dataclass(frozen=True)
class Predictions:
    """What one scorer said of one set.

    Attributes:
        rows: rows of :class:`Opinions` that have a score, ascending. (n,).
        mean: the distribution's expectation, on the scorer's scale. (n,).
        mode: the score of highest probability; None where there is no distribution. (n,).
        mass: probability on the readout's words; None where it isn't known. (n,).
        on_scale: mean and std on the set's scale, (n,) each, by inverse map: ``centres`` and
            ``ends`` of scores 1..K, else ``given``, which maps the scorer's scale's ends onto
            the set's. The std is None for a readout without. Empty for an ensemble, which has
            an order and no scale.
        std: spread on the scorer's scale. (n,).
        levels: of a scorer whose scores are 1..K, over the set's scale.
        failures: failed items by code.
        fingerprint: of the scorer; "" for an ensemble.
        digits: of a scorer that reads numbers digit by digit, for NCM and NCM*.
        without_digits: why there are none, of a scorer that writes numbers.
    """

    rows: Rows
    mean: Array
    mode: Array | None
    mass: Array | None
    on_scale: Mapping[str, tuple[Array, Array | None]]
    std: Array | None
    levels: Levels | None
    failures: Mapping[str, int]
    fingerprint: str
    digits: ScoredDigits | None = None
    without_digits: str | None = None


# --- opinions -------------------------------------------------------------------------------------


def opinions_of(
    name: str, task: str, scale: Scale, manifest: pa.Table, split: str | None = None
) -> Opinions:
    """A test set's opinions.

    Args:
        name: the set's.
        task: what ``mos`` rates.
        scale: its declared scale.
        manifest: a checked manifest with ``mos``; with ``std``, or else with ``votes`` from
            worst to best evenly over the scale, spreads are known. Rows of one ``source`` are
            one cluster; without that column each row is its own.
        split: the rows that count, where the manifest has a column ``split``; None: all.

    Raises:
        MatrixError: no row is of that split, one is of a split that is none, a ``mos`` lies
            outside the scale, a ``std`` is negative, or votes can't be read.
    """
    every = manifest["item_id"].to_pylist()
    if "split" in manifest.column_names:
        _check_splits(name, manifest)
    if split is not None and "split" in manifest.column_names:
        table = manifest.filter(pc.equal(manifest["split"], split))
        if not table.num_rows:
            found = sorted({str(one) for one in manifest["split"].to_pylist()})
            raise MatrixError(
                f"set '{name}' has no rows of split '{split}', only of {found}: name one of "
                "these, or none for all rows"
            )
    else:
        table = manifest
    items = table["item_id"].to_pylist()
    mos = table["mos"].to_numpy().astype(np.float64)
    outside = np.flatnonzero((mos < scale.minimum) | (mos > scale.maximum))
    if len(outside):
        raise MatrixError(
            f"set '{name}': item '{items[outside[0]]}' has mos {mos[outside[0]]:g}, outside its "
            f"scale [{scale.minimum:g}, {scale.maximum:g}]: declare what raters could answer"
        )
    return Opinions(
        name=name,
        task=task,
        levels=Levels(scale),
        row=dict.fromkeys(every, -1) | {item: row for row, item in enumerate(items)},
        mos=mos,
        std=_spreads(name, scale, table),
        sources=np.array(table["source" if "source" in table.column_names else "item_id"]),
        table=table,
    )


def _check_splits(name: str, manifest: pa.Table) -> None:
    """Refuses a misspelt split, whose rows would be left out without a word."""
    strange = manifest.filter(pc.invert(pc.is_in(manifest["split"], pa.array([*SPLITS, None]))))
    if strange.num_rows:
        raise MatrixError(
            f"set '{name}': item '{strange['item_id'][0]}' is in split '{strange['split'][0]}': "
            f"use {', '.join(SPLITS)}, or leave it empty"
        )


def _spreads(name: str, scale: Scale, table: pa.Table) -> Array:
    """People's spreads from ``std``, or from ``votes``; NaN where there is neither. (N,)."""
    if "std" in table.column_names:
        std = np.array(table["std"].to_pylist(), dtype=np.float64)  # null becomes NaN
        if np.any(std < 0):
            at = int(np.argmax(std < 0))
            raise MatrixError(
                f"set '{name}': item '{table['item_id'][at]}' has std {std[at]:g}: a spread "
                "can't be negative, correct or empty it"
            )
        return std
    spreads = np.full(table.num_rows, np.nan)
    if "votes" in table.column_names and table["votes"].null_count < table.num_rows:
        votes = table["votes"].to_pylist()
        given = np.array([v is not None for v in votes])
        try:
            counts = np.array([v for v in votes if v is not None], dtype=np.float64)
            support = np.linspace(scale.minimum, scale.maximum, counts.shape[-1])
            spreads[given] = vote_distribution(counts, support).std
        except ValueError as error:
            raise MatrixError(f"set '{name}': its votes can't be read: {error}") from error
    return spreads


# --- predictions ----------------------------------------------------------------------------------


def predictions_of(scorer: str, opinions: Opinions, scores: pa.Table) -> Predictions:
    """A finished pass's rows of the set's task, in the order of the set.

    Args:
        scorer: its name in messages.
        opinions: the set's.
        scores: rows of the catalog: ``item_id, task, mean, std, support, probs, scale, mass,
            fingerprint, failure_code``.

    Raises:
        MatrixError: the scores know an item that the manifest doesn't, are of another task or of
            two scorers, or fewer than two items have a score.
    """
    where = f"scorer '{scorer}' on set '{opinions.name}'"
    for item in scores["item_id"].to_pylist():
        if item not in opinions.row:
            raise MatrixError(
                f"{where}: item '{item}' has a score and is not in the set's manifest: give the "
                "manifest that was scored"
            )
    table = scores.filter(pc.is_in(scores["task"], pa.array([opinions.task, ""])))
    if not table.num_rows and scores.num_rows:
        tasks = sorted(set(scores["task"].to_pylist()))
        raise MatrixError(
            f"{where}: the pass scored {tasks}, not '{opinions.task}': give the set's task, or "
            "another pass"
        )
    at = np.array([opinions.row[item] for item in table["item_id"].to_pylist()], dtype=np.int64)
    table, at = table.filter(pa.array(at >= 0, pa.bool_())), at[at >= 0]
    failed = [code is not None for code in table["failure_code"].to_pylist()]
    failures = Counter(table["failure_code"].drop_null().to_pylist())
    good = ~np.array(failed, dtype=bool)
    order = np.flatnonzero(good)[np.argsort(at[good])]
    if len(order) < 2:
        raise MatrixError(
            f"{where}: scores and manifest have {len(order)} scored items in common"
            f"{_because(failures)}: two are the least for a correlation"
        )
    found = table.take(pa.array(order))
    return _predictions(where, opinions, found, at[order], dict(failures))


def _because(failures: Mapping[str, int]) -> str:
    failed = ", ".join(f"{count} {code}" for code, count in failures.items())
    return f" ({failed} failed)" if failed else ""


def _predictions(
    where: str, opinions: Opinions, table: pa.Table, rows: Rows, failures: Mapping[str, int]
) -> Predictions:
    scale = opinions.levels.scale
    prints = sorted(set(table["fingerprint"].to_pylist()))
    if len(prints) > 1:
        raise MatrixError(f"{where}: the pass mixes scores of {prints}: score the set anew")
    points = table["support"].null_count > 0
    support = None if points else np.array(table["support"][0].as_py(), dtype=np.float64)
    own = Scale(*table["scale"][0].as_py())
    mean, std = _column(table, "mean"), _column(table, "std")
    assert mean is not None
    levels = None if support is None else _levels(support, scale)
    probs = None if points else np.array(table["probs"].to_pylist(), dtype=np.float64)  # (n, K)
    digits, without = _digits(table, support, probs, own, scale.to_unit(opinions.mos[rows]))
    return Predictions(
        rows=rows,
        mean=mean,
        mode=None if support is None or probs is None else _modes(support, probs),
        mass=_column(table, "mass"),
        on_scale=_on_set_scale(mean, std, own, levels, scale),
        std=std,
        levels=levels,
        failures=failures,
        fingerprint=prints[0],
        digits=digits,
        without_digits=without,
    )


def _column(table: pa.Table, name: str) -> Array | None:
    """A column as numbers; None if a row has none."""
    return None if table[name].null_count else table[name].to_numpy().astype(np.float64)


def _modes(support: Array, probs: Array) -> Array | None:
    return None if len(support) < 2 else support[probs.argmax(axis=1)]


def _digits(
    table: pa.Table, support: Array | None, probs: Array | None, own: Scale, unit: Array
) -> tuple[ScoredDigits | None, str | None]:
    """The digits of numbers read digit by digit, or why a scorer of numbers has none."""
    if own != Scale(0, DIGITS):
        return None, None
    if support is None or probs is None:
        return None, (
            "its scores are numbers as they were written (reading: greedy), which keep no digit's "
            "probabilities: score with reading tree"
        )
    if places_of(support) is None:
        return None, None
    single = np.array([len(means or ()) < 2 for means in table["clip_means"].to_pylist()])
    found = scored_digits(probs, own.from_unit(unit), single)
    if not len(found.rows):
        return (
            None,
            "no item is one clip (the digits of several are a mixture) that can be measured",
        )
    return found, None


def _levels(support: Array, scale: Scale) -> Levels | None:
    k = len(support)
    if k < 2 or not np.array_equal(support, np.arange(1, k + 1)):
        return None
    words = LEVEL_WORDS if k == len(LEVEL_WORDS) else tuple(f"{i} of {k}" for i in range(1, k + 1))
    return Levels(scale, words=words)


def _on_set_scale(
    mean: Array, std: Array | None, own: Scale, levels: Levels | None, scale: Scale
) -> dict[str, tuple[Array, Array | None]]:
    """All maps are straight lines, so a spread takes their slope."""
    if levels is None:
        spread = None if std is None else std * scale.width / own.width
        return {"given": (scale.from_unit(own.to_unit(mean)), spread)}
    found: dict[str, tuple[Array, Array | None]] = {}
    for through in INVERSE_MAPS:
        zero = levels.invert(0.0, through)
        spread = None if std is None else levels.invert(std, through) - zero
        found[through] = (levels.invert(mean, through), spread)
    return found


def is_zero_shot(training: str | Sequence[str], test: str) -> bool:
    """Whether a test set is not named among a scorer's training sets; case doesn't matter.

    Args:
        training: a list of set names, or free text, in which whole words are looked for.
        test: the test set's name.
    """
    if not isinstance(training, str):
        return test.casefold() not in {name.casefold() for name in training}
    whole = rf"(?<![\w-]){re.escape(test)}(?![\w-])"
    return re.search(whole, training, re.IGNORECASE) is None
