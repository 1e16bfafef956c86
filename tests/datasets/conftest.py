"""A small demo set, built once for the room."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.datasets.demo import DemoSet, Recipe, build_demo

SMALL = Recipe(
    seed=3, quality_per_photo=7, aesthetics_per_photo=5, clips_per_scene=2, clips_per_photo=0
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return build_demo(tmp_path_factory.mktemp("demo"), SMALL, workers=2)


@pytest.fixture(scope="session")
def demo_tables(demo: DemoSet) -> dict[str, pa.Table]:
    return {name: pq.read_table(Path(uri)) for name, uri in demo.manifests.items()}


@pytest.fixture(scope="session")
def write_xlsx() -> Callable[..., None]:
    """Writes a workbook as Excel does: shared strings, numbers in place, empty cells left out."""

    def write(path: Path, sheets: dict[str, list[list[str | float | None]]]) -> None:
        strings: list[str] = []
        parts: dict[str, str] = {}
        for number, rows in enumerate(sheets.values(), 1):
            lines = []
            for row, cells in enumerate(rows, 1):
                found = [
                    _cell(f"{chr(65 + column)}{row}", value, strings)
                    for column, value in enumerate(cells)
                    if value is not None
                ]
                lines.append(f'<row r="{row}">{"".join(found)}</row>' if found else "")
            body = f"<sheetData>{''.join(lines)}</sheetData>"
            parts[f"xl/worksheets/sheet{number}.xml"] = (
                f'<worksheet xmlns="{MAIN}">{body}</worksheet>'
            )
        listed = "".join(
            f'<sheet name="{name}" sheetId="{n}" r:id="rId{n}"/>'
            for n, name in enumerate(sheets, 1)
        )
        parts["xl/workbook.xml"] = (
            f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}/relationships">'
            f"<sheets>{listed}</sheets></workbook>"
        )
        links = "".join(
            f'<Relationship Id="rId{n}" Type="x" Target="worksheets/sheet{n}.xml"/>'
            for n in range(1, len(sheets) + 1)
        )
        package = "http://schemas.openxmlformats.org/package/2006/relationships"
        parts["xl/_rels/workbook.xml.rels"] = (
            f'<Relationships xmlns="{package}">{links}</Relationships>'
        )
        texts = "".join(f"<si><t>{text}</t></si>" for text in strings)
        parts["xl/sharedStrings.xml"] = f'<sst xmlns="{MAIN}">{texts}</sst>'
        with zipfile.ZipFile(path, "w") as book:
            for name, text in parts.items():
                book.writestr(name, text)

    return write


OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def _cell(reference: str, value: str | float, strings: list[str]) -> str:
    if not isinstance(value, str):
        return f'<c r="{reference}"><v>{value}</v></c>'
    strings.append(value)
    return f'<c r="{reference}" t="s"><v>{len(strings) - 1}</v></c>'
