"""A shadow takes the catalog's place whole: coverage, crashes, later nights, and the way back."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from beholder.catalog import current_scorer, head
from beholder.catalog import promotion as module
from beholder.catalog.config import NightlyConfig
from beholder.catalog.current_scorer import read_current, settle_current, with_current_scorer
from beholder.catalog.head import NotPublishedError, publish, read_head, roll_back
from beholder.catalog.history import explain_item
from beholder.catalog.plan import PlanError
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import open_snapshot
from beholder.errors import UserError
from beholder.evaluation import CalibrationMap
from beholder.local_stack import ObjectStore
from beholder.media.storage import read_bytes

OLD, NEW = "old" * 8, "new" * 8
FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"

Catalog = Callable[..., Any]


@pytest.fixture(params=["disk", "S3"])
def filled(request: pytest.FixtureRequest, platform: Catalog, tmp_path: Any) -> Any:
    """A catalog of 40 items whose shadow has all of them, in two nights."""
    root = None
    if request.param == "S3":
        store: ObjectStore = request.getfixturevalue("s3")
        root = f"s3://{store.bucket}/succession/{tmp_path.name}"
    made = platform(root)
    made.night(FIRST, NEW, limit=30)
    made.night(SECOND, NEW)
    return made


@pytest.fixture
def on_disk(platform: Catalog) -> Any:
    made = platform()
    made.night(FIRST, NEW)
    return made


def test_readers_see_one_scorer_then_the_other(filled: Any) -> None:
    layout = filled.layout
    before, pinned = filled.seen(), open_snapshot(layout.root)
    assert before == filled.expected(OLD)
    outcome = filled.promote()
    assert (outcome.name, outcome.exit_code, outcome.snapshot) == ("promoted", 0, f"{FIRST}.1")
    assert filled.seen() == filled.expected(NEW)
    now = open_snapshot(layout.root)
    assert (now.record.parent, now.record.fingerprint) == (f"{FIRST}.0", NEW)
    assert now.record.scorer == f"s3://runs/{NEW}"
    answer = now.connect().sql("select count(*), min(fingerprint), max(fingerprint) from scores")
    assert answer.fetchall() == [(40, NEW, NEW)]
    assert sum(table.num_rows for table in pinned.rows()) == 40

    current = read_current(layout)
    assert current is not None
    assert (current.fingerprint, current.before, current.snapshot) == (NEW, OLD, f"{FIRST}.1")
    assert current.calibration == f"promotions/{FIRST}.1/calibration.json"
    maps = json.loads(read_bytes(layout.absolute(current.calibration)))
    assert (maps["old"]["fingerprint"], maps["new"]["fingerprint"]) == (OLD, NEW)
    to_new = CalibrationMap(**maps["tasks"]["quality"])
    assert to_new(2.5) == pytest.approx(3.1, abs=0.1)  # .5 and on the average .1 more
    assert outcome.report is not None
    page = read_bytes(outcome.report).decode()
    assert "40 of 40 items" in page and "| SRCC [95%] |" in page and "REFUSED" not in page

    again = filled.promote()
    assert (again.name, again.exit_code, again.snapshot) == ("standing", 0, f"{FIRST}.1")


def test_nights_go_on_after_it(on_disk: Any) -> None:
    on_disk.promote()
    on_disk.upload(["00", "40", "41"])
    del on_disk.items["07"]
    snapshot = on_disk.night(SECOND, NEW)
    counts = snapshot.record.counts
    assert {n: counts[n] for n in ("new", "changed", "unchanged", "removed")} == {
        "new": 2,
        "changed": 1,
        "unchanged": 38,
        "removed": 1,
    }
    assert on_disk.seen() == on_disk.expected(NEW)
    paths = [file.path for files in snapshot.record.items.values() for file in files]
    assert {path.split("/")[0] for path in paths} == {"shadows", "items"}
    history = explain_item(on_disk.layout.root, "01").history
    assert [(e.fingerprint, e.seen_in) for e in history] == [
        (NEW, (f"{SECOND}.0", f"{FIRST}.1")),
        (OLD, (f"{FIRST}.0",)),
    ]
    with pytest.raises(PlanError, match=f"has fingerprint {OLD}, but readers of .* see .* {NEW}"):
        on_disk.night(THIRD, OLD)


def test_what_the_shadow_lacks_is_said_left_out_and_scored_next_night(platform: Catalog) -> None:
    made = platform()
    made.failing = {("01", NEW), ("02", OLD)}
    made.upload(["02"])  # its new bytes are not to be had for the old scorer
    made.night(SECOND)
    del made.items["03"]
    made.upload(["late"])
    made.night(SECOND, NEW)  # has not 03, and has already what the catalog has not
    made.items |= {"03": 0}
    del made.items["late"]
    made.upload(["04"])
    made.night(THIRD)
    refused = made.promote()
    assert (refused.name, refused.exit_code, refused.snapshot) == ("refused", 3, f"{THIRD}.0")
    coverage = json.loads(read_bytes(f"{made.layout.root}/promotions/{THIRD}.1/report.json"))
    coverage = coverage["coverage"]
    assert (coverage["items"], coverage["covered"]) == (39, 36)  # 02 has none to see
    assert coverage["lacking"] == {"failed": 1, "not looked at": 1, "other bytes": 1}
    assert sorted(coverage["examples"]) == ["01", "03", "04"]
    assert (coverage["left_out"], coverage["outdated"], coverage["foreign"]) == (1, 1, 1)
    assert "the shadow has 92.31% of the items that readers see scores of, 99.00%" in "".join(
        refused.refused
    )
    assert made.live.fingerprint == OLD and read_current(made.layout).fingerprint == OLD

    assert made.promote(min_coverage=0.9).name == "promoted"
    seen = made.seen()
    assert set(seen) == set(made.items) - {"03"}
    assert seen["01"] == ("failed", None)
    assert seen["04"][0] == "stale" and seen["02"][0] == "scored"
    assert made.live.counts == {"stale": 1, "left_out": 1}
    made.failing = set()
    counts = made.night("2026-11-23", NEW).record.counts
    assert (counts["new"], counts["changed"], counts["unchanged"]) == (1, 1, 38)
    assert made.seen() == made.expected(NEW) | {"01": ("failed", None)}  # 404 is not tried again


def test_it_is_refused_by_the_scores_and_by_the_tasks(on_disk: Any, monkeypatch: Any) -> None:
    near = {"min_items": 41, "max_shift": 0.1, "max_churn": 1.0, "min_srcc": 0.999}
    refused = on_disk.promote(succession=near)
    said = "\n".join(refused.refused)
    assert "40 items have scores of both, 41 are asked for" in said
    assert "SRCC between the scorers is 0.9" in said and "of the scale, 10% may" in said
    tasks = {"image": ("aesthetics", "quality"), "video": ()}
    snapshot = open_snapshot(on_disk.layout.root)
    wider = snapshot.record.model_copy(update={"id": f"{SECOND}.0", "parent": f"{FIRST}.0"})
    publish(on_disk.layout, wider.model_copy(update={"tasks": tasks}), "a test")
    assert on_disk.promote().refused == ("the new scorer lacks aesthetics of image",)


def test_what_does_not_fit_is_said_at_the_door(platform: Catalog) -> None:
    made = platform()
    with pytest.raises(CatalogError, match=f"has no shadow of fingerprint {NEW}: set shadow.sco"):
        made.promote()
    made.night(FIRST, NEW, buckets=5)
    with pytest.raises(CatalogError, match="has 5 buckets and the catalog 3"):
        made.promote()
    made.layout = type(made.layout)(f"{made.layout.root}-none")
    with pytest.raises(CatalogError, match="has no published snapshot"):
        made.promote()


class Dead(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("room", "name"),
    [
        *((module, "write_promotion"), (module, "prepare"), (head, "create"), (head, "_advance")),
        *((head, "replace"), (module, "settle_current"), (current_scorer, "replace")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.rpartition(".")[2],
)
def test_a_promotion_that_died_goes_on(
    on_disk: Any, monkeypatch: pytest.MonkeyPatch, room: Any, name: str
) -> None:
    """Readers see the one or the other, whole; the same command ends it."""

    def die(*_: object) -> None:
        raise Dead

    with monkeypatch.context() as patch, pytest.raises(Dead):
        patch.setattr(room, name, die)
        on_disk.promote()
    moved = (room, name) in ((module, "settle_current"), (current_scorer, "replace"))
    assert on_disk.seen() == on_disk.expected(NEW if moved else OLD)
    assert read_current(on_disk.layout).fingerprint == OLD
    outcome = on_disk.promote()
    assert (outcome.name, outcome.snapshot) == ("standing" if moved else "promoted", f"{FIRST}.1")
    assert on_disk.seen() == on_disk.expected(NEW)
    assert read_current(on_disk.layout).fingerprint == NEW


def test_a_night_in_between_wins_or_is_refused(on_disk: Any, monkeypatch: Any) -> None:
    """A night is published while a promotion is prepared: nobody's work is lost unsaid."""
    prepared = module.prepare

    def late(*given: Any) -> Any:
        record = prepared(*given)
        on_disk.night(SECOND)
        return record

    with monkeypatch.context() as patch, pytest.raises(NotPublishedError, match=f"{SECOND}.0"):
        patch.setattr(module, "prepare", late)
        on_disk.promote()
    assert on_disk.live.id == f"{SECOND}.0" and on_disk.seen() == on_disk.expected(OLD)
    assert on_disk.promote().snapshot == f"{SECOND}.1"
    assert on_disk.seen() == on_disk.expected(NEW)


