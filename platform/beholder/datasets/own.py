"""A user's own labels: one CSV with a row for each picture or video."""

import ast
import csv
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from beholder.datasets.public.described import LabelError
from beholder.datasets.public.media import Listings, absolute
from beholder.datasets.public.reading import (
    MOST_VOTES,
    TYPES,
    attribute_column,
    check_unique,
    number,
)
from beholder.datasets.splits import SPLITS
from beholder.items import check_manifest
from beholder.opinions import Scale

OPTIONAL = ("item_id", "kind", "std", "split", "source")
WRITTEN = ("dataset", "found")


def own_csv(path: str | Path, base: str, scale: Scale, kind: str, dataset: str) -> pa.Table:
    """A user's labels as a manifest.

    Args:
        path: of the CSV, UTF-8, with a header. Columns: ``uri`` and ``mos``; optional ``std``,
            votes as whole numbers in columns ``c1`` to ``cK`` or as a list in ``votes``, worst to
            best; ``split`` (train, val or test), ``item_id`` (the ``uri`` by default), ``kind``,
            and ``source`` (items made from one original, which no split may part). Columns
            ``attribute_NAME`` are numbers, empty where nobody rated that attribute; others are
            carried through as text.
        base: what relative URIs are below: a folder or an ``s3://`` prefix.
        scale: declared: the worst and the best answer that raters could give.
        kind: ``image`` or ``video``, of items without their own.
        dataset: the set's name.

    Returns:
        One row an item, in the file's order, as of :func:`read_public`: ``found`` tells whether
        the medium is there.

    Raises:
        LabelError: the file can't be read, lacks a column, or has a label that is no number or
            outside of the scale, votes that are no counts, an unknown split, or an item twice.
        StorageError: the media's storage can't be used.
    """
    header, lines = _read(Path(path))
    vote_columns = _vote_columns(str(path), header)
    known = ("uri", "mos", "votes", *OPTIONAL, *vote_columns)
    extra = [name for name in header if name and name not in known]
    for name in WRITTEN:
        if name in extra:
            raise LabelError(f"{path} has a column '{name}', which is written here: rename it")
    rated = [name for name in extra if name.startswith(attribute_column(""))]
    made, where, listings = [], [], Listings()
    for row_number, line in lines:
        where.append(f"{path}, row {row_number}")
        cells = _cells(where[-1], header, line)
        made.append(
            _item(where[-1], cells, vote_columns, base, scale)
            | {"kind": cells.get("kind") or kind, "dataset": dataset}
            | {name: cells[name] for name in extra}
            | {n: number(where[-1], n, cells[n]) if cells[n] else None for n in rated}
        )
        made[-1]["found"] = listings.has(made[-1]["uri"])
    if not made:
        raise LabelError(f"{path} has a header and no rows: write one for each item")
    check_unique(where, [one["uri"] for one in made])
    types = dict(TYPES) | dict.fromkeys(extra, pa.string()) | dict.fromkeys(rated, pa.float64())
    present = [name for name in types if any(one.get(name) is not None for one in made)]
    schema = pa.schema([(name, types[name]) for name in present])
    return check_manifest(pa.Table.from_pylist(made, schema=schema), str(path))


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, line) for line in reader if any(line)]
    except FileNotFoundError:
        raise LabelError(
            f"there is no {path}: give root the folder that holds the CSV, and own.labels its name"
        ) from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise LabelError(f"{path} can't be read as CSV: {error}: save it as UTF-8 CSV") from error
    for column in ("uri", "mos"):
        if column not in header:
            raise LabelError(f"{path} has no column '{column}', it has {header}: add or rename it")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise LabelError(f"{path} has two columns '{twice[0]}': rename one")
    return header, lines


def _vote_columns(path: str, header: list[str]) -> list[str]:
    found = sorted((n for n in header if re.fullmatch(r"c\d+", n)), key=lambda n: int(n[1:]))
    if found and "votes" in header:
        raise LabelError(f"{path} has votes both in 'votes' and in {found}: keep one form")
    wanted = [f"c{n}" for n in range(1, len(found) + 1)]
    if found != wanted or len(found) == 1:
        raise LabelError(
            f"{path} has vote columns {found}: number them c1, c2, .. cK, worst to best, two at "
            "least"
        )
    return found


def _cells(where: str, header: list[str], line: list[str]) -> dict[str, str]:
    if len(line) != len(header):
        raise LabelError(
            f"{where} has {len(line)} cells of {len(header)}: put quotes around those with commas"
        )
    return {name: cell.strip() for name, cell in zip(header, line, strict=True)}


def _item(
    where: str, cells: Mapping[str, str], vote_columns: list[str], base: str, scale: Scale
) -> dict[str, Any]:
    if not cells["uri"]:
        raise LabelError(f"{where} has no uri: add it or remove the row")
    mos = number(where, "mos", cells["mos"])
    if not scale.minimum <= mos <= scale.maximum:
        raise LabelError(
            f"{where}: mos is {mos}, outside of the declared scale "
            f"[{scale.minimum:g}, {scale.maximum:g}]: correct it, or declare the scale that raters "
            "could answer on"
        )
    std = number(where, "std", cells["std"]) if cells.get("std") else None
    if std is not None and std < 0:
        raise LabelError(f"{where}: std is {std}: correct it or leave it empty")
    split = cells.get("split") or None
    if split is not None and split not in SPLITS:
        raise LabelError(f"{where}: split is '{split}': use {', '.join(SPLITS)}, or leave it empty")
    return {
        "item_id": cells.get("item_id") or cells["uri"],
        "uri": _absolute(cells["uri"], base),
        "mos": mos,
        "std": std,
        "votes": _votes(where, cells, vote_columns),
        "split": split,
        "source": cells.get("source") or None,
    }


def _votes(where: str, cells: Mapping[str, str], columns: list[str]) -> list[int] | None:
    texts = [cells[name] for name in columns]
    if cells.get("votes"):
        try:
            texts = [str(vote) for vote in ast.literal_eval(cells["votes"])]
        except (ValueError, SyntaxError, TypeError) as error:
            raise LabelError(
                f"{where}: votes is '{cells['votes']}': write a list as [0, 2, 5, 3, 0]"
            ) from error
    if not any(texts):
        return None
    if not all(text.isdecimal() and int(text) <= MOST_VOTES for text in texts) or not any(
        map(int, texts)
    ):
        raise LabelError(
            f"{where}: votes are {texts}: write how often each answer was given, worst to best, "
            f"{MOST_VOTES:,} times at most"
        )
    return [int(text) for text in texts]


def _absolute(uri: str, base: str) -> str:
    if "://" in uri or Path(uri).is_absolute():
        return uri if "://" in uri else posixpath.normpath(uri)
    return f"{absolute(base).rstrip('/')}/{posixpath.normpath(uri)}"
