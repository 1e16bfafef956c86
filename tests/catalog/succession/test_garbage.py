"""Shadows' garbage: what a catalog's snapshots name stays, also of a shadow that is given up."""

import os
import time
from typing import Any

import pytest

from beholder.catalog.garbage import Garbage, GarbageConfig, find_garbage, remove_garbage
from beholder.catalog.head import roll_back
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import open_snapshot
from beholder.media.storage import list_files

NEW = "new" * 8
DATES = [f"2026-11-{day}" for day in (20, 21, 22, 23)]


def age(catalog: Any, hours: float = 100) -> None:
    then = time.time() - 3600 * hours
    for path in list_files(catalog.layout.root):
        os.utime(path, (then, then))


def collect(catalog: Any, **how: Any) -> Garbage:
    config = GarbageConfig(catalog=catalog.layout.root, **how)
    garbage = find_garbage(config)
    remove_garbage(config, garbage)
    return garbage


@pytest.fixture
def promoted(platform: Any) -> Any:
    """A catalog whose readers see what its shadow was."""
    made = platform()
    made.night(DATES[0], NEW)
    made.promote()
    return made


def rows(root: str) -> list[dict]:
    found = [row for table in open_snapshot(root).rows() for row in table.to_pylist()]
    return sorted(found, key=lambda row: row["item_id"])


def test_a_shadow_is_collected_with_its_catalog(platform: Any) -> None:
    made = platform()
    for date in DATES:
        made.upload(made.items)  # all change: each night writes new bases
        if date != DATES[0]:
            made.night(date)
        made.night(date, NEW)
    age(made)
    before, inside = rows(made.layout.root), rows(made.inside.root)
    collect(made, keep=1)
    assert (rows(made.layout.root), rows(made.inside.root)) == (before, inside)
    left = {path.removeprefix(f"{made.inside.root}/") for path in list_files(made.inside.root)}
    assert {path for path in left if path.startswith("snapshots/")} == {
        f"snapshots/{date}.0.json" for date in DATES[2:]
    }
    assert not any(f"/{DATES[0]}" in path for path in left)


def test_a_shadow_that_goes_on_keeps_what_a_promotion_named(promoted: Any) -> None:
    """Taken back, and the shadow has written all of its buckets anew since."""
    before = rows(promoted.layout.root)
    promoted_to = promoted.live.id
    roll_back(promoted.layout, None, "me")
    for date in DATES[1:]:
        promoted.upload(promoted.items)
        promoted.night(date, NEW)
    age(promoted)
    collect(promoted, keep=2)
    roll_back(promoted.layout, promoted_to, "me")
    assert rows(promoted.layout.root) == before


def test_an_abandoned_shadow_leaves_what_the_catalog_names(promoted: Any) -> None:
    promoted.upload(["00"])
    promoted.night(DATES[1], NEW)
    before = rows(promoted.layout.root)
    with pytest.raises(CatalogError, match=f"shadow {NEW} was written to 0.0 hours ago: take it"):
        collect(promoted, abandon=[NEW])
    age(promoted)
    collect(promoted, abandon=[NEW])
    assert rows(promoted.layout.root) == before
    inside = promoted.inside.root
    left = {path.removeprefix(f"{inside}/") for path in list_files(inside)}
    assert left and {path.split("/")[0] for path in left} == {"items", "scores"}
    for date in DATES[2:]:
        promoted.upload(promoted.items)
        promoted.night(date, NEW)
    age(promoted)
    collect(promoted, keep=1)
    assert rows(promoted.layout.root)
    assert not list_files(promoted.inside.root)


def test_a_shadow_that_nobody_promoted_goes_whole(platform: Any) -> None:
    made = platform()
    made.night(DATES[0], NEW)
    age(made)
    before = rows(made.layout.root)
    assert not any("shadows/" in path for path in collect(made).objects)
    collect(made, abandon=[NEW])
    assert not list_files(made.inside.root)
    assert rows(made.layout.root) == before
    with pytest.raises(CatalogError, match="has no shadow xyz to abandon, there is none"):
        collect(made, abandon=["xyz"])


def test_a_shadow_alone_is_not_collected(promoted: Any) -> None:
    said = f"is a shadow: collect the garbage of {promoted.layout.root}"
    with pytest.raises(CatalogError, match=said):
        find_garbage(GarbageConfig(catalog=promoted.inside.root))
