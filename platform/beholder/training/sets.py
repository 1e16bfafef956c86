"""A run's data sets, checked against what its config expects of them."""

import logging
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
from beholder.opinions import Scale
from beholder.readouts import Votes, make_readout
from beholder.training.config import TrainConfig
from beholder.training.feed import refuse_failures
from beholder.training.set_config import SetConfig

log = logging.getLogger(__name__)

LOOKED_FOR = 256
"""Media that are asked for before training starts: a second's work on S3."""
NO_TEST_ROWS = "no row in split 'test'"
"""Why a set is not measured at the end of a run."""


def load_set(some: SetConfig, config: TrainConfig) -> TrainingSet:
    """One set's manifest, with the part of its training rows that is learned from.

    Args:
        some: the set.
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
    scale = Scale(*some.scale)
    found = TrainingSet(some.name, _within(some, table), some.task, scale, some.attributes)
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
    _check_labels(some, found, config)
    return found


def _check_columns(some: SetConfig, table: pa.Table, config: TrainConfig) -> None:
    """Refuses splits that nobody would read, and text to be measured against."""
    strange = table.filter(pc.invert(pc.is_in(table["split"], pa.array(SPLITS))))
    if strange.num_rows:
        raise ConfigError(
            f"set {some.name}: item '{strange['item_id'][0]}' of {some.manifest} is in split "
            f"'{strange['split'][0]}': use {', '.join(SPLITS)}, or leave the row out"
        )
    for key, columns in (("evaluate", config.evaluate), ("within", some.within)):
        for column in columns:
            kind = table[column].type
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                raise ConfigError(
                    f"{key} names column '{column}', which holds {kind} in {some.manifest} (set "
                    f"{some.name}): name columns of numbers"
                )


def _check_rows(some: SetConfig, table: pa.Table) -> None:
    """Refuses, in rows of any split, spreads and weights that are none, and a medium seen twice."""
    remedies = {
        "std": f"in the unit of its scale {list(some.scale)}, empty where it isn't known",
        "weight": "empty for 1",
    }
    for column, remedy in remedies.items():
        if column not in table.column_names:
            continue
        values = np.array(table[column].to_pylist(), dtype=np.float64)  # NaN where empty
        widest = some.scale[1] - some.scale[0] if column == "std" else np.finfo(float).max
        wrong = (values < 0) | (values > widest)
        if column == "weight":
            wrong |= np.isnan(values) & table[column].is_valid().to_numpy()
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConfigError(
                f"set {some.name}: item '{table['item_id'][row]}' of {some.manifest} has {column} "
                f"{values[row]:g}: give a number from 0 on, {remedy}"
            )
    counts = table["uri"].value_counts().flatten()
    twice = counts[0].filter(pc.greater(counts[1], 1))
    if len(twice):
        items = table.filter(pc.equal(table["uri"], twice[0]))["item_id"].to_pylist()
        raise ConfigError(
            f"set {some.name}: items '{items[0]}' and '{items[1]}' of {some.manifest} are one "
            f"medium, {twice[0]}: keep one of them, with the opinion that counts"
        )


def _within(some: SetConfig, table: pa.Table) -> pa.Table:
    """All test rows, and of the others those whose numbers lie within the set's bounds."""
    inside = pa.scalar(True)
    for column, (start, below) in some.within.items():
        here = pc.and_(pc.greater_equal(table[column], start), pc.less(table[column], below))
        inside = pc.and_(inside, here)
    found = table.filter(pc.or_(pc.equal(table["split"], "test"), inside))
    if found.num_rows < table.num_rows:
        event(log, "rows.left_out", set=some.name, rows=table.num_rows - found.num_rows)
    return found


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
            f"{mos[row]:g}, outside its declared scale {list(some.scale)}: declare the scale that "
            "its raters could answer on, or leave the row out with sets.within"
        )
    try:
        readout.targets(mos, std, found.scale, _votes(some, rows, config))
    except ValueError as error:
        raise ConfigError(f"set {some.name} ({some.manifest}): {error}") from error


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
