"""Whole nights on a real S3 and a real Ray: repeated, changed, refused, killed, and watched."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from beholder.catalog import nightly, telling
from beholder.catalog.config import ReplayConfig
from beholder.catalog.head import read_head, roll_back
from beholder.catalog.history import explain_item
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.ledger import Commit, committed
from beholder.catalog.nightly import replay, run_night, say
from beholder.catalog.session import connect
from beholder.items import Item
from beholder.local_stack import ObjectStore, RayCluster
from beholder.media.storage import exists, list_files, read_bytes, remove_files, write_bytes
from beholder.scoring import Scorer

from .conftest import ACCEPT
from .listener import Listener

FIRST, SECOND = "2026-11-20", "2026-11-21"


@pytest.fixture(scope="module")
def connected(ray_cluster: RayCluster, project: Path) -> Iterator[None]:
    source = {"PYTHONPATH": str(project / "platform")}
    ray.init(address=ray_cluster.environment()["RAY_ADDRESS"], runtime_env={"env_vars": source})
    connect()
    yield
    ray.shutdown()


@pytest.fixture
def uploads(
    connected: None,
    s3: ObjectStore,
    pictures: list[bytes],
    new_uploads: type,
    request: pytest.FixtureRequest,
):
    """Twelve pictures, one of them twice, one that is none."""
    name = hashlib.md5(request.node.name.encode(), usedforsecurity=False).hexdigest()[:8]
    made = new_uploads(f"s3://{s3.bucket}/night/{name}")
    for at in range(12):
        made.put(f"{at:02d}.jpg", pictures[at])
    made.put("twin.jpg", pictures[0])
    made.put("page.jpg", b"<!doctype html><html></html>")
    made.list()
    return made


def test_nights_follow_each_other(
    uploads, night: Callable, look: Callable, pictures: list[bytes], small_scorer: Scorer
) -> None:
    first = night(uploads, FIRST)
    outcome = run_night(first)
    assert (outcome.name, outcome.exit_code) == ("published", 0)
    before = look(first.catalog)
    found, seen = before.scores, before.states
    assert seen.keys() == uploads.rows.keys()
    assert seen["page.jpg"][:2] == ("failed", "decode.unsupported")
    assert {about[0] for name, about in seen.items() if name != "page.jpg"} == {"scored"}
    assert found["twin.jpg", "quality"] == found["00.jpg", "quality"]
    for at, score in enumerate(small_scorer.score([Item(str(i), pictures[i]) for i in range(12)])):
        for task, said in score.tasks.items():
            assert found[f"{at:02d}.jpg", task] == pytest.approx(said.probs, abs=1e-5)
    layout = Layout(first.catalog)
    page = read_bytes(f"{layout.run(RunId(FIRST))}/report.html").decode()
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")

    again = run_night(first)
    assert (again.name, again.exit_code, again.report) == ("standing", 0, None)
    assert again.record.encode() == outcome.record.encode()

    uploads.put("00.jpg", pictures[20])
    uploads.put("new.jpg", pictures[1])  # bytes that 01.jpg has, too
    uploads.put("08.jpg", pictures[21])
    for name in ("07.jpg", "08.jpg"):  # nothing shows which of them was uploaded anew
        uploads.rows[name]["etag"] = None
    del uploads.rows["05.jpg"]
    uploads.list()
    second = night(uploads, SECOND)
    outcome = run_night(second)
    counts = outcome.record.counts
    expected = {"new": 1, "changed": 3, "removed": 1, "unchanged": 10, "retried": 0}
    assert {name: counts[name] for name in expected} == expected
    later = look(second.catalog).scores
    assert later["00.jpg", "quality"] != found["00.jpg", "quality"]
    assert later["twin.jpg", "quality"] == found["twin.jpg", "quality"]
    assert later["new.jpg", "quality"] == found["01.jpg", "quality"]
    [commit] = committed(layout, RunId(SECOND), [0]).values()
    assert (commit.rows, commit.scored, commit.known) == (4, 2, 2), "known bytes aren't looked at"
    assert later["07.jpg", "quality"] == found["07.jpg", "quality"]
    assert later["08.jpg", "quality"] != found["08.jpg", "quality"]
    assert ("05.jpg", "quality") not in later
    said = explain_item(second.catalog, "00.jpg")
    assert {event.run for event in said.history} == {f"{FIRST}.0", f"{SECOND}.0"}

    roll_back(layout, None, "a test")
    assert look(second.catalog) == before


def test_a_revision_that_nobody_told_of_gets_its_report(
    uploads,
    night: Callable,
    look: Callable,
    pictures: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    listener: Listener,
) -> None:
    """Its driver dies before the page; the date or the replay that is run again makes up for it.

    One object came late, and one was not the manifest's any more.
    """
    late = uploads.rows["03.jpg"]["uri"]
    remove_files([late])
    write_bytes(uploads.rows["04.jpg"]["uri"], pictures[24])
    config = night(uploads, FIRST, webhook=f"http://127.0.0.1:{listener.server_port}/200")
    run_night(config)
    failed = {name: about[1] for name, about in look(config.catalog).states.items() if about[1]}
    codes = ("fetch.not_found", "fetch.changed")
    assert failed == dict(zip(("03.jpg", "04.jpg"), codes, strict=True)) | {
        "page.jpg": "decode.unsupported"
    }
    write_bytes(late, pictures[3])
    again = ReplayConfig(**dict(config), codes=codes)

    def dies(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(telling, "write_report", dies)
        replay(again)
    layout = Layout(config.catalog)
    folder = layout.run(RunId(FIRST, 1))
    files = [f"{folder}/{name}" for name in ("report.html", "report.json", "metrics.prom")]
    for make_up in (lambda: run_night(config), lambda: replay(again)):
        assert not any(map(exists, files))
        outcome = make_up()
        said = (outcome.name, outcome.record.id, outcome.report)
        assert said == ("standing", f"{FIRST}.1", files[0])
        told = json.loads(read_bytes(files[1]))
        assert (told["snapshot"], told["looked_at"]) == (f"{FIRST}.1", 2)
        assert (told["items"]["scored"], told["items"]["failed"]) == (13, 1)
        assert all(map(exists, files))
        remove_files(files)
    revisions = [0, 1, 1, 1]  # the webhook hears of what nobody may have told of
    assert [told["snapshot"] for told in listener.posted] == [f"{FIRST}.{n}" for n in revisions]
    head = read_head(layout)
    assert head is not None and head.snapshot == f"{FIRST}.1"


def test_a_cause_that_was_mended_and_the_run_s_folder_removed_make_a_refused_date_anew(
    uploads, night: Callable, look: Callable, pictures: list[bytes]
) -> None:
    """As the refusal and the runbook say; without that the date keeps what it has committed."""
    away = [uploads.rows[f"{at:02d}.jpg"]["uri"] for at in range(6)]
    remove_files(away)
    config = night(uploads, FIRST, audit={"accept": ACCEPT, "failed_minimum": 5, "max_failed": 0.2})
    for _ in range(2):
        outcome = run_night(config)
        assert (outcome.name, outcome.refused) == ("refused", ("failed",))
        for at, uri in enumerate(away):
            write_bytes(uri, pictures[at])
    folder = Layout(config.catalog).run(RunId(FIRST))
    assert f"mend the cause, remove {folder}/ and run the date again" in say(outcome)
    remove_files(list_files(folder))
    outcome = run_night(config)
    assert outcome.name == "published"
    assert [n for n, about in look(config.catalog).states.items() if about[1]] == ["page.jpg"]


@pytest.mark.parametrize("how", ["deleted", "doubled"])
def test_a_row_that_a_hand_took_or_added_is_named(
    how: str, uploads, night: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in the file alone, which its record contradicts, and once with the record mended."""
    config = night(uploads, FIRST)
    layout, run = Layout(config.catalog), RunId(FIRST)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("beholder.catalog.nightly.prepare", stop)
        run_night(config)
    record = committed(layout, run, [1])[1]
    uri = layout.absolute(record.path)
    rows = pq.read_table(pa.BufferReader(read_bytes(uri)))
    spoilt = rows.slice(1) if how == "deleted" else pa.concat_tables([rows, rows.slice(0, 1)])
    sink = pa.BufferOutputStream()
    pq.write_table(spoilt, sink)
    data = sink.getvalue().to_pybytes()
    write_bytes(uri, data)
    with pytest.raises(Exception, match=record.path):
        run_night(config)
    mended = json.loads(read_bytes(layout.commit(run, 1)))
    mended |= {"rows": spoilt.num_rows, "bytes_sha256": hashlib.sha256(data).hexdigest()}
    write_bytes(layout.commit(run, 1), json.dumps(mended).encode())
    with pytest.raises(Exception, match=rows["item_id"][0].as_py()):
        run_night(config)
    assert read_head(layout) is None


