"""From an item to uint8 pixels: the one path that training, catalog and serving share."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from beholder.items import RETRY, Failure, FailureCode, Item, ItemError, Kind
from beholder.media.clips import Decoded, plan_clips
from beholder.media.decode import Request, check_kind, decode, picture, recognise
from beholder.media.fetch import Fetched, fetch
from beholder.media.images import upright_rgb
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.pool import DecoderPool
from beholder.media.preprocess import to_pixels

T = TypeVar("T")
Fetcher = Callable[[str | Path | bytes, Limits, str | None], Fetched]


@dataclass(frozen=True)
class Staged:
    """An item's pixels, ready for a backbone.

    Attributes:
        item_id: the item's key.
        kind: what it turned out to be.
        clips: uint8 (T, S, S, 3) each; a picture is one clip of one frame.
        seconds: how long each clip lasts; (0.0,) for a picture.
        coverage: the part of a video's seconds that the clips cover, 0..1.
        sha256: of the encoded bytes, in hex; None for an item that came decoded.
        bytes_read: encoded bytes.
    """

    item_id: str
    kind: Kind
    clips: tuple[NDArray[np.uint8], ...]
    seconds: tuple[float, ...]
    coverage: float
    sha256: str | None
    bytes_read: int


class Stage:
    """Fetches, decodes and preprocesses items; a bad one becomes a failure, never an exception.

    Args:
        spec: what the pixels shall look like.
        limits: what an item may cost.
        pool: where to decode; None decodes in this process, without a time limit and without
            a wall between a decoder's crash and the caller.
        fetcher: gives the bytes of paths, URIs and bytes; by default
            :func:`beholder.media.fetch.fetch`, which opens whatever this process can.
    """

    def __init__(
        self,
        spec: PixelSpec,
        limits: Limits,
        pool: DecoderPool | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.pool = pool
        self._fetcher = fetcher

    def stage(self, item: Item) -> Staged | Failure:
        """One item; each step is tried again as ``items.RETRY`` says of its failure.

        Raises:
            RuntimeError: the pool is closed or can start no process, which is no item's fault.
        """
        if not isinstance(item.source, str | Path | bytes):
            return self._tried(lambda: self._opened_source(item))
        fetched = self.fetch(item)
        return fetched if isinstance(fetched, Failure) else self.decode(item, fetched)

    def fetch(self, item: Item) -> Fetched | Failure:
        """The encoded bytes of an item whose source is a path, a URI or bytes."""
        source = item.source
        assert isinstance(source, str | Path | bytes), type(source)
        return self._tried(lambda: (self._fetcher or fetch)(source, self.limits, item.etag))

    def decode(
        self, item: Item, fetched: Fetched, timeout_s: float | None = None
    ) -> Staged | Failure:
        """The pixels of what :meth:`fetch` gave.

        Args:
            item: that it is of.
            fetched: its bytes.
            timeout_s: seconds that a pool's decoder may take, where that is less than others may.

        Raises:
            RuntimeError: as :meth:`stage`.
        """
        size = len(fetched.data)

        def once() -> Staged:
            return _staged(item, self._decode(item, fetched, timeout_s), fetched.sha256, size)

        found = self._tried(once)
        return replace(found, bytes_read=size) if isinstance(found, Failure) else found

    def misnamed(self, item: Item, fetched: Fetched) -> Failure | None:
        """What :meth:`decode` would say of content that is not of the item's kind, for nothing."""
        found = self._tried(lambda: recognise(fetched.data, item.kind))
        return replace(found, bytes_read=len(fetched.data)) if isinstance(found, Failure) else None

    def _tried(self, once: Callable[[], T]) -> T | Failure:
        attempts = 0
        while True:
            attempts += 1
            try:
                return once()
            except ItemError as error:
                policy = RETRY[error.failure.code]
                if attempts >= policy.attempts:
                    return replace(error.failure, attempts=attempts)
                time.sleep(policy.backoff_s * 2 ** (attempts - 1))

    def many(self, items: Iterable[Item], threads: int) -> Iterator[Staged | Failure]:
        """Items in their order, ``threads`` at a time; at most twice as many are held."""
        waiting: deque[Future[Staged | Failure]] = deque()
        with ThreadPoolExecutor(threads) as executor:
            for item in items:
                waiting.append(executor.submit(self.stage, item))
                if len(waiting) == 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _opened_source(self, item: Item) -> Staged:
        """An item whose pictures the caller has opened."""
        source = item.source
        if isinstance(source, Image.Image):
            check_kind(item.kind, "image", "a picture")
            return _staged(item, picture(self._opened(source), self.spec), None, 0)
        if not _are_pictures(source):
            raise ItemError(
                FailureCode.FETCH_UNSUPPORTED,
                f"a source of type {type(source).__name__} can't be read: give a path, a URI, "
                "bytes, a PIL image or a list of PIL images",
            )
        check_kind(item.kind, "video", "a list of frames")
        return _staged(item, self._frames(source), None, 0)

    def _decode(self, item: Item, fetched: Fetched, timeout_s: float | None) -> Decoded:
        request = Request(fetched.data, self.spec, self.limits, item.kind)
        return decode(request) if self.pool is None else self.pool.decode(request, timeout_s)

    def _frames(self, frames: Sequence[Image.Image]) -> Decoded:
        """Frames at 1 fps, each of which stands for a second."""
        if not frames:
            raise ItemError(FailureCode.VIDEO_NO_FRAMES, "the list of frames is empty")
        plan = plan_clips(float(len(frames)), self.limits)
        clips = tuple(
            np.stack([to_pixels(self._opened(frames[at]), self.spec) for at in clip])
            for clip in plan.clips
        )
        return Decoded("video", clips, plan.seconds, plan.coverage)

    def _opened(self, image: Image.Image) -> Image.Image:
        """A picture that the caller has opened: its pixels may still have to be read."""
        try:
            return upright_rgb(image, self.limits)
        except OSError as error:
            raise ItemError(
                FailureCode.DECODE_TRUNCATED, f"the picture is cut off or damaged ({error})"
            ) from error


def _are_pictures(source: object) -> TypeGuard[Sequence[Image.Image]]:
    return isinstance(source, Sequence) and all(isinstance(f, Image.Image) for f in source)


def _staged(item: Item, decoded: Decoded, sha256: str | None, bytes_read: int) -> Staged:
    return Staged(
        item.item_id,
        decoded.kind,
        decoded.clips,
        decoded.seconds,
        decoded.coverage,
        sha256,
        bytes_read,
    )
