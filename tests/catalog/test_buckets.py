"""Rows split by bucket come back whole, in order, and where MD5 says."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa
import pytest

from beholder.catalog import buckets as module
from beholder.catalog.buckets import Buckets, bucket_numbers, conform, query
from beholder.catalog.tables import ITEMS


def _md5_bucket(key: str, buckets: int) -> int:
    """The digest's last eight bytes, as a little-endian number."""
    return int.from_bytes(hashlib.md5(key.encode()).digest()[8:], "little") % buckets


@pytest.mark.parametrize("buckets", [1, 7, 1024])
def test_a_buckets_number_is_its_keys_md5(buckets: int) -> None:
    keys = ["", "a", "é", "item-1", "x" * 300]
    assert bucket_numbers(pa.array(keys), buckets).to_pylist() == [
        _md5_bucket(key, buckets) for key in keys
    ]
    assert bucket_numbers(pa.array([None], pa.string()), buckets).to_pylist() == [0]


@pytest.mark.parametrize("spill", [1, 500, 2**30])
def test_what_went_in_comes_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spill: int
) -> None:
    monkeypatch.setattr(module, "SPILL_BYTES", spill)
    split = Buckets(tmp_path / "split", 5, "key")
    rows = [(f"k{i % 40}", i, [float(i), None] if i % 3 else None) for i in range(200)]
    for start in range(0, 200, 30):
        key, order, values = zip(*rows[start : start + 30], strict=True)
        split.add(pa.table({"key": key, "order": order, "values": pa.array(values)}))
    found = [split.read(bucket) for bucket in range(5)]
    assert [t.num_rows for t in found] == [split.rows(bucket) for bucket in range(5)]
    back = [tuple(row.values()) for t in found for row in t.to_pylist()]
    assert sorted(back, key=lambda row: row[1]) == rows
    for bucket, table in enumerate(found):
        assert {_md5_bucket(key, 5) for key in table["key"].to_pylist()} <= {bucket}
        assert table["order"].to_pylist() == sorted(table["order"].to_pylist())


def test_rows_may_come_after_some_were_read(tmp_path: Path) -> None:
    split = Buckets(tmp_path / "split", 2, "key")
    for turn in range(3):
        split.add(pa.table({"key": [f"k{n}" for n in range(20)], "turn": [turn] * 20}))
        found = pa.concat_tables([split.read(bucket) for bucket in range(2)])
        assert found["turn"].value_counts().to_pylist() == [
            {"values": one, "counts": 20} for one in range(turn + 1)
        ]


def test_open_files_do_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPILL_BYTES", 1)
    split = Buckets(tmp_path / "split", 4, "key")
    before = psutil.Process().num_fds()
    for start in range(0, 1000, 10):
        split.add(pa.table({"key": [f"k{n}" for n in range(start, start + 10)]}))
    assert sum(split.read(bucket).num_rows for bucket in range(4)) == 1000
    assert psutil.Process().num_fds() <= before + 2


def test_threads_read_at_once(tmp_path: Path) -> None:
    for attempt in range(5):
        split = Buckets(tmp_path / str(attempt), 64, "key")
        split.add(pa.table({"key": [f"k{n}" for n in range(5000)]}))
        with ThreadPoolExecutor(16) as pool:  # the first of them spills
            assert sum(t.num_rows for t in pool.map(split.read, range(64))) == 5000


def test_a_bucket_without_rows_has_the_schema(tmp_path: Path) -> None:
    split = Buckets(tmp_path / "split", 3, "item_id", ITEMS)
    assert split.read(2).schema == ITEMS
    assert split.rows(2) == 0


def test_other_columns_are_refused(tmp_path: Path) -> None:
    split = Buckets(tmp_path / "split", 3, "key")
    split.add(pa.table({"key": ["a"]}))
    with pytest.raises(KeyError, match="key"):
        split.add(pa.table({"other": ["a"]}))


def test_a_query_sees_what_it_was_given_from_any_thread() -> None:
    def total(number: int) -> int:
        return query("select sum(n) as n from t", t=pa.table({"n": [number, 1]}))["n"][0].as_py()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(total, range(50))) == [n + 1 for n in range(50)]
    stranger = pa.table({"n": [1]})
    with pytest.raises(duckdb.CatalogException, match="stranger"):
        query("select * from stranger")
    assert stranger.num_rows == 1


def test_a_querys_answer_takes_a_schema() -> None:
    table = pa.Table.from_pylist([{"item_id": "a", "created_at": 0, "removed": False}], ITEMS)
    answer = conform(query("select * from t", t=table), ITEMS)
    assert answer.equals(table)
