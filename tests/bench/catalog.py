"""Two nights of a catalog, all but the engine: what plan, write, audit and publish take.

The engine is replaced by a constant; everything else is :func:`beholder.catalog.nightly.run_night`
on a disk. The first night looks at every item, the second at three in a hundred: of these one is
new, one has other bytes, and one more is gone from the manifest. A night is a process of its own.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import duckdb
import pyarrow as pa

from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.catalog import nightly
from beholder.catalog.chunks import Chunk
from beholder.catalog.config import NightlyConfig
from beholder.catalog.lease import Lease
from beholder.catalog.ledger import Commit, commit
from beholder.catalog.scoring_pass import Assignment, Crew, read_planned
from beholder.catalog.tables import CHUNK
from beholder.readouts import LevelReadout
from beholder.scoring import PanelCheck, Scorer, TaskSpec
from bench import Row

T = TypeVar("T")

SMALL, LARGE = 500_000, 5_000_000
ROWS_A_BUCKET = 62_500
"""Buckets are scaled with the catalog: 8 and 80."""
FILE_ROWS = 250_000
FIRST = "all new"
NIGHTS = {FIRST: "2026-11-20", "3% changed": "2026-11-21"}
STAGES = {"plan": "make_plan", "write": "_prepared", "audit": "audit", "publish": "publish"}
"""Their functions in :mod:`beholder.catalog.nightly`."""
GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """What a stage took.

    Attributes:
        seconds: by the clock.
        cpu: seconds of all threads.
        peak: largest resident memory while it ran, bytes.
    """

    seconds: float
    cpu: float
    peak: int


def rows() -> list[Row]:
    """Both nights at both sizes: seconds a million and peak memory, and how these scale."""
    found = {}
    for size in (SMALL, LARGE):
        with tempfile.TemporaryDirectory(prefix="beholder-bench-") as folder:
            for night in NIGHTS:
                alone(begin, Path(folder), size, night)
                found[night, size] = alone(run, Path(folder), size, night)
    return [
        row for night in NIGHTS for row in _scaling(night, found[night, SMALL], found[night, LARGE])
    ]


def _scaling(night: str, few: Mapping[str, Cost], many: Mapping[str, Cost]) -> list[Row]:
    told = []
    for size, costs in ((SMALL, few), (LARGE, many)):
        millions, most = size / 1e6, max(costs.values(), key=lambda cost: cost.peak)
        seconds = sum(cost.seconds for cost in costs.values())
        stages = ", ".join(f"{stage} {c.seconds / millions:.1f}" for stage, c in costs.items())
        cpu = sum(cost.cpu for cost in costs.values())
        stages += f"; CPU {cpu / millions:.1f}"
        peaks = ", ".join(f"{stage} {c.peak / GIB:.2f}" for stage, c in costs.items())
        told += [
            Row(f"{night}, {millions:g} M: time", seconds / millions, "s a million", note=stages),
            Row(f"{night}, {millions:g} M: peak memory", most.peak / GIB, "GiB", "<= 6", peaks),
        ]
    for what, small, large in (
        ("time a million", told[0], told[2]),
        ("peak memory", told[1], told[3]),
    ):
        told.append(
            Row(f"{night}: {what}, 5 M by 0.5 M", _apart(small.value, large.value), "", "<= 1.2")
        )
    return told


def alone(function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def _apart(a: float, b: float) -> float:
    """The larger by the smaller."""
    return max(a, b) / min(a, b)


def begin(folder: Path, size: int, night: str) -> None:
    """What a night starts from: a scorer, which is never asked, and the manifest."""
    if night == FIRST:
        save_scorer(folder / "scorer")
    write_manifest(folder / night, size, night == FIRST)


def run(folder: Path, size: int, night: str) -> dict[str, Cost]:
    """One night in this process; what each stage took.

    Args:
        folder: the catalog's, as :func:`begin` filled it.
        size: rows of the first night's manifest.
        night: one of ``NIGHTS``.
    """
    config = NightlyConfig(
        catalog=str(folder / "catalog"),
        manifest=str(folder / night),
        scorer=str(folder / "scorer"),
        logical_date=NIGHTS[night],
        buckets=max(1, size // ROWS_A_BUCKET),
    )
    costs: dict[str, Cost] = {}
    with patch.multiple(
        nightly,
        connect=lambda: None,
        score_chunks=constant_engine,
        _panel=lambda config: PanelCheck(True, 0.0, 0.0, "", "the engine is a constant"),
        **{name: measured(getattr(nightly, name), stage, costs) for stage, name in STAGES.items()},
    ):
        outcome = nightly.run_night(config)
    assert outcome.name == "published", nightly.say(outcome)
    assert outcome.record.counts["scored"] == (size if night == FIRST else size // 100 * 2)
    return costs


def measured(
    function: Callable[..., Any], stage: str, costs: dict[str, Cost]
) -> Callable[..., Any]:
    """The function, whose cost is noted."""

    def noted(*arguments: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
        began, cpu = time.perf_counter(), time.process_time()
        found = function(*arguments)
        costs[stage] = Cost(time.perf_counter() - began, time.process_time() - cpu, peak())
        return found

    return noted


def peak() -> int:
    """Largest resident memory of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


