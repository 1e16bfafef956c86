"""The endpoint under load on a real Ray: overload, growth, deaths, and ten thousand requests.

    python -m pytest -m e2e tests/e2e/test_serving_load.py -s

prints the figures. The load comes from this process, on the same machine.
"""

import asyncio
import io
import json
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from beholder.local_stack import RayCluster
from beholder.scoring import Scorer
from beholder.serving.client import AsyncClient

pytestmark = pytest.mark.e2e

PER_REQUEST = 4
MANY = 16
"""Items of a request where the load is five times the capacity: this process must keep up."""
REQUEST_S = 20.0
OVERLOAD_S = 60.0
RECOVERY_S = 10.0
GROWTH_MB = 20


@pytest.fixture(scope="module")
def scorer_folder(small_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("scorer")
    small_scorer.save(folder)
    return str(folder)


class Load:
    """Sends requests, and notes status, seconds and whether the scores were right."""

    def __init__(self, url: str, scorer: Scorer, photos: dict[str, bytes], items: int) -> None:
        files = [("files", (name, data)) for name, data in [*photos.items()] * items][:items]
        written = httpx.Request("POST", f"{url}/v1/score", files=files)
        self._url, self._body, self._headers = written.url, written.read(), written.headers
        scores = scorer.score([data for _, (_, data) in files])
        self._expected = [score.as_dict()["scores"]["quality"]["mean"] for score in scores]
        self.answers: list[tuple[float, int, float]] = []
        self.wrong: list[str] = []
        self.failed: list[str] = []
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(timeout=60, limits=limits)

    async def one(self) -> int:
        """One request; a broken connection has status 0."""
        begun = time.monotonic()
        try:
            answer = await self._http.post(self._url, content=self._body, headers=self._headers)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            self.answers.append((begun, 0, time.monotonic() - begun))
            return 0
        self.answers.append((begun, answer.status_code, time.monotonic() - begun))
        if answer.status_code == 200:
            means = [item["scores"]["quality"]["mean"] for item in answer.json()["items"]]
            if any(abs(a - b) > 1e-5 for a, b in zip(means, self._expected, strict=True)):
                self.wrong.append(answer.text)
        elif answer.status_code not in (429,):
            self.failed.append(answer.text)
        return answer.status_code

    async def more(self, count: int) -> None:
        """Until so many further answers have come."""
        goal = len(self.answers) + count

        async def there() -> bool:
            return len(self.answers) >= goal

        await eventually(there, 120)

    async def clients(self, count: int, until: Callable[[], bool]) -> None:
        """So many clients that ask one after another."""

        async def client() -> None:
            while not until():
                await self.one()

        await asyncio.gather(*(client() for _ in range(count)))

    async def at_rate(self, per_s: float, seconds: float) -> set[asyncio.Task[int]]:
        """Sends at a rate, however long the answers take; who still waits when it has."""
        running: set[asyncio.Task[int]] = set()
        begun = time.monotonic()
        for number in range(int(per_s * seconds)):
            await asyncio.sleep(max(0.0, begun + number / per_s - time.monotonic()))
            task = asyncio.create_task(self.one())
            running.add(task)
            task.add_done_callback(running.discard)
        return running

    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers)

    def seconds(self) -> list[float]:
        """Of the accepted, ascending."""
        return sorted(took for _, status, took in self.answers if status == 200)


async def patient(url: str, photos: dict[str, bytes], until: Callable[[], bool]) -> int:
    """Has our own client ask one request after another; how many were answered."""
    answered = 0
    async with AsyncClient(url) as client:
        while not until():
            scores = await client.score(photos.values())
            assert all(score.failure is None for score in scores)
            answered += 1
    return answered


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def serve_state(ray: RayCluster) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {ray.environment()['RAY_AUTH_TOKEN']}"}
    told = httpx.get(f"{ray.dashboard}/api/serve/applications/", headers=headers, timeout=30)
    state: dict[str, Any] = told.json()
    return state


def pids(ray: RayCluster, deployment: str) -> list[int]:
    """Of the running replicas."""
    listed = serve_state(ray)["applications"]["score"]["deployments"][deployment]["replicas"]
    return [replica["pid"] for replica in listed if replica["state"] == "RUNNING"]


def shrunk(photo: bytes) -> bytes:
    """The photo in 64 pixels."""
    file = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").resize((64, 64)).save(file, "PNG")
    return file.getvalue()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Asks again and again; the seconds that it took."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.2)
    return time.monotonic() - begun


def test_overload_is_answered_by_200_and_429_only(
    serve_run: Callable, scorer_folder: str, small_scorer: Scorer, photos: dict[str, bytes]
) -> None:
    args = {"scorer": scorer_folder, "request_s": REQUEST_S, "max_queue_frames": 64}
    args |= {"timeout_s": REQUEST_S / 3, "fetch_s": REQUEST_S / 6}

    async def body(url: str) -> None:
        calm = Load(url, small_scorer, photos, MANY)
        await calm.clients(4, for_seconds(10))
        capacity = len(calm.seconds()) / 10
        load = Load(url, small_scorer, photos, MANY)
        begun = time.monotonic()
        waiting = await load.at_rate(5 * capacity, OVERLOAD_S)
        ended = time.monotonic()
        after = Load(url, small_scorer, photos, MANY)
        while await after.one() != 200:
            await asyncio.sleep(0.1)
        recovered = time.monotonic() - ended
        await asyncio.gather(*waiting)
        took = load.seconds()
        p99 = took[int(0.99 * len(took))]
        print(
            f"\ncapacity {capacity * MANY:.1f} items/s, offered {5 * capacity:.1f} "
            f"requests/s for {OVERLOAD_S:g} s: {dict(load.statuses())}, accepted p50 "
            f"{statistics.median(took):.2f} s, p99 {p99:.2f} s, recovered in {recovered:.2f} s"
        )
        assert set(load.statuses()) == {200, 429}, load.failed[:3]
        assert not load.wrong
        assert ended - begun <= 1.1 * OVERLOAD_S, "less than five times the capacity was offered"
        assert p99 <= REQUEST_S
        assert recovered <= RECOVERY_S

    with serve_run(args) as url:
        asyncio.run(body(url))


