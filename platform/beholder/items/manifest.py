"""The manifest: a Parquet table that lists items, and what people said of them."""

import difflib
from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beholder.errors import UserError

REQUIRED: dict[str, pa.DataType] = {
    "item_id": pa.string(),
    "uri": pa.string(),
    "kind": pa.string(),
}
OPTIONAL: dict[str, pa.DataType] = {
    "mos": pa.float64(),
    "std": pa.float64(),
    "votes": pa.list_(pa.int32()),
    "attributes": pa.map_(pa.string(), pa.string()),
    "dataset": pa.string(),
    "split": pa.string(),
    "weight": pa.float64(),
    "owner": pa.string(),
    "segment": pa.string(),
    "created_at": pa.timestamp("us", tz="UTC"),
    "etag": pa.string(),
    "size": pa.int64(),
}
"""Columns that have a meaning; all others are carried through untouched.

``mos`` and ``std`` are on the set's own scale, ``votes`` counts answers from worst to best.
``etag`` and ``size`` (bytes) are the store's, as a listing gives them: both together show before
anything is fetched that an item is unchanged, or likely has another one's bytes, which then aren't
scored a second time.
"""


class ManifestError(UserError, ValueError):
    """A manifest that can't be used: the message names the table, the column and the remedy."""


def check_manifest(table: pa.Table, name: str, need: tuple[str, ...] = ()) -> pa.Table:
    """The table with its known columns cast to their types, or the first thing wrong with it.

    Args:
        table: the rows.
        name: what to call the table in a message: its URI.
        need: optional columns that this use can't do without, as ``("mos",)`` in training.

    Raises:
        ManifestError: whatever :func:`check_rows` refuses, or an ``item_id`` occurs twice.
    """
    table = check_rows(table, name, need)
    counts = table["item_id"].value_counts().flatten()
    twice = counts[0].filter(pc.greater(counts[1], 1))
    if len(twice):
        raise ManifestError(
            f"manifest {name}: item_id '{twice[0]}' occurs more than once: ids must be unique"
        )
    return table


def check_rows(table: pa.Table, name: str, need: tuple[str, ...] = (), before: int = 0) -> pa.Table:
    """What :func:`check_manifest` does as far as a part of a manifest allows it.

    Args:
        table: the rows.
        name: as there.
        need: as there.
        before: rows of the manifest before these: messages count rows from its start.

    Raises:
        ManifestError: a column is missing (with the likely misspelling), has a type that
            can't be cast, is empty where it must not be, ``kind`` is neither image nor
            video, ``size`` is negative, or a needed number is not finite.
    """
    known = REQUIRED | OPTIONAL
    for column in (*REQUIRED, *need):
        if column not in table.column_names:
            spare = [c for c in table.column_names if c not in known]
            close = difflib.get_close_matches(column, spare, n=1, cutoff=0.5)
            hint = (
                f"rename column '{close[0]}' to it"
                if close
                else f"add it, there are only {table.column_names}"
            )
            raise ManifestError(f"manifest {name} has no column '{column}': {hint}")
    for column, kind in known.items():
        if column not in table.column_names:
            continue
        at = table.column_names.index(column)
        try:
            table = table.set_column(at, column, table[column].cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ManifestError(
                f"manifest {name}: column '{column}' holds {table[column].type}, not {kind}: "
                f"{error}"
            ) from error
    for column, remedy, wrong in _faults(table, need):
        row = pc.index(wrong, True).as_py()
        if row >= 0:
            value = table[column][row].as_py()
            shown = "empty" if _blank(value) else f"'{value}'"
            item = "" if column == "item_id" else f" (item '{table['item_id'][row]}')"
            where = f"row {before + row + 1}{item}"
            raise ManifestError(f"manifest {name}: {column} is {shown} in {where}: {remedy}")
    return table


def _faults(table: pa.Table, need: tuple[str, ...]) -> Iterator[tuple[str, str, pa.ChunkedArray]]:
    """What no row may be: column, remedy, and which rows are it."""
    for column in (*REQUIRED, *need):
        values = table[column]
        wrong = values.is_null()
        if pa.types.is_string(values.type):
            blank = pc.equal(pc.utf8_trim_whitespace(values), "")
            wrong = pc.or_(wrong, pc.fill_null(blank, False))
        yield column, "fill it in, or leave the row out", wrong
    for column in need:
        if pa.types.is_floating(table[column].type):
            infinite = pc.invert(pc.is_finite(table[column]))
            yield column, "leave out rows without a number", infinite
    kinds = pc.is_in(table["kind"], pa.array(["image", "video"]))
    yield "kind", "use 'image' or 'video'", pc.invert(kinds)
    if "size" in table.column_names:
        negative = pc.less(table["size"], 0)
        yield "size", "give the object's bytes, or nothing", negative


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def read_manifest(file: IO[bytes], name: str, need: tuple[str, ...] = ()) -> pa.Table:
    """Reads and checks a manifest from an open Parquet file.

    Raises:
        ManifestError: not a Parquet file or a damaged one, or whatever :func:`check_manifest`
            refuses.
    """
    try:
        table = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise ManifestError(
            f"manifest {name} is not a Parquet file ({error}): write it anew, or name another"
        ) from error
    except OSError as error:
        # Arrow's word for a damaged page, over several lines.
        reason = " ".join(str(error).split())
        raise ManifestError(f"manifest {name}: the Parquet file can't be read: {reason}") from error
    return check_manifest(table, name, need)
