import io
from pathlib import Path

import decord
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from beholder.datasets.demo import SOURCES, DemoSet, Recipe, build_demo
from beholder.datasets.demo.build import CATALOG_COLUMNS
from beholder.items import check_manifest

NAMES = ("quality", "aesthetics", "video")


def test_manifests_are_valid_and_complete(demo: DemoSet, demo_tables: dict[str, pa.Table]) -> None:
    stills = sum(s.has_stills for s in SOURCES)
    made = {name: demo_tables[name]["made_for"].to_pylist().count(name) for name in NAMES}
    assert made == {"quality": 7 * stills, "aesthetics": 5 * stills, "video": 2 * 4}
    for name in NAMES:
        table = check_manifest(demo_tables[name], name, ("mos", "std", "votes", "split"))
        assert sum(demo.counts[name].values()) == table.num_rows
        assert {type(value) for value in table["latent"].to_pylist()} == {float}


def test_what_is_held_out_is_rated_for_what_it_was_made_for(
    demo_tables: dict[str, pa.Table],
) -> None:
    also = {}
    for name in ("quality", "aesthetics"):
        rows = demo_tables[name].to_pylist()
        also[name] = {row["uri"] for row in rows if row["made_for"] != name}
        assert {row["split"] for row in rows if row["made_for"] != name} == {"train"}
    trained = [row for row in demo_tables["quality"].to_pylist() if row["split"] == "train"]
    own = {row["uri"] for row in trained if row["made_for"] == "quality"}
    assert also["aesthetics"] <= own, "the same pictures, rated once more"
    assert len(also["aesthetics"]) == pytest.approx(len(own) * 2 / 7)  # 3rd and 6th of seven


def test_no_source_is_in_two_splits_of_any_set(demo_tables: dict[str, pa.Table]) -> None:
    where: dict[str, set[str]] = {}
    for name in NAMES:
        for row in demo_tables[name].select(["source", "split"]).to_pylist():
            where.setdefault(row["source"], set()).add(row["split"])
    assert {len(splits) for splits in where.values()} == {1}


def test_test_and_val_have_enough_sources(demo_tables: dict[str, pa.Table]) -> None:
    def sources(name: str, split: str) -> set[str]:
        rows = demo_tables[name].select(["source", "split"]).to_pylist()
        return {row["source"] for row in rows if row["split"] == split}

    for name in ("quality", "aesthetics"):
        assert len(sources(name, "test")) >= 6 and len(sources(name, "val")) >= 3
    assert len(sources("video", "test")) == 2
    assert len(sources("video", "val")) == len(sources("video", "train")) == 1


def test_it_says_what_is_real_and_what_is_simulated(demo_tables: dict[str, pa.Table]) -> None:
    for name in NAMES:
        about = demo_tables[name].schema.metadata[b"about"].decode()
        assert "are real" in about and "SIMULATED" in about


def test_votes_make_the_mos(demo_tables: dict[str, pa.Table]) -> None:
    for name in NAMES:
        votes = np.array(demo_tables[name]["votes"].to_pylist())
        counts = votes.sum(axis=1)
        assert counts.min() >= 20 and counts.max() <= 25
        mos = votes @ np.arange(1, 6) / counts
        assert demo_tables[name]["mos"].to_pylist() == pytest.approx(mos.tolist())


def test_media_decode(demo_tables: dict[str, pa.Table]) -> None:
    for uri in demo_tables["quality"]["uri"].to_pylist()[::20]:
        with Image.open(uri) as picture:
            picture.load()
            assert picture.mode == "RGB" and picture.format == "JPEG"
    for uri in demo_tables["video"]["uri"].to_pylist():
        reader = decord.VideoReader(uri)
        assert 35 <= len(reader) <= 75
        assert 2.9 < len(reader) / reader.get_avg_fps() < 5.1


def test_the_catalog_is_the_test_pictures_and_four_bad_items(
    demo_tables: dict[str, pa.Table],
) -> None:
    catalog = demo_tables["catalog"]
    assert tuple(catalog.column_names) == CATALOG_COLUMNS
    bad = {r["item_id"]: Path(r["uri"]) for r in catalog.to_pylist() if r["segment"] == "bad"}
    held = {
        row["item_id"]
        for name in ("quality", "aesthetics")
        for row in demo_tables[name].select(["item_id", "split"]).to_pylist()
        if row["split"] == "test"
    }
    assert set(catalog["item_id"].to_pylist()) == held | set(bad)
    assert not bad["bad-missing"].exists()
    assert bad["bad-empty"].read_bytes() == b""
    for name in ("bad-truncated", "bad-text"):
        with pytest.raises(OSError):
            Image.open(io.BytesIO(bad[name].read_bytes())).load()


def test_uris_can_point_to_where_the_files_are_copied(tmp_path: Path) -> None:
    recipe = Recipe(0, 1, 0, 0, 0)
    seen: list[tuple[int, int]] = []
    demo = build_demo(
        tmp_path,
        recipe,
        uri_prefix="s3://bucket/demo/",
        progress=lambda *done: seen.append(done),
    )
    table = check_manifest(pa.parquet.read_table(demo.manifests["quality"]), "quality")
    for row in table.to_pylist():
        assert row["uri"] == f"s3://bucket/demo/quality/{row['item_id']}.jpg"
        assert (tmp_path / "quality" / f"{row['item_id']}.jpg").is_file()
    assert seen == [(n, len(SOURCES)) for n in range(1, len(SOURCES) + 1)]
