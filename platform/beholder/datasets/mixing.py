"""Several sets as one table of training rows, and a few of a set's rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from beholder.datasets.splits import TRAIN
from beholder.items import ManifestError, check_manifest
from beholder.opinions import LevelRule, Scale


@dataclass(frozen=True)
class TrainingSet:
    """A manifest and what it is about.

    Attributes:
        name: the set's key.
        table: a manifest with ``mos``.
        task: what its ``mos`` rates: ``quality`` or ``aesthetics``.
        scale: the declared scale of ``mos`` and ``std``.
        rule: the side of a level that a score on its edge belongs to.
    """

    name: str
    table: pa.Table
    task: str
    scale: Scale
    rule: LevelRule = LevelRule.RIGHT_CLOSED


def concatenate(sets: Sequence[TrainingSet]) -> pa.Table:
    """The rows of all sets, in order, each with its set, task and declared scale.

    Labels stay on their set's own scale, which goes with every row: scales are never mixed by
    pooling minima and maxima.

    Returns:
        All columns of all manifests (null where a set lacks one), plus ``set``, ``task``,
        ``scale_min``, ``scale_max`` and ``rule``. No schema metadata. The same picture may occur in
        several sets, so ``item_id`` is unique only together with ``set``.

    Raises:
        ManifestError: no set, two sets of one name, a manifest that is faulty or without
            ``mos``, a column whose types differ between sets, or a label outside its scale.
    """
    names = [one.name for one in sets]
    if len(set(names)) != len(names) or not names:
        raise ManifestError(f"training needs sets of different names, got {names}")
    tables = [_labelled(one) for one in sets]
    try:
        return pa.concat_tables(tables, promote_options="default")
    except pa.ArrowTypeError as error:
        raise ManifestError(f"sets {names} can't be mixed: {error}: cast one of them") from error


def few_shot(table: pa.Table, fraction: float, seed: int) -> pa.Table:
    """A seeded part of the training rows; rows of other splits all stay.

    Whether a row is taken depends on its ``item_id`` and the seed alone: not on the order of the
    rows, and a larger fraction contains a smaller one.

    Args:
        table: a manifest; without ``split``, all its rows are for training.
        fraction: of the training rows, in (0, 1]; rounded to whole rows, at least one.
        seed: of the choice.

    Returns:
        The rows that stay, in their order.

    Raises:
        ValueError: a fraction outside of (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction} is no part of the rows: use one in (0, 1]")
    count = table.num_rows
    splits = table["split"].to_pylist() if "split" in table.column_names else [TRAIN] * count
    items = table["item_id"].to_pylist()
    order = {item: hashlib.sha256(f"{seed}/{item}".encode()).digest() for item in items}
    training = sorted(
        (row for row, split in enumerate(splits) if split == TRAIN), key=lambda r: order[items[r]]
    )
    left = set(training[few_rows(len(training), fraction) :])
    return table.filter(pa.array([row not in left for row in range(count)], pa.bool_()))


def few_rows(count: int, fraction: float) -> int:
    """How many of so many training rows :func:`few_shot` takes."""
    return max(1, round(fraction * count))


def _labelled(one: TrainingSet) -> pa.Table:
    table = check_manifest(one.table, one.name, need=("mos",))
    for row, mos in enumerate(table["mos"].to_pylist()):
        if not one.scale.minimum <= mos <= one.scale.maximum:
            raise ManifestError(
                f"set '{one.name}': item '{table['item_id'][row]}' has mos {mos}, outside its "
                f"declared scale [{one.scale.minimum}, {one.scale.maximum}]: declare the scale "
                "that its raters could answer on"
            )
    count = table.num_rows
    for column, value in (
        ("set", one.name),
        ("task", one.task),
        ("scale_min", float(one.scale.minimum)),
        ("scale_max", float(one.scale.maximum)),
        ("rule", str(one.rule)),
    ):
        if column in table.column_names:
            raise ManifestError(
                f"set '{one.name}' already has a column '{column}': rename it, mixing writes it"
            )
        table = table.append_column(column, pa.array([value] * count))
    return table.replace_schema_metadata(None)
