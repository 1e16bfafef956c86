"""Batches by frames, with an engine that waits until the test lets it go on."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np
import pytest

from beholder.items import Failure, FailureCode
from beholder.media.stage import Staged
from beholder.serving.batching import FrameBatcher
from beholder.serving.service import Answered, StagedGroup, Tasks

SCORER: Any = object()


def staged(name: str, frames: int = 1) -> tuple[str, Staged | Failure]:
    clip = np.zeros((frames, 2, 2, 3), dtype=np.uint8)
    return name, Staged(name, "image", (clip,), (0.0,), 1.0, None, 0)


def group(*items: tuple[str, Staged | Failure]) -> StagedGroup:
    return StagedGroup(list(items), 0.5)


class Gated:
    """An engine that notes its batches and begins each when it may."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.batches: list[tuple[list[str], Tasks]] = []
        self.begun = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.poison = ""

    def __call__(
        self, scorer: Any, items: Sequence[tuple[str, Any]], tasks: Tasks
    ) -> list[dict[str, Any]]:
        self.batches.append(([name for name, _ in items], tasks))
        self.loop.call_soon_threadsafe(self.begun.set)
        assert self.gate.acquire(timeout=10)
        if self.poison in [name for name, _ in items]:
            raise RuntimeError(self.poison)
        return [{"item_id": name} for name, _ in items]

    def go_on(self, batches: int = 1) -> None:
        self.gate.release(batches)


def names(answered: Answered) -> list[str]:
    return [answer["item_id"] for answer in answered.answers]


def run(body: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await body

    asyncio.run(limited())


async def first_running(batcher: FrameBatcher, engine: Gated) -> asyncio.Task[Answered]:
    """A batch that keeps the engine busy, so that others gather."""
    task = asyncio.create_task(batcher.submit(SCORER, group(staged("first")), None))
    await engine.begun.wait()
    return task


def test_what_came_meanwhile_is_batched_across_calls_in_order() -> None:
    async def body() -> None:
        engine = Gated()
        batcher = FrameBatcher(engine, 4, 0.0)
        first = await first_running(batcher, engine)
        calls = [
            batcher.submit(SCORER, group(*(staged(f"{c}{i}") for i in range(3))), None)
            for c in "abc"
        ]
        rest = asyncio.gather(*calls)
        await asyncio.sleep(0)
        assert batcher.waiting_frames == 9
        engine.go_on(4)
        assert [names(answered) for answered in await rest] == [
            ["a0", "a1", "a2"],
            ["b0", "b1", "b2"],
            ["c0", "c1", "c2"],
        ]
        assert names(await first) == ["first"]
        assert [batch for batch, _ in engine.batches] == [
            ["first"],
            ["a0", "a1", "a2", "b0"],
            ["b1", "b2", "c0", "c1"],
            ["c2"],
        ]

    run(body())


def test_frames_are_counted_and_not_items_and_a_failure_has_none() -> None:
    async def body() -> None:
        engine = Gated()
        batcher = FrameBatcher(engine, 8, 0.0)
        first = await first_running(batcher, engine)
        failure = Failure(FailureCode.DECODE_EMPTY, "empty")
        some = [staged("v", 5), ("x", failure), staged("w", 3), staged("long", 20), staged("p")]
        rest = asyncio.create_task(batcher.submit(SCORER, group(*some), None))
        await asyncio.sleep(0)
        engine.go_on(5)
        answered = await rest
        assert answered.frames == 29
        assert [batch for batch, _ in engine.batches[1:]] == [["v", "x", "w"], ["long"], ["p"]]
        assert answered.seconds["preprocess"] == 0.5
        await first

    run(body())


def test_calls_for_another_scorer_have_batches_of_their_own() -> None:
    async def body() -> None:
        engine = Gated()
        batcher = FrameBatcher(engine, 8, 0.0)
        first = await first_running(batcher, engine)
        other: Any = object()
        rest = asyncio.gather(
            *(
                batcher.submit(scorer, group(staged(f"{i}")), None)
                for i, scorer in enumerate([SCORER, SCORER, other, SCORER])
            )
        )
        await asyncio.sleep(0)
        engine.go_on(4)
        await rest
        assert [batch for batch, _ in engine.batches[1:]] == [["0", "1"], ["2"], ["3"]]
        await first

    run(body())


def test_calls_for_other_tasks_have_batches_of_their_own() -> None:
    async def body() -> None:
        engine = Gated()
        batcher = FrameBatcher(engine, 8, 0.0)
        first = await first_running(batcher, engine)
        asked: list[Tasks] = [("quality",), ("quality",), None]
        rest = asyncio.gather(
            *(batcher.submit(SCORER, group(staged(f"{i}")), tasks) for i, tasks in enumerate(asked))
        )
        await asyncio.sleep(0)
        engine.go_on(3)
        await rest
        assert engine.batches[1:] == [(["0", "1"], ("quality",)), (["2"], None)]
        await first

    run(body())


def test_a_cancelled_calls_items_are_dropped_and_the_others_move_up() -> None:
    async def body() -> None:
        engine = Gated()
        batcher = FrameBatcher(engine, 2, 0.0)
        first = await first_running(batcher, engine)
        left = asyncio.create_task(batcher.submit(SCORER, group(staged("a"), staged("b")), None))
        stays = asyncio.create_task(batcher.submit(SCORER, group(staged("c")), None))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert batcher.waiting_frames == 1
        engine.go_on(2)
        assert names(await stays) == ["c"]
        assert [batch for batch, _ in engine.batches] == [["first"], ["c"]]
        await first

    run(body())


def test_who_makes_the_scorer_raise_fails_alone() -> None:
    async def body() -> None:
        engine = Gated()
        engine.poison = "bad"
        batcher = FrameBatcher(engine, 4, 0.0)
        first = await first_running(batcher, engine)
        good = asyncio.create_task(batcher.submit(SCORER, group(staged("good")), None))
        bad = asyncio.create_task(batcher.submit(SCORER, group(staged("bad")), None))
        await asyncio.sleep(0)
        engine.go_on(4)
        assert names(await good) == ["good"]
        with pytest.raises(RuntimeError, match="bad"):
            await bad
        assert batcher.failed == 2
        await first

    run(body())


def test_an_idle_engine_waits_for_company_when_told_so() -> None:
    async def body() -> None:
        engine = Gated()
        engine.go_on(2)
        batcher = FrameBatcher(engine, 2, 30.0)
        one = asyncio.create_task(batcher.submit(SCORER, group(staged("a")), None))
        await asyncio.sleep(0.05)
        assert engine.batches == []
        other = asyncio.create_task(batcher.submit(SCORER, group(staged("b")), None))
        await asyncio.gather(one, other)
        assert [batch for batch, _ in engine.batches] == [["a", "b"]], "a full one doesn't wait"
        short = FrameBatcher(engine, 2, 0.05)
        engine.go_on()
        assert names(await short.submit(SCORER, group(staged("c")), None)) == ["c"]

    run(body())
