"""The scoring pass against the bare engine, by turns on one machine and the same pictures.

The engine alone is one process that has the encoded bytes in memory: a thread decodes ahead, the
other scores, in batches of the same limit. The pass is
:func:`beholder.catalog.scoring_pass.score_chunks` on a real Ray and a real S3, with one decode
actor and one scoring actor of one thread. Starts don't count: the pass is taken from its first
committed chunk to the last but two, as long as all of it works, the engine from its second batch
on.
"""

import os
import re
import secrets
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from beholder.datasets.demo import Recipe, build_demo
from bench import Row, median_row

TURNS = 3
CHUNK = 128
AHEAD = 2
"""Chunks that are begun and not yet committed while all work: see ``scoring_pass.Gate``."""
RECIPE = Recipe(quality_per_photo=30, aesthetics_per_photo=16, clips_per_scene=0, clips_per_photo=0)


@dataclass(frozen=True)
class Speed:
    """How fast some items went.

    Attributes:
        items: how many.
        seconds: by the clock.
        cpu: seconds by what the process is; see :func:`processes`.
    """

    items: int
    seconds: float
    cpu: Counter[str]

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU-milliseconds an item."""
        return 1000 * self.cpu.total() / self.items


def rows() -> list[Row]:
    """Throughputs, their ratio, and the overhead in CPU time."""
    bare: list[Speed] = []
    passed: list[Speed] = []
    with (
        tempfile.TemporaryDirectory(prefix="beholder-bench-") as folder,
        standing(Path(folder)) as (s3, ray),
    ):
        pictures = make_pictures(Path(folder) / "demo", RECIPE)
        items = upload(pictures)
        sizes = statistics.median(item["size"] for item in items) / 1000
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            for turn in range(TURNS):
                bare.append(alone.submit(bare_engine, Path(folder) / "scorer", pictures).result())
                passed.append(scoring_pass(Path(folder), items, turn, (s3.pid, ray.pid)))
    kinds = sum((one.cpu for one in passed), Counter())
    n = sum(one.items for one in passed)
    shares = ", ".join(f"{kind} {1000 * cpu / n:.1f}" for kind, cpu in kinds.most_common())
    return [
        Row("pictures of the demo set", len(pictures), "items", note=f"median {sizes:.0f} kB"),
        median_row("bare engine", [one.rate for one in bare], "items/s"),
        median_row("scoring pass", [one.rate for one in passed], "items/s"),
        median_row(
            "scoring pass by bare engine",
            [ours.rate / theirs.rate for ours, theirs in zip(passed, bare, strict=True)],
            "",
            ">= 0.8",
        ),
        median_row("bare engine's CPU", [one.cpu_ms for one in bare], "ms an item"),
        median_row(
            "scoring pass's CPU overhead",
            [ours.cpu_ms - theirs.cpu_ms for ours, theirs in zip(passed, bare, strict=True)],
            "ms an item",
        ),
        Row("scoring pass's CPU", 1000 * kinds.total() / n, "ms an item", note=shares),
    ]


@contextmanager
def standing(folder: Path) -> Iterator[tuple[Any, Any]]:
    """An S3 and a Ray of 2 CPUs that this process and its workers reach, and a scorer."""
    os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads both when it is imported
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    from beholder.catalog.session import connect
    from beholder.local_stack import ObjectStore, RayCluster

    save_scorer(folder / "scorer")
    with ObjectStore() as s3:
        os.environ.update(s3.environment())
        with RayCluster(num_cpus=2, token=os.environ["RAY_AUTH_TOKEN"]) as cluster:
            os.environ.update(cluster.environment())
            connect()
            try:
                yield s3, cluster
            finally:
                ray.shutdown()


def save_scorer(folder: Path) -> None:
    """The pocket scorer of the demo configs, untrained: it takes the same time."""
    import torch

    from beholder.backbones.pocket.model import Pocket, PocketConfig
    from beholder.backbones.pocket.preprocess import default_tokenizer
    from beholder.readouts import LevelReadout
    from beholder.scoring import Scorer, TaskSpec

    torch.manual_seed(0)
    backbone = Pocket(PocketConfig(), default_tokenizer())
    backbone.initialise()
    tasks = {
        "quality": TaskSpec(kinds=("image", "video"), scale=(1, 5)),
        "aesthetics": TaskSpec(kinds=("image",), scale=(1, 5)),
    }
    Scorer(backbone, LevelReadout(), tasks, "brief").save(folder)


def make_pictures(folder: Path, recipe: Recipe) -> list[Path]:
    """A demo set's pictures."""
    build_demo(folder, recipe, workers=2)
    return [
        path for name in ("quality", "aesthetics") for path in sorted(folder.rglob(f"{name}/*.jpg"))
    ]


