"""Whole nights on a real S3 and a real Ray: repeated, changed, refused, killed, and watched."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch

from beholder.backbones.pocket.model import Pocket
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.catalog.config import NightlyConfig
from beholder.catalog.head import read_head, roll_back
from beholder.catalog.history import explain_item
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.ledger import committed
from beholder.catalog.nightly import run_night
from beholder.catalog.session import connect
from beholder.catalog.snapshot import open_snapshot
from beholder.config import dump_config
from beholder.items import Item
from beholder.local_stack import ObjectStore, RayCluster
from beholder.media.storage import read_bytes, write_bytes
from beholder.readouts import LevelReadout
from beholder.scoring import Scorer

ACCEPT = {"panel": "an untrained scorer has none", "mass": "it is untrained"}
FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"


@pytest.fixture(scope="module")
def connected(ray_cluster: RayCluster, project: Path) -> Iterator[None]:
    source = {"PYTHONPATH": str(project / "platform")}
    ray.init(address=ray_cluster.environment()["RAY_ADDRESS"], runtime_env={"env_vars": source})
    connect()
    yield
    ray.shutdown()


class Uploads:
    """What a platform has in its bucket, and the manifest that lists it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifest = f"{root}/manifest.parquet"
        self.rows: dict[str, dict] = {}

    def put(self, name: str, data: bytes, item_id: str | None = None) -> None:
        uri = f"{self.root}/media/{name}"
        write_bytes(uri, data)
        about = {"kind": "image", "owner": f"user-{len(self.rows) % 3}", "segment": "phone"}
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        item = item_id or name
        self.rows[item] = about | {"item_id": item, "uri": uri, "etag": etag, "size": len(data)}

    def list(self) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(self.rows.values())), sink)
        write_bytes(self.manifest, sink.getvalue().to_pybytes())


@pytest.fixture
def night(connected: None, scorer_folder: str) -> Callable[..., NightlyConfig]:
    """``night(uploads, date)`` is the config of a night with chunks of four."""

    def made(uploads: Uploads, date: str, **fields: object) -> NightlyConfig:
        given = {
            "catalog": f"{uploads.root}/catalog",
            "manifest": uploads.manifest,
            "scorer": scorer_folder,
            "logical_date": date,
            "buckets": 4,
            "chunk": 4,
            "lease_seconds": 2.0,
            "audit": {"accept": ACCEPT},
        }
        return NightlyConfig.model_validate(given | fields)

    return made


@pytest.fixture
def uploads(s3: ObjectStore, pictures: list[bytes], request: pytest.FixtureRequest) -> Uploads:
    """Twelve pictures, one of them twice, one that is none."""
    name = hashlib.md5(request.node.name.encode(), usedforsecurity=False).hexdigest()[:8]
    made = Uploads(f"s3://{s3.bucket}/night/{name}")
    for at in range(12):
        made.put(f"{at:02d}.jpg", pictures[at])
    made.put("twin.jpg", pictures[0])
    made.put("page.jpg", b"<!doctype html><html></html>")
    made.list()
    return made


def scores(catalog: str) -> dict[tuple[str, str], list[float]]:
    """Probabilities by item and task, as a reader sees them."""
    found = {}
    for table in open_snapshot(catalog).rows():
        for row in table.to_pylist():
            if row["task"] is not None:
                found[row["item_id"], row["task"]] = row["probs"]
    return found


def states(catalog: str) -> dict[str, tuple[str, str | None]]:
    """Each item's state and failure."""
    snapshot = open_snapshot(catalog)
    tables = [snapshot.items(bucket) for bucket in range(snapshot.record.buckets)]
    rows = pa.concat_tables(tables).to_pylist()
    return {row["item_id"]: (row["state"], row["failure_code"]) for row in rows}