# --- what a night starts from -------------------------------------------------------------------


def save_scorer(folder: Path) -> None:
    """A pocket scorer of one task; it is never asked."""
    backbone = Pocket(PocketConfig(image_size=96, hidden_size=32, heads=2), default_tokenizer())
    tasks = {"quality": TaskSpec(kinds=("image", "video"), scale=(1, 5))}
    Scorer(backbone, LevelReadout(), tasks, "brief").save(folder)


def write_manifest(folder: Path, size: int, first: bool) -> None:
    """A folder of Parquet files: on the second night 1% are gone, 1% changed and 1% new."""
    folder.mkdir()
    hundredth = size // 100
    start, end = (0, size) if first else (hundredth, size + hundredth)
    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as connection:
        for number, at in enumerate(range(start, end, FILE_ROWS)):
            changed = f"case when i < {2 * hundredth} then 'b' else 'a' end" if not first else "'a'"
            connection.execute(f"""
                copy (
                    select printf('item-%09d', i) as item_id,
                        printf('s3://uploads/%02x/%s.jpg', i % 256, md5(i::varchar)) as uri,
                        'image' as kind, 'user-' || (i % 9973) as owner,
                        'segment-' || (i % 20) as segment,
                        make_timestamptz(1700000000000000 + 31000000 * (i * 7919 % {size}))
                            as created_at,
                        md5(i || {changed}) as etag, 100000 + i % 900000 as size
                    from range({at}, {min(at + FILE_ROWS, end)}) t(i)
                ) to '{folder}/part-{number:04d}.parquet' (format parquet, row_group_size 65536)
            """)


def constant_engine(
    chunks: Iterable[Chunk], assignment: Assignment, crew: Crew, lease: Lease, until: float | None
) -> dict[int, Commit]:
    """As :func:`beholder.catalog.scoring_pass.score_chunks`, without looking at anything."""
    done = {}
    for chunk in chunks:
        table = constant_rows(read_planned(assignment.layout, chunk), str(assignment.run))
        done[chunk.number] = commit(
            assignment.layout, assignment.run, chunk.number, table, 1.0, lease
        )
    return done


PROBS = [0.05, 0.1, 0.2, 0.4, 0.25]


def constant_rows(planned: pa.Table, run: str) -> pa.Table:
    """Rows of a chunk's data file, every one scored alike; bytes are told apart by their etag."""
    values = {
        "task": "quality",
        "mean": sum(p * level for p, level in zip(PROBS, range(1, 6), strict=True)),
        "std": 1.1,
        "entropy": 1.4,
        "support": [1.0, 2.0, 3.0, 4.0, 5.0],
        "probs": PROBS,
        "scale": [1.0, 5.0],
        "mass": 0.95,
        "clip_means": [3.7],
        "coverage": 1.0,
    }
    hashes = [hashlib.sha256(etag.encode()).hexdigest() for etag in planned["etag"].to_pylist()]
    said = {
        "sha256": pa.array(hashes),
        "bytes_read": planned["size"],
        "scores": pa.repeat(pa.scalar([values], CHUNK.field("scores").type), len(hashes)),
        "attempts": pa.repeat(pa.scalar(1, pa.int32()), len(hashes)),
    }
    constant = {"state": "scored", "run": run}
    columns = {
        field.name: said[field.name]
        if field.name in said
        else planned[field.name]
        if field.name in planned.column_names
        else pa.repeat(pa.scalar(constant.get(field.name), field.type), len(hashes))
        for field in CHUNK
    }
    return pa.table(columns, schema=CHUNK)
