"""The job's work: a manifest in storage with splits and provenance."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.config import ConfigError, load_config
from beholder.datasets.build import ManifestConfig, build_manifest, sets_table
from beholder.datasets.manifests import load_manifest
from beholder.datasets.public import PUBLIC_SETS, LabelError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kadid(tmp_path: Path) -> Path:
    """Ten references with three pictures each, all but two of the thirty there."""
    lines, root = ["dist_img,ref_img,dmos,var"], tmp_path / "kadid10k"
    (root / "images").mkdir(parents=True)
    for reference in range(1, 11):
        for level in range(1, 4):
            name = f"I{reference:02}_01_{level:02}.png"
            lines.append(f"{name},I{reference:02}.png,{5 - level},0.25")
            (root / "images" / name).touch()
    (root / "dmos.csv").write_text("\n".join(lines) + "\n")
    for name in ("I02_01_01.png", "I03_01_01.png"):
        (root / "images" / name).unlink()
    return root


def config(root: Path, **fields: object) -> ManifestConfig:
    fields = {"name": "kadid", "root": str(root), "output": str(root / "m.parquet")} | fields
    return ManifestConfig.model_validate(fields)


def own(root: Path, text: str, **fields: object) -> pa.Table:
    (root / "labels.csv").write_text(text)
    (root / "a.jpg").touch()
    fields = {"name": "mine", "own": {"scale": (1, 5)}} | fields
    build_manifest(config(root, **fields))
    return load_manifest(str(root / "m.parquet"), need=("mos", "split"))


def test_a_manifest_with_its_provenance(kadid: Path) -> None:
    built = build_manifest(config(kadid))
    assert (built.rows, built.expected, built.missing) == (30, 10_125, 2)
    assert built.example == f"{kadid}/images/I02_01_01.png"
    table = load_manifest(str(kadid / "m.parquet"), need=("mos", "std", "split"))
    assert table.num_rows == 30 and "found" not in table.column_names
    about = {
        k.decode(): v.decode() for k, v in pq.read_schema(kadid / "m.parquet").metadata.items()
    }
    assert (about["dataset"], about["task"], about["scale"]) == ("kadid", "quality", "1..5")
    assert about["citation"] == PUBLIC_SETS["kadid"].citation
    assert about["licence"] == PUBLIC_SETS["kadid"].terms
    digest = hashlib.sha256((kadid / "dmos.csv").read_bytes()).hexdigest()
    assert json.loads(about["files"]) == {"dmos.csv": digest} == built.files
    assert about["split"] == "2 and 1 of 10 sources held out for test and val, seed 0"


def test_no_source_is_on_two_sides(kadid: Path) -> None:
    built = build_manifest(config(kadid, test=0.3, val=0.2))
    assert built.splits == {"train": 15, "val": 6, "test": 9}
    rows = load_manifest(str(kadid / "m.parquet")).to_pylist()
    sides = {(row["source"], row["split"]) for row in rows}
    assert len(sides) == 10
    build_manifest(config(kadid, test=0.3, val=0.2, seed=1))
    others = load_manifest(str(kadid / "m.parquet")).to_pylist()
    assert {(row["source"], row["split"]) for row in others} != sides


def test_an_official_split_is_kept_and_val_is_taken_from_training(tmp_path: Path) -> None:
    (tmp_path / "labels/merge").mkdir(parents=True)
    for split, count in (("train", 20), ("test", 5)):
        lines = [f"{split}{n}.jpg,{1 + n / 4}" for n in range(count)]
        (tmp_path / f"labels/merge/{split}.csv").write_text("\n".join(["image,score", *lines]))
    (tmp_path / "train1.jpg").touch()
    built = build_manifest(config(tmp_path, name="tad66k", val=0.1))
    assert built.splits == {"train": 18, "val": 2, "test": 5}
    rows = load_manifest(str(tmp_path / "m.parquet")).to_pylist()
    assert all(r["item_id"].startswith("test") == (r["split"] == "test") for r in rows)
    assert build_manifest(config(tmp_path, name="tad66k", val=0)).splits["val"] == 0


def test_val_can_be_held_out_of_an_official_test_split(tmp_path: Path) -> None:
    (tmp_path / "labels/merge").mkdir(parents=True)
    for split in ("train", "test"):
        lines = [f"{split}{n}.jpg,{1 + n / 4}" for n in range(20)]
        (tmp_path / f"labels/merge/{split}.csv").write_text("\n".join(["image,score", *lines]))
    (tmp_path / "train1.jpg").touch()
    built = build_manifest(config(tmp_path, name="tad66k", val=0.1, val_from="test"))
    assert built.splits == {"train": 20, "val": 2, "test": 18}
    rows = load_manifest(str(tmp_path / "m.parquet")).to_pylist()
    assert all(r["item_id"].startswith("train") == (r["split"] == "train") for r in rows)
    about = pq.read_schema(tmp_path / "m.parquet").metadata[b"split"].decode()
    assert about == "given; of test, 0 and 2 of 20 sources held out for test and val, seed 0"
    with pytest.raises(ConfigError, match=r"test 0 and val 0.99 of 20 sources leave none for test"):
        build_manifest(config(tmp_path, name="tad66k", val=0.99, val_from="test"))


def test_a_list_gives_the_splits_and_leaves_out_what_it_does_not_name(kadid: Path) -> None:
    listed = [f"I{n:02}_01_{level:02}.png" for n in range(1, 11) for level in (1, 2)]
    rows = [f"{name},{'test' if name > 'I08' else 'train'}" for name in listed]
    (kadid / "list.csv").write_text("\n".join(["name,split", *rows]))
    built = build_manifest(config(kadid, splits="list.csv", val=0.4, val_from="test"))
    assert (built.rows, built.unlisted) == (20, 10)
    assert built.splits == {"train": 14, "val": 2, "test": 4}, "whole references"
    assert set(built.files) == {"dmos.csv", "list.csv"}
    table = load_manifest(str(kadid / "m.parquet"))
    assert sorted(table["item_id"].to_pylist()) == listed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,split\nI99.png,test\n", r"list.csv, row 2: the set has no item 'I99.png'"),
        ("name,split\nI01_01_01.png,dev\n", "row 2: split is 'dev': use train, val, test"),
        ("name,split\n" + 2 * "I01_01_01.png,test\n", "row 3: item 'I01_01_01.png' is listed tw"),
        ("name,split\n", "list.csv names no item: write the item_id and split"),
        ("name\nI01_01_01.png\n", "has no column 'split'"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(kadid: Path, text: str, sentence: str) -> None:
    (kadid / "list.csv").write_text(text)
    with pytest.raises(LabelError, match=sentence):
        build_manifest(config(kadid, splits="list.csv"))


def test_own_data(tmp_path: Path) -> None:
    given = own(tmp_path, "uri,mos,split\na.jpg,2,train\nb.jpg,3,val\nc.jpg,4,test\n")
    assert given["split"].to_pylist() == ["train", "val", "test"]
    lines = "".join(f"{n}.jpg,2\n" for n in range(18))
    dealt = own(tmp_path, "uri,mos\na.jpg,2\nb.jpg,3\n" + lines)
    assert sorted(dealt["split"].to_pylist()) == ["test"] * 4 + ["train"] * 15 + ["val"]
    with pytest.raises(LabelError, match=r"row 2 of set mine has no split and others have"):
        own(tmp_path, "uri,mos,split\na.jpg,2,train\nb.jpg,3,\n")


def test_what_is_refused(kadid: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no public set 'kadit': use one of koniq,"):
        build_manifest(config(kadid, name="kadit"))
    with pytest.raises(LabelError, match=r"none of the 30 media is below /nowhere, as /nowhere/im"):
        build_manifest(config(kadid, media="/nowhere"))
    with pytest.raises(
        ConfigError, match=r"test 0.9 and val 0.1 of 10 sources leave none for train"
    ):
        build_manifest(config(kadid, test=0.9, val=0.1))
    with pytest.raises(ConfigError, match=r"own.scale: scale \[5.0, 1.0\] is empty"):
        own(tmp_path, "uri,mos\na.jpg,2\n", own={"scale": (5, 1)})
    assert not list(kadid.glob("*.parquet"))


def test_the_table_names_every_set_and_its_files() -> None:
    text = sets_table()
    for some in PUBLIC_SETS.values():
        assert f"\n{some.name} " in f"\n{text}"
        assert all(path in text for path in some.expected)


def test_the_example_config_for_own_data_is_valid() -> None:
    loaded = load_config(ManifestConfig, PROJECT / "configs/datasets/own.yaml")
    assert loaded.own is not None and loaded.own.scale == (1, 5)


def test_the_job(kadid: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        job = [sys.executable, str(PROJECT / "jobs/build_manifest.py"), *words]
        return subprocess.run(job, capture_output=True, text=True, check=False)

    output = kadid / "out" / "m.parquet"
    done = run("--set", "name=kadid", "--set", f"root={kadid}", "--set", f"output={output}")
    assert done.returncode == 0, done.stderr
    assert "30 rows of 10125 that the owners state" in done.stdout
    assert "2 media are missing, as" in done.stdout
    assert load_manifest(str(output)).num_rows == 30
    wrong = run("--set", "name=kadid", "--set", "root=/nowhere", "--set", f"output={output}")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: /nowhere is no folder")
    assert "koniq10k_distributions_sets.csv" in run("--list").stdout