def test_a_limit_is_a_partial_night_and_drift_is_refused_until_somebody_accepts(
    uploads, night: Callable, look: Callable
) -> None:
    limited = night(uploads, FIRST, limit=5)
    outcome = run_night(limited)
    assert (outcome.name, outcome.exit_code) == ("partial", 4)
    assert sum(outcome.record.counts.get(name, 0) for name in ("scored", "failed")) == 5
    strict = night(uploads, SECOND, audit={"accept": {"panel": "an untrained scorer has none"}})
    refused = run_night(strict)
    assert (refused.name, refused.exit_code, refused.refused) == ("refused", 3, ("mass",))
    head = read_head(Layout(strict.catalog))
    assert head is not None and head.snapshot == f"{FIRST}.0"
    accepted = run_night(night(uploads, SECOND))
    assert accepted.name == "published"
    assert look(strict.catalog).states.keys() == uploads.rows.keys()


def test_a_deadline_runs_from_the_plan_on(
    night: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs a night again that was killed gives it no further hours."""
    ends: list[float | None] = []

    def scored(*given: Any) -> dict[int, Commit]:
        ends.append(given[-1])
        return {}

    monkeypatch.setattr(nightly, "score_chunks", scored)
    made_at = datetime.now(UTC) - timedelta(hours=3)
    plan: Any = SimpleNamespace(
        run=f"{FIRST}.0", fingerprint="f", made_at=made_at, chunks=lambda: iter(())
    )
    uploads: Any = SimpleNamespace(root=str(tmp_path), manifest="/none")
    outline: Any = SimpleNamespace(pixels=None)
    lease: Any = None
    nightly._score(night(uploads, FIRST, deadline_hours=5), plan, None, outline, lease)
    nightly._score(night(uploads, FIRST), plan, None, outline, lease)
    assert ends == [pytest.approx(made_at.timestamp() + 5 * 3600), None]
