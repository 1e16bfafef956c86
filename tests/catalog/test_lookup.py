"""Scores by item id from look-up files, against the rows that went in."""

import gc
import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from beholder.catalog.buckets import bucket_numbers, split
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lookup import Lookup
from beholder.catalog.rank_record import Part, RankedTask, RankRecord
from beholder.catalog.record import CatalogError
from beholder.catalog.tombstones import TOMBSTONES, Tombstones, bury, read_tombstones
from beholder.media.storage import write_bytes

RUN = RunId("2026-11-20")
SCRIPTS = ("é", "日", "a", "\U0001f600")
SUPPORT = (1.0, 3.0, 5.0)
NOTHING = Tombstones("", (), TOMBSTONES.empty_table())


def items() -> list[dict]:
    """A thousand, of any script; every tenth failed, every seventh is a video without taste."""
    rng = np.random.default_rng(0)
    found = []
    for n in range(1000):
        name = f"{SCRIPTS[n % 4]}{'/' * (n % 3)}{n}"
        failed, video = n % 10 == 0, n % 7 == 0
        row = {"item_id": name, "state": "failed" if failed else "scored", "failure_code": None}
        row["owner"] = f"owner {n}"
        if failed:
            row["failure_code"] = "decode.truncated"
        else:
            row["quality.probs"] = rng.dirichlet(np.ones(3)).tolist()
            row["quality.mean"], row["quality.std"] = rng.uniform(1, 5), rng.uniform(0, 1)
            row["taste.mean"] = None if video else rng.uniform(1, 5)
        found.append(row)
    return found


SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("owner", pa.string()),
        ("segment", pa.string()),
        ("state", pa.string()),
        ("failure_code", pa.string()),
        ("quality.mean", pa.float64()),
        ("quality.std", pa.float64()),
        ("quality.probs", pa.list_(pa.float64(), 3)),
        ("taste.mean", pa.float64()),
        ("taste.std", pa.float64()),
    ]
)


@pytest.fixture
def record(tmp_path: Path) -> RankRecord:
    """Of look-up files in seven buckets and one empty one."""
    layout = Layout(str(tmp_path / "catalog"))
    table = pa.Table.from_pylist(items(), schema=SCHEMA)
    numbers = bucket_numbers(table["item_id"], 8)
    parts = {}
    for bucket, rows in split(table, numbers):
        if bucket == 3:
            continue
        sink = pa.BufferOutputStream()
        rows = rows.sort_by("item_id").combine_chunks()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        data = sink.getvalue().to_pybytes()
        uri = layout.ranks_file(RUN, "x", f"lookup/{bucket}")
        write_bytes(uri, data)
        digest = hashlib.sha256(data).hexdigest()
        parts[bucket] = Part(path=layout.relative(uri), rows=rows.num_rows, sha256=digest)
    assert len(parts) == 7
    return RankRecord(
        snapshot=str(RUN),
        fingerprint="f",
        made_at=datetime.now(UTC),
        buckets=8,
        items=1000,
        z=1.0,
        tasks={
            "quality": RankedTask(scale=(1, 5), support=SUPPORT, spread=True, rows=900),
            "taste": RankedTask(scale=(1, 5), support=None, spread=False, rows=1),
        },
        lookup=parts,
        ranks={},
    )


@pytest.fixture
def lookup(record: RankRecord, tmp_path: Path) -> Lookup:
    return Lookup(Layout(str(tmp_path / "catalog")), record)


def in_bucket_3(name: str) -> bool:
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") % 8 == 3


def test_every_item_is_found_as_it_is(lookup: Lookup) -> None:
    rows = {row["item_id"]: row for row in items()}
    names = [*rows, "no such item", "", "zzz"]
    np.random.default_rng(1).shuffle(names)
    found, taste = lookup.find(names, "quality", NOTHING), lookup.find(names, "taste", NOTHING)
    assert found.probs is not None and taste.probs is None
    for at, name in enumerate(names):
        row = rows.get(name)
        if row is None or in_bucket_3(name):
            assert found.reasons[at] == taste.reasons[at] == "unknown"
        elif row["state"] == "failed":
            assert found.reasons[at] == "decode.truncated"
            assert np.isnan(found.mean[at])
        else:
            assert at not in found.reasons
            assert (found.mean[at], found.std[at]) == (row["quality.mean"], row["quality.std"])
            assert found.probs[at].tolist() == row["quality.probs"]
            if row["taste.mean"] is None:
                assert taste.reasons[at] == "unscored"
            else:
                assert taste.mean[at] == row["taste.mean"] and np.isnan(taste.std[at])


def test_an_id_may_be_asked_for_twice_and_none_at_all(lookup: Lookup) -> None:
    name = next(i["item_id"] for i in items()[1:] if not in_bucket_3(i["item_id"]))
    found = lookup.find([name, "none", name], "quality", NOTHING)
    assert found.mean[0] == found.mean[2] and list(found.reasons) == [1]
    assert lookup.find([], "quality", NOTHING).reasons == {}


def test_only_buckets_that_are_asked_for_are_fetched(
    lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lookup.mapped() == []
    lookup.find(["é1"], "quality", NOTHING)
    assert len(lookup.mapped()) <= 1
    names = [row["item_id"] for row in items()]
    asked = threading.Barrier(4)

    def find() -> None:
        asked.wait()
        lookup.find(names, "quality", NOTHING)

    threads = [threading.Thread(target=find) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lookup.mapped() == [0, 1, 2, 4, 5, 6, 7]


def test_a_damaged_file_is_refused(lookup: Lookup, tmp_path: Path) -> None:
    for part in lookup.record.lookup.values():
        path = tmp_path / "catalog" / part.path
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CatalogError, match="its sha256 is"):
        lookup.find([row["item_id"] for row in items()], "quality", NOTHING)
    assert lookup.mapped() == []


def test_erased_items_are_unknown(lookup: Lookup, tmp_path: Path) -> None:
    names = [row["item_id"] for row in items()[:50]]
    found = lookup.find(names, "quality", NOTHING)
    layout = Layout(str(tmp_path / "catalog"))
    bury(layout, [("item", names[1]), ("item", "other"), ("owner", "owner 7")], b"k" * 32)
    shown = lookup.find(names, "quality", read_tombstones(layout))
    assert shown.reasons[1] == shown.reasons[7] == "unknown"
    assert np.isnan(shown.mean[[1, 7]]).all() and np.isnan(shown.probs[[1, 7]]).all()
    rest = [at for at in range(50) if at not in (1, 7)]
    assert np.array_equal(shown.mean[rest], found.mean[rest], equal_nan=True)
    assert np.array_equal(shown.probs[rest], found.probs[rest], equal_nan=True)
    assert {at: r for at, r in shown.reasons.items() if at in rest} == {
        at: r for at, r in found.reasons.items() if at in rest
    }


def test_local_copies_have_no_names_and_go_with_the_object(
    record: RankRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(f"{scratch}/beholder-lookup-")

    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    lookup = Lookup(Layout(str(tmp_path / "catalog")), record)
    lookup.fetch(range(8))
    batch: Callable = lookup.find
    assert not list(scratch.iterdir()), "a replica that is killed would leave them"
    assert mapped() == 7
    del lookup, batch
    gc.collect()
    assert mapped() == 0
