"""Plans against published snapshots: what a night made is what the next one starts from."""

import random
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import nightly
from beholder.catalog.config import NightlyConfig, ReplayConfig
from beholder.catalog.cut_short import cut_short
from beholder.catalog.head import NotPublishedError, publish, read_head, roll_back
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.manifest_files import MANIFEST
from beholder.catalog.plan import EarlierDateError, Plan, make_plan, preview, read_plan, read_rows
from beholder.catalog.prepare import DoneChunk, prepare
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.catalog.tables import CHUNK
from beholder.media.storage import read_bytes, remove_files, write_bytes

SCORER: Any = SimpleNamespace(
    file=SimpleNamespace(fingerprint="f1", tasks={"quality": SimpleNamespace(kinds=("image",))})
)
SCORE = {"task": "quality", "mean": 3.0, "probs": [0.5, 0.5], "support": [1.0, 5.0]}


def listed(number: int, version: int = 0) -> dict[str, Any]:
    name = f"item-{number:03d}"
    created = datetime(2026, 11, 1, 0, number % 60, tzinfo=UTC)
    return {"item_id": name, "uri": f"{name}.jpg", "kind": "image", "created_at": created,
            "etag": f"{name} v{version}", "size": 9}  # fmt: skip


def scored(planned: pa.Table) -> pa.Table:
    rows = [
        row | {"sha256": f"sha of {row['etag']}", "state": "scored", "scores": [SCORE]}
        for row in planned.to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=CHUNK)


def publish_night(plan: Plan, layout: Layout, parent: Snapshot | None) -> Snapshot:
    draft = plan.draft(plan.config)
    chunks = [
        DoneChunk(rows["item_id"], scored(rows), "data") for rows in read_rows(layout, plan.files)
    ]
    record = prepare(layout, draft, parent, chunks, read_rows(layout, plan.settled))
    publish(layout, record, "the test")
    return open_snapshot(layout.root)


def test_nights_until_nothing_is_left(tmp_path: Path) -> None:
    rng = random.Random(5)
    layout = Layout(str(tmp_path / "catalog"))
    manifest = dict.fromkeys(range(60), 0)
    parent: Snapshot | None = None
    for night in range(8):
        if night < 4:
            manifest = {n: v + (rng.random() < 0.2) for n, v in manifest.items() if n % 11 != night}
            manifest |= {100 * night + n: 0 for n in range(9)}
        rows = [listed(number, version) for number, version in manifest.items()]
        pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), tmp_path / "manifest.parquet")
        run = RunId(f"2026-11-{night + 1:02d}")
        config = NightlyConfig(
            catalog=layout.root,
            manifest=str(tmp_path / "manifest.parquet"),
            scorer="s3://runs/scorer",
            logical_date=run.date,
            buckets=5,
            chunk=8,
            limit=40 if night < 6 else None,
        )
        plan = make_plan(config, parent, SCORER, run)
        if night in (1, 3):
            plan = cut_short(layout, plan, {0, 1}, parent, "deadline")
        parent = publish_night(plan, layout, parent)

        head = read_head(layout)
        assert head is not None and head.snapshot == str(run)
        items = [row for bucket in range(5) for row in parent.items(bucket).to_pylist()]
        ids = {row["item_id"] for row in items}
        assert len(items) == len(ids) == len(rows) - sum(plan.tally.absent)
        assert ids <= {row["item_id"] for row in rows}
        etags = {row["item_id"]: row["etag"] for row in rows}
        for row in items:  # a row says scored of just the bytes that the manifest names
            assert (row["state"] == "scored") == (row["etag"] == etags[row["item_id"]])
        stale = sum(row["state"] == "stale" for row in items)
        assert stale == plan.tally.counts["stale"]
    assert plan.tally.counts["unchanged"] == len(rows) == len(items) and not plan.files


def test_bytes_that_another_item_had_are_expected_by_its_hash(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path / "catalog"))
    manifest = tmp_path / "manifest.parquet"
    rows = [listed(number) for number in range(20)]

    def planned(date: str, parent: Snapshot | None) -> Plan:
        pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), manifest)
        config = NightlyConfig(
            catalog=layout.root,
            manifest=str(manifest),
            scorer="s3://runs/scorer",
            logical_date=date,
            buckets=3,
        )
        return make_plan(config, parent, SCORER, RunId(date))

    first = planned("2026-11-01", None)
    assert all(table["likely_sha256"].null_count == 20 for table in read_rows(layout, first.files))
    parent = publish_night(first, layout, None)
    rows[3] |= {"etag": "item-007 v0"}  # a changed item that is what another one was
    rows[7] |= {"etag": "item-007 v1"}
    rows += [
        listed(30) | {"etag": "item-005 v0"},
        listed(31) | {"etag": "item-005 v0", "size": 10},
        listed(32) | {"etag": "item-005 v0", "kind": "video"},
        listed(33) | {"etag": None},
        listed(34),
    ]
    second = planned("2026-11-02", parent)
    found = pa.concat_tables(read_rows(layout, second.files)).to_pylist()
    hashes = {row["item_id"]: (row["known_sha256"], row["likely_sha256"]) for row in found}
    assert hashes == {
        "item-003": ("sha of item-003 v0", "sha of item-007 v0"),
        "item-007": ("sha of item-007 v0", None),
        "item-030": (None, "sha of item-005 v0"),
        **dict.fromkeys((f"item-{n:03d}" for n in (31, 32, 33, 34)), (None, None)),
    }


