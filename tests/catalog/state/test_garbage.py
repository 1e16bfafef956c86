"""Garbage: what nobody names goes, and every kept snapshot reads back as before."""

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from beholder.catalog.garbage import GarbageConfig, find_garbage, remove_garbage
from beholder.catalog.head import publish, read_head, roll_back
from beholder.catalog.layout import RunId
from beholder.catalog.rank_record import Part, RankRecord
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import open_snapshot
from beholder.local_stack import ObjectStore
from beholder.media.storage import list_files, remove_files, write_bytes


@pytest.fixture
def catalog(nights, run_id):
    """Eight nights whose one bucket is rewritten by each, with what runs leave beside them."""
    made = nights(buckets=1)
    for night in range(8):
        run = run_id(night)
        made.night(run, [made.scored(i, run, f"{i}{night}", 1.0) for i in "abcd"])
        for path in (f"runs/{run}/plan.json", f"runs/{run}/data/00000000-x.parquet"):
            write_bytes(f"{made.layout.root}/{path}", b"x")
        write_bytes(f"{made.layout.run(RunId.parse(run))}/report.html", b"x")
        write_bytes(made.layout.lease(run[:10]), json.dumps({"epoch": 1}).encode())
    write_bytes(f"{made.layout.root}/tombstones/a.json", b"x")
    return made


def _age(catalog, hours: float = 100.0) -> None:
    then = time.time() - timedelta(hours=hours).total_seconds()
    for path in list_files(catalog.layout.root):
        os.utime(path, (then, then))


def _collect(catalog, **how):
    config = GarbageConfig(catalog=catalog.layout.root, **how)
    garbage = find_garbage(config)
    remove_garbage(config, garbage)
    return garbage


def _left(catalog, folder: str) -> set[str]:
    root = f"{catalog.layout.root}/"
    return {path.removeprefix(root) for path in list_files(f"{root}{folder}")}


def test_kept_snapshots_read_back_equal(catalog, contents, run_id) -> None:
    before = {n: contents(open_snapshot(catalog.layout.root, run_id(n))) for n in range(8)}
    orphan = catalog.prepare(run_id(9), [catalog.failed("z", run_id(9))])  # a try that died
    _age(catalog)
    garbage = _collect(catalog, keep=3)
    assert garbage.kept == (run_id(5), run_id(6), run_id(7))
    assert not Path(catalog.layout.absolute(orphan.items[0][-1].path)).exists()
    for night in (5, 6, 7):
        snapshot = open_snapshot(catalog.layout.root, run_id(night))
        assert contents(snapshot) == before[night]
    for night in range(5):
        with pytest.raises(CatalogError, match="or collected"):
            open_snapshot(catalog.layout.root, run_id(night))
    assert garbage.bytes > 0
    assert len(_left(catalog, "items")) == 3


def test_runs_and_leases_older_than_all_snapshots_go(catalog, run_id) -> None:
    _age(catalog)
    busy = catalog.layout.lease(run_id(2)[:10])
    os.utime(busy)  # somebody renews it
    _collect(catalog, keep=3)
    runs = _left(catalog, "runs")
    assert {path for path in runs if run_id(1) in path} == {f"runs/{run_id(1)}/report.html"}
    assert len([path for path in runs if run_id(2) in path]) == 3
    assert len([path for path in runs if run_id(5) in path]) == 3
    dates = {path.split("/")[1].removesuffix(".json") for path in _left(catalog, "leases")}
    assert dates == {run_id(night)[:10] for night in (2, 5, 6, 7)}
    assert _left(catalog, "tombstones") == {"tombstones/a.json"}
    assert read_head(catalog.layout) is not None


def test_the_young_are_left_alone(catalog) -> None:
    before = list_files(catalog.layout.root)
    _collect(catalog, keep=1)
    assert list_files(catalog.layout.root) == before
    _age(catalog, hours=5)
    _collect(catalog, keep=1)
    assert list_files(catalog.layout.root) == before
    _collect(catalog, keep=1, grace=4.0)
    assert list_files(catalog.layout.root) != before


def test_head_and_its_parent_are_kept_however_old(catalog, contents, run_id) -> None:
    roll_back(catalog.layout, run_id(3), "me")
    seen = contents(open_snapshot(catalog.layout.root))
    _age(catalog)
    assert _collect(catalog, keep=1).kept == tuple(run_id(night) for night in (2, 3, 7))
    assert contents(open_snapshot(catalog.layout.root)) == seen
    assert roll_back(catalog.layout, None, "me").snapshot == run_id(2)


