"""A catalog's second night written by hand; with one thing wrong, the check of it fails by name."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beholder.catalog.audit import audit
from beholder.catalog.buckets import bucket_numbers
from beholder.catalog.checks import Audit, AuditConfig
from beholder.catalog.chunks import PlanFile
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.manifest_files import ManifestFiles
from beholder.catalog.plan import Plan
from beholder.catalog.record import File, Record
from beholder.catalog.selection import Tally
from beholder.catalog.snapshot import Snapshot
from beholder.catalog.tables import ITEMS, PLANNED, SCORES
from beholder.local_stack import ObjectStore
from beholder.media.storage import copy_tree, read_bytes, write_bytes
from beholder.scoring import PanelCheck

FINGERPRINT = "feed5eedfeed5eed"
TASKS = {"image": ("quality", "aesthetics"), "video": ("quality",)}
LAST, TONIGHT = "2026-11-19.0", "2026-11-20.0"
SAME = PanelCheck(True, 1e-7, 1e-4, "0-image, quality", "as it was")
SUPPORT = [1.0, 2.0, 3.0, 4.0, 5.0]

Rows = list[dict]


def item(number: int, run: str, state: str = "scored", **other: object) -> dict:
    """A row of the state; every seventh is a video, and bytes are the item's own."""
    name = f"item-{number:04d}"
    failed = state == "failed"
    return {
        "item_id": name,
        "uri": f"s3://media/{name}",
        "kind": "video" if number % 7 == 0 else "image",
        "owner": "somebody",
        "segment": "day" if number % 2 else "night",
        "created_at": datetime(2026, 11, 1, tzinfo=UTC),
        "etag": f"e{number}",
        "size": 1000 + number,
        "sha256": None if failed else hashlib.sha256(name.encode()).hexdigest(),
        "state": state,
        "failure_code": "decode.truncated" if failed else None,
        "failure_message": "cut off" if failed else None,
        "attempts": 1,
        "bytes_read": 1000,
        "run": run,
        "removed": False,
        **other,
    }


def score(sha256: str, task: str, run: str, shape: float = 0.0, **other: object) -> dict:
    """A row of scores; a larger ``shape`` moves it up."""
    weights = np.exp(shape * np.arange(5)) * np.array([1, 2, 3, 2, 1])
    probs = weights / weights.sum()
    mean = float(probs @ SUPPORT)
    return {
        "sha256": sha256,
        "fingerprint": FINGERPRINT,
        "task": task,
        "mean": mean,
        "std": float(np.sqrt(probs @ (np.array(SUPPORT) - mean) ** 2)),
        "entropy": float(-(probs * np.log(probs)).sum()),
        "support": SUPPORT,
        "probs": probs.tolist(),
        "scale": [1.0, 5.0],
        "mass": 0.97,
        "clip_means": [mean],
        "coverage": 1.0,
        "run": run,
        **other,
    }


def scores_of(items: Rows, shape: Callable[[int], float]) -> Rows:
    """Scores of all items that have some; ``shape`` takes the row's position."""
    return [
        score(row["sha256"], task, row["run"], shape(at))
        for at, row in enumerate(items)
        if row["state"] == "scored"
        for task in TASKS[row["kind"]]
    ]


