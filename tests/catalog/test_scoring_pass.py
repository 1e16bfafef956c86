"""A plan's chunks through a real Ray and a real S3; drivers and actors die on the way.

All S3 traffic of this module's Ray goes through a proxy that counts it.
"""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
import ray
from ray.util.state import list_actors

from beholder.catalog import scoring_pass
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease, LeaseLostError, LeaseTakenError
from beholder.catalog.ledger import Commit, commit, committed, read_chunk
from beholder.catalog.scoring_pass import Assignment, Chunk, Crew, Gate, score_chunks
from beholder.catalog.session import connect
from beholder.catalog.tables import CHUNK
from beholder.errors import UserError
from beholder.items import RETRY, FailureCode
from beholder.local_stack import ObjectStore, RayCluster
from beholder.media.storage import list_files, write_bytes
from beholder.scoring import Scorer

RUN = RunId("2026-11-20")
LEASE_S = 3.0
SIZE = 4


@pytest.fixture(scope="module")
def proxy(s3: ObjectStore, fault_proxy: type) -> Iterator:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def connected(ray_cluster: RayCluster, proxy, project: Path) -> Iterator[None]:
    """This process as a driver, whose actors see the S3 through the proxy."""
    source = {"PYTHONPATH": str(project / "platform"), "AWS_ENDPOINT_URL": proxy.endpoint}
    ray.init(address=ray_cluster.environment()["RAY_ADDRESS"], runtime_env={"env_vars": source})
    connect()
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def items(
    s3: ObjectStore, pictures: list[bytes], hostile: list[tuple[str, bytes, str, str | None]]
) -> list[dict]:
    """40 good pictures and the hostile corpus, mixed, in S3."""
    folder = f"s3://{s3.bucket}/pass/media"
    found = []
    good = [(f"good-{at}.jpg", data, "image", None) for at, data in enumerate(pictures[:40])]
    for at in range(40):
        for name, data, kind, code in good[at : at + 1] + hostile[at : at + 1]:
            write_bytes(f"{folder}/{name}", data)
            found.append({"item_id": name, "uri": f"{folder}/{name}", "kind": kind, "code": code})
    return found


def rows_of(layout: Layout, chunks: Sequence[Chunk]) -> list[dict]:
    """What was committed, in the plan's order; every chunk is there."""
    records = committed(layout, RUN, [chunk.number for chunk in chunks])
    assert sorted(records) == [chunk.number for chunk in chunks]
    return [row for n in sorted(records) for row in read_chunk(layout, records[n]).to_pylist()]


def planned(items: list[dict]) -> list[dict]:
    return [{name: item[name] for name in ("item_id", "uri", "kind")} for item in items]


@pytest.fixture(scope="module")
def whole(
    s3: ObjectStore,
    connected: None,
    items: list[dict],
    plan: Callable,
    assign: Callable,
) -> list[dict]:
    """Rows of a run that nothing disturbs."""
    layout = Layout(f"s3://{s3.bucket}/pass/whole")
    chunks = plan(layout, planned(items), SIZE)
    with Lease(layout.lease(RUN.date)) as lease:
        records = score_chunks(chunks, assign(layout), Crew(), lease)
    assert sorted(records) == [chunk.number for chunk in chunks]
    assert sum(record.rows for record in records.values()) == len(items)
    return rows_of(layout, chunks)


def test_every_item_comes_out_once_as_a_score_or_a_typed_failure(
    whole: list[dict], items: list[dict], pictures: list[bytes], small_scorer: Scorer
) -> None:
    assert [row["item_id"] for row in whole] == [item["item_id"] for item in items]
    assert [row["failure_code"] for row in whole] == [item["code"] for item in items]
    good = [row for row in whole if row["item_id"].startswith("good-")]
    for row, score in zip(good, small_scorer.score(pictures[:40]), strict=True):
        probs = {values["task"]: values["probs"] for values in row["scores"]}
        assert set(probs) == {"quality", "aesthetics"}
        for task, distribution in score.tasks.items():
            assert probs[task] == pytest.approx(distribution.probs.tolist(), abs=1e-5)