def upload(pictures: list[Path]) -> list[dict[str, Any]]:
    """Puts them into S3; rows of a plan."""
    from concurrent.futures import ThreadPoolExecutor

    from beholder.media.storage import write_bytes

    def one(path: Path) -> dict[str, Any]:
        uri = f"s3://beholder/uploads/{path.parent.name}-{path.name}"
        write_bytes(uri, path.read_bytes())
        about = {"kind": "image", "change": "new", "attempts": 0, "size": path.stat().st_size}
        return about | {"item_id": f"{path.parent.name}-{path.name}", "uri": uri}

    with ThreadPoolExecutor(8) as writers:
        return list(writers.map(one, pictures))


def bare_engine(folder: Path, pictures: list[Path]) -> Speed:
    """Scores the pictures' bytes in this process; its second batch is the first that counts."""
    import torch

    from beholder.items import Item
    from beholder.scoring import Scorer

    torch.set_num_threads(1)
    scorer = Scorer.load(folder)
    items = [Item(path.name, path.read_bytes(), "image") for path in pictures]
    limit = scorer.engine.max_frames
    staged = scorer.stage().many(items, 1)
    counted, began, cpu = 0, 0.0, 0.0
    for start in range(0, len(items), limit):
        some = [(item.item_id, next(staged)) for item in items[start : start + limit]]
        scores = scorer.score_staged(some)
        assert not (failed := [s for s in scores if s.failure is not None]), failed[0]
        if start == 0:
            began, cpu = time.perf_counter(), time.process_time()
        else:
            counted += len(scores)
    spent = Counter({"engine": time.process_time() - cpu})
    return Speed(counted, time.perf_counter() - began, spent)


def scoring_pass(
    folder: Path, items: list[dict[str, Any]], turn: int, roots: tuple[int, ...]
) -> Speed:
    """Scores and commits the same pictures from S3; what counts is between two commits."""
    from beholder.catalog import scoring_pass
    from beholder.catalog.layout import Layout, RunId
    from beholder.catalog.lease import Lease
    from beholder.scoring import outline_scorer

    layout, run = Layout(f"s3://beholder/catalog-{turn}"), RunId("2026-11-20")
    outline = outline_scorer(str(folder / "scorer"))
    chunks = write_plan(layout, run, items)
    assignment = scoring_pass.Assignment(
        layout, run, str(folder / "scorer"), outline.file.fingerprint, outline.pixels
    )
    seen: list[tuple[float, int, Counter[str]]] = []
    commit = scoring_pass.commit

    def noted(*arguments: Any) -> Any:
        record = commit(*arguments)
        assert not record.failed and not record.known, record
        seen.append((time.perf_counter(), record.rows, processes(roots)))
        return record

    scoring_pass.commit = noted
    try:
        with Lease(layout.lease(run.date)) as lease:
            scoring_pass.score_chunks(chunks, assignment, scoring_pass.Crew(), lease)
    finally:
        scoring_pass.commit = commit
    # At its end nothing is left to decode, and actors that are done take their times along.
    counted = seen[1:-AHEAD]
    (first, _, before), (last, _, after) = seen[0], counted[-1]
    return Speed(sum(rows for _, rows, _ in counted), last - first, after - before)


def write_plan(layout: Any, run: Any, items: list[dict[str, Any]]) -> list[Any]:
    """A plan's file of these items, and its chunks."""
    import pyarrow as pa

    from beholder.catalog.chunks import Chunk, write_groups
    from beholder.catalog.tables import PLANNED

    groups = []
    for number, start in enumerate(range(0, len(items), CHUNK)):
        some = [item | {"chunk": number} for item in items[start : start + CHUNK]]
        groups.append(pa.Table.from_pylist(some, schema=PLANNED))
    (file,) = write_groups(
        groups, len(groups), layout, lambda n: layout.plan_file(run, "bench", str(n))
    )
    return [Chunk(n, file.path, n, rows) for n, rows in enumerate(file.groups)]


def processes(roots: tuple[int, ...]) -> Counter[str]:
    """CPU seconds so far of S3, Ray, decoders, scorers and this process, the driver."""
    spent: Counter[str] = Counter()
    for root, name in zip(roots, ("S3", "Ray"), strict=True):
        for process in (top := psutil.Process(root)), *top.children(recursive=True):
            try:
                times = process.cpu_times()
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            kind = name
            if "beholder.media.decoder" in line:
                kind = "decoder"
            elif stage := re.search(r"(Decode|Score)(?:Chunk|Batch)", line):
                kind = f"{stage[1].lower()} actor"
            spent[kind] += times.user + times.system
    spent["driver"] = time.process_time()
    return spent
