"""What ranking costs: a whole catalog by the Ray job, and a thousand candidates over HTTP.

``python tests/bench/rank.py 1 10`` prints the figures for catalogs of one and ten million items.
Scores are drawn, everything else is real: state files as a night writes them, Ray with two CPUs,
the application that the endpoint serves (without a network in between).
"""

import asyncio
import hashlib
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before anything imports Ray, which reads its token on import.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from fastapi import FastAPI

from beholder.catalog.buckets import Buckets, query
from beholder.catalog.head import publish
from beholder.catalog.layout import Layout
from beholder.catalog.ranks import RankConfig, rank_catalog
from beholder.catalog.record import File, Record
from beholder.catalog.tables import ITEMS, SCORES
from beholder.local_stack import PeakMemory, RayCluster
from beholder.media.storage import write_bytes
from beholder.serving.config import ServeConfig
from beholder.serving.endpoint import make_endpoint
from beholder.serving.metrics import RequestMetrics
from beholder.serving.service import ScoringService

RUN, FINGERPRINT = "2026-11-20.0", "f" * 64
BUCKET_ITEMS = 100_000
STEP = 500_000
ASKS = 41

Row = tuple[str, float, str, str]


def rows(millions: Sequence[int] = (1, 10)) -> list[Row]:
    """Name, value, unit and bar of each figure."""
    found: list[Row] = []
    for number, count in enumerate(millions):
        folder = tempfile.mkdtemp(prefix="beholder-bench-rank-")
        try:
            make_snapshot(folder, count * 1_000_000)
            found += catalog_rows(folder, count)
            if number == 0:
                found += request_rows(folder)
        finally:
            shutil.rmtree(folder)
    return found


def catalog_rows(root: str, millions: int) -> list[Row]:
    """The rank job over a catalog; memory is that of this process and of all of Ray's."""
    with (
        RayCluster(
            num_cpus=2, object_store_gib=0.25, token=os.environ["RAY_AUTH_TOKEN"]
        ) as cluster,
        PeakMemory(interval_s=0.5) as memory,
    ):
        os.environ |= cluster.environment()
        began = time.monotonic()
        record, _ = rank_catalog(RankConfig(catalog=root))
        seconds = time.monotonic() - began
        ray.shutdown()
    assert record.items == millions * 1_000_000
    name = f"rank a catalog of {millions} million"
    return [
        (f"{name}: peak memory", round(memory.peak_gib, 2), "GiB", "<= 6"),
        (f"{name}: time a million", round(seconds / millions, 1), "s", ""),
    ]


def request_rows(root: str) -> list[Row]:
    """``/v1/rank`` of a thousand, by rule, for stored scores and for ids of a ranked catalog."""
    settings = ServeConfig(scorer="none", catalog=root, catalog_refresh_s=3600)
    api = make_endpoint(settings, NoService(), RequestMetrics())
    rng = np.random.default_rng(0)
    stored = [
        {
            "id": f"c{n}",
            "fingerprint": FINGERPRINT,
            "scores": {"support": [1, 2, 3, 4, 5], "probs": probs.tolist(), "scale": [1, 5]},
        }
        for n, probs in enumerate(rng.dirichlet(np.ones(5), 1000))
    ]
    items = [{"item": item_id(n)} for n in rng.choice(1_000_000, 1000, replace=False).tolist()]
    found: list[Row] = []
    for what, candidates, bar in (("stored", stored, "<= 50"), ("ids", items, "<= 150")):
        for rule in ("mean", "lower_bound", "expected_rank"):
            body = json.dumps({"task": "quality", "rule": rule, "candidates": candidates})
            took, cpu = asyncio.run(p50_ms(api, body.encode()))
            found.append((f"/v1/rank of 1,000 {what} by {rule}: p50", took, "ms", bar))
            found.append((f"/v1/rank of 1,000 {what} by {rule}: CPU", cpu, "ms", ""))
    return found


async def p50_ms(api: FastAPI, body: bytes) -> tuple[float, float]:
    """The medians of some requests, after a first one: by the clock, and of CPU."""
    headers = {"Content-Type": "application/json"}
    took, cpu = [], []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://x") as client:
        for _ in range(ASKS + 1):
            began, worked = time.perf_counter(), time.process_time()
            answer = await client.post("/v1/rank", content=body, headers=headers)
            took.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - worked))
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["ranking"]) == 1000
    return round(statistics.median(took[1:]), 1), round(statistics.median(cpu[1:]), 1)


