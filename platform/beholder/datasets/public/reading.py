"""From the files of a public set to a manifest."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pyarrow as pa

from beholder.datasets.public.described import LabelError, PublicSet
from beholder.datasets.public.media import MediaFolders
from beholder.datasets.public.tables import Row, read_rows
from beholder.items import check_manifest
from beholder.items.manifest import OPTIONAL, REQUIRED

FRACTION_TOLERANCE = 1e-3
"""How far a fraction times the number of answers may be from a whole number of answers."""

MOST_VOTES = 2**31 - 1
"""For one answer: what the manifest's column holds."""

_LABELS = ("mos", "std", "votes", "attributes", "dataset", "split")
TYPES: Mapping[str, pa.DataType] = {
    **REQUIRED,
    **{name: OPTIONAL[name] for name in _LABELS},
    "source": pa.string(),
    "found": pa.bool_(),
}
"""Columns of what :func:`read_public` returns, as far as a set has them."""


def read_public(some: PublicSet, root: str | Path, media: str | None = None) -> pa.Table:
    """A public set's annotations as a manifest.

    Args:
        some: the set.
        root: the folder with its annotation files.
        media: base of its media, a folder or an ``s3://`` prefix; None for ``root``.

    Returns:
        One row an item, in the files' order: ``item_id`` (the path below the media folder),
        ``uri``, ``kind``, ``mos``, ``dataset``, ``found`` (whether the medium is there), and
        ``std``, ``votes``, ``split``, ``source`` (the reference that an item was made from),
        ``attribute_NAME`` of each of its attributes (null where nobody rated it) and, in
        ``attributes``, its texts, where the set has them.

    Raises:
        LabelError: a file or a column is missing, a label is no number or outside of the scale,
            votes are no counts, or an item occurs twice.
        StorageError: the media's storage can't be used.
    """
    if not Path(root).is_dir():
        raise LabelError(f"{root} is no folder: give the one with the files of {some.title}")
    need = _columns(some)
    rows = [row for file in some.files for row in read_rows(file, Path(root), need)]
    if not rows:
        raise LabelError(f"{root}: the files of {some.title} have no rows: get them again")
    folders = MediaFolders(str(root) if media is None else media, some.media)
    splits = _member_splits(some, Path(root))
    made = [_item(some, row, folders, splits) for row in rows]
    check_unique([row.where for row in rows], [one["uri"] for one in made])
    types = dict(TYPES) | dict.fromkeys(map(attribute_column, some.attributes), pa.float64())
    present = [name for name in types if any(one.get(name) is not None for one in made)]
    schema = pa.schema([(name, types[name]) for name in present])
    return check_manifest(pa.Table.from_pylist(made, schema=schema), some.title)


def attribute_column(name: str) -> str:
    """The manifest's column with a set's mean opinions of an attribute."""
    return f"attribute_{name}"


def number(where: str, column: str, text: str) -> float:
    """A label's value.

    Raises:
        LabelError: it is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LabelError(
            f"{where}: {column} is '{text}', no number: correct the label or remove the row"
        )
    return value


def check_unique(where: Sequence[str], uris: Sequence[str]) -> None:
    """Refuses two rows about one medium.

    Raises:
        LabelError: naming both rows.
    """
    seen: dict[str, str] = {}
    for place, uri in zip(where, uris, strict=True):
        if uri in seen:
            raise LabelError(
                f"{place} is about {uri}, and so is {seen[uri]}: keep one row for each medium"
            )
        seen[uri] = place


def _columns(some: PublicSet) -> set[str]:
    """All columns that a set's description names."""
    named = {some.mos, some.std, some.vote_total, some.split, *some.votes}
    for template in (some.item, some.origin, some.member):
        named |= {name for _, name, _, _ in Formatter().parse(template) if name}
    return (named | {*some.attributes.values(), *some.texts.values()}) - {""}


def _item(
    some: PublicSet, row: Row, folders: MediaFolders, splits: Mapping[str, str]
) -> dict[str, Any]:
    cells = row.cells
    item = some.item.format_map(cells)
    uri, found = folders.find(item)
    votes = _votes(some, row)
    mos, std = _mean_and_std(some, row, votes)
    return {
        "item_id": item,
        "uri": uri,
        "kind": some.kind,
        "mos": mos,
        "std": std,
        "votes": votes,
        "attributes": [(name, cells[column]) for name, column in some.texts.items()] or None,
        "dataset": some.name,
        "split": _split(some, row, splits),
        "source": some.origin.format_map(cells) or None,
        "found": found,
    } | {
        attribute_column(name): number(row.where, column, cells[column]) if cells[column] else None
        for name, column in some.attributes.items()
    }


def _votes(some: PublicSet, row: Row) -> list[int] | None:
    if not some.votes:
        return None
    total = number(row.where, some.vote_total, row.cells[some.vote_total]) if some.vote_total else 1
    counts = [number(row.where, column, row.cells[column]) * total for column in some.votes]
    for column, count in zip(some.votes, counts, strict=True):
        whole = 0 <= count <= MOST_VOTES
        if not whole or abs(count - round(count)) > FRACTION_TOLERANCE:
            raise LabelError(
                f"{row.where}: {column} is '{row.cells[column]}', no count of answers: correct it "
                "or remove the row"
            )
    if sum(counts) < 0.5:
        raise LabelError(f"{row.where} has no answers at all: remove the row")
    return [round(count) for count in counts]


def _mean_and_std(some: PublicSet, row: Row, votes: list[int] | None) -> tuple[float, float | None]:
    """In the unit of the set's scale; over votes the sample's std, as KonIQ-10k's own SD."""
    levels = np.linspace(some.scale.minimum, some.scale.maximum, max(len(some.votes), 2))
    mean = std = None
    if votes is not None:
        count = sum(votes)
        mean = float(np.dot(votes, levels)) / count
        if count > 1:
            std = math.sqrt(float(np.dot(votes, (levels - mean) ** 2)) / (count - 1))
    if some.mos:
        mean = number(row.where, some.mos, row.cells[some.mos])
        std = None
    if some.std:
        std = number(row.where, some.std, row.cells[some.std])
        if std < 0:
            raise LabelError(f"{row.where}: {some.std} is {std}: correct it or remove the row")
    assert mean is not None
    if not some.scale.minimum <= mean <= some.scale.maximum:
        raise LabelError(
            f"{row.where}: {some.mos} is {mean}, outside of {some.title}'s scale "
            f"[{some.scale.minimum:g}, {some.scale.maximum:g}]: correct the label or remove the row"
        )
    if some.lower_is_better:
        mean = some.scale.minimum + some.scale.maximum - mean
    return mean, std


def _split(some: PublicSet, row: Row, splits: Mapping[str, str]) -> str | None:
    if some.member:
        return splits.get(some.member.format_map(row.cells), "train")
    if not some.split:
        return row.split
    text = row.cells[some.split]
    if text.lower() not in some.split_names:
        raise LabelError(
            f"{row.where}: {some.split} is '{text}': use one of {', '.join(some.split_names)}"
        )
    return some.split_names[text.lower()]


def _member_splits(some: PublicSet, root: Path) -> dict[str, str]:
    """The split of each member that the set's lists name in their cells ``item``."""
    return {
        row.cells["item"]: split
        for split, file in some.members.items()
        for row in read_rows(file, root, {"item"})
    }