@dataclass
class Night:
    """The rows of a night on top of an earlier one; change them, then :meth:`audit`.

    Items 0..39 are of the night before, the last of them failed. Tonight 36 has changed and 40..59
    are new, of which 58 and 59 fail; 60 and 61 were left out by a limit; 62 is gone.
    """

    folder: Path
    buckets: int = 2
    base: Rows = field(init=False)
    base_scores: Rows = field(init=False)
    delta: Rows = field(init=False)
    delta_scores: Rows = field(init=False)
    manifest: Rows = field(init=False)
    planned: Rows = field(init=False)
    planned_counts: dict[str, int] = field(init=False)
    absent: list[str] = field(init=False)
    counts: dict[str, int] = field(init=False)
    past_drift: dict = field(default_factory=lambda: {"histograms": [], "mass": {}})

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        shapes = rng.normal(0, 0.3, 100)
        self.base = [item(n, LAST) for n in range(39)]
        self.base += [item(39, LAST, "failed"), item(62, LAST)]
        self.base_scores = scores_of(self.base, lambda at: shapes[at])
        new = [item(n, TONIGHT) for n in range(40, 58)]
        new += [item(58, TONIGHT, "failed"), item(59, TONIGHT, "failed")]
        sha256 = hashlib.sha256(b"other bytes").hexdigest()
        changed = item(36, TONIGHT, etag="changed", sha256=sha256)
        gone = item(62, TONIGHT, removed=True)
        self.delta = [*new, changed, gone]
        self.delta_scores = scores_of([*new, changed], lambda at: shapes[50 + at])
        rest = [row for row in self.base if row["item_id"] not in ("item-0036", "item-0062")]
        left = [item(n, "") for n in (60, 61)]
        self.manifest = [*rest, changed, *new, *left]
        self.planned = [{"item_id": row["item_id"], "change": "new"} for row in new]
        self.planned.append({"item_id": changed["item_id"], "change": "changed"})
        self.planned_counts = {"new": 20, "changed": 1, "retried": 0}
        self.absent = ["item-0060", "item-0061"]
        self.counts = {"scored": 19, "failed": 2}

    def write(self) -> Snapshot:
        """Writes everything; the snapshot of tonight."""
        layout = Layout(str(self.folder))
        past = self._record(LAST, None, self._files("items", self.base), {})
        past = past.model_copy(
            update={"scores": self._files("scores", self.base_scores), "drift": self.past_drift}
        )
        path = Path(layout.snapshot(RunId.parse(LAST)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(past.encode())
        items = _joined(past.items, self._files("items", self.delta, deltas=True))
        tonight = self._record(TONIGHT, LAST, items, self.counts)
        scores = _joined(past.scores, self._files("scores", self.delta_scores, deltas=True))
        self.folder.mkdir(exist_ok=True)
        listed = [{n: row[n] for n in ITEMS.names[:8]} for row in self.manifest]
        pq.write_table(pa.Table.from_pylist(listed), self.folder / "manifest.parquet")
        return Snapshot(layout, tonight.model_copy(update={"scores": scores}))

    def audit(self, config: AuditConfig | None = None, panel: PanelCheck = SAME) -> Audit:
        """Writes it and audits it."""
        snapshot = self.write()
        return audit(snapshot, self.plan(), config or AuditConfig(), panel)

    def plan(self) -> Plan:
        """The night's plan, of the manifest as it is now."""
        rows = pa.Table.from_pylist(self.planned, schema=PLANNED)
        pq.write_table(rows, self.folder / "plan.parquet")
        numbers = bucket_numbers(pa.array(self.absent, pa.string()), self.buckets).to_pylist()
        tally = Tally(
            counts=self.planned_counts,
            kinds={},
            relabelled=0,
            retried={},
            left_out={},
            left_segments={},
            oldest_taken=None,
            absent=tuple(numbers.count(bucket) for bucket in range(self.buckets)),
        )
        groups = (rows.num_rows,) if rows.num_rows else ()
        return Plan(
            run=TONIGHT,
            parent=LAST,
            manifest=ManifestFiles.find(str(self.folder / "manifest.parquet")),
            fingerprint=FINGERPRINT,
            tasks=TASKS,
            buckets=self.buckets,
            made_at=datetime(2026, 11, 20, tzinfo=UTC),
            scorer="s3://scorers/one",
            files=(PlanFile(path="plan.parquet", first=0, groups=groups),) if groups else (),
            settled=(),
            tally=tally,
            estimate=None,
            config={},
        )

    def _record(
        self, run: str, parent: str | None, items: dict[int, tuple[File, ...]], counts: dict
    ) -> Record:
        return Record(
            id=run,
            parent=parent,
            created_at=datetime(2026, 11, 20, tzinfo=UTC),
            buckets=self.buckets,
            scorer="s3://scorers/one",
            fingerprint=FINGERPRINT,
            tasks=TASKS,
            manifest={"uri": "manifest.parquet", "version": "1"},
            config={},
            items=items,
            counts=counts,
        )

    def _files(self, table: str, rows: Rows, deltas: bool = False) -> dict[int, tuple[File, ...]]:
        schema, key = {"items": (ITEMS, "item_id"), "scores": (SCORES, "sha256")}[table]
        found = pa.Table.from_pylist(rows, schema=schema)
        return write_buckets(self.folder, table, found, key, self.buckets, deltas)


def write_buckets(
    folder: Path, name: str, rows: pa.Table, key: str, buckets: int, deltas: bool
) -> dict[int, tuple[File, ...]]:
    """Files of the state, one a bucket."""
    if not rows.num_rows:
        return {}
    numbers = bucket_numbers(rows[key], buckets)
    files = {}
    for bucket in Counter(numbers.to_pylist()):
        path = f"{name}/{bucket:04d}/{'delta' if deltas else 'base'}.parquet"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        some = rows.filter(pc.equal(numbers, bucket))
        pq.write_table(some, folder / path)
        digest = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        files[bucket] = (File(path=path, rows=some.num_rows, sha256=digest, deltas=deltas),)
    return files


def _joined(*parts: dict[int, tuple[File, ...]]) -> dict[int, tuple[File, ...]]:
    buckets = {bucket for part in parts for bucket in part}
    return {b: tuple(f for part in parts for f in part.get(b, ())) for b in buckets}


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def failing(found: Audit) -> dict[str, tuple[str, ...]]:
    """What fails, and by which keys."""
    return {check.name: check.offending for check in found.checks if not check.ok}


def test_a_right_night_passes_and_is_counted(night: Night) -> None:
    found = night.audit()
    assert failing(found) == {}
    assert found.refused == ()
    assert found.items == {"scored": 57, "failed": 3, "left_out": 2}
    assert sum(found.items.values()) == len(night.manifest)
    assert found.settled == {"new": {"scored": 18, "failed": 2}, "changed": {"scored": 1}}
    assert found.failures == {"decode.truncated": 2}
    assert found.mass == pytest.approx({"quality": 0.97, "aesthetics": 0.97}, abs=1e-3)
    assert found.histograms["quality", "(all)"].total == 19
    # 42, 49 and 56 are videos.
    assert found.histograms["aesthetics", "(all)"].total == 16
    by_mean = sorted(
        (row["mean"], row["sha256"]) for row in night.delta_scores if row["task"] == "quality"
    )
    names = {row["sha256"]: row["item_id"] for row in night.delta}
    assert [e.item_id for e in found.worst["quality"]] == [names[s] for _, s in by_mean[:6]]
    assert [e.item_id for e in found.best["quality"]] == [names[s] for _, s in by_mean[:-7:-1]]
    assert found.best["quality"][0].uri.startswith("s3://media/item-")


def test_it_reads_object_storage(night: Night, s3: ObjectStore) -> None:
    local, plan = night.write(), night.plan()
    root = f"s3://{s3.bucket}/audited"
    copy_tree(night.folder, root)
    snapshot = Snapshot(Layout(root), local.record)
    manifest = ManifestFiles.find(f"{root}/manifest.parquet")
    plan = plan.model_copy(update={"manifest": manifest})
    assert failing(audit(snapshot, plan, AuditConfig(), SAME)) == {}
    write_bytes(f"{root}/manifest.parquet", read_bytes(f"{root}/plan.parquet"))
    assert "manifest" in failing(audit(snapshot, plan, AuditConfig(), SAME))


def test_nothing_new_is_a_right_night(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.delta, night.delta_scores, night.planned, night.counts = [], [], [], {}
    night.planned_counts, night.absent = dict.fromkeys(night.planned_counts, 0), []
    night.manifest = night.base
    found = night.audit()
    assert failing(found) == {}
    assert found.items == {"scored": 40, "failed": 1, "left_out": 0}


# --- what proves that every item came out once --------------------------------------------------


def test_a_lost_row(night: Night) -> None:
    night.delta = [row for row in night.delta if row["item_id"] != "item-0045"]
    found = failing(night.audit())
    assert found["complete"] == ("item-0045 was planned and has no row",)
    assert set(found) == {"complete", "counts"}


def test_an_unchanged_items_row_is_lost(night: Night) -> None:
    """Nobody planned it, so it seems to be left out, of which the plan knows the number."""
    night.base = [row for row in night.base if row["item_id"] != "item-0010"]
    (bucket,) = bucket_numbers(pa.array(["item-0010"]), night.buckets).to_pylist()
    night.write()
    before = night.plan().tally.absent[bucket]
    expected = f"bucket {bucket}: {before + 1} items without a row, {before} planned"
    assert failing(night.audit()) == {"counts": (expected,)}


def test_a_planned_item_was_not_settled(night: Night) -> None:
    """Its row of the night before is still there, which a count alone would not show."""
    night.delta = [row for row in night.delta if row["item_id"] != "item-0036"]
    found = failing(night.audit())
    assert found["complete"] == ("item-0036 was planned and has a row of another run",)


def test_a_foreign_item(night: Night) -> None:
    night.delta.append(item(99, TONIGHT))
    night.delta_scores += scores_of([night.delta[-1]], lambda _: 0.0)
    expected = ("item-0099 has a row and is not in the manifest",)
    assert failing(night.audit())["complete"] == expected


def test_a_removed_item_that_stays(night: Night) -> None:
    night.delta = [row for row in night.delta if not row["removed"]]
    expected = ("item-0062 has a row and is not in the manifest",)
    assert failing(night.audit()) == {"complete": expected}


def test_a_plan_of_other_items(night: Night) -> None:
    night.planned.append({"item_id": "item-0098", "change": "new"})
    night.planned_counts["new"] += 1
    found = failing(night.audit())
    assert found["complete"] == (
        "item-0098 was planned and has no row",
        "item-0098 was planned and is not in the manifest",
    )


@pytest.mark.parametrize("change", [{"etag": "x"}, {"size": 1}, {"uri": "s3://b"}, {"etag": None}])
def test_scores_of_other_bytes_than_the_manifests(night: Night, change: dict) -> None:
    """Changed, and neither looked at nor called stale."""
    night.manifest[5] = night.manifest[5] | change
    expected = ("item-0005 has scores of other bytes than the manifest names",)
    assert failing(night.audit()) == {"complete": expected}


def test_a_stale_item_is_accounted_for(night: Night) -> None:
    night.manifest[5] = night.manifest[5] | {"etag": "x"}
    night.delta.append(item(5, TONIGHT, "stale"))
    night.delta[-1] |= {"sha256": night.base[5]["sha256"]}
    found = night.audit()
    assert failing(found) == {}
    assert found.items["stale"] == 1
    assert found.settled == {"new": {"scored": 18, "failed": 2}, "changed": {"scored": 1}}


def test_quotes_around_an_etag_say_nothing(night: Night) -> None:
    night.manifest[5] = night.manifest[5] | {"etag": '"e5"', "size": None}
    assert failing(night.audit()) == {}


def test_a_doubled_item(night: Night) -> None:
    night.delta.append(night.delta[3])
    assert failing(night.audit()) == {"unique_items": (night.delta[3]["item_id"],)}


def test_a_doubled_item_in_the_manifest(night: Night) -> None:
    night.manifest.append(night.manifest[3])
    assert failing(night.audit())["unique_items"] == (night.manifest[3]["item_id"],)


def test_a_doubled_score(night: Night) -> None:
    night.delta_scores.append(night.delta_scores[3])
    row = night.delta_scores[3]
    assert failing(night.audit()) == {"unique_scores": (f"{row['sha256']} {row['task']}",)}


def test_a_missing_task(night: Night) -> None:
    lost = next(row for row in night.delta_scores if row["task"] == "aesthetics")
    night.delta_scores.remove(lost)
    name = next(row["item_id"] for row in night.delta if row["sha256"] == lost["sha256"])
    assert failing(night.audit()) == {"tasks": (f"{name} aesthetics",)}


def test_a_score_of_another_scorer_does_not_count(night: Night) -> None:
    night.base_scores[0]["fingerprint"] = "another"
    assert failing(night.audit()) == {"tasks": ("item-0000 quality",)}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "scored", "sha256": None},
        {"state": "failed", "failure_code": None},
        {"state": "lost"},
        {"state": None},
        {"state": "scored", "failure_code": "decode.truncated"},
    ],
)
def test_a_row_that_contradicts_itself(night: Night, change: dict) -> None:
    night.delta[0] |= change
    assert failing(night.audit())["states"] == (night.delta[0]["item_id"],)


