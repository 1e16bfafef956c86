"""Publications and rollbacks: one writer wins, nothing partial is seen, nothing comes back."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from beholder.catalog import head as module
from beholder.catalog.current_scorer import settle_current
from beholder.catalog.erase import EraseConfig, erase
from beholder.catalog.garbage import GarbageConfig, find_garbage
from beholder.catalog.head import (
    RESTORED,
    NotPublishedError,
    finish,
    publish,
    read_head,
    roll_back,
)
from beholder.catalog.layout import RunId
from beholder.catalog.nightly import current
from beholder.catalog.receipts import KEY
from beholder.catalog.record import CatalogError, DamagedError
from beholder.catalog.snapshot import open_snapshot
from beholder.media.conditional import WriteConflictError


@pytest.fixture
def catalog(nights, run_id):
    """A catalog of one night with one item."""
    made = nights()
    made.night(run_id(0), [made.scored("a", run_id(0), "aa", 1.0)])
    return made


def _seen(catalog) -> str:
    return open_snapshot(catalog.layout.root).record.id


def _next(catalog, run: str, **how):
    return catalog.prepare(run, [catalog.scored("b", run, "bb", 2.0)], **how)


def test_a_catalog_without_a_publication_says_so(nights) -> None:
    with pytest.raises(CatalogError, match="has no published snapshot: check the URI"):
        open_snapshot(nights().layout.root)
    with pytest.raises(CatalogError, match="there is nothing to roll back"):
        roll_back(nights().layout, None, "me")


def test_a_head_that_is_gone_is_no_new_catalog(
    catalog, run_id, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a first night whose driver died before HEAD may have recorded a snapshot by then."""
    monkeypatch.setenv(KEY, "k" * 32)
    catalog.night(run_id(1), [])
    layout, root = catalog.layout, catalog.layout.root
    Path(layout.head).unlink()
    asked = [
        lambda: open_snapshot(root),
        lambda: current(layout),
        lambda: current(layout, RunId.parse(run_id(1))),
        lambda: roll_back(layout, None, "me"),
        lambda: erase(EraseConfig(catalog=root)),
        lambda: find_garbage(GarbageConfig(catalog=root)),
    ]
    for ask in asked:
        with pytest.raises(DamagedError, match=r"HEAD is gone, though .* write {.*} into it"):
            ask()
    Path(layout.snapshot(RunId.parse(run_id(0)))).unlink()
    assert current(layout, RunId.parse(run_id(1))) is None
    Path(layout.head).write_text(RESTORED.replace("2026-11-20.0", run_id(1)))
    assert _seen(catalog) == run_id(1)


def test_a_head_that_names_nothing_says_what_to_type(catalog, run_id) -> None:
    catalog.night(run_id(1), [])
    layout, root = catalog.layout, catalog.layout.root
    Path(layout.snapshot(RunId.parse(run_id(1)))).unlink()
    for ask in (
        lambda: open_snapshot(root),
        lambda: roll_back(layout, None, "me"),
        lambda: find_garbage(GarbageConfig(catalog=root)),
        lambda: settle_current(layout),
    ):
        with pytest.raises(DamagedError, match=f"HEAD names {run_id(1)}, which .*rollback.py"):
            ask()
    roll_back(layout, run_id(0), "me")
    assert _seen(catalog) == run_id(0)


def test_readers_see_the_old_snapshot_until_head_moves(catalog, contents, run_id) -> None:
    pinned = open_snapshot(catalog.layout.root)
    before = contents(pinned)
    record = _next(catalog, run_id(1))
    assert contents(open_snapshot(catalog.layout.root)) == before
    publish(catalog.layout, record, "driver 7")
    assert contents(pinned) == before
    head = read_head(catalog.layout)
    assert head is not None
    assert (head.snapshot, head.reason, head.by) == (run_id(1), "published", "driver 7")
    assert [row["item_id"] for row in contents(open_snapshot(catalog.layout.root))[0]] == ["a", "b"]


@pytest.mark.parametrize("same_name", [True, False])
def test_of_two_publishers_one_wins(catalog, run_id, same_name: bool) -> None:
    names = [run_id(1), run_id(1) if same_name else run_id(2)]
    records = [_next(catalog, name) for name in names]

    def attempt(number: int) -> str | None:
        try:
            publish(catalog.layout, records[number], f"driver {number}")
        except NotPublishedError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(attempt, range(2)))
    assert said.count(None) == 1
    won = said.index(None)
    assert open_snapshot(catalog.layout.root).record == records[won]
    lost = said[1 - won]
    assert lost is not None
    assert ("another driver of" if same_name else names[1 - won]) in lost


