"""Plans over simulated nights, against a model in plain Python."""

import random
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from beholder.catalog import manifest_files, patience
from beholder.catalog import plan as planning
from beholder.catalog import survey as survey_module
from beholder.catalog.buckets import bucket_numbers
from beholder.catalog.chunks import DamagedPlanError
from beholder.catalog.config import NightlyConfig
from beholder.catalog.cut_short import cut_short
from beholder.catalog.estimate import Rate, Rates
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.manifest_files import MANIFEST
from beholder.catalog.plan import Plan, PlanError, make_plan, preview, read_plan, read_rows
from beholder.catalog.scoring_pass import read_planned
from beholder.catalog.tables import ITEM_FIELDS, ITEMS, PLANNED
from beholder.items import FailureCode, ManifestError
from beholder.media.conditional import create
from beholder.media.storage import StorageError, write_bytes

from .plan_model import (
    NOON,
    RUN,
    Row,
    failed,
    held,
    looked_at,
    model,
    mutate,
    said,
)

BUCKETS = 3


def outline(fingerprint: str = "f1", kinds: tuple[str, ...] = ("image", "video")) -> Any:
    """What a plan must know of a scorer."""
    tasks = {"quality": SimpleNamespace(kinds=kinds)}
    return SimpleNamespace(file=SimpleNamespace(fingerprint=fingerprint, tasks=tasks))


def parent(state: list[Row], task: str = "quality") -> Any:
    """A snapshot with these items."""
    table = pa.Table.from_pylist(state, schema=pa.schema(ITEM_FIELDS))
    numbers = bucket_numbers(table["item_id"], BUCKETS).to_numpy()
    tasks = {"image": (task,), "video": (task,)}
    return SimpleNamespace(
        id=RunId("2026-11-19"),
        record=SimpleNamespace(buckets=BUCKETS, fingerprint="f1", tasks=tasks),
        items=lambda bucket: table.filter(pa.array(numbers == bucket)),
    )


