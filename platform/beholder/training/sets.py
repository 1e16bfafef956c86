"""A run's data sets, checked against what its config expects of them."""

import pyarrow as pa
import pyarrow.compute as pc

from beholder.config import ConfigError
from beholder.datasets import TrainingSet
from beholder.datasets.manifests import load_manifest
from beholder.opinions import LevelRule, Scale
from beholder.training.config import SetConfig


def load_set(some: SetConfig, evaluate: tuple[str, ...]) -> TrainingSet:
    """One set's manifest.

    Args:
        some: the set.
        evaluate: columns that its test rows will be measured against.

    Raises:
        ConfigError: it has another number of training rows than ``rows``, or no row to train on
            or to select by.
        ManifestError: a column is missing.
        StorageError: it can't be read.
    """
    table = load_manifest(some.manifest, need=("mos", "split", *evaluate))
    scale, rule = Scale(*some.scale), LevelRule(some.rule)
    found = TrainingSet(some.name, table, some.task, scale, rule)
    count = rows_of(found, "train").num_rows
    if some.rows is not None and count != some.rows:
        raise ConfigError(
            f"set {some.name} expects {some.rows} training rows and {some.manifest} has {count}: "
            "correct sets.rows or rebuild the manifest"
        )
    for split in ("train", "val"):
        if not rows_of(found, split).num_rows:
            raise ConfigError(
                f"set {some.name}: {some.manifest} has no row in split '{split}': training needs "
                "some to learn from and some to select by"
            )
    return found


def rows_of(one: TrainingSet, *splits: str) -> pa.Table:
    """A set's rows of some splits."""
    return one.table.filter(pc.is_in(one.table["split"], pa.array(splits)))