def test_a_date_before_what_readers_see_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published, it would take them back. A rollback takes them there on purpose."""
    monkeypatch.setattr(nightly, "outline_scorer", lambda _: SCORER)
    monkeypatch.setattr(nightly, "carry_out", lambda *_: pytest.fail("it scores"))
    layout = Layout(str(tmp_path / "catalog"))
    manifest = tmp_path / "manifest.parquet"
    rows = [listed(number) for number in range(20)]
    pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), manifest)

    def config(date: str) -> NightlyConfig:
        given = {"catalog": layout.root, "manifest": str(manifest), "scorer": "s3://runs/s"}
        return NightlyConfig(**given, logical_date=date, buckets=2)

    def published(date: str, parent: Snapshot | None, revision: int = 0) -> Snapshot:
        run = RunId(date, revision)
        write_bytes(f"{layout.run(run)}/report.html", b"told")
        return publish_night(make_plan(config(date), parent, SCORER, run), layout, parent)

    second = published("2026-11-02", None)
    fourth = published("2026-11-04", second)
    early = RunId("2026-11-03")
    said = r"date 2026-11-03 is refused, readers of .* see 2026-11-04.0, which is later: run a la"
    for plan in (make_plan, preview):
        with pytest.raises(EarlierDateError, match=said):
            plan(config(early.date), fourth, SCORER, early)
    with pytest.raises(EarlierDateError, match=said) as refused:
        nightly.run_night(config(early.date))
    assert refused.value.exit_code == 3
    assert read_plan(layout, early) is None
    for date in ("2026-11-02", "2026-11-04"):  # published is published, however long ago
        assert nightly.run_night(config(date)).name == "standing"

    roll_back(layout, None, "a test")
    with pytest.raises(NotPublishedError, match=r"2026-11-04.0 was rolled back, .* --set to=2026"):
        nightly.run_night(config("2026-11-04"))
    record = read_bytes(layout.snapshot(fourth.id))
    remove_files([layout.snapshot(fourth.id)])  # as the collection of garbage does in time
    with pytest.raises(NotPublishedError, match=r"2026-11-04.0 was rolled back, .* run the next d"):
        nightly.run_night(config("2026-11-04"))
    write_bytes(layout.snapshot(fourth.id), record)
    third = published(early.date, open_snapshot(layout.root))
    assert third.record.parent == "2026-11-02.0"
    revised = published(early.date, third, revision=1)
    remove_files([layout.snapshot(early)])
    again = nightly.run_night(config(early.date))
    assert (again.name, again.record.id) == ("standing", str(revised.id))
    roll_back(layout, "2026-11-04.0", "a test")
    assert nightly.run_night(config("2026-11-04")).name == "standing"
    with pytest.raises(EarlierDateError, match="2026-11-03 is refused"):
        nightly.run_night(config(early.date))


def test_failures_are_tried_again_after_a_revision_was_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is not used again, whether its record still stands or is collected as garbage."""
    monkeypatch.setattr(nightly, "outline_scorer", lambda _: SCORER)
    replayed: list[Plan] = []
    monkeypatch.setattr(nightly, "carry_out", lambda _, plan, *__: replayed.append(plan))
    layout, run = Layout(str(tmp_path / "catalog")), RunId("2026-11-02")
    pq.write_table(
        pa.Table.from_pylist([listed(1), listed(2)], schema=MANIFEST), tmp_path / "m.parquet"
    )
    config = ReplayConfig(
        catalog=layout.root,
        manifest=str(tmp_path / "m.parquet"),
        scorer="s3://runs/s",
        logical_date=run.date,
        buckets=2,
    )
    first = publish_night(make_plan(config, None, SCORER, run), layout, None)
    for revision in (0, 1, 2, 3):
        write_bytes(f"{layout.run(RunId(run.date, revision))}/report.html", b"told")
    for revision in (1, 2):
        nightly.replay(config)
        made = replayed.pop()
        assert (made.run, made.parent) == (f"{run.date}.{revision}", str(run))
        publish_night(made, layout, first)
        roll_back(layout, None, "a test")
    remove_files([layout.snapshot(RunId(run.date, 2))])
    nightly.replay(config)
    assert replayed.pop().run == f"{run.date}.3"
    fourth = publish_night(make_plan(config, first, SCORER, RunId(run.date, 3)), layout, first)
    nightly.replay(config)  # and on from there
    assert replayed.pop().parent == fourth.record.id
