"""Annotation files of all forms as rows of named cells."""

import csv
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile

import numpy as np

from beholder.datasets.public.described import Cells, LabelError, LabelFile
from beholder.datasets.public.xlsx import sheet_rows

Lines = Iterable[tuple[int, list[str]]]
"""Numbers, from 1, and the cells of lines."""


@dataclass(frozen=True)
class Row:
    """One row of an annotation file.

    Attributes:
        where: its file and number, as a message names it.
        cells: by column.
        split: of its file, if that is one.
    """

    where: str
    cells: Cells
    split: str | None = None


def read_rows(file: LabelFile, root: Path, need: set[str]) -> list[Row]:
    """The rows of an annotation file, or of all that its pattern matches.

    Args:
        file: which, and how it is written.
        root: the set's folder.
        need: columns that it, or a file beside it, must have.

    Raises:
        LabelError: no such file, it can't be read, it lacks a column that is needed, a line is
            too short, or a file beside it has other rows.
    """
    paths = find_files(file, root)
    beside = [(other, read_rows(other, root, set())) for other in file.beside]
    elsewhere = {name for _, rows in beside if rows for name in rows[0].cells}
    need = (need - elsewhere - set(file.derive)) | {column for column, _ in file.derive.values()}
    need = need | ({file.only[0]} if file.only else set())
    found = [row for path in paths for row in _read(file, path, need)]
    for other, rows in beside:
        found = _joined(found, rows, str(root / other.path))
    return [_derived(row, file) for row in found] if file.derive else found


def find_files(file: LabelFile, root: Path) -> list[Path]:
    """The paths that a file's pattern matches, by name.

    Raises:
        LabelError: none.
    """
    found = sorted(root.glob(file.path))
    if not found:
        raise LabelError(
            f"{root} has no file '{file.path}': give the folder that holds it as root, or get it "
            "from the set's owners"
        )
    return found


def _read(file: LabelFile, path: Path, need: set[str]) -> Iterator[Row]:
    try:
        lines = iter(_lines(file, path))
        header = list(file.columns) or _header(lines, path, need, searched=file.form == "xlsx")
        for number, cells in list(lines)[file.skip :]:
            if not any(cells):
                continue
            where = f"{path}, row {number}"
            if len(cells) < len(header):
                raise LabelError(
                    f"{where} has {len(cells)} cells of {len(header)}: get the file whole"
                )
            named = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name}
            if file.only is None or named.get(file.only[0]) == file.only[1]:
                yield Row(where, named, file.split)
    except (OSError, UnicodeError, csv.Error, BadZipFile, ParseError, NotImplementedError) as error:
        raise LabelError(f"{path} can't be read as {file.form}: {error}: get it again") from error
    except KeyError as error:
        raise LabelError(
            f"{path} has no {error} inside: get it as the set's owners publish it"
        ) from error


def _lines(file: LabelFile, path: Path) -> Lines:
    if file.form == "xlsx":
        # Rows end at their last cell that was ever filled.
        rows = list(sheet_rows(path, file.sheet))
        width = max((len(cells) for _, cells in rows), default=0)
        return [(number, cells + [""] * (width - len(cells))) for number, cells in rows]
    if file.form == "mat":
        return _matlab(path, file.columns[0])
    if file.form == "chat":
        return _conversations(path, re.compile(file.says))
    with path.open(encoding="utf-8-sig", newline="") as text:
        if file.form == "words":
            return [(number, line.split()) for number, line in enumerate(text, 1)]
        reader = csv.reader(text, skipinitialspace=True)
        return [(reader.line_num, cells) for cells in reader]


def _matlab(path: Path, name: str) -> Lines:
    """A variable's numbers, or the texts of its cells; loadmat runs nothing that a file holds."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values = loadmat(str(path), appendmat=False, variable_names=[name])[name]
    except (MatReadError, ValueError, TypeError, zlib.error) as error:
        raise OSError(error) from error
    return [(number, [_plain(value)]) for number, value in enumerate(values.ravel(), 1)]


def _conversations(path: Path, says: re.Pattern[str]) -> Lines:
    """A header and a line a conversation: its first medium, its last answer, what it says."""
    found = [(0, ["media", "answer", *says.groupindex])]
    try:
        for number, one in enumerate(json.loads(path.read_text("utf-8-sig")), 1):
            media = one.get("images") or one.get("videos") or [""]
            answer = _answer(one)
            said = says.search(answer)
            if said:
                cells = [said[name] or "" for name in says.groupindex]
                found.append((number, [str(media[0]), answer, *cells]))
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        raise OSError(f"it is no list of conversations ({error})") from error
    return found


def _answer(conversation: Mapping[str, Any]) -> str:
    """What is answered last, in either of LLaMA-Factory's two forms."""
    if "output" in conversation:
        return str(conversation["output"])
    turns = conversation.get("messages") or conversation["conversations"]
    last = turns[-1]
    return str(last["content"] if "content" in last else last["value"])


def _plain(value: Any) -> str:
    while isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    return str(value)


def _header(
    lines: Iterator[tuple[int, list[str]]], path: Path, need: set[str], searched: bool
) -> list[str]:
    """The first line; in a workbook, where notes may stand above, the one with most names."""
    best: list[str] = []
    for _, cells in lines:
        names = [cell.strip() for cell in cells]
        if not searched or need <= set(names):
            best = names
            break
        best = max(best, names, key=lambda some: len(need & set(some)))
    missing = sorted(need - set(best))
    if missing:
        raise LabelError(
            f"{path} has no column '{missing[0]}', it has {[n for n in best if n]}: get the file "
            "as the set's owners publish it, or rename the column"
        )
    return best


def _joined(rows: list[Row], others: list[Row], name: str) -> list[Row]:
    common = sorted(set(rows[0].cells) & set(others[0].cells)) if rows and others else []
    if not common:
        if len(rows) != len(others):
            raise LabelError(
                f"{name} has {len(others)} rows and the file beside it {len(rows)}: get both "
                "from the same release"
            )
        return [_with(a, b.cells) for a, b in zip(rows, others, strict=True)]
    by_key = {tuple(row.cells[c] for c in common): row for row in others}
    for row in rows:
        if (key := tuple(row.cells[c] for c in common)) not in by_key:
            raise LabelError(f"{row.where}: {name} has no row for {', '.join(key)}: get it whole")
    return [_with(row, by_key[tuple(row.cells[c] for c in common)].cells) for row in rows]


def _with(row: Row, cells: Cells) -> Row:
    return Row(row.where, row.cells | cells, row.split)


def _derived(row: Row, file: LabelFile) -> Row:
    made = {}
    for name, (column, make) in file.derive.items():
        try:
            made[name] = make(row.cells[column])
        except (ValueError, KeyError) as error:
            raise LabelError(
                f"{row.where}: {column} is '{row.cells[column]}', which the set does not have: "
                "correct the cell"
            ) from error
    return _with(row, made)
