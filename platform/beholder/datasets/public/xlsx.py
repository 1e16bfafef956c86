"""The cells of one sheet of an Excel workbook, by the standard library alone.

Office Open XML (ECMA-376 part 1, section 18.3): a zip of XML parts. Values only: formulas count
as what they last gave, dates as their serial numbers.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def sheet_rows(path: Path, sheet: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """The rows that a sheet stores.

    Args:
        path: of the workbook.
        sheet: its name; None for the first one.

    Yields:
        A row's number, from 1, and its cells from column A on, as text; "" where empty.

    Raises:
        KeyError: there is no such sheet.
        zipfile.BadZipFile: not a workbook.
        ElementTree.ParseError: a damaged one.
    """
    with zipfile.ZipFile(path) as book:
        names = book.namelist()
        shared: list[str] = []
        if "xl/sharedStrings.xml" in names:
            shared = [_text(s) for s in _part(book, "xl/sharedStrings.xml").iter(f"{_MAIN}si")]
        relations = _part(book, "xl/_rels/workbook.xml.rels")
        targets = {r.get("Id"): r.get("Target", "") for r in relations}
        sheets = {
            s.get("name"): targets[s.get(_RELATION)]
            for s in _part(book, "xl/workbook.xml").iter(f"{_MAIN}sheet")
        }
        target = sheets[sheet] if sheet is not None else next(iter(sheets.values()))
        part = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
        for at, row in enumerate(_part(book, part).iter(f"{_MAIN}row"), 1):
            cells: list[str] = []
            for cell in row.iter(f"{_MAIN}c"):
                column = _column(cell.get("r", "")) or len(cells)
                cells += [""] * (column - len(cells)) + [_value(cell, shared)]
            yield int(row.get("r", at)), cells


def _part(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    return ElementTree.fromstring(book.read(name))


def _column(reference: str) -> int:
    """0 for A, 27 for AB."""
    number = 0
    for letter in re.sub(r"[^A-Z]", "", reference):
        number = number * 26 + ord(letter) - ord("A") + 1
    return max(number - 1, 0)


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _text(cell)
    value = cell.findtext(f"{_MAIN}v", "")
    return shared[int(value)] if cell.get("t") == "s" and value else value


def _text(element: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_MAIN}t"))