class Night:
    """A catalog's folder and one plan in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "manifest.parquet"

    def config(self, **fields: Any) -> NightlyConfig:
        given = {
            "catalog": str(self.folder / "catalog"),
            "manifest": str(self.manifest),
            "scorer": "s3://runs/scorer",
            "logical_date": "2026-11-20",
            "buckets": BUCKETS,
            "chunk": 4,
        }
        return NightlyConfig(**given | fields)

    def say(self, rows: list[Row]) -> None:
        pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), self.manifest)

    def plan(self, rows: list[Row], state: Any = None, scorer: Any = None, **fields: Any) -> Plan:
        self.say(rows)
        return make_plan(self.config(**fields), state, scorer or outline(), RUN)

    def chunks(self, plan: Plan) -> list[list[Row]]:
        layout = Layout(str(self.folder / "catalog"))
        tables = list(read_rows(layout, plan.files))
        assert all(table.schema.equals(PLANNED) for table in tables)
        return [table.to_pylist() for table in tables]

    def planned(self, plan: Plan) -> dict[str, Row]:
        rows = [row for chunk in self.chunks(plan) for row in chunk]
        assert len({row["item_id"] for row in rows}) == len(rows)
        return {row["item_id"]: row for row in rows}

    def settled(self, plan: Plan) -> dict[str, Row]:
        tables = list(read_rows(Layout(str(self.folder / "catalog")), plan.settled))
        assert all(table.schema.equals(ITEMS) for table in tables)
        rows = [row for table in tables for row in table.to_pylist()]
        assert len({row["item_id"] for row in rows}) == len(rows)
        return {row["item_id"]: row for row in rows}


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


# --- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_nights_are_as_the_model_says(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    fresh = iter(range(10_000))
    state: dict[str, Row] = {}
    manifest: list[Row] = []
    seen = Counter[str]()
    for number in range(8):
        manifest = mutate(rng, manifest, fresh)
        limit = rng.choice([None, 10])
        expected = model(manifest, state, limit)
        night = Night(tmp_path / str(number))
        night.folder.mkdir()
        plan = night.plan(manifest, parent(list(state.values())), limit=limit)
        rows, settled = night.planned(plan), night.settled(plan)
        assert {i: row["change"] for i, row in rows.items()} == expected["changes"]
        known = {i: row["known_sha256"] for i, row in rows.items() if row["known_sha256"]}
        assert known == expected["known"]
        assert {name: n for name, n in plan.tally.counts.items() if n} == expected["classes"]
        assert settled == expected["settled"]
        retried = Counter(
            state[i]["failure_code"] for i, r in rows.items() if r["change"] == "retried"
        )
        assert plan.tally.retried == retried
        for row in rows.values():
            fresh_one = row["change"] != "retried"
            assert row["attempts"] == (0 if fresh_one else state[row["item_id"]]["attempts"])
        state |= {i: looked_at(rng, row) for i, row in rows.items()}
        state |= {i: {k: v for k, v in r.items() if k != "removed"} for i, r in settled.items()}
        state = {i: row for i, row in state.items() if i in {r["item_id"] for r in manifest}}
        assert sum(plan.tally.absent) == len(manifest) - len(state)
        seen.update(expected["classes"])
    assert not {"new", "changed", "retried", "unchanged", "stale", "left_out", "removed"} - set(
        seen
    )


# --- chunks --------------------------------------------------------------------------------------


def test_chunks_are_numbered_and_hold_likely_equal_bytes_together(night: Night) -> None:
    rows = [said(f"{n:03d}", age=n) for n in range(20)]
    for group in ((0, 7, 19), (3, 12)):
        for n in group:
            rows[n]["etag"] = f"same {group}"
    rows[5]["etag"], rows[6]["etag"] = rows[7]["etag"], None
    rows[5]["size"] = None  # no size: nothing says that they are the same
    plan = night.plan(rows)
    chunks = night.chunks(plan)
    assert [chunk.number for chunk in plan.chunks()] == list(range(len(chunks)))
    assert [chunk.rows for chunk in plan.chunks()] == [len(chunk) for chunk in chunks]
    assert all({row["chunk"] for row in c} == {n} for n, c in enumerate(chunks))
    assert max(map(len, chunks)) == 4
    ids = [[row["item_id"] for row in chunk] for chunk in chunks]
    assert ids[0] == ["000", "007", "019", "001"]  # the newest, its twins, the next
    assert ids[1][1:3] == ["003", "012"]
    assert sorted(i for chunk in ids for i in chunk) == [row["item_id"] for row in rows]


def test_more_twins_than_a_chunk_holds(night: Night) -> None:
    rows = [said(f"{n:03d}", age=n, etag="one", kind="image") for n in range(10)]
    plan = night.plan([*rows, said("new", age=-1)])
    assert [len(chunk) for chunk in night.chunks(plan)] == [1, 4, 4, 2]


def test_plan_files_take_so_many_chunks(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "FILE_CHUNKS", 2)
    plan = night.plan([said(f"{n}") for n in range(18)])
    assert [(file.first, file.groups) for file in plan.files] == [
        (0, (4, 4)), (2, (4, 4)), (4, (2,)),
    ]  # fmt: skip
    assert [chunk.group for chunk in plan.chunks()] == [0, 1, 0, 1, 0]
    assert len(night.planned(plan)) == 18


# --- bounds --------------------------------------------------------------------------------------


def test_newest_first_and_retried_after_new(night: Night) -> None:
    retried = said("retried", age=-9)
    rows = [said("dateless", age=None), said("old", age=50), said("young", age=1), retried]
    state = parent([failed(retried, FailureCode.FETCH_TIMEOUT)])
    plan = night.plan(rows, state, chunk=1)
    assert list(night.planned(plan)) == ["young", "old", "dateless", "retried"]


def test_left_out_items_are_told(night: Night) -> None:
    rows = [said(f"{n:02d}", age=n, segment="ab"[n % 2]) for n in range(10)]
    changed, missing = said("changed", age=70, segment="b"), said("missing", age=80)
    state = parent([held(changed, etag="older"), failed(missing, FailureCode.FETCH_TIMEOUT)])
    plan = night.plan([*rows, changed, missing], state, limit=6)
    assert sorted(night.planned(plan)) == [f"{n:02d}" for n in range(6)]
    assert plan.tally.counts["left_out"] == 5 and plan.tally.counts["stale"] == 1
    assert plan.tally.left_out == {"limit": 6}
    assert plan.tally.left_segments == {"b": 3, "a": 2, "": 1}
    assert plan.tally.oldest_taken == (NOON - timedelta(hours=5)).isoformat()
    assert sum(plan.tally.absent) == 4  # new ones; the failed one keeps its row
    settled = night.settled(plan)
    assert settled == {"changed": held(changed, etag="older", state="stale", run=str(RUN))
                       | {"removed": False}}  # fmt: skip


def test_a_limit_of_nothing(night: Night) -> None:
    plan = night.plan([said("a"), said("b")], limit=0)
    assert plan.files == () and list(plan.chunks()) == []
    assert plan.tally.counts["left_out"] == 2 and plan.tally.oldest_taken is None


def test_samples_are_nested(tmp_path: Path) -> None:
    taken = []
    for share in (0.1, 0.3, 1.0):
        night = Night(tmp_path / str(share))
        night.folder.mkdir()
        plan = night.plan([said(f"item {n}") for n in range(1000)], sample=share)
        taken.append(set(night.planned(plan)))
        assert plan.tally.left_out == ({"sample": 1000 - len(taken[-1])} if share < 1 else {})
    assert taken[0] < taken[1] < taken[2] and len(taken[2]) == 1000
    # 4 standard deviations of a binomial count
    assert abs(len(taken[0]) - 100) < 38 and abs(len(taken[1]) - 300) < 58


def test_other_tasks_look_at_all_and_know_nothing(night: Night) -> None:
    rows = [said("a", age=1), said("b", age=2), said("gone", age=3)]
    state = [held(rows[0]), held(rows[1]), failed(rows[2], FailureCode.FETCH_NOT_FOUND)]
    plan = night.plan(rows, parent(state, task="aesthetics"), limit=1)
    assert night.planned(plan)["a"]["change"] == "changed"
    assert night.planned(plan)["a"]["known_sha256"] is None
    assert plan.tally.counts["left_out"] == 2
    # Scores of other tasks are no scores: the item is as one that was never looked at.
    settled = night.settled(plan)
    assert list(settled) == ["b"] and settled["b"]["removed"]
    assert sum(plan.tally.absent) == 1


def test_etags_may_be_quoted_and_sizes_unknown(night: Night) -> None:
    state = parent([held(said("a", etag="5f")), held(said("b"))])
    plan = night.plan([said("a", etag='"5f"'), said("b", size=None)], state)
    assert plan.tally.counts["unchanged"] == 2


@pytest.mark.parametrize("etag", [None, "", '""'])
def test_without_an_etag_the_hash_has_to_tell(night: Night, etag: str | None) -> None:
    plan = night.plan([said("a", etag=etag)], parent([held(said("a"))]))
    row = night.planned(plan)["a"]
    assert (row["change"], row["etag"]) == ("changed", None)
    assert row["known_sha256"] == held(said("a"))["sha256"]


def test_an_item_that_changed_back_is_looked_at_again(night: Night) -> None:
    row = said("a")
    plan = night.plan([row], parent([held(row, state="stale")]))
    assert night.planned(plan)["a"]["change"] == "changed"
    assert night.planned(plan)["a"]["known_sha256"] == held(row)["sha256"]


def test_a_person_may_have_failures_tried_again_whatever_their_policy(night: Night) -> None:
    rows = [said("denied"), said("changed"), said("gone"), said("scored")]
    codes = (FailureCode.FETCH_DENIED, FailureCode.FETCH_CHANGED, FailureCode.FETCH_NOT_FOUND)
    tried = [failed(row, code, attempts=99) for row, code in zip(rows, codes, strict=False)]
    state = parent([*tried, held(rows[3])])
    night.say(rows)
    plan = make_plan(night.config(), state, outline(), RUN, ("fetch.denied", "fetch.changed"))
    planned = night.planned(plan)
    # Of what had changed, whatever is there by now.
    etags = {item: row["etag"] for item, row in planned.items()}
    assert etags == {"denied": rows[0]["etag"], "changed": None}
    assert plan.tally.retried == {"fetch.denied": 1, "fetch.changed": 1}


def test_retries_end(night: Night) -> None:
    timeout = FailureCode.FETCH_TIMEOUT
    rows = [said("some"), said("enough"), said("never")]
    state = parent([
        failed(rows[0], timeout, attempts=14),
        failed(rows[1], timeout, attempts=15),
        failed(rows[2], FailureCode.FETCH_NOT_FOUND),
    ])  # fmt: skip
    plan = night.plan(rows, state)
    assert list(night.planned(plan)) == ["some"]
    assert plan.tally.retried == {"fetch.timeout": 1} and plan.tally.counts["unchanged"] == 2


@pytest.mark.parametrize("state", ["failed", "stale"])
def test_what_could_not_be_had_follows_its_policy_without_an_etag_too(
    night: Night, state: str
) -> None:
    never, soon, enough = FailureCode.FETCH_NOT_FOUND, FailureCode.FETCH_TIMEOUT, {"attempts": 15}
    rows = [said(name, etag=None, size=None) for name in ("never", "soon", "enough", "broken")]
    stands = [
        failed(rows[0], never, state=state),
        failed(rows[1], soon, state=state),
        failed(rows[2], soon, state=state, **enough),
        failed(rows[3], FailureCode.DECODE_TRUNCATED, state=state),  # may have other bytes by now
    ]
    moved = rows[0] | {"uri": "s3://uploads/elsewhere.jpg"}
    plan = night.plan(rows, parent(stands))
    changes = {item: row["change"] for item, row in night.planned(plan).items()}
    assert changes == {"soon": "retried", "broken": "changed"}
    assert plan.tally.counts["stale" if state == "stale" else "unchanged"] == 2
    other = Night(night.folder / "moved")
    other.folder.mkdir()
    assert list(other.planned(other.plan([moved], parent(stands[:1])))) == ["never"]
    again = rows[0] | {"etag": "now it has one"}
    other = Night(night.folder / "listed")
    other.folder.mkdir()
    assert list(other.planned(other.plan([again], parent(stands[:1])))) == ["never"]


RATES = Rates(
    setting={},
    load_s=0.0,
    kinds={
        "image": Rate(items=64, decode_s=1.0, score_s=36.0),
        "video": Rate(items=8, decode_s=1.0, score_s=360.0),
    },
)


@pytest.mark.parametrize(
    ("bounds", "taken", "reasons"),
    [
        ({"deadline_hours": 0.05}, 5, {"deadline": 25}),
        ({"deadline_hours": 0.0999}, 9, {"deadline": 21}),
        ({"deadline_hours": 0.2999}, 11, {"deadline": 19}),  # 10 pictures, a video, almost two
        ({"deadline_hours": 0.3}, 12, {"deadline": 18}),
        ({"deadline_hours": 3.0}, 30, {}),
        ({"budget": 0.081}, 4, {"budget": 26}),  # 36 s of two CPUs are 0.02
        ({"budget": 0.081, "deadline_hours": 0.031}, 3, {"deadline": 27}),
        ({"budget": 0.061, "deadline_hours": 0.041}, 3, {"budget": 27}),
        ({"budget": 0.081, "limit": 2}, 2, {"limit": 28}),
        ({"deadline_hours": 0.0001}, 0, {"deadline": 30}),
    ],
)
def test_a_deadline_and_a_budget(
    night: Night,
    monkeypatch: pytest.MonkeyPatch,
    bounds: dict[str, Any],
    taken: int,
    reasons: dict[str, int],
) -> None:
    monkeypatch.setattr(planning, "measured_rates", lambda *_: RATES)
    kinds = ["image"] * 10 + ["video"] * 20
    rows = [said(f"{n:02d}", age=n, kind=kind) for n, kind in enumerate(kinds)]
    plan = night.plan(rows, prices={"cpu_hour": 1.0}, **bounds)
    assert sorted(night.planned(plan)) == [f"{n:02d}" for n in range(taken)]
    assert plan.tally.left_out == reasons
    assert plan.estimate is not None and plan.estimate.items == taken


def test_where_nothing_is_to_be_done_nothing_is_measured(night: Night) -> None:
    row = said("a")
    plan = night.plan([row], parent([held(row)]), deadline_hours=1.0)  # and there is no scorer
    assert plan.estimate is not None and plan.estimate.hours == 0


def test_a_preview_says_the_same_and_plans_nothing(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "measured_rates", lambda *_: RATES)
    rows = [said(f"{n}", age=n) for n in range(9)]
    night.say(rows)
    tally, takes = preview(night.config(limit=5), None, outline(), RUN)
    assert not (night.folder / "catalog").exists()
    assert tally == night.plan(rows, limit=5).tally
    assert takes.items == 5 and takes.hours == pytest.approx(0.05)


@pytest.mark.parametrize("task", ["quality", "aesthetics"])
def test_a_run_that_is_stopped_leaves_what_a_limit_would(tmp_path: Path, task: str) -> None:
    rng = random.Random(1)
    rows = [said(f"{n:02d}", age=n, segment=rng.choice("ab")) for n in range(40)]
    timeout, missing = FailureCode.FETCH_TIMEOUT, FailureCode.FETCH_NOT_FOUND
    state = [held(row, etag="older") for row in rows[3:20]]
    state += [failed(row, timeout, **rng.choice([{}, {"state": "stale"}])) for row in rows[20:30]]
    state += [failed(row, missing, etag="older") for row in rows[30:35]]
    last = parent(state, task)
    plans = []
    for name, limit in (("whole", None), ("limited", 12)):
        night = Night(tmp_path / name)
        night.folder.mkdir()
        plan = night.plan(rows, last, limit=limit)
        if limit is None:
            plan = cut_short(Layout(night.config().catalog), plan, {0, 1, 2}, last, "limit")
        plans.append((plan.tally, night.settled(plan), night.planned(plan), list(plan.chunks())))
    assert plans[0][:3] == plans[1][:3]
    assert [chunk.number for chunk in plans[0][3]] == [0, 1, 2]
    assert plans[0][0].left_out == {"limit": 28} and plans[0][1]


# --- written once --------------------------------------------------------------------------------


def test_a_second_driver_goes_on_with_the_plan(night: Night) -> None:
    rows = [said("a"), said("b")]
    first = night.plan(rows)
    assert make_plan(night.config(limit=1), None, outline(), RUN) == first
    assert read_plan(Layout(night.config().catalog), RUN) == first


def test_of_two_drivers_at_once_one_wins(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    night.say([said("a")])
    theirs: list[Plan] = []

    def slower(uri: str, data: bytes) -> str:
        monkeypatch.setattr(planning, "create", create)
        theirs.append(make_plan(night.config(), None, outline(), RUN))
        return create(uri, data)

    monkeypatch.setattr(planning, "create", slower)
    assert make_plan(night.config(), None, outline(), RUN) == theirs[0]


def again(night: Night, state: Any = None, scorer: Any = None, **fields: Any) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(night.config(**fields), state, scorer or outline(), RUN)
    return str(caught.value)


def test_a_plan_for_something_else_is_refused_by_name(night: Night) -> None:
    plan = night.plan([said("a")])
    assert "planned for fingerprint f1, which is now f2" in again(night, scorer=outline("f2"))
    assert "for tasks" in again(night, scorer=outline(kinds=("image",)))
    assert "for parent None, which is now 2026-11-19.0" in again(night, parent([]))
    assert "for buckets 3, which is now 5" in again(night, buckets=5)
    night.say([said("a"), said("b")])
    text = again(night)
    assert f"for manifest {night.manifest} (version {plan.manifest.version}" in text


def test_a_damaged_plan_is_refused(night: Night) -> None:
    night.plan([said("a")])
    Path(Layout(night.config().catalog).plan(RUN)).write_text("{}")
    assert "no plan of this version" in again(night)


def test_a_plan_that_was_damaged_says_what_to_do_and_that_works(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off, or with one bit turned around that no decoder minds."""
    rows = [said(f"{n:02d}", age=n) for n in range(9)]
    plan = night.plan(rows)
    layout = Layout(night.config().catalog)
    remedy = rf"{layout.run(RUN)}/ and run the same command again"
    [file] = (Path(layout.absolute(file.path)) for file in plan.files)
    whole = file.read_bytes()
    at = pq.ParquetFile(file).metadata.row_group(0).column(0)
    inside = at.dictionary_page_offset or at.data_page_offset
    turned = bytearray(whole)
    turned[inside + at.total_compressed_size - 1] ^= 1
    for spoilt in (whole[: len(whole) // 2], b"", bytes(turned)):
        file.write_bytes(spoilt)
        with pytest.raises(DamagedPlanError, match=rf"{file} is damaged or gone .*{remedy}"):
            list(read_rows(layout, plan.files))
        with pytest.raises(DamagedPlanError, match=rf"{file} is damaged or gone .*{remedy}"):
            read_planned(layout, next(plan.chunks()))
    file.unlink()
    with pytest.raises(DamagedPlanError, match=rf"{file} is damaged or gone .*{remedy}"):
        list(read_rows(layout, plan.files))
    file.write_bytes(whole)
    other = next(plan.chunks())._replace(number=1)
    with pytest.raises(DamagedPlanError, match=f"row group 0 is not chunk 1 of 4 items.*{remedy}"):
        read_planned(layout, other)
    with pytest.raises(DamagedPlanError, match=remedy):
        read_planned(layout, other._replace(group=9))

    def expired(*_: object) -> None:
        answer = {"Error": {"Code": "ExpiredToken"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        raise StorageError("the keys have expired") from ClientError(answer, "GetObject")

    with monkeypatch.context() as patch:  # is no reason to remove anything
        patch.setattr(patience.PatientFile, "read", expired)
        with pytest.raises(StorageError, match="the keys have expired"):
            list(read_rows(layout, plan.files))

    name = Path(layout.plan(RUN))
    name.write_bytes(name.read_bytes()[:-9])
    with pytest.raises(DamagedPlanError, match=rf"{name} is damaged or gone .*EOF.*{remedy}"):
        night.plan(rows)
    shutil.rmtree(layout.run(RUN))
    assert sorted(night.planned(night.plan(rows))) == [row["item_id"] for row in rows]


def test_buckets_are_the_catalogs(night: Night) -> None:
    night.say([said("a")])
    text = again(night, parent([]), buckets=7)
    assert "buckets is 7" in text and "set buckets=3" in text
    assert make_plan(night.config(buckets=None), parent([]), outline(), RUN).buckets == BUCKETS


def test_an_id_that_occurs_twice(night: Night) -> None:
    rows = [said("a"), said("twice"), said("b"), said("twice")]
    with pytest.raises(ManifestError, match=r"'twice' occurs more than once, in row 2 .* row 4 of"):
        night.plan(rows)
    assert read_plan(Layout(night.config().catalog), RUN) is None


def test_a_manifest_that_changes_meanwhile(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: Callable[[Any], Iterator[pa.Table]] = planning.ManifestFiles.batches

    def touched(files: Any) -> Iterator[pa.Table]:
        yield from batches(files)
        night.say([said("b"), said("c")])

    monkeypatch.setattr(planning.ManifestFiles, "batches", touched)
    with pytest.raises(ManifestError, match=r"manifest.parquet has changed since"):
        night.plan([said("a")])


def test_ids_are_never_gathered_in_python(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow's memory is not Python's: what Python holds must not grow with the manifest."""
    monkeypatch.setattr(manifest_files, "BATCH_ROWS", 2_000)
    monkeypatch.setattr(planning, "FILE_CHUNKS", 8)
    monkeypatch.setattr(survey_module, "STREAMED_ROWS", 2_000)
    peaks = []
    for rows in (10_000, 60_000):
        numbers = pa.array(range(rows)).cast(pa.string())
        kinds = pa.repeat("image", rows)
        table = pa.table({"item_id": numbers, "uri": numbers, "kind": kinds})
        pq.write_table(table, night.manifest, row_group_size=2_000)
        date = f"2026-12-{rows // 10_000:02d}"
        config = night.config(logical_date=date, chunk=256)
        tracemalloc.start()
        plan = make_plan(config, None, outline(), RunId(date))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert plan.tally.counts["new"] == rows
    assert peaks[1] < peaks[0] + 500_000  # 50,000 ids more as a list take 3 MB


def test_a_plan_in_s3(s3: Any, night: Night) -> None:
    folder = f"s3://{s3.bucket}/plans"
    rows = [said(f"{n:02d}", age=n) for n in range(10)]
    night.say(rows)
    write_bytes(f"{folder}/manifest.parquet", night.manifest.read_bytes())
    config = night.config(catalog=folder, manifest=f"{folder}/manifest.parquet", limit=6)
    state = parent([held(row) for row in rows[:3]])
    plan = make_plan(config, state, outline(), RUN)
    assert make_plan(config, state, outline(), RUN) == plan == read_plan(Layout(folder), RUN)
    found = [r["item_id"] for t in read_rows(Layout(folder), plan.files) for r in t.to_pylist()]
    assert found == [f"{n:02d}" for n in range(3, 9)]
    night.say(rows[1:])
    write_bytes(f"{folder}/manifest.parquet", night.manifest.read_bytes())
    with pytest.raises(PlanError, match=r"planned for manifest s3://.*/manifest.parquet"):
        make_plan(config, state, outline(), RUN)