def test_nights_follow_each_other(
    uploads: Uploads, night: Callable, pictures: list[bytes], small_scorer: Scorer
) -> None:
    first = night(uploads, FIRST)
    outcome = run_night(first)
    assert (outcome.name, outcome.exit_code) == ("published", 0)
    seen = states(first.catalog)
    assert seen.keys() == uploads.rows.keys()
    assert seen["page.jpg"] == ("failed", "decode.unsupported")
    assert {s for name, (s, _) in seen.items() if name != "page.jpg"} == {"scored"}
    found = scores(first.catalog)
    assert found["twin.jpg", "quality"] == found["00.jpg", "quality"]
    for at, score in enumerate(small_scorer.score([Item(str(i), pictures[i]) for i in range(12)])):
        for task, said in score.tasks.items():
            assert found[f"{at:02d}.jpg", task] == pytest.approx(said.probs, abs=1e-5)
    page = read_bytes(f"{Layout(first.catalog).run(RunId(FIRST))}/report.html").decode()
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")

    again = run_night(first)
    assert (again.name, again.exit_code) == ("standing", 0)
    assert again.record.encode() == outcome.record.encode()

    uploads.put("00.jpg", pictures[20])
    uploads.put("new.jpg", pictures[1])  # bytes that 01.jpg has, too
    del uploads.rows["05.jpg"]
    uploads.list()
    second = night(uploads, SECOND)
    outcome = run_night(second)
    counts = outcome.record.counts
    expected = {"new": 1, "changed": 1, "removed": 1, "unchanged": 12, "retried": 0}
    assert {name: counts[name] for name in expected} == expected
    later = scores(second.catalog)
    assert later["00.jpg", "quality"] != found["00.jpg", "quality"]
    assert later["twin.jpg", "quality"] == found["twin.jpg", "quality"]
    assert later["new.jpg", "quality"] == found["01.jpg", "quality"]
    assert ("05.jpg", "quality") not in later
    said = explain_item(second.catalog, "00.jpg")
    assert {event.run for event in said.history} == {f"{FIRST}.0", f"{SECOND}.0"}

    roll_back(Layout(second.catalog), None, "a test")
    assert scores(second.catalog) == found


@pytest.mark.parametrize("how", ["deleted", "doubled"])
def test_a_row_that_a_hand_took_or_added_is_named(
    how: str, uploads: Uploads, night: Callable, monkeypatch: pytest.MonkeyPatch
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
    uploads: Uploads, night: Callable
) -> None:
    limited = night(uploads, FIRST, limit=5)
    outcome = run_night(limited)
    assert (outcome.name, outcome.exit_code) == ("partial", 4)
    assert sum(outcome.record.counts.get(name, 0) for name in ("scored", "failed")) == 5
    strict = night(uploads, SECOND, audit={"accept": {"panel": ACCEPT["panel"]}})
    refused = run_night(strict)
    assert (refused.name, refused.exit_code, refused.refused) == ("refused", 3, ("mass",))
    head = read_head(Layout(strict.catalog))
    assert head is not None and head.snapshot == f"{FIRST}.0"
    accepted = run_night(night(uploads, SECOND))
    assert accepted.name == "published"
    assert states(strict.catalog).keys() == uploads.rows.keys()


@pytest.mark.e2e
def test_a_new_scorer_fills_a_shadow_and_takes_over(
    s3: ObjectStore,
    night: Callable,
    pictures: list[bytes],
    small_scorer: Scorer,
    project: Path,
    tmp_path: Path,
) -> None:
    """Two scorers and 26 items through the jobs, from the first night to a rollback."""
    torch.manual_seed(8)
    backbone = Pocket(small_scorer.backbone.config, default_tokenizer())
    backbone.initialise()
    for stage in backbone.abstractor.stages:
        torch.nn.init.normal_(stage.weight, std=0.3)
    other = Scorer(backbone, LevelReadout(), small_scorer.tasks, "brief")
    other.save(tmp_path / "other")
    assert other.fingerprint != small_scorer.fingerprint
    uploads = Uploads(f"s3://{s3.bucket}/succession")
    for at in range(25):
        uploads.put(f"{at:02d}.jpg", pictures[at])
    uploads.put("page.jpg", b"<!doctype html><html></html>")
    uploads.list()
    catalog = f"{uploads.root}/catalog"

    def job(name: str, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(project / "jobs" / name), *words],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def nightly(date: str, **fields: object) -> tuple[int, str]:
        path = tmp_path / f"{date}.yaml"
        path.write_text(dump_config(night(uploads, date, **fields)))
        return job("score_catalog.py", "--config", str(path))

    def promote() -> tuple[int, str]:
        near = ("min_items=20", "min_srcc=-1", "max_churn=1", "max_shift=1")
        words = [word for one in near for word in ("--set", f"succession.{one}")]
        scorer = str(tmp_path / "other")
        return job("promote_scorer.py", "--catalog", catalog, "--scorer", scorer, *words)

    shadow = {"scorer": str(tmp_path / "other")}
    code, text = nightly(FIRST, shadow=shadow | {"limit": 10})
    assert code == 0 and f"shadow: {FIRST}.0 is published (partial)" in text, text
    first = scores(catalog)
    code, text = promote()
    assert code == 3 and "of the items that readers see scores of" in text, text
    assert scores(catalog) == first
    code, text = nightly(SECOND, scorer="current", shadow=shadow)
    assert code == 0 and f"shadow: {SECOND}.0 is published (published)" in text, text
    code, text = promote()
    assert code == 0 and f"readers see {SECOND}.1 now" in text, text

    found = scores(catalog)
    assert found.keys() == first.keys()
    for at, score in enumerate(other.score([Item(str(i), pictures[i]) for i in range(25)])):
        for task, said in score.tasks.items():
            assert found[f"{at:02d}.jpg", task] == pytest.approx(said.probs, abs=1e-5)
    code, text = nightly(THIRD)
    assert code == 2 and "set scorer=current" in text, text
    code, text = nightly(THIRD, scorer="current", shadow=shadow)
    assert code == 0 and "26 unchanged" in text and "take `shadow` out" in text, text
    assert scores(catalog) == found
    code, text = job("rollback.py", "--set", f"catalog={catalog}", "--set", f"to={SECOND}.0")
    assert code == 0 and f"({small_scorer.fingerprint}) again" in text, text
    assert scores(catalog) == first


