"""Several sets as one table of training rows, and a few of a set's rows."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from beholder.datasets.splits import TRAIN
from beholder.items import ManifestError, check_manifest
from beholder.opinions import Scale


@dataclass(frozen=True)
class TrainingSet:
    """A manifest and what it is about.

    Attributes:
        name: the set's key.
        table: a manifest with ``mos``.
        task: what its ``mos`` rates: ``quality`` or ``aesthetics``.
        scale: the declared scale of ``mos`` and ``std``.
        attributes: further attributes that its rows are rated on, by name the column of their mean
            opinions, on the same scale; null where nobody rated one.
    """

    name: str
    table: pa.Table
    task: str
    scale: Scale
    attributes: Mapping[str, str] = field(default_factory=dict)


def concatenate(sets: Sequence[TrainingSet]) -> pa.Table:
    """The rows of all sets, in order, each with its set, task and declared scale.

    Labels stay on their set's own scale, which goes with every row: scales are never mixed by
    pooling minima and maxima.

    Returns:
        All columns of all manifests (null where a set lacks one), plus ``set``, ``task``,
        ``scale_min``, ``scale_max`` and, where a set has attributes, ``further``: their opinions
        by name, in the set's order. No schema metadata. The same picture may occur in several
        sets, so ``item_id`` is unique only together with ``set``.

    Raises:
        ManifestError: no set, two sets of one name, a manifest that is faulty or without
            ``mos`` or an attribute's column, a column whose types differ between sets, or a label
            outside its scale.
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
    _opinions(one, table, "mos")
    count = table.num_rows
    made = {
        "set": pa.array([one.name] * count),
        "task": pa.array([one.task] * count),
        "scale_min": pa.array([float(one.scale.minimum)] * count),
        "scale_max": pa.array([float(one.scale.maximum)] * count),
    }
    if one.attributes:
        rated = {name: _opinions(one, table, column) for name, column in one.attributes.items()}
        rows = [list(zip(rated, row, strict=True)) for row in zip(*rated.values(), strict=True)]
        made["further"] = pa.array(rows, pa.map_(pa.string(), pa.float64()))
    for column, values in made.items():
        if column in table.column_names:
            raise ManifestError(
                f"set '{one.name}' already has a column '{column}': rename it, mixing writes it"
            )
        table = table.append_column(column, values)
    return table.replace_schema_metadata(None)


def _opinions(one: TrainingSet, table: pa.Table, column: str) -> list[float | None]:
    """A column of mean opinions, None where there is none."""
    if column not in table.column_names:
        raise ManifestError(
            f"set '{one.name}' has no column '{column}' for one of its attributes: it has "
            f"{table.column_names}"
        )
    try:
        values: list[float | None] = table[column].cast(pa.float64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ManifestError(
            f"set '{one.name}': column '{column}' holds {table[column].type}, not mean opinions: "
            "name a column of numbers"
        ) from error
    for row, value in enumerate(values):
        if value is not None and not one.scale.minimum <= value <= one.scale.maximum:
            raise ManifestError(
                f"set '{one.name}': item '{table['item_id'][row]}' has {column} {value}, outside "
                f"its declared scale [{one.scale.minimum}, {one.scale.maximum}]: declare the scale "
                "that its raters could answer on"
            )
    return values