def test_wrong_counts(night: Night) -> None:
    night.counts |= {"failed": 1}
    night.planned_counts |= {"new": 21}
    expected = ("new: 20 found, 21 planned", "failed: 2 found, 1 recorded")
    assert failing(night.audit()) == {"counts": expected}


def test_only_five_keys_are_named(night: Night) -> None:
    night.delta = [row for row in night.delta if row["state"] != "scored" or row["removed"]]
    check = next(check for check in night.audit().checks if check.name == "complete")
    assert check.figure == 19
    assert len(check.offending) == 5
    assert "19 found" in check.sentence


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"mean": float("nan")}, "finite"),
        ({"mean": None}, "finite"),
        ({"std": float("inf")}, "finite"),
        ({"entropy": None}, "finite"),
        ({"mass": float("nan")}, "finite"),
        ({"mass": 1.5}, "finite"),
        ({"probs": [0.2, 0.2, 0.2, 0.2, float("nan")]}, "finite"),
        ({"probs": [0.5, 0.5, 0.5, -0.5, 0.0]}, "finite"),
        ({"probs": [0.25, 0.25, 0.25, 0.25]}, "finite"),
        ({"probs": [0.25, 0.25, 0.25, 0.25, None]}, "finite"),
        ({"probs": None}, "finite"),
        ({"support": [1.0, 2.0, 3.0, 4.0, float("inf")]}, "finite"),
        ({"scale": None}, "finite"),
        ({"scale": [5.0, 1.0]}, "finite"),
        ({"probs": [0.2, 0.2, 0.2, 0.2, 0.2 + 2e-6], "mean": 3.0 + 1e-5}, "sums"),
        ({"mean": 5.1}, "means"),
        ({"mean": 0.9}, "means"),
        ({"mean": 4.9}, "means"),  # on the scale, and not its distribution's
    ],
)
def test_a_wrong_number(night: Night, change: dict, name: str) -> None:
    row = night.delta_scores[4]
    row |= change
    assert failing(night.audit())[name] == (f"{row['sha256']} {row['task']}",)