class NoService(ScoringService):
    """Nothing here is scored."""


def item_id(number: int) -> str:
    """As uploads are often called."""
    return f"uploads/2026/{number:010d}.jpg"


def make_snapshot(root: str, count: int) -> None:
    """A published snapshot of one base file a bucket."""
    buckets = max(1, count // BUCKET_ITEMS)
    layout = Layout(root)
    files: dict[str, dict[int, tuple[File, ...]]] = {}
    for table, key, schema in (("items", "item_id", ITEMS), ("scores", "sha256", SCORES)):
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            split = Buckets(Path(scratch), buckets, key, schema)
            for drawn in draw(table, count):
                split.add(drawn)
            files[table] = {}
            for bucket in range(buckets):
                sink = pa.BufferOutputStream()
                pq.write_table(split.read(bucket), sink, compression="zstd")
                data = sink.getvalue().to_pybytes()
                uri = layout.state(table, bucket, f"{RUN}-bench")
                write_bytes(uri, data)
                file = File(
                    path=layout.relative(uri),
                    rows=split.rows(bucket),
                    sha256=hashlib.sha256(data).hexdigest(),
                    deltas=False,
                )
                files[table][bucket] = (file,)
    record = Record(
        id=RUN,
        parent=None,
        created_at=datetime.now(UTC),
        buckets=buckets,
        scorer="drawn",
        fingerprint=FINGERPRINT,
        tasks={"image": ("quality",)},
        manifest={},
        config={},
        items=files["items"],
        scores=files["scores"],
    )
    publish(layout, record, "bench")


def draw(table: str, count: int) -> Iterator[pa.Table]:
    """Rows of the state: 55% of items in one segment, 35% in another, 10% in a hundred."""
    for start in range(0, count, STEP):
        numbers = np.arange(start, min(start + STEP, count))
        hashes = query(
            "select sha256(n::varchar) as h from t order by n", t=pa.table({"n": numbers})
        )
        columns: dict[str, Any] = {"sha256": hashes["h"]}
        if table == "items":
            place = numbers % 20
            clubs = np.char.add("club-", (numbers // 20 % 100).astype(str))
            segments = np.where(place < 11, "phone", np.where(place < 18, "web", clubs))
            ids = [item_id(n) for n in numbers.tolist()]
            columns |= {"item_id": ids, "uri": [f"s3://media/{one}" for one in ids]}
            columns |= {"segment": segments, "kind": constant("image", numbers)}
            columns |= {"state": constant("scored", numbers), "run": constant(RUN, numbers)}
            columns |= {"removed": constant(False, numbers), "size": numbers}
            schema = ITEMS
        else:
            rng = np.random.default_rng(start)
            probs = rng.gamma(rng.uniform(0.1, 3, (len(numbers), 5)))
            probs /= probs.sum(axis=1, keepdims=True)
            support = np.arange(1, 6.0)
            mean = probs @ support
            std = np.sqrt((probs * (support - mean[:, None]) ** 2).sum(axis=1))
            columns |= {"fingerprint": constant(FINGERPRINT, numbers), "mean": mean, "std": std}
            columns |= {"task": constant("quality", numbers), "run": constant(RUN, numbers)}
            columns |= {"probs": lists(probs), "support": lists(np.tile(support, (len(mean), 1)))}
            columns |= {"scale": lists(np.tile([1.0, 5.0], (len(mean), 1)))}
            schema = SCORES
        nulls = {f.name: pa.nulls(len(numbers), f.type) for f in schema}
        yield pa.table({name: (nulls | columns)[name] for name in schema.names}, schema=schema)


def constant(value: object, numbers: np.ndarray) -> pa.Array:
    """A column."""
    return pa.repeat(pa.scalar(value), len(numbers))


def lists(values: np.ndarray) -> pa.Array:
    """A column of lists of one length."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, values.reshape(-1))


if __name__ == "__main__":
    for row in rows([int(text) for text in sys.argv[1:]] or [1]):
        print(*row, sep="\t")
