"""``make bench``: what the project promises, measured; prints a table, writes build/bench.json.

``python jobs/bench.py catalog pipeline`` runs some of the benches in ``tests/bench/``, by name;
without names all of them. Each is a process of its own, one after another. Exits with 1 if a bar
is missed or a bench fails.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    str(ROOT / "tests"),
    str(ROOT / "platform"),
]  # before jobs/: this file, too, is `bench`
os.environ["OMP_NUM_THREADS"] = "1"

import psutil
from rich.console import Console
from rich.table import Table

from beholder.config import run_job
from bench import BUILD, Row

LIBRARIES = ("torch", "numpy", "pyarrow", "duckdb", "ray", "pillow")


def main(argv: list[str]) -> int:
    """Runs benches; exits with 1 if a bar is missed."""
    there = sorted(path.stem for path in (ROOT / "tests/bench").glob("[!_]*.py"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=", ".join(there))
    asked = parser.parse_args(argv).benches or there
    if unknown := sorted(set(asked) - set(there)):
        parser.error(f"'{unknown[0]}' is no bench: name one of {', '.join(there)}")
    BUILD.mkdir(exist_ok=True)
    found = [(name, row) for name in asked for row in measured(name)]
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{n: version(n) for n in LIBRARIES}},
        "rows": [{"bench": name, **row._asdict(), "ok": row.ok} for name, row in found],
    }
    (BUILD / "bench.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    show(found, record)
    return 0 if all(row.ok for _, row in found) else 1


def measured(name: str) -> list[Row]:
    """A bench's rows, from a process of its own; one that fails is a row that misses its bar."""
    print(f"bench {name}", file=sys.stderr, flush=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        try:
            return alone.submit(rows_of, name).result()
        except Exception as error:  # The others are still worth their time.
            return [Row("failed", float("nan"), "", ">= 0", f"{type(error).__name__}: {error}")]


def rows_of(name: str) -> list[Row]:
    """Runs a bench here."""
    return [Row(*row) for row in importlib.import_module(f"bench.{name}").rows()]


def commit() -> str:
    """Of the source, with a plus sign where files differ from it; empty outside of a checkout."""
    asked = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty=+",
        "--exclude=*",
    ]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def machine() -> dict[str, Any]:
    """What it ran on."""
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def show(found: list[tuple[str, Row]], record: dict[str, Any]) -> None:
    """The table."""
    about = record["machine"]
    title = (
        f"{record['commit']} on {about['cores']} cores of {about['cpu']}, {about['memory_gib']} GiB"
    )
    table = Table("bench", "name", "measured", "bar", "ok", "note", title=title)
    for bench, row in found:
        ok = "" if not row.bar else "yes" if row.ok else "NO"
        table.add_row(bench, row.name, f"{row.value:.4g} {row.unit}", row.bar, ok, row.note)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    run_job(main)
