"""Scores of a published catalog's items, for the requests of one replica."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from beholder.catalog.head import read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lookup import Found, Lookup
from beholder.catalog.rank_record import RankRecord, find_ranks
from beholder.catalog.record import CatalogError
from beholder.catalog.tombstones import Tombstones, read_tombstones
from beholder.logs import event
from beholder.media.storage import StorageError
from beholder.serving.requests import RequestError

log = logging.getLogger(__name__)

RETRY_S = 30
"""Seconds after which a catalog that can't be read may be mended."""


class ItemScores(Protocol):
    """What knows items by their ids."""

    async def find(self, ids: Sequence[str], task: str) -> tuple[RankRecord, Found]:
        """What one snapshot, and no other, knows of some items.

        Raises:
            RequestError: 400 for a task that it has no scores for, 503 where it can't be read.
        """


class CatalogScores:
    """The newest ranked snapshot that HEAD has named, from look-up files on this machine's disk.

    HEAD is looked at again after some seconds, beside the requests. A snapshot that it names and
    that is ranked takes the place of the one before it whole, after the buckets that were in use
    have been fetched: requests that have begun end on the one before.

    Args:
        root: URI of the catalog's folder.
        refresh_s: seconds after which HEAD is looked at again.
    """

    def __init__(self, root: str, refresh_s: float) -> None:
        self._layout = Layout(root.rstrip("/"))
        self._refresh_s = refresh_s
        self._lookup: Lookup | None = None
        self._erased: Tombstones
        self._looked_at = 0.0
        self._opening = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, ids: Sequence[str], task: str) -> tuple[RankRecord, Found]:
        """As :meth:`ItemScores.find`; items that were erased until the last look are unknown."""
        lookup = await self._current()
        if task not in lookup.record.tasks:
            known = " or ".join(lookup.record.tasks) or "nothing"
            raise RequestError(
                400,
                f"snapshot {lookup.record.snapshot} has no scores for '{task}': ask for {known}",
            )
        try:
            return lookup.record, await asyncio.to_thread(lookup.find, ids, task, self._erased)
        except (StorageError, CatalogError) as error:
            raise _unreadable(error) from error

    async def _current(self) -> Lookup:
        if self._lookup is None:
            async with self._opening:
                if self._lookup is None:
                    await self._open()
        elif time.monotonic() - self._looked_at > self._refresh_s:
            self._looked_at = time.monotonic()
            self._refreshing = asyncio.create_task(self._refresh())
        assert self._lookup is not None
        return self._lookup

    async def _open(self) -> None:
        try:
            found = await asyncio.to_thread(self._newest)
        except (StorageError, CatalogError) as error:
            raise _unreadable(error) from error
        if found is None:
            raise RequestError(
                503,
                "the catalog has no ranked snapshot: whoever runs it runs rank_catalog.py",
                RETRY_S,
            )
        self._lookup, self._looked_at = found, time.monotonic()

    async def _refresh(self) -> None:
        """Keeps what there is where nothing newer can be had."""
        try:
            self._lookup = await asyncio.to_thread(self._newest) or self._lookup
        except (StorageError, CatalogError) as error:
            event(log, "catalog.not_refreshed", error=str(error))

    def _newest(self) -> Lookup | None:
        """The snapshot that HEAD names, ready; None where it isn't ranked yet."""
        head = read_head(self._layout)
        if head is None:
            return None
        self._erased = read_tombstones(self._layout)
        now = self._lookup
        record = find_ranks(self._layout, RunId.parse(head.snapshot))
        if now is not None and now.record == record:
            return now
        if record is None:
            event(log, "catalog.unranked", snapshot=head.snapshot)
            return None
        lookup = Lookup(self._layout, record)
        lookup.fetch(now.mapped() if now else ())
        event(log, "catalog.opened", snapshot=record.snapshot, items=record.items)
        return lookup


def _unreadable(error: Exception) -> RequestError:
    """Without the store's own words, which name its address."""
    event(log, "catalog.unreadable", error=str(error))
    return RequestError(503, "the catalog can't be read: try it later", RETRY_S)
