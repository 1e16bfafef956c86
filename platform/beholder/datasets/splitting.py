"""A split for every row of a manifest: the owners', a list's, or whole sources held out."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from beholder.config import ConfigError
from beholder.datasets.public.described import LabelError, LabelFile
from beholder.datasets.public.tables import read_rows
from beholder.datasets.splits import SPLITS, TEST, TRAIN, VAL, hold_out


def as_listed(table: pa.Table, root: Path, path: str) -> pa.Table:
    """The rows that a list names, in its splits.

    Q-Align's released lists, for one, hold 11,121 of SPAQ's 11,125 pictures.

    Args:
        table: a manifest; a split that it has is replaced.
        root: the folder that the list is below.
        path: of the list, a CSV with columns ``name``, an ``item_id``, and ``split``.

    Raises:
        LabelError: the list can't be read or is empty, names an item twice or one that the set
            hasn't, or has another split than train, val and test.
    """
    known = set(table["item_id"].to_pylist())
    splits: dict[str, str] = {}
    for row in read_rows(LabelFile(path), root, {"name", "split"}):
        name, split = row.cells["name"], row.cells["split"]
        if name not in known:
            raise LabelError(f"{row.where}: the set has no item '{name}': write its item_id")
        if name in splits:
            raise LabelError(f"{row.where}: item '{name}' is listed twice: keep one row")
        if split not in SPLITS:
            raise LabelError(f"{row.where}: split is '{split}': use {', '.join(SPLITS)}")
        splits[name] = split
    if not splits:
        raise LabelError(f"{root / path} names no item: write the item_id and split of each")
    rows = table.filter(pc.is_in(table["item_id"], pa.array(splits, pa.string())))
    return _set_split(rows, [splits[item] for item in rows["item_id"].to_pylist()])


def with_splits(
    table: pa.Table, *, test: float, val: float, val_from: str, seed: int
) -> tuple[pa.Table, str]:
    """The table with a split in every row, and how that came to be.

    Args:
        table: a manifest; the splits that it has are kept, but for what is held out for val.
        test: share of sources held out for test where there are no splits.
        val: share of sources held out for val where there are no val rows: of all, or of those
            of split ``val_from``.
        val_from: ``train`` or ``test``; means nothing where there are no splits.
        seed: of the choice.

    Raises:
        LabelError: some rows have a split and others none.
        ConfigError: the shares leave nothing in the split that they are held out of.
    """
    given = table["split"].to_pylist() if "split" in table.column_names else []
    if not any(given):
        return _held_out(table, [TRAIN] * table.num_rows, TRAIN, test, val, seed)
    if None in given:
        raise LabelError(
            f"row {given.index(None) + 1} of set {table['dataset'][0]} has no split and others "
            "have: give all rows one, or none"
        )
    if VAL in given or val_from not in given:
        return table, "given"
    table, how = _held_out(table, given, val_from, 0.0, val, seed)
    return table, f"given; of {val_from}, {how}"


def _held_out(
    table: pa.Table, given: list[str], part: str, test: float, val: float, seed: int
) -> tuple[pa.Table, str]:
    """Whole sources of one part of the table held out for test and val."""
    items = table["item_id"].to_pylist()
    origin = table["source"].to_pylist() if "source" in table.column_names else items
    sources = [source or item for source, item in zip(origin, items, strict=True)]
    parted = {s: "" for s, split in zip(sources, given, strict=True) if split == part}
    for_test, for_val = (max(1, round(s * len(parted))) if s else 0 for s in (test, val))
    if for_test + for_val >= len(parted):
        raise ConfigError(
            f"test {test:g} and val {val:g} of {len(parted)} sources leave none for {part}: lower "
            "them"
        )
    held = hold_out(parted, {"": for_test}, {"": for_val}, seed)
    moved = {TRAIN: part, VAL: VAL, TEST: TEST}
    split = [
        moved[held[source]] if split == part else split
        for source, split in zip(sources, given, strict=True)
    ]
    how = f"{for_test} and {for_val} of {len(parted)} sources held out for test and val"
    return _set_split(table, split), f"{how}, seed {seed}"


def _set_split(table: pa.Table, split: list[str]) -> pa.Table:
    if "split" in table.column_names:
        table = table.drop_columns("split")
    return table.append_column("split", pa.array(split, pa.string()))
