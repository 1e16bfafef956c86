"""From a request's items to pixels, in decoder processes, without blocking an event loop."""

import asyncio
import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from beholder.items import Failure, FailureCode, Item, ItemError
from beholder.media.fetch import Fetched
from beholder.media.limits import Limits
from beholder.media.sniff import sniff
from beholder.media.stage import Stage, Staged
from beholder.serving.service import StagedGroup

FETCHES = 16
"""URIs that a replica holds at a time, from their first byte to their pixels: slow hosts must not
take the threads of those that wait for a decoder, and what was fetched must fit into memory."""


LEAST_S = 1.0
"""Seconds of decoding below which an item's time isn't halved."""
HUNG = {FailureCode.DECODE_TIMEOUT, FailureCode.VIDEO_TIMEOUT}


class Patience:
    """How long each of some items that share decoders may take, so that all end in time.

    An item has all the time that is left, up to the decoders' own limit, and half, a quarter ... of
    it once one, two ... before it have hung: so many may hang and their neighbours have a turn.

    Args:
        seconds: for all of them, from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.hung = 0
        self._ends = time.monotonic() + seconds

    def limit(self) -> float:
        """Seconds for the item whose turn it is; 0 where none are left."""
        left = self._ends - time.monotonic()
        return min(left, max(LEAST_S, left / 2**self.hung)) if left > 0 else 0.0


class Preprocessor:
    """Stages items; those of concurrent requests in the order in which they came.

    Args:
        stage: with a pool of decoders.
        patience_s: seconds after which all items that came together have their pixels, or failed.
    """

    def __init__(self, stage: Stage, patience_s: float) -> None:
        assert stage.pool is not None, "a decoder's crash must not take the replica along"
        self._stage = stage
        self._patience_s = patience_s
        self._decoders = ThreadPoolExecutor(stage.pool.workers, "decode")
        self._fetchers = ThreadPoolExecutor(FETCHES, "fetch")
        self._fetching = asyncio.Semaphore(FETCHES)

    async def stage(self, items: Sequence[Item]) -> StagedGroup:
        """Pixels or a failure for each; cancelled, what has not begun is dropped.

        What has begun ends at the time limits of fetching and decoding.
        """
        begun = time.monotonic()
        patience = Patience(self._patience_s)
        staged = await asyncio.gather(*(self._one(item, patience) for item in items))
        pairs = [(item.item_id, found) for item, found in zip(items, staged, strict=True)]
        return StagedGroup(pairs, time.monotonic() - begun)

    async def _one(self, item: Item, patience: Patience) -> Staged | Failure:
        loop = asyncio.get_running_loop()
        if isinstance(item.source, bytes):
            return await loop.run_in_executor(self._decoders, self._decoded, item, patience)
        async with self._fetching:
            fetched = await loop.run_in_executor(self._fetchers, self._stage.fetch, item)
            if isinstance(fetched, Failure):
                return fetched
            return await loop.run_in_executor(
                self._decoders, self._decoded, item, patience, fetched
            )

    def _decoded(
        self, item: Item, patience: Patience, fetched: Fetched | Failure | None = None
    ) -> Staged | Failure:
        """An item's pixels, in a decoder's thread; bytes that came with the request are there."""
        fetched = fetched or self._stage.fetch(item)
        if isinstance(fetched, Failure):
            return fetched
        limit = patience.limit()
        if not limit:
            message = (
                f"no decoder was free for it within {patience.seconds:g} s: send it again, without "
                "items that hang, or fewer at a time"
            )
            return Failure(FailureCode.DECODE_TIMEOUT, message, bytes_read=len(fetched.data))
        found = self._stage.decode(item, fetched, limit)
        if isinstance(found, Failure) and found.code in HUNG:
            patience.hung += 1
        return found

    async def warm(self) -> None:
        """Starts every decoder, so that the first request doesn't wait for them.

        Raises:
            RuntimeError: a picture can't be decoded here.
        """
        item = Item("warm", made_picture())
        assert self._stage.pool is not None
        group = await self.stage([item] * self._stage.pool.workers)
        for _, found in group.items:
            if isinstance(found, Failure):
                raise RuntimeError(f"a decoder fails on a plain picture: {found.message}")


def made_picture() -> bytes:
    """A small encoded picture that any decoder and scorer can take."""
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((80, 60)).save(file, "PNG")
    return file.getvalue()


def expected_frames(item: Item, limits: Limits) -> int:
    """Frames that an item may come to, told by its first bytes.

    A picture has one, and a video is taken for the longest that is let in. What a URI names is
    not known yet and counts as a picture.
    """
    if not isinstance(item.source, bytes):
        return 1
    try:
        kind = sniff(item.source).kind
    except ItemError:
        return 1
    longest = min(int(limits.max_seconds), limits.max_clips * limits.clip_frames)
    return max(1, longest) if kind == "video" else 1