def test_a_sum_that_is_right_to_seven_digits(night: Night) -> None:
    night.delta_scores[4] |= {"probs": [0.2, 0.2, 0.2, 0.2, 0.2 + 5e-7], "mean": 3.0}
    assert failing(night.audit()) == {}


def test_a_point_has_no_distribution(night: Night) -> None:
    point = dict.fromkeys(("support", "probs", "std", "entropy", "mass"))
    night.delta_scores[4] |= point
    assert failing(night.audit()) == {}
    night.delta_scores[4]["mean"] = 5.5
    assert set(failing(night.audit())) == {"means"}


def test_two_scales_of_a_task(night: Night) -> None:
    night.delta_scores[4] |= {"scale": [1.0, 10.0]}
    assert set(failing(night.audit())) == {"means"}


# --- files and manifest -------------------------------------------------------------------------


def test_a_file_that_is_missing_and_one_that_was_changed(night: Night) -> None:
    snapshot = night.write()
    lost = Path(snapshot.layout.absolute(snapshot.record.scores[0][0].path))
    lost.unlink()
    other = Path(snapshot.layout.absolute(snapshot.record.items[1][1].path))
    pq.write_table(pq.read_table(other).slice(1), other)
    found = failing(audit(snapshot, night.plan(), AuditConfig(), SAME))
    assert len(found["files"]) == 2
    assert any(str(lost) in text for text in found["files"])
    assert any(str(other) in text for text in found["files"])
    assert {"tasks", "complete"} < set(found)


