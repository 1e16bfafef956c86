"""What a client says to the endpoint and how often, whoever sends it.

Written once for both clients as generators: they yield a request to send, or seconds to wait.
"""

import itertools
import json
import os
import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from beholder.errors import UserError
from beholder.items import Item, Score

ENVIRONMENT = "BEHOLDER_API_KEY"
"""The variable that holds the key where none is given."""

BUSY = (429, 503)
"""Statuses of an endpoint that will have room later."""
BETWEEN = (500, 502, 503, 504)
"""Statuses of a proxy before the endpoint that lost its replica; the endpoint's own explain."""
TRIES = 6
"""How often a request is sent before it is given up."""
BACKOFF_S = 0.5
"""Seconds before the second try where the endpoint doesn't say; doubled before each further."""
ENVELOPE = 1024
"""Bytes that a request needs around an item."""
EXCERPT = 100
"""Characters of a foreign answer that an error repeats."""

Upload = str | Path | bytes | Item
"""A path or URI, encoded bytes, or an item of one of these."""
T = TypeVar("T")
Answer = httpx.Response | httpx.TransportError
Flow = Generator[httpx.Request | float, Answer | None, T]
"""Yields requests, for which it is sent the response or why there is none, and seconds."""


class EndpointError(UserError):
    """The endpoint refused a request, or gave no answer.

    Attributes:
        status: of the answer; None without one.
        request_id: under which the endpoint's log knows the request, where it says one.
    """

    def __init__(self, message: str, status: int | None = None, request_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class Exchanges:
    """What both clients say, without sending it.

    Args:
        url: of the endpoint.
        key: an API key; None looks into :data:`ENVIRONMENT`.
        max_wait_s: the longest pause.

    Raises:
        UserError: the URL is none, or the key can't stand in a header.
    """

    def __init__(self, url: str, key: str | None, max_wait_s: float) -> None:
        self._url = _checked(url)
        self._max_wait_s = max_wait_s
        self._limits: Mapping[str, int] | None = None
        key = os.environ.get(ENVIRONMENT, "") if key is None else key
        if not (key.isascii() and key.isprintable()):
            raise UserError("the API key holds characters that no header can: copy it again")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def scorers(self) -> Flow[list[dict[str, Any]]]:
        """See :meth:`beholder.serving.client.Client.scorers`."""
        told = yield from self._ask("GET", "/v1/scorers")
        self._limits = told.get("limits") or {}
        found: list[dict[str, Any]] = told["scorers"]
        return found

    def score(
        self, items: Iterable[Upload], tasks: Sequence[str], scorer: str
    ) -> Flow[list[Score]]:
        """See :meth:`beholder.serving.client.Client.score`."""
        if isinstance(items, Upload):
            said = "encoded bytes" if isinstance(items, bytes) else f"'{_name_of(items)}'"
            raise UserError(f"items is one item, {said}: send a list of items, [item]")
        if isinstance(tasks, str):
            raise UserError(f"tasks is one text, '{tasks}': name a list of tasks, ['{tasks}']")
        if self._limits is None:
            yield from self.scorers()
        assert self._limits is not None, "the endpoint was asked for them"
        scores: list[Score] = []
        for batch in _batches(_loaded(items), self._limits):
            told = yield from self._ask("POST", "/v1/score", **_body(batch, tasks, scorer))
            scores += _read(batch, told)
        return scores

    def rank(self, candidates: Sequence[Mapping[str, Any]], **asked: Any) -> Flow[dict[str, Any]]:
        """See :meth:`beholder.serving.client.Client.rank`."""
        body = {"candidates": [dict(one) for one in candidates], **asked}
        told = yield from self._ask("POST", "/v1/rank", json=body)
        return dict(told)

    def _ask(self, method: str, path: str, **body: Any) -> Flow[Any]:
        """Sends until there is an answer; all requests may be repeated, none changes anything."""
        request = httpx.Request(method, self._url + path, headers=self._headers, **body)
        for attempt in itertools.count():
            answer = yield request
            assert answer is not None, "a request is answered"
            if isinstance(answer, httpx.Response) and not _passes(answer):
                return _told(answer)
            if attempt + 1 == TRIES or isinstance(answer, httpx.LocalProtocolError):
                raise _given_up(request, answer)
            yield self._pause(answer, attempt)

    def _pause(self, answer: Answer, attempt: int) -> float:
        """Seconds before the next try: never less than the endpoint asked for."""
        asked = _retry_after(answer) if isinstance(answer, httpx.Response) else None
        if asked is None:
            return min(BACKOFF_S * 2**attempt, self._max_wait_s) * random.uniform(0.5, 1)
        if asked > self._max_wait_s:
            assert isinstance(answer, httpx.Response)
            raise EndpointError(
                f"{self._url} asks to come again in {asked:.0f} s, longer than max_wait_s "
                f"({self._max_wait_s:g}): try it later",
                answer.status_code,
            )
        return asked


def _checked(url: str) -> str:
    try:
        read = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise UserError(f"'{url}' is no URL ({error}): write http://host:port") from error
    if read.scheme not in ("http", "https") or not read.host:
        raise UserError(f"'{url}' is no URL of an endpoint: write http://host:port")
    if read.userinfo:  # It would stand in messages and logs; it isn't repeated here either.
        raise UserError(f"the URL of {read.host} holds a password: give an API key as `key`")
    return url.rstrip("/")


def _batches(items: Iterable[Item], limits: Mapping[str, int]) -> Iterator[list[Item]]:
    """Items in order, as many a request as the endpoint takes; uploads and URIs apart."""
    most = limits.get("max_items", 64)
    room = limits.get("max_body_bytes", 64 * 2**20) - ENVELOPE
    batch: list[Item] = []
    used = 0
    for item in items:
        cost = ENVELOPE + len(item.source if isinstance(item.source, bytes) else str(item.source))
        full = len(batch) == most or used + cost > room
        if batch and (full or isinstance(item.source, bytes) != isinstance(batch[0].source, bytes)):
            yield batch
            batch, used = [], 0
        batch.append(item)
        used += cost
    if batch:
        yield batch


def _name_of(one: str | Path | Item) -> str:
    return one.item_id if isinstance(one, Item) else str(one)


def _loaded(items: Iterable[Upload]) -> Iterator[Item]:
    """Items whose sources are bytes or URIs; files are read when their turn has come.

    Raises:
        UserError: a file can't be read, or a source is something else.
    """
    for position, one in enumerate(items):
        item = Item.of(one, position)
        source = item.source
        if isinstance(source, str | Path) and "://" not in str(source):
            item = replace(item, source=_bytes_of(Path(source)))
        elif not isinstance(source, str | bytes):
            raise UserError(
                f"item '{item.item_id}' is a {type(source).__name__}: send a path, a URI or an "
                "encoded file's bytes"
            )
        yield item


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        said = error.strerror or str(error)
        raise UserError(f"{path} can't be read ({said}): name a file") from error


def _body(batch: Sequence[Item], tasks: Sequence[str], scorer: str) -> dict[str, Any]:
    asked = {"scorer": scorer} if scorer else {}
    if isinstance(batch[0].source, bytes):
        files = [("files", (item.item_id, item.source)) for item in batch]
        return {"files": files, "data": {"tasks": list(tasks), **asked}}
    named = [{"uri": item.source} for item in batch]
    return {"json": {"items": named, "tasks": list(tasks) or None, **asked}}


def _read(batch: Sequence[Item], told: Any) -> list[Score]:
    try:
        scores = [Score.from_dict(one) for one in told["items"]]
        # By position: names went through a header, which has its own idea of letters.
        return [
            replace(score, item_id=item.item_id) for item, score in zip(batch, scores, strict=True)
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EndpointError(
            f"the answer is none that this version understands ({error!r}): install the "
            "endpoint's version of beholder"
        ) from error


def _read_json(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        told = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return told if isinstance(told, dict) else None


def _told(answer: httpx.Response) -> Any:
    told = _read_json(answer)
    if answer.is_success and told is not None:
        return told
    raise _refused(answer, told or {})


def _explains(answer: httpx.Response) -> bool:
    """Whether it is the endpoint itself that says what is wrong."""
    return "error" in (_read_json(answer) or {})


def _passes(answer: httpx.Response) -> bool:
    """Whether the same request may have another answer later."""
    status = answer.status_code
    return status in BUSY or (status in BETWEEN and not _explains(answer))


def _refused(answer: httpx.Response, said: Mapping[str, Any]) -> EndpointError:
    sentence = said.get("error", "that is no answer of a Beholder endpoint: check the URL")
    asked = f"{answer.request.method} {answer.request.url}"
    status = answer.status_code
    return EndpointError(
        f"{asked} answered {status}: {sentence}", status, str(said.get("request_id", ""))
    )


def _given_up(request: httpx.Request, answer: Answer) -> EndpointError:
    if isinstance(answer, httpx.Response):
        sentence = f"the endpoint is busy, also after {TRIES} tries"
        if answer.status_code in BETWEEN and not _explains(answer):
            text = " ".join(answer.text[:EXCERPT].split()) or answer.reason_phrase
            sentence = (
                f"{text!r} is no answer of a Beholder endpoint, also after {TRIES} tries: check "
                "the URL, and that the endpoint runs"
            )
        error = _refused(answer, {"error": sentence})
        error.request_id = answer.headers.get("X-Request-ID", "")
        return error
    said = str(answer) or type(answer).__name__
    return EndpointError(
        f"{request.url} can't be reached in {TRIES} tries ({said}): check the URL, and that the "
        "endpoint runs"
    )


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that the header asks for (RFC 9110, 10.2.3: a number, or a date); None without."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
