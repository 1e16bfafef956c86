"""From one scorer to another under load: tried on traffic first, then deployed in its place."""

import asyncio
import copy
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import torch

from beholder.scoring import Scorer, load_adapter
from beholder.scoring.adapter import save_adapter

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def folders(small_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``now`` and ``next``, a scorer and its successor, and ``adapter`` over the first."""
    root = tmp_path_factory.mktemp("scorers")
    backbone = copy.deepcopy(small_scorer.backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.02)
    successor = Scorer(backbone, small_scorer.readout, small_scorer.tasks, small_scorer.prompt)
    small_scorer.save(root / "now")
    successor.save(root / "next")
    save_adapter(successor, small_scorer.backbone.state_dict(), {}, 1.0, root / "adapter")
    return root


class Traffic:
    """Clients that ask all the time; each answer's fingerprint is noted."""

    def __init__(self, url: str, photos: dict[str, bytes]) -> None:
        self._url = url
        self._files = [("files", (name, data)) for name, data in photos.items()]
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []

    async def client(self, http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            answer = await http.post(f"{self._url}/v1/score", files=self._files)
            if answer.status_code != 200:
                self.failed.append(answer.text)
                continue
            prints = {item["fingerprint"] for item in answer.json()["items"]}
            assert len(prints) == 1, "a request is scored by one scorer"
            self.seen[prints.pop()] += 1

    async def until(self, done: Callable[[], bool], clients: int = 3) -> None:
        stop = asyncio.Event()
        async with httpx.AsyncClient(timeout=60) as http, asyncio.timeout(240):
            running = [asyncio.create_task(self.client(http, stop)) for _ in range(clients)]
            while not await asyncio.to_thread(done):
                if self.failed:
                    break
                await asyncio.sleep(0.2)
            stop.set()
            await asyncio.gather(*running)


def asked(url: str, path: str) -> dict:
    answer = httpx.get(f"{url}{path}", timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_successor_is_tried_and_takes_over(
    serve_run: Callable, folders: Path, small_scorer: Scorer, photos: dict[str, bytes]
) -> None:
    successor = Scorer.load(folders / "next")
    trial = {"scorer": str(folders / "next"), "share": 1.0, "criteria": {"min_items": 40}}
    before = {
        "scorer": str(folders / "now"),
        "candidate": trial,
        "adapters": {"mobile": str(folders / "adapter")},
    }
    with serve_run(before) as url:
        files = [("files", (name, data)) for name, data in photos.items()]
        answer = httpx.post(f"{url}/v1/score", files=files, data={"scorer": "mobile"}, timeout=60)
        assert answer.status_code == 200, answer.text
        adapted = load_adapter(small_scorer, str(folders / "adapter"))
        expected = [score.as_dict()["scores"] for score in adapted.score(photos.values())]
        told = [item["scores"] for item in answer.json()["items"]]
        assert told == json.loads(json.dumps(expected))

        traffic = Traffic(url, photos)

        def compared() -> bool:
            tasks = asked(url, "/v1/candidate")["tasks"]
            return tasks.get("quality", {"items": 0})["items"] >= 40

        asyncio.run(traffic.until(compared))
        told = asked(url, "/v1/candidate")
        assert (told["fingerprint"], told["candidate"]) == (
            small_scorer.fingerprint,
            successor.fingerprint,
        )
        assert told["tasks"]["quality"]["found"]["count"] >= 40 and told["failed"] == 0
        assert traffic.seen.keys() == {small_scorer.fingerprint}, "it answers nobody yet"

        port = urlsplit(url).port
        begun = time.monotonic()
        with serve_run({"scorer": str(folders / "next")}, port=port):

            def updated() -> bool:
                with suppress(httpx.HTTPError, AssertionError):
                    told, *_ = asked(url, "/v1/scorers")["scorers"]
                    recent = traffic.seen[successor.fingerprint]
                    return told["fingerprint"] == successor.fingerprint and recent >= 20
                return False

            asyncio.run(traffic.until(updated))
            print(f"updated after {time.monotonic() - begun:.1f} s: {dict(traffic.seen)}")
    assert traffic.failed == []
    assert traffic.seen.keys() == {small_scorer.fingerprint, successor.fingerprint}
