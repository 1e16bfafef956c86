"""Dynamic batches by frames: what came while the engine was busy is scored together next.

Serve's own ``@serve.batch`` gathers calls, so a call of 30 items is in one batch or waits for the
next, a call that doesn't fit goes behind those that came after it, and an idle engine waits out its
time-out. Here items are gathered: a batch is filled to its budget across calls, in their order.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from beholder.items import Failure
from beholder.media.stage import Staged
from beholder.scoring import Scorer
from beholder.serving.service import Answered, StagedGroup, Tasks

Score = Callable[[Scorer, Sequence[tuple[str, Staged | Failure]], Tasks], list[dict[str, Any]]]


@dataclass
class _Waiting:
    """One item that waits for its batch."""

    item: tuple[str, Staged | Failure]
    scorer: Scorer
    tasks: Tasks
    answer: asyncio.Future[dict[str, Any]]
    frames: int
    since: float
    begun: float = field(default=0.0)


class FrameBatcher:
    """Scores items of concurrent calls in batches, one batch at a time, in a thread of its own.

    Args:
        score: scores the items of a batch; called in the thread.
        max_frames: of a batch; an item that has more goes alone.
        wait_s: seconds that an idle engine waits for a batch to fill up.
        on_batch: told a batch's frames and seconds.
    """

    def __init__(
        self,
        score: Score,
        max_frames: int,
        wait_s: float,
        on_batch: Callable[[int, float], None] = lambda frames, seconds: None,
    ) -> None:
        self._score = score
        self._max_frames = max_frames
        self._wait_s = wait_s
        self._on_batch = on_batch
        self._thread = ThreadPoolExecutor(1, "engine")
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self.failed = 0
        """Batches that raised."""

    @property
    def waiting_frames(self) -> int:
        """Frames that wait for a batch."""
        return sum(one.frames for one in self._queue if not one.answer.done())

    async def submit(self, scorer: Scorer, group: StagedGroup, tasks: Tasks) -> Answered:
        """Has a scorer score a group; cancelled, its items that are in no batch yet are dropped.

        Raises:
            Exception: whatever the scorer raised of one of these items alone.
        """
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        loop, now = asyncio.get_running_loop(), time.monotonic()
        mine = [
            _Waiting(item, scorer, tasks, loop.create_future(), _frames(item[1]), now)
            for item in group.items
        ]
        self._queue.extend(mine)
        self._arrived.set()
        answers = await asyncio.gather(*(one.answer for one in mine))
        begun = max((one.begun for one in mine), default=now)
        seconds = {
            "preprocess": group.seconds,
            "queue": max((one.begun - now for one in mine), default=0.0),
            "engine": time.monotonic() - begun,
        }
        return Answered(list(answers), sum(one.frames for one in mine), seconds)

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if self._wait_s:
                await self._fill()
            batch = self._take()
            if not self._queue:
                self._arrived.clear()
            if batch:
                await self._run(batch)

    async def _fill(self) -> None:
        """Waits for a full batch, but not longer than the first of it may wait."""
        until = self._queue[0].since + self._wait_s if self._queue else 0.0
        while self.waiting_frames < self._max_frames and (left := until - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                break

    def _take(self) -> list[_Waiting]:
        """The next batch: items in their order, as long as they fit and ask for the same."""
        batch: list[_Waiting] = []
        frames = 0
        while self._queue:
            one = self._queue[0]
            if not one.answer.done():
                full = frames + one.frames > self._max_frames
                first = batch[0] if batch else one
                other = one.scorer is not first.scorer or one.tasks != first.tasks
                if batch and (full or other):
                    break
                batch.append(one)
                frames += one.frames
            self._queue.popleft()
        return batch

    async def _run(self, batch: list[_Waiting]) -> None:
        begun = time.monotonic()
        for one in batch:
            one.begun = begun
        items = [one.item for one in batch]
        loop = asyncio.get_running_loop()
        try:
            first = batch[0]
            answers = await loop.run_in_executor(
                self._thread, self._score, first.scorer, items, first.tasks
            )
        except Exception as error:
            self.failed += 1
            if len(batch) > 1:  # Whoever it is, the others shall not pay for it.
                for one in batch:
                    await self._run([one])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        self._on_batch(sum(one.frames for one in batch), time.monotonic() - begun)
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)


def _frames(staged: Staged | Failure) -> int:
    return 0 if isinstance(staged, Failure) else sum(len(clip) for clip in staged.clips)
