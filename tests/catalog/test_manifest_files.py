"""A manifest is found as files of known versions, and read in batches, or refused by name."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import manifest_files
from beholder.catalog.manifest_files import MANIFEST, ManifestFiles
from beholder.items import ManifestError
from beholder.media.storage import StorageError, open_filesystem


def part(*ids: str, **columns: Any) -> pa.Table:
    base = {"item_id": list(ids), "uri": [f"{i}.jpg" for i in ids], "kind": ["image"] * len(ids)}
    return pa.table(base | columns)


def write(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_a_folder_of_files_is_one_manifest(tmp_path: Path) -> None:
    write(tmp_path / "day=1" / "b.parquet", part("b", "c", etag=["x", None]))
    write(tmp_path / "a.parquet", part("a", size=pa.array([7], pa.int16()), mos=[1.0]))
    write(tmp_path / "_temporary" / "half.parquet", part("half"))
    (tmp_path / "_SUCCESS").touch()
    found = ManifestFiles.find(f"{tmp_path}/")
    assert [Path(file.uri).name for file in found.files] == ["a.parquet", "b.parquet"]
    assert found.rows == 3
    rows = pa.concat_tables(list(found.batches()))
    assert rows.schema.equals(MANIFEST.append(pa.field("row", pa.int64())))
    assert rows["item_id"].to_pylist() == ["a", "b", "c"]
    assert rows["size"].to_pylist() == [7, None, None]
    assert rows["etag"].to_pylist() == [None, "x", None]
    assert rows["row"].to_pylist() == [0, 1, 2]
    assert found.place(2) == f"row 2 of {tmp_path}/day=1/b.parquet"


def test_it_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "m.parquet", part(*map(str, range(10))))
    monkeypatch.setattr(manifest_files, "BATCH_ROWS", 4)
    found = ManifestFiles.find(str(tmp_path / "m.parquet"))
    batches = list(found.batches())
    assert [batch.num_rows for batch in batches] == [4, 4, 2]
    assert [batch["row"][0].as_py() for batch in batches] == [0, 4, 8]


def test_a_column_that_is_missing_is_said_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", part("a"))
    write(tmp_path / "b.parquet", part("b").rename_columns(["item_id", "urj", "kind"]))
    with pytest.raises(ManifestError, match=r"b.parquet has no column 'uri': rename column 'urj'"):
        ManifestFiles.find(str(tmp_path))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("kind", "gif", "kind is 'gif'"),
        ("item_id", "", "item_id is empty"),
        ("uri", " ", "uri is empty"),
        ("size", -7, "size is '-7'"),
    ],
)
def test_a_wrong_row_is_said_with_its_place_in_its_file(
    column: str, value: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the file's start, whatever batch or row group it is read in."""
    monkeypatch.setattr(manifest_files, "BATCH_ROWS", 3)
    write(tmp_path / "a.parquet", part("0", "1"))
    rows = part(*"abcdefghijkl", size=[9] * 12).to_pylist()
    rows[9][column] = value
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=4)
    found = ManifestFiles.find(str(tmp_path))
    with pytest.raises(ManifestError, match=rf"{tmp_path}/b.parquet: {said} in row 10\b"):
        list(found.batches())


@pytest.mark.parametrize("content", [b"", b"item_id,uri\n", b"PAR1 and no more PAR1"])
def test_what_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(ManifestError, match=r"m.parquet can't be read as Parquet"):
        ManifestFiles.find(str(tmp_path / "m.parquet"))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        ManifestFiles.find(str(tmp_path / "none.parquet"))
    with pytest.raises(ManifestError, match=r"a folder without .parquet files"):
        ManifestFiles.find(str(tmp_path))


def test_files_that_come_go_and_change(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", part("a"))
    write(tmp_path / "b.parquet", part("b"))
    found = ManifestFiles.find(str(tmp_path))
    found.check_unmoved()
    write(tmp_path / "c.parquet", part("c"))
    with pytest.raises(ManifestError, match=r"c.parquet has changed"):
        found.check_unmoved()
    (tmp_path / "c.parquet").unlink()
    found.check_unmoved()
    write(tmp_path / "b.parquet", part("b", "d"))
    with pytest.raises(ManifestError, match=r"b.parquet has changed"):
        found.check_unmoved()
    assert ManifestFiles.find(str(tmp_path)).version != found.version


def test_versions_in_s3_are_etags(s3: Any, tmp_path: Path) -> None:
    folder = f"s3://{s3.bucket}/manifest-files"
    fs, path = open_filesystem(folder)
    for name in ("a", "b"):
        write(tmp_path / name, part(name))
        fs.put_file(str(tmp_path / name), f"{path}/{name}.parquet")
    found = ManifestFiles.find(folder)
    assert [file.uri for file in found.files] == [f"{folder}/a.parquet", f"{folder}/b.parquet"]
    assert all(file.version == fs.info(file.uri)["ETag"].strip('"') for file in found.files)
    assert pa.concat_tables(list(found.batches()))["item_id"].to_pylist() == ["a", "b"]
    fs.put_file(str(tmp_path / "a"), f"{path}/b.parquet")
    with pytest.raises(ManifestError, match=r"b.parquet has changed"):
        found.check_unmoved()
    with pytest.raises(StorageError, match="does not exist"):
        ManifestFiles.find(f"{folder}/none.parquet")