def test_a_publication_on_its_way_is_not_hurt(catalog, contents, run_id) -> None:
    """Its files are written, its record is not."""
    _age(catalog)
    record = catalog.prepare(run_id(9), [catalog.failed("z", run_id(9))])
    _collect(catalog, keep=1)
    publish(catalog.layout, record, "driver")
    assert [i["item_id"] for i in contents(open_snapshot(catalog.layout.root))[0]] == list("abcdz")


def test_a_head_that_moved_stops_it(catalog, run_id) -> None:
    _age(catalog)
    config = GarbageConfig(catalog=catalog.layout.root, keep=1)
    garbage = find_garbage(config)
    roll_back(catalog.layout, run_id(2), "me")
    before = list_files(catalog.layout.root)
    with pytest.raises(CatalogError, match="HEAD was moved meanwhile"):
        remove_garbage(config, garbage)
    assert list_files(catalog.layout.root) == before


def test_it_may_die_at_any_removal(
    catalog, contents, run_id, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is kept reads back after each death, and the next call leaves what one call leaves."""
    _age(catalog)
    root, before = Path(catalog.layout.root), tmp_path / "before"
    shutil.copytree(root, before)
    kept = {n: contents(open_snapshot(catalog.layout.root, run_id(n))) for n in (6, 7)}
    whole = _collect(catalog, keep=2)
    left = set(list_files(catalog.layout.root))
    removals = len(whole.records) + len(whole.objects)
    disk = type(fsspec.filesystem("file"))
    remove = disk.rm_file
    for after in range(removals):
        shutil.rmtree(root)
        shutil.copytree(before, root)
        done = []

        def dies(fs: object, path: str, after: int = after, done: list = done) -> None:
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(path)
            remove(fs, path)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(disk, "rm_file", dies)
            _collect(catalog, keep=2)
        for night, seen in kept.items():
            assert contents(open_snapshot(catalog.layout.root, run_id(night))) == seen
        _collect(catalog, keep=2)
        assert set(list_files(catalog.layout.root)) == left, after
    assert removals > 20


def test_a_lost_file_stops_it(catalog) -> None:
    _age(catalog)
    snapshot = open_snapshot(catalog.layout.root)
    lost = snapshot.record.items[0][-1].path
    Path(snapshot.layout.absolute(lost)).unlink()
    with pytest.raises(CatalogError, match=f"{lost} is not there, though"):
        find_garbage(GarbageConfig(catalog=catalog.layout.root))


def test_a_folder_that_was_emptied_is_no_file(s3: ObjectStore, nights, run_id) -> None:
    """SeaweedFS lists it as itself."""
    made = nights(root=f"s3://{s3.bucket}/emptied")
    made.night(run_id(0), [made.scored("a", run_id(0), "aa", 1.0)])
    uri = f"{made.layout.root}/ranks/x/y.parquet"
    write_bytes(uri, b"x")
    remove_files([uri])
    assert find_garbage(GarbageConfig(catalog=made.layout.root)).objects == ()
    assert list_files(f"{made.layout.root}/ranks") == []


def test_a_root_with_a_slash_is_the_same_catalog(catalog) -> None:
    _age(catalog)
    whole = find_garbage(GarbageConfig(catalog=catalog.layout.root, keep=3))
    assert find_garbage(GarbageConfig(catalog=f"{catalog.layout.root}/", keep=3)) == whole


def test_ranks_go_with_their_snapshot(catalog, run_id) -> None:
    """And what an attempt left that no record names; those of kept snapshots stay."""
    for night in (1, 6):
        run = RunId.parse(run_id(night))
        named = [catalog.layout.ranks_file(run, "a", name) for name in ("lookup/0", "mean/0")]
        for uri in (*named, catalog.layout.ranks_file(run, "b", "parcels/split/0")):
            write_bytes(uri, b"x")
        parts = [Part(path=catalog.layout.relative(u), rows=1, sha256="0" * 64) for u in named]
        record = RankRecord(
            snapshot=str(run),
            fingerprint="f1",
            made_at=datetime.now(UTC),
            buckets=1,
            items=1,
            z=1.0,
            tasks={},
            lookup={0: parts[0]},
            ranks={"mean": (parts[1],)},
        )
        write_bytes(catalog.layout.ranks(run), record.encode())
    _collect(catalog, keep=3)
    assert len(_left(catalog, "ranks")) == 8  # young
    _age(catalog)
    garbage = _collect(catalog, keep=3)
    assert f"ranks/{run_id(1)}.json" in garbage.records
    kept = f"ranks/{run_id(6)}"
    assert _left(catalog, "ranks") == {f"{kept}.json", f"{kept}/a/lookup/0", f"{kept}/a/mean/0"}
