"""The same on a real S3, through the jobs and the command as they are typed."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beholder.catalog import garbage as module
from beholder.catalog import patience
from beholder.catalog.garbage import GarbageConfig, find_garbage, remove_garbage
from beholder.catalog.head import NotPublishedError, publish, read_head
from beholder.catalog.layout import Layout
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.cli import app
from beholder.local_stack import ObjectStore
from beholder.media.storage import StorageError, exists, list_files, open_filesystem, write_bytes


@pytest.fixture
def catalog(nights, run_id, s3: ObjectStore, tmp_path: Path):
    """Four nights; the last two are deltas, of which one rescores and one removes."""
    made = nights(root=f"s3://{s3.bucket}/catalogs/{tmp_path.name}", buckets=2)
    names = [f"i{number:02d}" for number in range(40)]
    made.night(run_id(0), [made.scored(i, run_id(0), f"{i}-old", 1.0) for i in names])
    made.night(run_id(1), [made.scored(i, run_id(1), f"{i}-new", 2.0) for i in names])
    made.night(run_id(2), [made.scored(i, run_id(2), f"{i}-late", 3.0) for i in names[:2]])
    gone = made.known(names[0], run_id(3), "", removed=True)
    made.night(run_id(3), [made.scored("new", run_id(3), "new", 7.0)], settled=[gone])
    return made


def _job(project: Path, name: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(project / "jobs" / name), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_duckdb_reads_it_where_it_is(catalog) -> None:
    snapshot = open_snapshot(catalog.layout.root)
    assert any(file.deltas for files in snapshot.record.items.values() for file in files)
    answer = snapshot.connect().sql(
        "select mean, count(*) from items join scores using (sha256) "
        "where task = 'aesthetics' group by mean order by mean"
    )
    assert answer.fetchall() == [(2.0, 38), (3.0, 1), (7.0, 1)]
    rows = [row for table in snapshot.rows() for row in table.to_pylist()]
    assert len(rows) == 2 * 40
    assert "i00" not in {row["item_id"] for row in rows}


def test_of_two_publishers_one_wins(catalog, run_id) -> None:
    ours, theirs = (catalog.prepare(run_id(n), []) for n in (4, 5))
    publish(catalog.layout, theirs, "they")
    with pytest.raises(NotPublishedError, match=f"HEAD names {run_id(5)}"):
        publish(catalog.layout, ours, "we")
    assert open_snapshot(catalog.layout.root).record == theirs


def test_a_store_with_bad_moments(catalog, contents, run_id, s3, fault_proxy, monkeypatch) -> None:
    """A quarter of all requests fail, or their answers get lost: the night is the same."""
    faults = ("500", "503", "short", "reset", "lost answer")
    rows = [catalog.scored(f"i{n:02d}", run_id(4), f"{n}-again", 5.0) for n in range(20)]
    expected = contents(Snapshot(catalog.layout, catalog.prepare(run_id(4), rows)))
    monkeypatch.setattr(patience, "WAITS_S", (0.01,) * 6)
    with fault_proxy(s3.endpoint, share=0.25, faults=faults, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        catalog.night(run_id(4), rows)
        assert contents(open_snapshot(catalog.layout.root)) == expected
        assert len(proxy.spoiled) > 2
    monkeypatch.undo()
    assert open_snapshot(catalog.layout.root).record.id == run_id(4)


def test_the_jobs_and_the_command(catalog, contents, run_id, project: Path) -> None:
    root = catalog.layout.root
    before = contents(open_snapshot(root, run_id(2)))
    words = ("--set", f"catalog={root}")
    said = _job(project, "rollback.py", *words, "--set", "reason=too bright")
    assert f"see {run_id(2)} now" in said
    head = read_head(Layout(root))
    assert head is not None
    assert (head.reason, head.withdrawn) == ("too bright", (run_id(3),))
    assert contents(open_snapshot(root)) == before
    said = _job(project, "collect_garbage.py", *words, "--set", "keep=1", "--dry-run")
    assert "0 objects would go" in said  # all are young
    result = CliRunner().invoke(app, ["explain", "i01", "--catalog", root])
    assert result.exit_code == 0, result.output
    assert run_id(2) in result.output


class Later(datetime):
    """A clock that is set forward: an object's age in S3 can't be."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(UTC) + timedelta(hours=49)


def test_garbage_goes_by_the_stores_clock(catalog, contents, run_id, monkeypatch) -> None:
    root = catalog.layout.root
    config = GarbageConfig(catalog=root, keep=2)
    assert find_garbage(config).objects == ()
    monkeypatch.setattr(module, "datetime", Later)
    kept = {n: contents(open_snapshot(root, run_id(n))) for n in (2, 3)}
    found = find_garbage(config)
    assert len(found.records) == 2
    everything = set(list_files(root))
    remove_garbage(config, found)
    gone = {f"{root}/{path}" for path in (*found.records, *found.objects)}
    assert set(list_files(root)) == everything - gone
    assert {n: contents(open_snapshot(root, run_id(n))) for n in (2, 3)} == kept


def test_garbage_goes_while_the_store_has_bad_moments(
    catalog, contents, run_id, s3: ObjectStore, fault_proxy, monkeypatch
) -> None:
    root = catalog.layout.root
    config = GarbageConfig(catalog=root, keep=2)
    kept = {n: contents(open_snapshot(root, run_id(n))) for n in (2, 3)}
    everything = set(list_files(root))
    monkeypatch.setattr(module, "datetime", Later)
    monkeypatch.setattr(patience, "WAITS_S", (0.01,) * 20)
    monkeypatch.setattr(patience, "REMOVALS", 1)
    with (
        fault_proxy(s3.endpoint, share=0.4, hang_s=0.1, seed=2) as proxy,
        monkeypatch.context() as m,
    ):
        m.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        found = find_garbage(config)
        remove_garbage(config, found)
        assert len(proxy.spoiled) > 3
    gone = {f"{root}/{path}" for path in (*found.records, *found.objects)}
    assert len(gone) > 5
    assert set(list_files(root)) == everything - gone
    assert {n: contents(open_snapshot(root, run_id(n))) for n in (2, 3)} == kept


def test_an_object_that_the_store_keeps_is_named(s3: ObjectStore, monkeypatch) -> None:
    """The answer is a 200 that says so of one object: tried again, or told where that is vain."""
    uris = [f"s3://{s3.bucket}/kept/{n}" for n in range(3)]
    for uri in uris:
        write_bytes(uri, b"x")
    codes = ["InternalError", "SlowDown"]
    filesystem, _ = open_filesystem(uris[0])
    call = type(filesystem).call_s3

    def spoilt(self, *given, **about):
        if given[0] == "delete_objects" and codes:
            last = about["Delete"]["Objects"].pop()
            rest = call(self, *given, **about)
            return rest | {"Errors": [last | {"Code": codes.pop(), "Message": "no"}]}
        return call(self, *given, **about)

    monkeypatch.setattr(type(filesystem), "call_s3", spoilt)
    monkeypatch.setattr(patience, "WAITS_S", (0.01,) * 3)
    patience.delete(uris)
    assert codes == [] and not any(map(exists, uris))
    for uri in uris:
        write_bytes(uri, b"x")
    codes.append("AccessDenied")
    with pytest.raises(StorageError, match=f"{uris[2]}: .* denies access"):
        patience.delete(uris)
    assert [exists(uri) for uri in uris] == [False, False, True]