def test_a_promotion_is_taken_back_and_made_again(on_disk: Any) -> None:
    on_disk.promote()
    on_disk.upload(["40"])
    on_disk.night(SECOND, NEW)
    roll_back(on_disk.layout, f"{FIRST}.0", "me", "too lenient")
    current = settle_current(on_disk.layout)
    assert (current.fingerprint, current.before, current.by) == (OLD, NEW, "me")
    assert (current.snapshot, current.calibration) == (f"{FIRST}.0", None)
    on_disk.night(THIRD)  # the old scorer's nights go on
    assert on_disk.seen() == on_disk.expected(OLD)
    on_disk.night(THIRD, NEW)  # and the shadow's
    assert on_disk.promote().snapshot == f"{THIRD}.1"
    assert on_disk.seen() == on_disk.expected(NEW)
    roll_back(on_disk.layout, None, "me")
    assert on_disk.promote().snapshot == f"{THIRD}.2"  # one that was taken back stays back


def test_current_is_what_readers_see(on_disk: Any) -> None:
    config = NightlyConfig(
        catalog=on_disk.layout.root,
        manifest=on_disk.manifest,
        scorer="current",
        logical_date=SECOND,
    )
    assert with_current_scorer(config).scorer == f"s3://runs/{OLD}"
    since = read_current(on_disk.layout).since
    on_disk.promote()
    assert with_current_scorer(config).scorer == f"s3://runs/{NEW}"
    assert read_current(on_disk.layout).since > since
    roll_back(on_disk.layout, None, "me")  # and its process died before it said so
    assert with_current_scorer(config).scorer == f"s3://runs/{OLD}"
    empty = config.model_copy(update={"catalog": f"{on_disk.layout.root}-none"})
    with pytest.raises(UserError, match="has no current scorer before its first night"):
        with_current_scorer(empty)
    other = config.model_copy(update={"scorer": "elsewhere"})
    assert with_current_scorer(other) == other