DRIVER = """
import os, pickle, signal, sys
import ray
from beholder.catalog import ledger
from beholder.catalog.lease import Lease
from beholder.catalog.scoring_pass import score_chunks
from beholder.config import run_job

chunks, assignment, crew, uri, seconds, commits, environment = pickle.load(sys.stdin.buffer)
ray.init(runtime_env={"env_vars": environment}, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
create, made = ledger.create, []

def counted(name, data):
    if commits is not None and len(made) == commits:
        os.kill(os.getpid(), signal.SIGKILL)  # the rows are written, the record is not
    made.append(create(name, data))
    print(name, flush=True)

ledger.create = counted

def main(argv):
    with Lease(uri, seconds) as lease:
        score_chunks(chunks, assignment, crew, lease)

run_job(main)
"""


@pytest.fixture
def driver(ray_cluster: RayCluster, proxy, project: Path, s3: ObjectStore) -> Callable:
    """Starts a driver of its own process, which may kill itself before its n-th commit."""

    def start(
        chunks: list[Chunk], work: Assignment, seconds: float, commits: int | None = None
    ) -> subprocess.Popen:
        environment = {
            "PYTHONPATH": str(project / "platform"),
            "AWS_ENDPOINT_URL": proxy.endpoint,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        lease = work.layout.lease(RUN.date)
        process.stdin.write(
            pickle.dumps((chunks, work, Crew(), lease, seconds, commits, environment))
        )
        process.stdin.close()
        process.stdin = None
        return process

    return start


def same_rows(rows: list[dict], expected: list[dict]) -> None:
    for row, wanted in zip(rows, expected, strict=True):
        assert {**row, "scores": None} == {**wanted, "scores": None}
        for values, others in zip(row["scores"] or [], wanted["scores"] or [], strict=True):
            assert values["task"] == others["task"]
            assert values["probs"] == pytest.approx(others["probs"], abs=1e-6)
            assert values["mean"] == pytest.approx(others["mean"], abs=1e-6)


def kill_an_actor(stage: str) -> None:
    [actor, *_] = [
        actor
        for actor in list_actors(filters=[("state", "=", "ALIVE")])
        if stage in actor.class_name
    ]
    psutil.Process(actor.pid).kill()


def test_a_killed_driver_and_a_killed_engine_cost_nothing(
    whole: list[dict],
    s3: ObjectStore,
    items: list[dict],
    proxy,
    driver: Callable,
    plan: Callable,
    assign: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout(f"s3://{s3.bucket}/pass/killed")
    chunks = plan(layout, planned(items), SIZE)
    proxy.gets.clear()
    process = driver(chunks, assign(layout), 600, commits=5)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGKILL, errors.decode()[-3000:]
    before = committed(layout, RUN, range(len(chunks)))
    assert len(before) == 5
    with pytest.raises(LeaseTakenError, match="take_over=true"):
        Lease(layout.lease(RUN.date))

    def killing(*given: object) -> Commit:
        record = commit(*given)
        if record.epoch == 2 and len(commits_of(layout)) == 8:
            kill_an_actor("ScoreBatch")
        return record

    monkeypatch.setattr(scoring_pass, "commit", killing)
    with Lease(layout.lease(RUN.date), take_over=True) as lease:
        records = score_chunks(chunks, assign(layout), Crew(), lease)
    assert {n: records[n] for n in before} == before, "what was committed is not done again"
    assert {record.epoch for n, record in records.items() if n not in before} == {2}
    same_rows(rows_of(layout, chunks), whole)
    data = [name for name in list_files(layout.run(RUN)) if "/data/" in name]
    assert len(data) == len(chunks) + 1, "one file was written that no record names"
    twice = {
        number
        for number, chunk in enumerate(chunks)
        for item in items[number * SIZE : number * SIZE + chunk.rows]
        if proxy.gets["/" + item["uri"].removeprefix("s3://").replace(" ", "%20")] > 1
    }
    assert len(twice) <= 2, "at most a chunk a worker: one decodes and one scores"


def commits_of(layout: Layout) -> list[str]:
    return [name for name in list_files(layout.run(RUN)) if "/commits/" in name]


@pytest.mark.e2e
def test_a_zombie_is_fenced_while_the_store_has_bad_moments(
    whole: list[dict],
    s3: ObjectStore,
    items: list[dict],
    proxy,
    driver: Callable,
    plan: Callable,
    assign: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One driver is stopped, another takes its expired lease, and then the first wakes up."""
    layout = Layout(f"s3://{s3.bucket}/pass/zombie")
    chunks = plan(layout, planned(items), 2)
    zombie = driver(chunks, assign(layout), LEASE_S)
    assert zombie.stdout is not None
    for _ in range(4):
        assert b"/commits/" in zombie.stdout.readline()
    zombie.send_signal(signal.SIGSTOP)
    try:
        before = committed(layout, RUN, range(len(chunks)))
        with pytest.raises(LeaseTakenError):
            Lease(layout.lease(RUN.date))
        time.sleep(LEASE_S + 5.0 + 0.1)  # its lease and the clocks' difference run out
        proxy.share = 0.3
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with Lease(layout.lease(RUN.date)) as lease:
            records = score_chunks(chunks, assign(layout), Crew(), lease)
            proxy.share = 0.0
            zombie.send_signal(signal.SIGCONT)
            _, errors = zombie.communicate(timeout=60)
    finally:
        proxy.share = 0.0
        zombie.kill()
    assert zombie.returncode == 2
    assert "has taken this date over" in errors.decode().strip().splitlines()[-1]
    assert {n: records[n] for n in before} == before
    assert committed(layout, RUN, range(len(chunks))) == records
    assert len(proxy.spoiled) == 6, proxy.spoiled
    rows = rows_of(layout, chunks)
    assert [row["item_id"] for row in rows] == [row["item_id"] for row in whole]
    transient = {code for code, policy in RETRY.items() if policy.attempts > 1}
    for row, wanted in zip(rows, whole, strict=True):
        if row["failure_code"] != wanted["failure_code"]:
            code = FailureCode(row["failure_code"])
            assert code in transient and row["attempts"] == RETRY[code].attempts
    lost = sum(a["failure_code"] != b["failure_code"] for a, b in zip(rows, whole, strict=True))
    assert lost <= 2, f"{lost} items failed for the store's sake"


@pytest.mark.e2e
@pytest.mark.parametrize("stage", ["decoding", "scoring"])
def test_a_batch_that_kills_one_actor_after_the_other_ends_the_run(
    stage: str,
    s3: ObjectStore,
    connected: None,
    items: list[dict],
    plan: Callable,
    assign: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout(f"s3://{s3.bucket}/pass/poison-{stage}")
    chunks = plan(layout, planned(items)[:8], SIZE)
    name = {"decoding": "DecodeChunk", "scoring": "ScoreBatch"}[stage]

    class Dies:
        def __init__(self, *about: object) -> None:
            from beholder.catalog import scoring_pass

            self._healthy = getattr(scoring_pass, name)(*about)

        def __call__(self, rows: pa.Table):
            found = self._healthy(rows)
            if rows["chunk"][0].as_py() == 1:
                found = list(found)  # a decoder begins only where it is asked for rows
                os.kill(os.getpid(), signal.SIGKILL)
            return found

    monkeypatch.setattr(scoring_pass, name, Dies)
    with (
        Lease(layout.lease(RUN.date)) as lease,
        pytest.raises(UserError, match=f"4 actors died one after the other while {stage} chunk 1"),
    ):
        score_chunks(chunks, assign(layout), Crew(), lease)


@pytest.mark.e2e
def test_a_scorer_that_was_replaced_under_the_plan_is_refused(
    s3: ObjectStore, connected: None, items: list[dict], plan: Callable, assign: Callable
) -> None:
    layout = Layout(f"s3://{s3.bucket}/pass/replaced")
    chunks = plan(layout, planned(items)[:8], SIZE)
    other = replace(assign(layout), fingerprint="0" * 12)
    with (
        Lease(layout.lease(RUN.date)) as lease,
        pytest.raises(UserError, match=r"the plan was made for 0{12}"),
    ):
        score_chunks(chunks, other, Crew(), lease)


# --- without Ray --------------------------------------------------------------------------------


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Ray's place: chunks come out with a row an item."""

    def rows(chunks: list[Chunk], *_: object) -> Iterator[tuple[int, pa.Table, float]]:
        for chunk in chunks:
            made = [{"item_id": f"{chunk.number}-{at}"} for at in range(chunk.rows)]
            yield chunk.number, pa.Table.from_pylist(made, schema=CHUNK), 0.0

    monkeypatch.setattr(scoring_pass, "_finished", rows)


@pytest.fixture
def some(tmp_path: Path, plan: Callable) -> tuple[Layout, list[Chunk]]:
    layout = Layout(str(tmp_path / "catalog"))
    return layout, plan(layout, [{"item_id": str(k), "uri": "x"} for k in range(10)], 2)


def test_a_driver_that_lost_its_date_stops_between_two_chunks(
    finished: None, some: tuple, assign: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, chunks = some
    zombie = Lease(layout.lease(RUN.date), seconds=0.2)
    heirs: list[Lease] = []

    def taken_over(*given: object) -> Commit:
        record = commit(*given)
        if record.chunk == 1:
            heirs.append(Lease(layout.lease(RUN.date), take_over=True))
            time.sleep(0.3)  # it finds out when it next renews, or before the next commit
        return record

    monkeypatch.setattr(scoring_pass, "commit", taken_over)
    with pytest.raises(LeaseLostError, match="epoch 2"):
        score_chunks(chunks, assign(layout), Crew(), zombie)
    zombie.release()
    assert sorted(committed(layout, RUN, range(5))) == [0, 1]
    done = score_chunks(chunks, assign(layout), Crew(), heirs[0])
    assert [done[n].epoch for n in range(5)] == [1, 1, 2, 2, 2]
    heirs[0].release()


def test_nothing_is_committed_after_the_end(
    finished: None, some: tuple, assign: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, chunks = some
    monkeypatch.setattr(scoring_pass, "SEGMENT", 2)
    with Lease(layout.lease(RUN.date)) as lease:
        assert not score_chunks(chunks, assign(layout), Crew(), lease, until=time.time() - 1)
        done = score_chunks(chunks, assign(layout), Crew(), lease, until=time.time() + 600)
    assert sorted(done) == list(range(5))


def test_a_chunk_that_never_came_is_no_success(
    some: tuple, assign: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, chunks = some
    monkeypatch.setattr(scoring_pass, "_finished", lambda *_: iter(()))
    with (
        Lease(layout.lease(RUN.date)) as lease,
        pytest.raises(UserError, match="5 of 5 chunks came out incomplete, the first is 0"),
    ):
        score_chunks(chunks, assign(layout), Crew(), lease)


def test_past_the_deadline_later_commits_still_count(
    tmp_path: Path, assign: Callable[..., Assignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the record of an early chunk was damaged and removed, as its message says."""
    monkeypatch.setattr(scoring_pass, "SEGMENT", 2)
    monkeypatch.setattr(scoring_pass, "_finished", lambda *_: pytest.fail("it is late"))
    asked: list[int] = []

    def noted(layout: Layout, run: RunId, numbers: Sequence[int]) -> dict[int, Commit]:
        asked.extend(numbers)
        return committed(layout, run, numbers)

    monkeypatch.setattr(scoring_pass, "committed", noted)
    layout = Layout(str(tmp_path))
    chunks = [Chunk(number, "plan", number, 1) for number in range(10)]
    rows = pa.Table.from_pylist([{"item_id": "a", "state": "failed"}], schema=CHUNK)
    with Lease(layout.lease(RUN.date)) as lease:
        for number in (1, 2, 3, 4):
            commit(layout, RUN, number, rows, 0.0, lease)
        done = score_chunks(chunks, assign(layout), Crew(), lease, until=time.time() - 1)
    assert sorted(done) == [1, 2, 3, 4]
    assert asked == [*range(8)]  # and not all the rest, where nobody was


def test_the_gate_lets_in_as_many_as_it_is_wide_and_counts_tries_until_a_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio

    async def through() -> None:
        gate = Gate(2)
        await gate.enter(0)
        await gate.enter(1)
        await gate.enter(1)  # a dead actor's successor begins the same chunk again
        third = asyncio.create_task(gate.enter(2))
        await asyncio.sleep(0)
        assert not third.done()
        await gate.leave(0)
        await third
        monkeypatch.setattr(scoring_pass, "PATIENCE_S", 0.01)
        await gate.enter(3)  # nobody leaves: it goes in anyway
        assert [await gate.tries("scoring", 3, 0) for _ in range(2)] == [1, 2]
        await gate.leave(3)
        assert await gate.tries("scoring", 3, 0) == 1, "what is committed is forgotten"

    asyncio.run(through())
