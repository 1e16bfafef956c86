"""Several sets as one table of training rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

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