def test_head_moved_between_reading_and_writing(catalog, run_id, monkeypatch) -> None:
    """The other publisher comes after we have found HEAD to be our parent's."""
    ours, theirs = _next(catalog, run_id(1)), _next(catalog, run_id(2))
    replace = module.replace

    def late(uri: str, data: bytes, version: str) -> str:
        monkeypatch.setattr(module, "replace", replace)
        publish(catalog.layout, theirs, "the other")
        return replace(uri, data, version)

    monkeypatch.setattr(module, "replace", late)
    said = f"{run_id(1)} is not published: the other moved HEAD to {run_id(2)}"
    with pytest.raises(NotPublishedError, match=said):
        publish(catalog.layout, ours, "we")
    assert _seen(catalog) == run_id(2)


class Dead(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("dies_before", ["create", "replace"])
def test_a_publication_that_died_is_finished(
    catalog, contents, run_id, monkeypatch, dies_before: str
) -> None:
    """Before its record it is as if it had not been; after it, the record is taken as it is."""
    record = _next(catalog, run_id(1))

    def die(*_: object) -> str:
        raise Dead

    with monkeypatch.context() as patch, contextlib.suppress(Dead):
        patch.setattr(module, dies_before, die)
        publish(catalog.layout, record, "first try")
    assert _seen(catalog) == run_id(0)
    found = finish(catalog.layout, RunId.parse(run_id(1)), "second try")
    if dies_before == "create":
        assert found is None
        record = _next(catalog, run_id(1))
        publish(catalog.layout, record, "second try")
    else:
        assert found == record
    assert open_snapshot(catalog.layout.root).record == record
    assert finish(catalog.layout, RunId.parse(run_id(1)), "third try") == record
    head = read_head(catalog.layout)
    assert head is not None
    assert head.by == "second try"
    _ = contents(open_snapshot(catalog.layout.root))


def test_the_same_publication_again_changes_nothing(catalog, run_id) -> None:
    record = _next(catalog, run_id(1))
    publish(catalog.layout, record, "we")
    head = read_head(catalog.layout)
    publish(catalog.layout, record, "we, again")
    assert read_head(catalog.layout) == head
    catalog.night(run_id(2), [])
    assert finish(catalog.layout, RunId.parse(run_id(1)), "we") == record
    assert _seen(catalog) == run_id(2)


def test_a_snapshot_of_another_parent_is_refused(catalog, run_id) -> None:
    record = _next(catalog, run_id(2))
    catalog.night(run_id(1), [])
    with pytest.raises(NotPublishedError, match=f"made from {run_id(0)}, but HEAD names"):
        publish(catalog.layout, record, "late")
    with pytest.raises(NotPublishedError, match="run the next date"):
        finish(catalog.layout, RunId.parse(run_id(2)), "late")


def test_rollback_goes_to_the_parent_and_stays(catalog, contents, run_id) -> None:
    before = contents(open_snapshot(catalog.layout.root))
    record = _next(catalog, run_id(1))
    publish(catalog.layout, record, "driver")
    head = roll_back(catalog.layout, None, "a person", "the new scorer is wrong")
    assert head == read_head(catalog.layout)
    assert (head.snapshot, head.reason) == (run_id(0), "the new scorer is wrong")
    assert contents(open_snapshot(catalog.layout.root)) == before
    with pytest.raises(NotPublishedError, match=r"was rolled back.*--set to=" + run_id(1)):
        finish(catalog.layout, RunId.parse(run_id(1)), "driver")
    assert catalog.night(run_id(2), []).record.parent == run_id(0)
    with pytest.raises(NotPublishedError, match="was rolled back"):
        finish(catalog.layout, RunId.parse(run_id(1)), "driver")


def test_rollback_by_name_back_and_forth(catalog, run_id) -> None:
    for night in (1, 2, 3):
        catalog.night(run_id(night), [])
    assert roll_back(catalog.layout, run_id(1), "me").withdrawn == (run_id(2), run_id(3))
    assert roll_back(catalog.layout, run_id(2), "me").withdrawn == (run_id(3),)
    assert roll_back(catalog.layout, run_id(3), "me").withdrawn == ()
    assert finish(catalog.layout, RunId.parse(run_id(3)), "me") is not None
    with pytest.raises(CatalogError, match=r"has no snapshot 2025-01-01\.0"):
        roll_back(catalog.layout, "2025-01-01.0", "me")
    assert _seen(catalog) == run_id(3)


def test_the_first_snapshot_has_nothing_before_it(catalog, run_id) -> None:
    with pytest.raises(CatalogError, match=f"{run_id(0)} is the first snapshot"):
        roll_back(catalog.layout, None, "me")


def test_a_rollback_doesnt_undo_what_came_meanwhile(catalog, run_id, monkeypatch) -> None:
    catalog.night(run_id(1), [])
    replace = module.replace

    def late(uri: str, data: bytes, version: str) -> str:
        monkeypatch.setattr(module, "replace", replace)
        catalog.night(run_id(2), [])
        return replace(uri, data, version)

    monkeypatch.setattr(module, "replace", late)
    with pytest.raises(WriteConflictError, match="another writer was first"):
        roll_back(catalog.layout, None, "me")
    assert _seen(catalog) == run_id(2)
