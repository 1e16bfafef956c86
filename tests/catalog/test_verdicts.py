"""What is said of dates, parts, a damaged HEAD and items that are gone: no night is needed."""

from pathlib import Path

import pytest

from beholder.catalog.checks import AuditConfig
from beholder.catalog.config import NightlyConfig
from beholder.catalog.head import RESTORED, read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.record import CatalogError
from beholder.catalog.verdicts import removed_share
from beholder.config import ConfigError, load_config, validate_config
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


ABOUT = {"catalog": "/c", "manifest": "/m", "scorer": "/s", "logical_date": "2026-11-20"}


def test_a_sample_may_be_said_in_percent() -> None:
    assert validate_config(NightlyConfig, ABOUT | {"sample": "1%"}, "test").sample == 0.01


def test_a_webhook_is_http_and_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="webhook is no http:// or https:// URL") as refusal:
        validate_config(NightlyConfig, ABOUT | {"webhook": "ftp://secret@host/"}, "test")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("sample=one%", "'sample' is 'one%': no part: write it as 1% or 0.01"),
        ("sample=200%", "'sample' is 2.0: input should be less than or equal to 1"),
        ("logical_date=2026-13-45", "'logical_date' is '2026-13-45': no date: write it as 2026"),
        ("allowed_places=s3://b", r"'allowed_places' is 's3://b': write a list, as \[a, b\]"),
        ("audit.accept.files=why", "'audit.accept': 'files' proves that nothing was lost"),
    ],
)
def test_a_wrong_value_is_said_with_its_remedy(said: str, answer: str) -> None:
    given = [f"{key}={value}" for key, value in ABOUT.items()]
    with pytest.raises(ConfigError, match=f"--set: {answer}"):
        load_config(NightlyConfig, None, [*given, said])
