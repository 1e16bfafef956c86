"""A client of the endpoint, in two forms: :class:`Client` waits, :class:`AsyncClient` awaits.

with Client("http://127.0.0.1:8000", key="...") as client:
    scores = client.score(["a.jpg", "s3://media/b.mp4", data], tasks=["quality"])
    print(scores[0].tasks["quality"].mean, scores[1].failure)
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import httpx

from beholder.items import Score
from beholder.serving.exchanges import Answer, Exchanges, Flow, T, Upload

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """Talks to one endpoint; close it, or use it in a ``with``.

    Busy answers (429, 503) are waited out as their Retry-After asks, lost connections and a
    proxy's 500, 502, 503 and 504 with a growing pause, six tries in all.

    Args:
        url: of the endpoint.
        key: an API key; BEHOLDER_API_KEY by default.
        timeout_s: seconds that the endpoint may be silent.
        max_wait_s: the longest pause; an endpoint that asks for more is an error.
        transport: of httpx, in place of the network.

    Raises:
        UserError: the key can't stand in a header.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        timeout_s: float = 120.0,
        max_wait_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._exchanges = Exchanges(url, key, max_wait_s)
        self._http = httpx.Client(timeout=timeout_s, transport=transport)

    def score(
        self, items: Iterable[Upload], tasks: Sequence[str] = (), scorer: str = ""
    ) -> list[Score]:
        """One score an item, in order; a bad item has a ``failure`` and harms no other.

        Long lists are sent in several requests, within the endpoint's limits.

        Args:
            items: paths, encoded bytes, URIs that the endpoint may read, or Items of these.
            tasks: all that fit an item's kind by default.
            scorer: name of an adapter, see :meth:`scorers`; empty for the scorer itself.

        Raises:
            EndpointError: the endpoint refuses a request, or can't be reached.
            UserError: a file can't be read, or items or tasks are no list.
        """
        return self._run(self._exchanges.score(items, tasks, scorer))

    def rank(self, candidates: Sequence[Mapping[str, Any]], **asked: Any) -> dict[str, Any]:
        """The answer of ``POST /v1/rank`` to candidates and what else its schema has.

        Args:
            candidates: as the schema has them.
            asked: the schema's other fields, such as ``task``, ``rule`` and ``scorer``.

        Raises:
            EndpointError: the endpoint refuses the request, or can't be reached.
        """
        return self._run(self._exchanges.rank(candidates, **asked))

    def scorers(self) -> list[dict[str, Any]]:
        """Fingerprint and tasks of what is served.

        Raises:
            EndpointError: the endpoint can't be reached, or is none.
        """
        return self._run(self._exchanges.scorers())

    def _run(self, flow: Flow[T]) -> T:
        answer: Answer | None = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, float):
                time.sleep(step)
                answer = None
                continue
            try:
                answer = self._http.send(step)
            except httpx.TransportError as error:
                answer = error

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """As :class:`Client`, for an event loop; use it in an ``async with``.

    Arguments and errors as there.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        timeout_s: float = 120.0,
        max_wait_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._exchanges = Exchanges(url, key, max_wait_s)
        self._http = httpx.AsyncClient(timeout=timeout_s, transport=transport)

    async def score(
        self, items: Iterable[Upload], tasks: Sequence[str] = (), scorer: str = ""
    ) -> list[Score]:
        """As :meth:`Client.score`."""
        return await self._run(self._exchanges.score(items, tasks, scorer))

    async def rank(self, candidates: Sequence[Mapping[str, Any]], **asked: Any) -> dict[str, Any]:
        """As :meth:`Client.rank`."""
        return await self._run(self._exchanges.rank(candidates, **asked))

    async def scorers(self) -> list[dict[str, Any]]:
        """As :meth:`Client.scorers`."""
        return await self._run(self._exchanges.scorers())

    async def _run(self, flow: Flow[T]) -> T:
        answer: Answer | None = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, float):
                await asyncio.sleep(step)
                answer = None
                continue
            try:
                answer = await self._http.send(step)
            except httpx.TransportError as error:
                answer = error

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