def test_a_record_that_counts_other_rows(night: Night) -> None:
    snapshot = night.write()
    files = snapshot.record.items[0]
    wrong = (files[0].model_copy(update={"rows": 99}), *files[1:])
    items = {**snapshot.record.items, 0: wrong}
    snapshot = Snapshot(snapshot.layout, snapshot.record.model_copy(update={"items": items}))
    found = failing(audit(snapshot, night.plan(), AuditConfig(), SAME))
    assert found == {"files": (f"{files[0].path} has {files[0].rows} rows, not 99",)}


def test_a_manifest_that_changed_since_it_was_planned(night: Night, tmp_path: Path) -> None:
    snapshot = night.write()
    path = tmp_path / "manifest.parquet"
    plan = night.plan()
    pq.write_table(pq.read_table(path), path, compression="none")
    found = failing(audit(snapshot, plan, AuditConfig(), SAME))
    assert set(found) == {"manifest"}
    assert str(path) in found["manifest"][0]


# --- judgements ---------------------------------------------------------------------------------


def test_too_many_failures(night: Night) -> None:
    config = AuditConfig(failed_minimum=21, max_failed=0.05)
    check = next(c for c in night.audit(config).checks if c.name == "failed")
    assert (check.ok, check.figure) == (False, pytest.approx(2 / 21))
    assert night.audit(AuditConfig(failed_minimum=22, max_failed=0.05)).refused == ()
    assert night.audit(AuditConfig(failed_minimum=21, max_failed=0.1)).refused == ()


