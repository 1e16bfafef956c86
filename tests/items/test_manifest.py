"""A manifest is read as it stands, or refused in a sentence that names the fault."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.errors import UserError
from beholder.items import ManifestError, check_manifest, read_manifest

ROWS = {
    "item_id": ["a", "b"],
    "uri": ["s3://photos/a.jpg", "s3://photos/b.mp4"],
    "kind": ["image", "video"],
}


def table(**columns: Any) -> pa.Table:
    return pa.table({k: v for k, v in (ROWS | columns).items() if v is not None})


def refusal(rows: pa.Table, need: tuple[str, ...] = ()) -> str:
    with pytest.raises(ManifestError) as caught:
        check_manifest(rows, "s3://lists/m.parquet", need)
    assert isinstance(caught.value, UserError)
    text = str(caught.value)
    assert "s3://lists/m.parquet" in text
    return text


def test_known_columns_are_cast_and_others_carried() -> None:
    rows = table(mos=pa.array([1, 2]), colour=["red", "blue"], votes=[[1, 2], [3, 4]])
    rows = rows.set_column(2, "kind", rows["kind"].dictionary_encode())
    checked = check_manifest(rows, "m")
    assert checked.schema.field("mos").type == pa.float64()
    assert checked.schema.field("kind").type == pa.string()
    assert checked.schema.field("votes").type == pa.list_(pa.int32())
    assert checked["colour"].to_pylist() == ["red", "blue"]


def test_misspelt_column() -> None:
    assert "no column 'uri': rename column 'urj' to it" in refusal(table(uri=None, urj=ROWS["uri"]))


def test_missing_column() -> None:
    assert "no column 'mos'" in refusal(table(), need=("mos",))


def test_wrong_kind() -> None:
    text = refusal(table(kind=["image", "gif"]))
    assert "kind is 'gif' in row 2 (item 'b'): use 'image' or 'video'" in text


def test_duplicate_ids() -> None:
    assert "item_id 'a' occurs more than once" in refusal(table(item_id=["a", "a"]))


def test_nulls() -> None:
    said = "uri is empty in row 2 (item 'b'): fill it in, or leave the row out"
    for nothing in (None, "", "  "):
        assert said in refusal(table(uri=["s3://x", nothing]))
        assert "item_id is empty in row 1: fill it in" in refusal(table(item_id=[nothing, "b"]))
    said = "mos is empty in row 2 (item 'b')"
    assert said in refusal(table(mos=[1.0, None]), need=("mos",))
    check_manifest(table(mos=[1.0, None]), "m")  # nobody asked for it


def test_needed_numbers_are_finite() -> None:
    text = refusal(table(mos=[1.0, float("nan")]), need=("mos",))
    assert "mos is 'nan' in row 2 (item 'b')" in text


def test_no_size_is_negative() -> None:
    text = refusal(table(size=[None, -1]))
    assert "size is '-1' in row 2 (item 'b'): give the object's bytes, or nothing" in text
    check_manifest(table(size=[None, 0]), "m")


def test_wrong_type() -> None:
    text = refusal(table(mos=["good", "bad"]))
    assert "column 'mos' holds string, not double" in text


def test_parquet_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pq.write_table(table(), path)
    with path.open("rb") as file:
        assert read_manifest(file, str(path)).to_pydict() == ROWS


@pytest.mark.parametrize("content", [b"", b"item_id,uri,kind\na,b,image\n", b"PAR1" * 8])
def test_not_parquet(content: bytes) -> None:
    with pytest.raises(ManifestError, match=r"m\.csv is not a .*Parquet file"):
        read_manifest(io.BytesIO(content), "m.csv")


def test_damaged_parquet() -> None:
    buffer = io.BytesIO()
    pq.write_table(table(item_id=["a" * 5000, "b" * 5000]), buffer, compression="zstd")
    damaged = bytearray(buffer.getvalue())
    damaged[4:60] = bytes(56)
    with pytest.raises(ManifestError, match="Parquet file"):
        read_manifest(io.BytesIO(bytes(damaged)), "m.parquet")