def test_engines_grow_with_the_load_and_shrink_without(
    serve_run: Callable,
    scorer_folder: str,
    small_scorer: Scorer,
    photos: dict[str, bytes],
    ray_cluster: RayCluster,
) -> None:
    policy = {
        "min_replicas": 1,
        "max_replicas": 3,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 1,
        "downscale_delay_s": 3,
        "look_back_period_s": 2,
        "metrics_interval_s": 0.5,
    }
    # Small enough that the one decoder gives three engines work.
    small = {name: shrunk(data) for name, data in photos.items()}

    async def engines() -> int:
        return len(await asyncio.to_thread(pids, ray_cluster, "Engine"))

    async def body(url: str) -> None:
        load = Load(url, small_scorer, small, PER_REQUEST)
        stop = False
        calm = asyncio.create_task(load.clients(2, lambda: stop))
        await load.more(10)
        assert await engines() == 1, "the load that one replica is meant for"
        more = asyncio.create_task(load.clients(6, lambda: stop))

        async def has(count: int) -> bool:
            return await engines() == count

        grew = await eventually(lambda: has(3), 120)
        await load.more(10)
        stop = True
        await asyncio.gather(calm, more)
        stop = False
        calm = asyncio.create_task(load.clients(1, lambda: stop))
        shrank = await eventually(lambda: has(1), 120)
        stop = True
        await calm
        print(
            f"\n1 to 3 engines in {grew:.0f} s of four times the load, back to 1 in {shrank:.0f} s,"
            f" {dict(load.statuses())}"
        )
        assert set(load.statuses()) == {200}, load.failed[:3]
        assert not load.wrong

    with serve_run({"scorer": scorer_folder}, Engine={"autoscaling_config": policy}) as url:
        asyncio.run(body(url))


@pytest.mark.parametrize("killed", ["Engine", "Preprocess", "Ingress"])
def test_a_replicas_death_fails_at_most_what_was_on_it(
    serve_run: Callable,
    scorer_folder: str,
    small_scorer: Scorer,
    photos: dict[str, bytes],
    ray_cluster: RayCluster,
    killed: str,
) -> None:
    clients = 6

    async def body(url: str) -> None:
        load = Load(url, small_scorer, photos, PER_REQUEST)
        stop = False
        running = asyncio.create_task(load.clients(clients, lambda: stop))
        ours = asyncio.create_task(patient(url, photos, lambda: stop))
        await load.more(10)

        async def two() -> bool:
            return len(await asyncio.to_thread(pids, ray_cluster, killed)) == 2

        await eventually(two, 60)
        before = await asyncio.to_thread(pids, ray_cluster, killed)
        os.kill(before[0], signal.SIGKILL)

        async def replaced() -> bool:
            now = await asyncio.to_thread(pids, ray_cluster, killed)
            return len(now) == 2 and before[0] not in now

        took = await eventually(replaced, 120)
        await load.more(10)
        stop = True
        await running
        assert await ours > 0, "our client tries again and sees nothing of it"
        print(f"\n{killed} killed, replaced in {took:.0f} s: {dict(load.statuses())}")
        assert not load.wrong
        lost = sum(n for status, n in load.statuses().items() if status != 200)
        assert lost <= (clients if killed == "Ingress" else 0), load.failed[:3]

    # Two of each ask for one CPU a pair here, or four would not hold them.
    half = {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.5}}
    with serve_run(
        {"scorer": scorer_folder}, Engine=half, Preprocess=half, Ingress={"num_replicas": 2}
    ) as url:
        asyncio.run(body(url))


def test_ten_thousand_requests_leave_no_memory_behind(
    serve_run: Callable,
    scorer_folder: str,
    small_scorer: Scorer,
    photos: dict[str, bytes],
    ray_cluster: RayCluster,
) -> None:
    def megabytes() -> dict[str, float]:
        """Unique memory of each replica with its decoders: what only its own end would free."""
        found = {}
        for deployment in ("Ingress", "Preprocess", "Engine"):
            (pid,) = pids(ray_cluster, deployment)
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
            found[deployment] = sum(p.memory_full_info().uss for p in tree) / 2**20
        return found

    async def body(url: str) -> None:
        load = Load(url, small_scorer, photos, 1)
        await load.clients(8, lambda: len(load.answers) >= 2000)
        before = await asyncio.to_thread(megabytes)
        await load.clients(8, lambda: len(load.answers) >= 10_000)
        after = await asyncio.to_thread(megabytes)
        print(f"\nMB after 2,000 requests {json.dumps(before)}, after 10,000 {json.dumps(after)}")
        assert set(load.statuses()) == {200}, load.failed[:3]
        assert not load.wrong
        assert sum(after.values()) - sum(before.values()) <= GROWTH_MB

    with serve_run({"scorer": scorer_folder}) as url:
        asyncio.run(body(url))
