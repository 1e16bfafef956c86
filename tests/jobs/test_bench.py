"""``make bench``: what it takes as a promise, and that a night of its catalog is a whole one."""

import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def bench(project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(project / "tests")
    return import_module("bench")


def test_a_row_holds_its_bar(bench: ModuleType) -> None:
    assert bench.Row("told", 3.0, "s").ok
    assert bench.Row("least", 0.8, "", ">= 0.8").ok
    assert not bench.Row("least", 0.79, "", ">= 0.8").ok
    assert not bench.Row("most", 6.1, "GiB", "<= 6").ok
    assert not bench.Row("none", math.nan, "", ">= 0").ok
    row = bench.median_row("some", [3.0, 1.0, 2.0], "s", "<= 2")
    assert (row.value, row.note, row.ok) == (2.0, "1 to 3, n=3", True)


def test_two_nights_are_published_and_every_stage_is_measured(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = import_module("bench.catalog")
    monkeypatch.setattr(catalog, "ROWS_A_BUCKET", 1000)
    for night in catalog.NIGHTS:
        catalog.begin(tmp_path, 2000, night)
        costs = catalog.run(tmp_path, 2000, night)  # which checks what was published
        assert list(costs) == ["plan", "write", "audit", "publish"]
        assert all(cost.seconds > 0 and cost.peak > 2**26 for cost in costs.values())


def test_an_unknown_bench_is_refused_by_name(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "jobs/bench.py", "speed"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "'speed' is no bench: name one of catalog, " in done.stderr
