"""A run's data sets, checked against what its config expects of them."""

import logging
import os
from bisect import bisect_left
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beholder.config import ConfigError
from beholder.datasets import TrainingSet, few_shot
from beholder.datasets.manifests import load_manifest
from beholder.datasets.splits import SPLITS
from beholder.logs import event
from beholder.media.storage import exists
from beholder.opinions import RangeRule, score_range
from beholder.readouts import Votes, make_readout
from beholder.training.config import TrainConfig
from beholder.training.feed import refuse_failures
from beholder.training.set_config import SetConfig

log = logging.getLogger(__name__)

LOOKED_FOR = 256
"""Media that are asked for before training starts: a second's work on S3."""
NEARLY_ALL = (0.01, 0.99)
"""Quantiles that leave out what a single slip would widen a set's opinions to."""
NARROW = 0.25
"""Part of the scale below which opinions are taken to be on another one: of five level words two
or more would never be taught. AVA's, the narrowest public set's, fill 39% of 1..10."""
NO_TEST_ROWS = "no row in split 'test'"
"""Why a set is not measured at the end of a run."""


def with_ranges(config: TrainConfig) -> TrainConfig:
    """The config with every named range as numbers, and what it leaves out as bounds.

    Ranges are taken over the rows of all splits, or of train, those too that the set's ``within``
    leaves out (DeQA-Score's KonIQ).

    Raises:
        ConfigError: a set's mos are all equal or not there.
        ManifestError: a column is missing.
        StorageError: a manifest can't be read.
    """
    return config.model_copy(update={"sets": tuple(with_range(some) for some in config.sets)})


def with_range(some: SetConfig) -> SetConfig:
    """See :func:`with_ranges`; a set with a declared scale stays as it is."""
    if some.range is RangeRule.DECLARED:
        return some
    rows = load_manifest(some.manifest, need=("mos", "split"))
    if some.range_over == "train":
        rows = rows.filter(pc.equal(rows["split"], "train"))
    try:
        scale, kept = score_range(rows["mos"].to_numpy(), some.range)
    except ValueError as error:
        raise ConfigError(
            f"set {some.name}: range {some.range} of {some.manifest}: {error}"
        ) from error
    bounds = (scale.minimum, scale.maximum)
    taken = {"scale": bounds, "range": RangeRule.DECLARED, "range_over": "all"}
    within = some.within if kept.all() else {**some.within, "mos": bounds}
    return some.model_copy(update=taken | {"within": within})


def load_set(some: SetConfig, config: TrainConfig) -> TrainingSet:
    """One set's manifest, with the part of its training rows that is learned from.

    Args:
        some: the set, of :func:`with_ranges`.
        config: the run's; its test rows will be measured against ``evaluate``'s columns.

    Raises:
        ConfigError: it has another number of training rows within than ``rows``, no row to train
            on or to select by, a split that is none, text to be measured against or to lie within
            bounds, a spread or weight that is none, one medium twice, or opinions that the readout
            or the objective can't use.
        ManifestError: a column is missing.
        StorageError: it can't be read.
    """
    table = load_manifest(some.manifest, need=("mos", "split", *config.evaluate, *some.within))
    _check_columns(some, table, config)
    _check_rows(some, table)
    kept = _within(some, table)
    if kept.num_rows < table.num_rows:
        event(log, "rows.left_out", set=some.name, rows=table.num_rows - kept.num_rows)
    found = TrainingSet(some.name, kept, some.task, some.bounds, some.attributes)
    count = rows_of(found, "train").num_rows
    if some.rows is not None and count != some.rows:
        raise ConfigError(
            f"set {some.name} expects {some.rows} training rows and {some.manifest} has {count}"
            f"{' of those within' if some.within else ''}: correct sets.rows, or rebuild the "
            "manifest with the splits, and val_from, that they were counted with"
        )
    if some.fraction < 1:
        found = replace(found, table=few_shot(found.table, some.fraction, some.fraction_seed))
    for split in ("train", "val"):
        if not rows_of(found, split).num_rows:
            raise ConfigError(
                f"set {some.name}: {some.manifest} has no row in split '{split}': training needs "
                "some to learn from and some to select by"
            )
    _check_weights(some, found)
    _check_labels(some, found, config)
    return found


