"""The endpoint against the bare engine, by turns on one machine and the same pictures.

The endpoint is ``serve run`` with the shipped ``serve_apps/local.yaml`` on a real Ray; requests
come from this process. What the bare engine is stands in :mod:`bench.pipeline`; a direct call is
``Scorer.score`` of one picture's bytes.
"""

import asyncio
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import cache
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import yaml

from beholder.datasets.demo import Recipe
from bench import ROOT, Row, median_row
from bench.pipeline import Speed, bare_engine, make_pictures, save_scorer

if TYPE_CHECKING:
    from beholder.scoring import Scorer

TURNS = 3
CLIENTS = 6
PER_REQUEST = 16
SINGLE = 60
"""Requests of one picture a turn, after as many direct calls."""
RECIPE = Recipe(quality_per_photo=12, aesthetics_per_photo=6, clips_per_scene=0, clips_per_photo=0)


def rows() -> list[Row]:
    """Saturated throughput, and what one request adds to a direct call."""
    bare: list[Speed] = []
    served: list[Speed] = []
    added, direct = [], []
    with tempfile.TemporaryDirectory(prefix="beholder-bench-") as folder:
        scorer = Path(folder) / "scorer"
        save_scorer(scorer)
        pictures = make_pictures(Path(folder) / "demo", RECIPE)
        with (
            endpoint(Path(folder)) as url,
            ProcessPoolExecutor(1, get_context("spawn")) as alone,
        ):
            asyncio.run(saturate(url, pictures[: 4 * PER_REQUEST]))  # first requests don't count
            for _ in range(TURNS):
                bare.append(alone.submit(bare_engine, scorer, pictures).result())
                served.append(asyncio.run(saturate(url, pictures)))
                direct_ms, served_ms = single_requests(url, alone, scorer, pictures[:SINGLE])
                direct.append(direct_ms)
                added.append(served_ms - direct_ms)
    return [
        median_row("bare engine", [one.rate for one in bare], "items/s"),
        median_row("endpoint", [one.rate for one in served], "items/s"),
        median_row(
            "endpoint by bare engine",
            [ours.rate / theirs.rate for ours, theirs in zip(served, bare, strict=True)],
            "",
            ">= 0.8",
        ),
        median_row("load generator's CPU", [one.cpu_ms for one in served], "ms an item"),
        median_row("direct call's median", direct, "ms"),
        median_row("a request adds to it, in the median", added, "ms", "<= 15"),
    ]


@contextmanager
def endpoint(folder: Path) -> Iterator[str]:
    """The endpoint's URL, on a Ray of its own with 2 CPUs."""
    os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads both when it is imported
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    from beholder.local_stack import RayCluster

    config = yaml.safe_load((ROOT / "serve_apps/local.yaml").read_text("utf-8"))
    config["applications"][0]["args"]["scorer"] = str(folder / "scorer")
    port = config["http_options"]["port"]
    (folder / "app.yaml").write_text(yaml.safe_dump(config), "utf-8")
    with RayCluster(num_cpus=2, token=os.environ["RAY_AUTH_TOKEN"]) as cluster:
        serve = Path(sys.executable).with_name("serve")
        with (folder / "serve.log").open("w") as log:
            process = subprocess.Popen(
                [serve, "run", "--working-dir", str(ROOT), folder / "app.yaml"],
                env=os.environ | cluster.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process, folder / "serve.log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Asks until a picture can be scored."""
    deadline = time.monotonic() + 180
    while True:
        try:
            if httpx.get(f"{url}/v1/ready", timeout=20).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the endpoint did not come up: {log.read_text()[-2000:]}")
        time.sleep(0.2)  # nothing to await: the port is not open yet


async def saturate(url: str, pictures: list[Path]) -> Speed:
    """Scores all pictures, so many requests at a time that the endpoint never waits."""
    files = [("files", (path.name, path.read_bytes())) for path in pictures]
    groups = iter([files[i : i + PER_REQUEST] for i in range(0, len(files), PER_REQUEST)])
    begun, cpu = time.perf_counter(), time.process_time()

    async def client(http: httpx.AsyncClient) -> None:
        for group in groups:
            answer = await http.post(f"{url}/v1/score", files=group)
            answer.raise_for_status()
            assert all("scores" in item for item in answer.json()["items"])

    async with httpx.AsyncClient(timeout=120) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    spent = Counter({"load": time.process_time() - cpu})
    return Speed(len(files), time.perf_counter() - begun, spent)


def single_requests(
    url: str, alone: ProcessPoolExecutor, scorer: Path, pictures: list[Path]
) -> tuple[float, float]:
    """Median milliseconds of a direct call in a process, and of a request, of one picture each.

    First all calls, one after another, then all requests: each finds its caches warm. Requests are
    written before the clock starts and go over one connection, so that it runs for the endpoint and
    not for a client's library.
    """
    data = [path.read_bytes() for path in pictures]
    alone.submit(direct_call, scorer, data[0]).result()  # it loads the scorer
    direct = [alone.submit(direct_call, scorer, one).result() for one in data]
    served = []
    written = [httpx.Request("POST", f"{url}/v1/score", files=[("files", one)]) for one in data]
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        for one in written:
            body, headers = one.read(), dict(one.headers)
            begun = time.perf_counter()
            connection.request("POST", "/v1/score", body, headers)
            answer = connection.getresponse()
            told = answer.read()
            served.append(1000 * (time.perf_counter() - begun))
            assert answer.status == 200, told
    return statistics.median(direct), statistics.median(served)


@cache
def loaded(folder: Path) -> "Scorer":
    """A scorer that stays in this process."""
    import torch

    from beholder.scoring import Scorer

    torch.set_num_threads(1)
    return Scorer.load(folder)


def direct_call(folder: Path, data: bytes) -> float:
    """Milliseconds that a scorer takes for a picture's bytes, in this process."""
    scorer = loaded(folder)
    begun = time.perf_counter()
    scorer.score([data])
    return 1000 * (time.perf_counter() - begun)
