"""What is said of dates, parts, a damaged HEAD and items that are gone: no night is needed."""

from pathlib import Path

import pytest

from beholder.catalog.checks import AuditConfig
from beholder.catalog.config import NightlyConfig
from beholder.catalog.head import RESTORED, read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.record import CatalogError
from beholder.catalog.verdicts import removed_share
from beholder.config import ConfigError, validate_config
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


def test_a_damaged_head_says_what_to_write_and_that_works(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    Path(layout.head).write_text("2026-11-20.0")
    with pytest.raises(CatalogError, match=r"is damaged .*: write {.*} into it") as refusal:
        read_head(layout)
    assert RESTORED in str(refusal.value)
    Path(layout.head).write_text(RESTORED)
    head = read_head(layout)
    assert head is not None and head.snapshot == "2026-11-20.0"


def test_a_sample_may_be_said_in_percent() -> None:
    about = {"catalog": "/c", "manifest": "/m", "scorer": "/s", "logical_date": "2026-11-20"}
    assert validate_config(NightlyConfig, about | {"sample": "1%"}, "test").sample == 0.01
    for wrong, said in (
        ("one%", "'sample' is 'one%': no part: write it as 1% or 0.01"),
        ("200%", "less"),
    ):
        with pytest.raises(ConfigError, match=said):
            validate_config(NightlyConfig, about | {"sample": wrong}, "test")
