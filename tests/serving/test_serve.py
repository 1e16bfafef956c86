"""The whole application on a real Ray: three deployments, their answers, and a death among them."""

import asyncio
import base64
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from beholder.local_stack import RayCluster
from beholder.ranking import rank
from beholder.scoring import Scorer


@pytest.fixture(scope="module")
def url(serve_run: Callable, small_scorer: Scorer, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("scorer")
    small_scorer.save(folder)
    with serve_run({"scorer": str(folder)}, Engine={"num_replicas": 2}) as url:
        yield url


def replicas(ray: RayCluster, deployment: str) -> dict[str, int]:
    """Process ids of a deployment's running replicas by name."""
    headers = {"Authorization": f"Bearer {ray.environment()['RAY_AUTH_TOKEN']}"}
    told = httpx.get(f"{ray.dashboard}/api/serve/applications/", headers=headers, timeout=30).json()
    listed = told["applications"]["score"]["deployments"][deployment]["replicas"]
    return {r["replica_id"]: r["pid"] for r in listed if r["state"] == "RUNNING"}


def test_answers_equal_the_scorers_bit_for_bit(
    url: str, small_scorer: Scorer, photos: dict[str, bytes]
) -> None:
    """One batch of the same shape, with the same thread."""
    files = [("files", (name, data)) for name, data in photos.items()]
    answer = httpx.post(f"{url}/v1/score", files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    expected = [score.as_dict() for score in small_scorer.score(list(photos.values()))]
    for got, told, name in zip(answer.json()["items"], expected, photos, strict=True):
        assert got["scores"] == json.loads(json.dumps(told["scores"])), name


def test_answers_equal_the_scorers_in_any_mix_of_batches(
    url: str, small_scorer: Scorer, photos: dict[str, bytes]
) -> None:
    """Requests of 1 to 7 items at once: whatever is scored together, within 1e-5."""
    told = [score.as_dict()["scores"] for score in small_scorer.score(list(photos.values()))]
    expected = dict(zip(photos, told, strict=True))
    endless = itertools.cycle(photos)
    requests = [[next(endless) for _ in range(1 + number % 7)] for number in range(28)]

    async def ask(http: httpx.AsyncClient, names: list[str]) -> httpx.Response:
        files = [("files", (name, photos[name])) for name in names]
        return await http.post(f"{url}/v1/score", files=files)

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=120) as http:
            return await asyncio.gather(*(ask(http, names) for names in requests))

    for names, answer in zip(requests, asyncio.run(all_at_once()), strict=True):
        assert answer.status_code == 200, answer.text
        assert [item["item_id"] for item in answer.json()["items"]] == names
        for name, item in zip(names, answer.json()["items"], strict=True):
            assert item["scores"].keys() == expected[name].keys()
            for task, wanted in expected[name].items():
                got = item["scores"][task]
                for figure in ("mean", "std", "entropy", "probs", "mass", "clips"):
                    assert got[figure] == pytest.approx(wanted[figure], rel=0, abs=1e-5), figure


def test_media_and_stored_scores_are_ranked_together(
    url: str, small_scorer: Scorer, photos: dict[str, bytes]
) -> None:
    """Pictures are scored on the way and have the places of their stored twins, or one before."""
    scores = small_scorer.score(list(photos.values()), ["quality"])
    media = [
        {"media": {"data": base64.b64encode(data).decode(), "id": name}}
        for name, data in photos.items()
    ]
    stored = [
        {
            "id": f"stored {name}",
            "fingerprint": small_scorer.fingerprint,
            "scores": score.as_dict()["scores"]["quality"],
        }
        for name, score in zip(photos, scores, strict=True)
    ]
    first, second, *_ = photos
    asked = {
        "task": "quality",
        "rule": "expected_rank",
        "candidates": [*media, {"media": {"data": "AAAA", "id": "none"}}, *stored],
        "pairwise": [[first, f"stored {first}"], [first, f"stored {second}"]],
    }
    answer = httpx.post(f"{url}/v1/rank", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["fingerprint"] == small_scorer.fingerprint
    assert [(one["id"], one["code"]) for one in told["left_out"]] == [
        ("none", "decode.unsupported")
    ]
    wanted = rank([*scores, *scores], "quality", "expected_rank")
    values = [one["value"] for one in told["ranking"]]
    assert values == pytest.approx(wanted.values.tolist(), abs=1e-4)
    order = [one["id"].removeprefix("stored ") for one in told["ranking"]]
    assert order == [[*photos, *photos][position] for position in wanted.order]
    twins, apart = (pair["probability"] for pair in told["pairwise"])
    assert twins == pytest.approx(0.5, abs=1e-5)
    one, other, *_ = (score.tasks["quality"] for score in scores)
    assert apart == pytest.approx(float(one.probability_above(other)), abs=1e-5)


def test_an_id_is_given_back_once_and_metrics_speak_for_every_replica(url: str) -> None:
    answer = httpx.get(f"{url}/v1/scorers", headers={"X-Request-ID": "abc"}, timeout=60)
    assert answer.headers.get_list("X-Request-ID") == ["abc"]
    text = httpx.get(f"{url}/metrics", timeout=60).text
    engines = [line for line in text.splitlines() if line.startswith("beholder_batch_frames_count")]
    assert len(engines) == 2 and len({line.split("replica=")[1] for line in engines}) == 2
    assert 'beholder_requests_total{path="/v1/scorers"' in text


def told(url: str, name: str) -> float:
    """A sample of ``/metrics``, summed over its labels' values and replicas."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_clients_that_leave_free_their_places_and_what_was_not_begun(
    url: str, photos: dict[str, bytes]
) -> None:
    scored = told(url, "beholder_batch_frames_sum")
    files = [("files", (name, data)) for name, data in photos.items()] * 16
    with httpx.Client(timeout=0.4) as client:
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{url}/v1/score", files=files)
    deadline = time.monotonic() + 20
    while told(url, "beholder_queue_frames") > 0:
        assert time.monotonic() < deadline, "places are kept"
    left = 'beholder_requests_total{path="/v1/score"'
    text = httpx.get(f"{url}/metrics", timeout=60).text
    gone = [line for line in text.splitlines() if line.startswith(left) and '"499"' in line]
    assert [line.split()[-1] for line in gone] == ["3.0"]
    assert told(url, "beholder_engine_waiting_frames") == 0
    assert told(url, "beholder_batch_frames_sum") - scored < 3 * len(files), "all was scored"


def test_an_engines_death_under_load_costs_nobody_an_answer(
    url: str, ray_cluster: RayCluster, small_scorer: Scorer, photos: dict[str, bytes]
) -> None:
    expected = {
        name: score.as_dict()["scores"]["quality"]["mean"]
        for name, score in zip(photos, small_scorer.score(list(photos.values())), strict=True)
    }
    before = replicas(ray_cluster, "Engine")
    assert len(before) == 2
    wrong: list[object] = []
    answered = 0

    async def client(http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        nonlocal answered
        while not stop.is_set():
            files = [("files", (name, data)) for name, data in photos.items()]
            answer = await http.post(f"{url}/v1/score", files=files)
            if answer.status_code != 200:
                wrong.append((answer.status_code, answer.text))
                continue
            answered += 1
            means = {i["item_id"]: i["scores"]["quality"]["mean"] for i in answer.json()["items"]}
            wrong.extend((n, means[n], m) for n, m in expected.items() if abs(means[n] - m) > 1e-5)

    victim = next(iter(before))

    def replaced() -> bool:
        now = replicas(ray_cluster, "Engine")
        return len(now) == 2 and victim not in now

    async def load() -> None:
        stop = asyncio.Event()
        async with httpx.AsyncClient(timeout=60) as http:
            clients = [asyncio.create_task(client(http, stop)) for _ in range(6)]
            async with asyncio.timeout(90):
                await grown(8)
                os.kill(before[victim], signal.SIGKILL)
                await grown(30)
                while not await asyncio.to_thread(replaced):
                    await asyncio.sleep(0.2)  # Serve is asked: it tells nobody by itself
                await grown(8)
            stop.set()
            await asyncio.gather(*clients)

    async def grown(by: int) -> None:
        goal = answered + by
        while answered < goal and not wrong:
            await asyncio.sleep(0.02)

    asyncio.run(load())
    assert wrong == []
