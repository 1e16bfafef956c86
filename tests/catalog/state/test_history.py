"""What a catalog says of one item, over its kept snapshots."""

import json

import pytest
from typer.testing import CliRunner

from beholder.catalog import history as module
from beholder.catalog.history import explain_item
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import open_snapshot
from beholder.catalog.state_files import read_file
from beholder.cli import app


@pytest.fixture
def catalog(nights, run_id):
    """Item ``a`` is scored, untouched for a night, changes, fails, and is removed; others stay."""
    made = nights(buckets=4)
    others = [f"i{number}" for number in range(60)]
    rows = [made.scored(i, run_id(0), f"{i}-bytes", 2.0) for i in ["a", *others]]
    made.night(run_id(0), rows)
    made.night(run_id(1), [made.failed("i3", run_id(1))])
    made.night(run_id(2), [made.scored("a", run_id(2), "other", 4.0)])
    made.night(run_id(3), [made.failed("a", run_id(3), state="stale", sha256="other")])
    return made


def test_an_item_its_scores_and_who_made_them(catalog, run_id) -> None:
    found = explain_item(catalog.layout.root, "a")
    assert (found.snapshot, found.fingerprint) == (run_id(3), "f1")
    assert found.item is not None
    assert (found.item["state"], found.item["attempts"]) == ("stale", 3)
    assert [(s["task"], s["mean"], s["run"]) for s in found.scores] == [
        ("aesthetics", 4.0, run_id(2)),
        ("quality", 5.0, run_id(2)),
    ]
    assert [(e.run, e.row["state"], e.seen_in) for e in found.history] == [
        (run_id(3), "stale", (run_id(3),)),
        (run_id(2), "scored", (run_id(2),)),
        (run_id(0), "scored", (run_id(1), run_id(0))),
    ]


def test_only_the_items_bucket_is_read(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(layout, file):
        read.append(file.path)
        return read_file(layout, file)

    monkeypatch.setattr(module, "read_file", counted)
    explain_item(catalog.layout.root, "a")
    files = open_snapshot(catalog.layout.root).record.items
    (bucket,) = {int(path.split("/")[1]) for path in read}
    assert sorted(read) == sorted(file.path for file in files[bucket])
    assert len(files[bucket]) >= 3


def test_a_removed_item_keeps_its_history(catalog, run_id) -> None:
    gone = catalog.known("a", run_id(4), "other", removed=True)
    catalog.night(run_id(4), [], settled=[gone])
    found = explain_item(catalog.layout.root, "a")
    assert (found.item, found.scores) == (None, [])
    catalog.night(run_id(5), [])
    found = explain_item(catalog.layout.root, "a")
    gone, *before = found.history
    assert (gone.run, gone.row, gone.seen_in) == (run_id(4), None, (run_id(5), run_id(4)))
    assert len(before) == 3
    assert (
        "removed"
        in CliRunner().invoke(app, ["explain", "a", "--catalog", catalog.layout.root]).output
    )


def test_an_unknown_item(catalog) -> None:
    with pytest.raises(CatalogError, match="has an item 'nobody': check its id"):
        explain_item(catalog.layout.root, "nobody")


def test_the_command(catalog, run_id) -> None:
    words = ["explain", "a", "--catalog", catalog.layout.root]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0, table.output
    for said in ("a: stale in", run_id(2), "fetch.timeout: late", "4.00"):
        assert said in table.output
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(answer.output)["history"][2]["run"] == run_id(0)