def doubts(one: TrainingSet) -> list[str]:
    """What is likely not meant of a set that can be learned, a clause each."""
    found = [] if rows_of(one, "test").num_rows else [f"{NO_TEST_ROWS}: it is not measured"]
    low, high = np.quantile(rows_of(one, "train", "val")["mos"].to_numpy(), NEARLY_ALL)
    filled = (high - low) / one.scale.width
    if filled < NARROW:
        found.append(
            f"nearly all mos lie in [{low:.3g}, {high:.3g}], {filled:.0%} of its scale "
            f"[{one.scale.minimum:g}, {one.scale.maximum:g}]: is it the scale that they are on?"
        )
    return found


def _check_weights(some: SetConfig, found: TrainingSet) -> None:
    rows = rows_of(found, "train")
    if "weight" in rows.column_names and not any(w != 0 for w in rows["weight"].to_pylist()):
        raise ConfigError(
            f"set {some.name}: all its training rows in {some.manifest} have weight 0, so that "
            "nothing is learned from it: leave the set out, or give weights above 0, empty for 1"
        )


def _check_columns(some: SetConfig, table: pa.Table, config: TrainConfig) -> None:
    """Refuses splits that nobody would read, and text to be measured against."""
    strange = table.filter(pc.invert(pc.is_in(table["split"], pa.array(SPLITS))))
    if strange.num_rows:
        raise ConfigError(
            f"set {some.name}: item '{strange['item_id'][0]}' of {some.manifest} is in split "
            f"'{strange['split'][0]}': use {', '.join(SPLITS)}, or leave the row out"
        )
    _check_numbers("evaluate", config.evaluate, some, table)
    _check_numbers("within", some.within, some, table)


def _check_numbers(key: str, columns: Iterable[str], some: SetConfig, table: pa.Table) -> None:
    for column in columns:
        kind = table[column].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise ConfigError(
                f"{key} names column '{column}', which holds {kind} in {some.manifest} (set "
                f"{some.name}): name columns of numbers"
            )


def _check_rows(some: SetConfig, table: pa.Table) -> None:
    """Refuses, in rows of any split, spreads and weights that are none, and a medium seen twice."""
    scale = some.bounds
    bounds = f"[{scale.minimum:g}, {scale.maximum:g}]"
    remedies = {
        "std": f"in the unit of its scale {bounds}, empty where it isn't known",
        "weight": "empty for 1",
    }
    for column, remedy in remedies.items():
        if column not in table.column_names:
            continue
        values = np.array(table[column].to_pylist(), dtype=np.float64)  # NaN where empty
        widest = scale.width if column == "std" else np.finfo(float).max
        wrong = (values < 0) | (values > widest)
        if column == "weight":
            wrong |= np.isnan(values) & table[column].is_valid().to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConfigError(
                f"set {some.name}: item '{table['item_id'][row]}' of {some.manifest} has {column} "
                f"{values[row]:g}: give a number from 0 on, {remedy}"
            )
    first: dict[str, int] = {}
    for row, uri in enumerate(table["uri"].to_pylist()):
        # A path may be written in several ways; a key of an object store is what it is.
        before = first.setdefault(uri if "://" in uri else os.path.normpath(uri), row)
        if before != row:
            items = [table["item_id"][at] for at in (before, row)]
            raise ConfigError(
                f"set {some.name}: items '{items[0]}' and '{items[1]}' of {some.manifest} are one "
                f"medium, {uri}: keep one of them, with the opinion that counts"
            )


def _within(some: SetConfig, table: pa.Table) -> pa.Table:
    """All test rows, and of the others those whose numbers lie within the set's bounds."""
    inside = pa.scalar(True)
    for column, (start, below) in some.within.items():
        here = pc.and_(pc.greater_equal(table[column], start), pc.less(table[column], below))
        inside = pc.and_(inside, here)
    return table.filter(pc.or_(pc.equal(table["split"], "test"), inside))


