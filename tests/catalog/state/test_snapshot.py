"""Readers: joined rows, DuckDB's views, and what they refuse."""

from pathlib import Path

import pytest

from beholder.catalog import prepare as preparing
from beholder.catalog.record import CatalogError, DamagedError
from beholder.catalog.snapshot import ROWS, open_snapshot


@pytest.fixture(params=["compacted", "deltas"])
def snapshot(request: pytest.FixtureRequest, nights, run_id, monkeypatch: pytest.MonkeyPatch):
    """Three nights: rescored, removed and failed items, and one of an earlier scorer."""
    monkeypatch.setattr(preparing, "DELTA_SHARE", 100.0 if request.param == "deltas" else -1.0)
    catalog = nights("it's a catalog", buckets=2)
    first = [catalog.scored(i, run_id(0), i * 2, 9.0) for i in "abcde"]
    catalog.night(run_id(0), first, fingerprint="f0")
    second = [catalog.scored(i, run_id(1), i * 2, float(n)) for n, i in enumerate("abcde")]
    catalog.night(run_id(1), second)
    third = [
        catalog.scored("a", run_id(2), "xx", 3.0),
        catalog.known("f", run_id(2), "bb"),
        catalog.failed("g", run_id(2)),
        catalog.failed("c", run_id(2), state="stale", sha256="cc"),
    ]
    removed = catalog.known("d", run_id(2), "dd", removed=True)
    catalog.night(run_id(2), third, settled=[removed])
    return open_snapshot(catalog.layout.root)


EXPECTED = {
    "a": ("scored", 3.0),
    "b": ("scored", 1.0),
    "c": ("stale", 2.0),
    "e": ("scored", 4.0),
    "f": ("scored", 1.0),
    "g": ("failed", None),
}


def test_rows_are_every_item_with_its_scores(snapshot) -> None:
    tables = list(snapshot.rows())
    assert all(table.schema == ROWS for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    first = {r["item_id"]: (r["state"], r["mean"]) for r in rows if r["task"] != "quality"}
    assert first == EXPECTED
    assert len(rows) == 2 * 5 + 1
    by_key = {(row["item_id"], row["task"]): row for row in rows}
    assert by_key["b", "quality"]["mean"] == 2.0
    assert by_key["b", "quality"]["probs"] == [0.25, 0.75]
    assert by_key["b", "quality"]["fingerprint"] == "f1"
    assert by_key["g", None]["failure_code"] == "fetch.timeout"


def test_duckdb_sees_the_same(snapshot) -> None:
    """In one line, as the README has it."""
    answer = snapshot.connect().sql(
        "select item_id, state, mean from items left join scores using (sha256) "
        "where task is null or task = 'aesthetics'"
    )
    assert {row[0]: row[1:] for row in answer.fetchall()} == EXPECTED
    connection = snapshot.connect()
    items = connection.sql("from items order by item_id").to_arrow_table()
    tables = [snapshot.items(bucket) for bucket in range(2)]
    wanted = sorted((r for t in tables for r in t.to_pylist()), key=lambda r: r["item_id"])
    assert items.to_pylist() == wanted
    sums = connection.sql("select task, sum(mean) from scores group by task order by task")
    assert sums.fetchall() == [("aesthetics", 13.0), ("quality", 19.0)]  # also of aa and dd


def test_an_empty_catalog_has_empty_views(nights, run_id) -> None:
    connection = nights().night(run_id(0), []).connect()
    assert connection.sql("from items").fetchall() == []
    assert connection.sql("select avg(mean) from scores").fetchall() == [(None,)]
    assert connection.sql("from items").columns[0] == "item_id"


def test_a_damaged_file_is_refused_by_name(snapshot) -> None:
    file = next(iter(snapshot.record.items.values()))[0]
    path = Path(snapshot.layout.absolute(file.path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CatalogError, match=f"{path.name}: its sha256 is"):
        list(snapshot.rows())


def test_a_file_that_is_gone_is_refused_by_name(snapshot) -> None:
    file = next(iter(snapshot.record.items.values()))[0]
    Path(snapshot.layout.absolute(file.path)).unlink()
    with pytest.raises(DamagedError, match=rf"{snapshot.id} names .* gone .*{file.path}.*restore"):
        list(snapshot.rows())


def test_a_record_of_another_version_is_refused(snapshot) -> None:
    path = Path(snapshot.layout.snapshot(snapshot.id))
    path.write_text(path.read_text("utf-8").replace('"buckets"', '"shards"'), "utf-8")
    with pytest.raises(CatalogError, match="no snapshot of this version"):
        open_snapshot(snapshot.layout.root)


def test_a_snapshot_that_is_not_there(snapshot) -> None:
    with pytest.raises(CatalogError, match=r"has no snapshot 2020-01-01\.0"):
        open_snapshot(snapshot.layout.root, "2020-01-01.0")
