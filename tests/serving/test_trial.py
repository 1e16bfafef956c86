"""A candidate beside the scorer: what is compared, what is let go, what is said of it."""

import asyncio
from typing import Any

import numpy as np
import pytest

from beholder.evaluation.succession import SuccessionConfig, compare_scorers
from beholder.serving.trial import MOST_RUNNING, Answers, Pairs, Trial, verdict

RNG = np.random.default_rng(0)


def said(mean: float | None, fingerprint: str, task: str = "quality") -> dict[str, Any]:
    answer = {"item_id": "a", "fingerprint": fingerprint}
    if mean is None:
        return answer | {"failure": {"code": "decode.truncated"}}
    return answer | {"scores": {task: {"mean": mean, "scale": (1.0, 5.0)}}}


def group(means: list[float | None], fingerprint: str, task: str = "quality") -> list[Any]:
    return [said(mean, fingerprint, task) for mean in means]


def pairs_of(old: list[Any], new: list[Any]) -> Pairs:
    pairs = Pairs()
    pairs.add(old, new)
    return pairs


def test_only_what_both_scored_is_compared() -> None:
    pairs = pairs_of(group([1.0, None, 3.0, 4.0], "f1"), group([1.5, 2.5, None, 4.5], "f2"))
    assert list(pairs.means["quality"]) == [(1.0, 1.5), (4.0, 4.5)]
    pairs.add(group([2.0], "f1", "aesthetics"), group([2.0], "f2"))
    assert pairs.means.keys() == {"quality"}


def test_pairs_of_a_replaced_scorer_are_forgotten() -> None:
    pairs = pairs_of(group([1.0], "f1"), group([2.0], "f2"))
    pairs.add(group([3.0], "f1"), group([4.0], "f3"))
    assert list(pairs.means["quality"]) == [(3.0, 4.0)]
    assert pairs.fingerprints == ("f1", "f3")


def test_the_verdict_is_over_all_replicas() -> None:
    old = RNG.uniform(1, 5, 300)
    new = np.clip(old + RNG.normal(0, 0.1, 300), 1, 5)
    told = [
        pairs_of(group(list(a), "f1"), group(list(b), "f2"))
        for a, b in zip(np.split(old, 3), np.split(new, 3), strict=True)
    ]
    told[0].skipped, told[1].failed = 5, 2
    answer = verdict(told, SuccessionConfig(min_items=300))
    assert (answer.fingerprint, answer.candidate) == ("f1", "f2")
    assert (answer.ready, answer.skipped, answer.failed) == (True, 5, 2)
    found = answer.tasks["quality"].found
    assert found == compare_scorers(old, new, (1, 5), (1, 5))
    assert answer.model_validate_json(answer.model_dump_json()) == answer

    answer = verdict(told[:2], SuccessionConfig(min_items=300))
    assert not answer.ready
    assert answer.tasks["quality"].reasons == ["200 items have scores of both, 300 are asked for"]


def test_replicas_of_an_earlier_update_are_left_out() -> None:
    now = pairs_of(group([1.0] * 20, "f2"), group([1.0] * 20, "f3"))
    before = pairs_of(group([5.0] * 3, "f1"), group([5.0] * 3, "f2"))
    answer = verdict([before, now], SuccessionConfig(min_items=2))
    assert (answer.fingerprint, answer.candidate) == ("f2", "f3")
    assert answer.tasks["quality"].items == 20


def test_nothing_seen_is_not_ready() -> None:
    answer = verdict([Pairs()], SuccessionConfig())
    assert not answer.ready and answer.candidate is None and answer.tasks == {}
    few = verdict([pairs_of(group([1.0], "f1"), group([1.0], "f2"))], SuccessionConfig())
    assert not few.ready and few.tasks["quality"].reasons[0].startswith("1 items have scores")


def test_a_slow_candidate_is_let_go_and_a_broken_one_counted() -> None:
    async def traffic() -> Pairs:
        trial = Trial(share=1.0)
        release = asyncio.Event()
        asked = 0

        async def slow() -> Answers:
            nonlocal asked
            asked += 1
            mine = asked
            await release.wait()
            if mine == 1:
                raise RuntimeError("the candidate's replica died")
            return group([2.0], "f2")

        for _ in range(MOST_RUNNING + 3):
            trial.follow(group([1.0], "f1"), slow)
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert len(running) == MOST_RUNNING
        release.set()
        await asyncio.gather(*running)
        return trial.pairs

    pairs = asyncio.run(traffic())
    assert pairs.skipped == 3
    assert pairs.failed == 1
    assert list(pairs.means["quality"]) == [(1.0, 2.0)] * (MOST_RUNNING - 1)


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.1, 60, 140), (1.0, 1000, 1000)])
def test_the_share(share: float, low: int, high: int) -> None:
    async def traffic() -> int:
        trial = Trial(share)

        async def score() -> Answers:
            return group([2.0], "f2")

        for _ in range(1000):
            trial.follow(group([1.0], "f1"), score)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return len(trial.pairs.means.get("quality", ()))

    assert low <= asyncio.run(traffic()) <= high
