"""Verdicts that need no snapshot."""

import pytest

from beholder.catalog.checks import AuditConfig
from beholder.catalog.layout import RunId
from beholder.catalog.verdicts import removed_share
from beholder.errors import UserError


@pytest.mark.parametrize(
    ("classes", "ok"),
    [
        ({"new": 500}, True),
        ({"removed": 200, "unchanged": 700, "changed": 100, "new": 5}, True),
        ({"removed": 201, "unchanged": 700, "changed": 50, "retried": 25, "stale": 24}, False),
        ({"removed": 99, "unchanged": 1}, True),  # too few to judge
        ({"removed": 3, "new": 3}, False),  # all: another manifest, or an empty one
        ({}, True),
    ],
)
def test_items_that_are_gone(classes: dict[str, int], ok: bool) -> None:
    check = removed_share(classes, AuditConfig())
    assert check.ok is ok, check.sentence


def test_the_sentence_counts() -> None:
    check = removed_share({"removed": 57, "unchanged": 0}, AuditConfig())
    assert check.sentence == "57 of 57 items are gone from the manifest (100.0%)"


@pytest.mark.parametrize("text", ["2026-13-45", "2026-02-29", "2026-1-2", "20261120", "night"])
def test_a_date_that_is_none_names_no_run(text: str) -> None:
    with pytest.raises(UserError, match=f"logical date '{text}' is none: write it as 2026-11-20"):
        RunId(text)