def _check_labels(some: SetConfig, found: TrainingSet, config: TrainConfig) -> None:
    """Refuses what would otherwise fail, or teach nonsense, once training runs."""
    readout = make_readout(config.readout.for_set(some))
    rows = rows_of(found, "train", "val")
    known = "std" in rows.column_names
    graded = config.objective.fidelity and not config.objective.binary
    if (readout.needs_std or graded) and not known and not some.assume_std:
        raise ConfigError(
            f"set {some.name}: {some.manifest} has no column 'std', which soft labels and graded "
            "pairs need: add it, or set assume_std: true to take a fifth of the scale"
        )
    if config.objective.fidelity and rows_of(found, "train").num_rows < 2:
        raise ConfigError(f"set {some.name} has one training row: pairs need two of one set")
    mos = rows["mos"].to_numpy().astype(np.float64)
    std = np.full(len(mos), np.nan)
    if known:
        std = np.array(rows["std"].to_pylist(), dtype=np.float64)
        if np.isnan(std).any() and (readout.needs_std or graded) and not some.assume_std:
            item = rows["item_id"][int(np.argmax(np.isnan(std)))]
            raise ConfigError(
                f"set {some.name}: item '{item}' has no std, which soft labels and graded pairs "
                "need: fill it in, or set assume_std: true to take a fifth of the scale"
            )
    outside = (mos < found.scale.minimum) | (mos > found.scale.maximum)
    if outside.any():
        row = int(np.argmax(outside))
        raise ConfigError(
            f"set {some.name}: item '{rows['item_id'][row]}' of {some.manifest} has mos "
            f"{mos[row]:g}, outside its declared scale {list(some.scale or ())}: declare the scale "
            "that its raters could answer on, or leave the row out with sets.within"
        )
    votes = _votes(some, rows, config)

    def fault(count: int) -> ValueError | None:
        """What the readout has against the first rows."""
        try:
            readout.targets(mos[:count], std[:count], found.scale, votes and votes[:count])
        except ValueError as error:
            return error
        return None

    if fault(len(mos)) is not None:
        first = bisect_left(range(len(mos) + 1), True, key=lambda count: fault(count) is not None)
        item = rows["item_id"][first - 1]
        raise ConfigError(f"set {some.name}: item '{item}' of {some.manifest}: {fault(first)}")


def _votes(some: SetConfig, rows: pa.Table, config: TrainConfig) -> Votes | None:
    """The rows' votes where the objective asks for them."""
    if not config.objective.needs_votes:
        return None
    asks = "which objective.emd and objective.vote_ce learn from"
    if "votes" not in rows.column_names:
        raise ConfigError(
            f"set {some.name}: {some.manifest} has no column 'votes', {asks}: add it, or set "
            "both to 0"
        )
    votes: list[list[int] | None] = rows["votes"].to_pylist()
    if None in votes:
        item = rows["item_id"][votes.index(None)]
        raise ConfigError(
            f"set {some.name}: item '{item}' has no votes, {asks}: leave it out, or set both to 0"
        )
    return votes


def look_for_media(mix: pa.Table, config: TrainConfig) -> None:
    """Asks whether some of the mix's media are there, before workers find that they are not.

    Raises:
        UserError: of a seeded sample more are missing than may fail; names the first.
        StorageError: the storage can't be used.
    """
    drawn = np.random.default_rng(config.seed).permutation(mix.num_rows)[:LOOKED_FOR]
    uris = mix["uri"].take(pa.array(drawn)).to_pylist()
    with ThreadPoolExecutor(16) as pool:
        there = list(pool.map(exists, uris))
    missing = [uri for uri, found in zip(uris, there, strict=True) if not found]
    messages = [f"{uri} does not exist" for uri in missing]
    refuse_failures(len(missing), len(uris), config.max_failed, messages)


def rows_of(one: TrainingSet, *splits: str) -> pa.Table:
    """A set's rows of some splits."""
    return one.table.filter(pc.is_in(one.table["split"], pa.array(splits)))