DRIVER = """
import os, signal, sys
from beholder.catalog import head, ledger, nightly, plan
from beholder.catalog.config import NightlyConfig
from beholder.catalog.session import connect

config = NightlyConfig.model_validate_json(sys.stdin.read())
point, left = sys.argv[1], int(sys.argv[2])

def dies(room, name):
    kept = getattr(room, name)
    def call(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return kept(*given, **named)
    setattr(room, name, call)

where = {
    "plan": (plan, "create"),  # its files are written, plan.json is not
    "commit": (ledger, "create"),  # a data file is written, its record is not
    "audit": (nightly, "audit"),  # the snapshot's files are written, nothing names them
    "record": (head, "_advance"),  # the snapshot is recorded, HEAD is not moved
    "report": (nightly, "make_report"),  # HEAD is moved
}
if point in where:
    dies(*where[point])
print(nightly.run_night(config).name)
"""


class Reader:
    """Looks at a catalog over and over; what it sees is always one whole snapshot."""

    def __init__(self, catalog: str) -> None:
        self._catalog, self._done = catalog, threading.Event()
        self.seen: dict[str, set[str]] = {}
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.2):
            try:
                if read_head(Layout(self._catalog)) is None:
                    continue
                snapshot = open_snapshot(self._catalog)
                tables = [t.select(["item_id", "task", "mean"]) for t in snapshot.rows()]
                content = repr(sorted(map(str, pa.concat_tables(tables).to_pylist())))
                self.seen.setdefault(str(snapshot.id), set()).add(content)
            except BaseException as error:
                self.errors.append(error)


def drive(config: NightlyConfig, point: str, after: int, project: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, point, str(after)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(project / "platform")},
    )
    assert process.stdin is not None
    process.stdin.write(config.model_dump_json())
    process.stdin.close()
    process.stdin = None
    return process


def killed(config: NightlyConfig, point: str, after: int, project: Path) -> None:
    process = drive(config, point, after, project)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors[-3000:]


def assert_night_survives(
    point: str, after: int, uploads: Uploads, night: Callable, pictures: list[bytes], project: Path
) -> None:
    """The second night dies; a reader that polls, and the one that goes on, see nothing of it."""
    first = night(uploads, FIRST)
    assert run_night(first).name == "published"
    for at in range(20, 32):
        uploads.put(f"{at}.jpg", pictures[at])
    uploads.put("00.jpg", pictures[40])
    uploads.list()
    whole = night(uploads, SECOND, catalog=f"{first.catalog}-whole")
    assert run_night(night(uploads, SECOND, catalog=whole.catalog)).name == "published"
    second = night(uploads, SECOND)
    with Reader(second.catalog) as reader:
        killed(second, point, after, project)
        outcome = run_night(second.model_copy(update={"take_over": True}))
    assert outcome.name == ("standing" if point in ("record", "report") else "published")
    assert not reader.errors
    assert set(reader.seen) <= {f"{FIRST}.0", f"{SECOND}.0"}
    assert all(len(contents) == 1 for contents in reader.seen.values())
    got, expected = scores(second.catalog), scores(whole.catalog)
    assert got.keys() == expected.keys()
    for key, probs in expected.items():
        assert got[key] == pytest.approx(probs, abs=1e-6)
    assert states(second.catalog) == states(whole.catalog)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("point", "after"),
    [
        *(("plan", 0), ("commit", 0), ("commit", 2), ("commit", 3)),
        *(("audit", 0), ("record", 0), ("report", 0)),
    ],
    ids=lambda value: str(value),
)
def test_a_killed_driver_is_gone_on_with(
    point: str,
    after: int,
    uploads: Uploads,
    night: Callable,
    pictures: list[bytes],
    project: Path,
) -> None:
    """At 10, 50 and 99% of the chunks, between data file and record, around publication."""
    assert_night_survives(point, after, uploads, night, pictures, project)