def test_head_that_moves_while_current_is_settled(on_disk: Any, monkeypatch: Any) -> None:
    """A rollback that found the old scorer still in its place must not be overwritten."""
    on_disk.promote()
    promoted = read_head(on_disk.layout).snapshot
    roll_back(on_disk.layout, None, "me")
    settle_current(on_disk.layout)
    roll_back(on_disk.layout, promoted, "me")
    write = current_scorer._write

    def late(*given: Any) -> None:
        monkeypatch.setattr(current_scorer, "_write", write)
        roll_back(on_disk.layout, None, "the other")
        assert settle_current(on_disk.layout).fingerprint == OLD
        write(*given)

    monkeypatch.setattr(current_scorer, "_write", late)
    assert settle_current(on_disk.layout).fingerprint == OLD
    assert read_current(on_disk.layout).fingerprint == OLD == on_disk.live.fingerprint


def test_drift_is_that_of_one_scorer(filled: Any) -> None:
    """The next night is compared with the shadow's nights, not with the old scorer's."""
    assert filled.promote().name == "promoted"
    drift = filled.live.drift
    assert drift["mass"] == {"quality": pytest.approx(0.9, abs=1e-3)}
    (histogram,) = (one for one in drift["histograms"] if one["segment"] == "(all)")
    assert sum(histogram["counts"]) == 40  # of two nights, 30 and 10
    means = [score for _, score in filled.expected(NEW).values()]
    assert histogram["counts"] == np.histogram(means, 20, (1, 5))[0].tolist()
    filled.upload(["40"])
    record = filled.night(SECOND, NEW).record
    (night,) = (one for one in record.drift["histograms"] if one["segment"] == "(all)")
    assert sum(night["counts"]) == 1