def test_mass_below_the_floor(night: Night) -> None:
    for row in night.delta_scores:
        row["mass"] = 0.4 if row["task"] == "quality" else 0.8
    assert failing(night.audit()) == {"mass": ("quality: 0.400 is below 0.500",)}


def test_mass_that_falls_below_the_last_nights(night: Night) -> None:
    night.past_drift = {"histograms": [], "mass": {"quality": 0.99, "aesthetics": 0.99}}
    assert failing(night.audit()) == {}
    for row in night.delta_scores:
        row["mass"] = 0.85
    config = AuditConfig(max_mass_drop=0.1)
    assert set(failing(night.audit(config))) == {"mass"}
    assert failing(night.audit(AuditConfig(max_mass_drop=0.2))) == {}


def test_the_panel(night: Night) -> None:
    moved = PanelCheck(False, 0.03, 1e-4, "2-image, quality", "probabilities differ")
    assert failing(night.audit(panel=moved)) == {"panel": ("2-image, quality",)}
    assert night.audit(AuditConfig(panel_tolerance=0.05), moved).refused == ()
    none = PanelCheck(False, None, 1e-4, "", "this scorer has no golden panel")
    assert night.audit(AuditConfig(panel_tolerance=0.05), none).refused == ("panel",)


def test_drift_against_the_last_night(tmp_path: Path) -> None:
    """A night's own record is the next one's past: equal scores don't drift, moved ones do."""
    first = Night(tmp_path / "first").audit()
    config = AuditConfig(drift_minimum=15)
    second = Night(tmp_path / "second", past_drift=first.drift_record())
    found = second.audit(config)
    assert {(d.task, d.psi) for d in found.drift} == {("aesthetics", 0), ("quality", 0)}
    moved = Night(tmp_path / "moved", past_drift=first.drift_record())
    moved.delta_scores = scores_of(moved.delta, lambda _: 2.0)
    found = moved.audit(config)
    assert found.refused == ("drift",)
    assert all(" (all): PSI " in key for key in failing(found)["drift"][:2])


def test_another_scorers_nights_are_no_past(night: Night) -> None:
    night.past_drift = Night(night.folder).audit().drift_record()
    snapshot = night.write()
    path = Path(snapshot.layout.snapshot(RunId.parse(LAST)))
    path.write_bytes(path.read_bytes().replace(FINGERPRINT.encode(), b"0" * 16))
    found = audit(snapshot, night.plan(), AuditConfig(drift_minimum=1), SAME)
    assert found.drift == ()


# --- accepting ----------------------------------------------------------------------------------


def test_a_judgement_is_accepted_with_a_reason_that_is_kept(night: Night) -> None:
    for row in night.delta_scores:
        row["mass"] = 0.4
    config = AuditConfig(accept={"mass": "a new prompt", "drift": "nothing to accept"})
    found = night.audit(config)
    assert found.refused == ()
    kept = {check["name"]: check["accepted"] for check in found.as_record()["checks"]}
    assert kept["mass"] == "a new prompt"
    assert kept["drift"] is None  # it holds


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ({"complete": "never mind"}, "can't be accepted"),
        ({"masss": "x"}, "is no check"),
        ({"mass": "  "}, "needs a reason"),
    ],
)
def test_what_nobody_may_accept(accept: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AuditConfig(accept=accept)
