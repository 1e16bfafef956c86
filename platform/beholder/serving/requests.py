"""A request taken apart: its items and the tasks that are asked of them."""

import asyncio
import base64
import binascii
from typing import NamedTuple

from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from beholder.items import Item
from beholder.serving.schemas import MAX_TASKS, MediaIn, ScoreRequest

MAX_FIELDS = 2 * MAX_TASKS
"""Text fields of a multipart body; its tasks are among them."""


class RequestError(Exception):
    """A request that is refused as a whole, with its HTTP status.

    Args:
        status: of the answer.
        message: one sentence with the offending value and the remedy.
        retry_after_s: whole seconds after which it is worth another try; None where it isn't.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


class Wanted(NamedTuple):
    """What a request asks for.

    Attributes:
        items: in order.
        tasks: none stand for all.
        scorer: name of an adapter; empty for the scorer itself.
    """

    items: list[Item]
    tasks: tuple[str, ...]
    scorer: str


async def read_request(request: Request, max_items: int) -> Wanted:
    """Takes a request apart.

    Raises:
        RequestError: the body can't be read, or holds no item or more than ``max_items``.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        wanted = await _multipart(request, max_items)
    elif kind == "application/json":
        # Some 100 MB of base64 take a while, in which others shall get their answers.
        wanted = await asyncio.to_thread(_json, await request.body())
    else:
        raise RequestError(
            415, f"content type '{kind}' is not read: send multipart/form-data or JSON"
        )
    count = len(wanted.items)
    if not count:
        raise RequestError(400, "the request has no items: send at least one file")
    if count > max_items:
        raise RequestError(413, f"{count} items in a request: send at most {max_items}")
    if len(wanted.tasks) > MAX_TASKS:
        raise RequestError(400, f"{len(wanted.tasks)} tasks in a request: name at most {MAX_TASKS}")
    return wanted


def _json(body: bytes) -> Wanted:
    try:
        asked = ScoreRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        message = f"the JSON body is not a score request: {fault_of(error)}"
        raise RequestError(400, message) from error
    items = [
        item_of(media, media.id or f"item-{position}") for position, media in enumerate(asked.items)
    ]
    return Wanted(items, tuple(asked.tasks or ()), asked.scorer or "")


def fault_of(error: ValidationError) -> str:
    """The first thing that is wrong in a JSON body: where, what, and a number as it was sent."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where} is no field: see /docs for those that there are"
    said, value = first["msg"].removeprefix("Value error, "), first["input"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return " ".join(filter(None, [where, said, f"and is {value}" if number else ""]))


def item_of(media: MediaIn, name: str) -> Item:
    """An item of a request.

    Raises:
        RequestError: its bytes are not base64.
    """
    if "uri" in media.model_fields_set:
        return Item(name, media.uri)
    try:
        return Item(name, base64.b64decode(media.data, validate=True))
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"item '{name}' is not base64: {error}") from error


async def _multipart(request: Request, max_items: int) -> Wanted:
    items = []
    try:
        # A few files more than allowed, so that the answer can say how many are.
        async with request.form(max_files=max_items + 16, max_fields=MAX_FIELDS) as form:
            for position, file in enumerate(form.getlist("files")):
                if not isinstance(file, UploadFile):
                    raise RequestError(400, "form field 'files' holds text: send files in it")
                name = _written(file.filename or f"item-{position}")
                items.append(Item(name, await file.read()))
            tasks = tuple(_written(str(task)) for task in form.getlist("tasks"))
            return Wanted(items, tasks, _written(str(form.get("scorer") or "")))
    except (MultiPartException, HTTPException) as error:
        said = error.message if isinstance(error, MultiPartException) else str(error.detail)
        if said.startswith("Too many files"):
            message = f"more than {max_items} items in a request: send at most {max_items}"
            raise RequestError(413, message) from error
        raise RequestError(
            400, f"the multipart body can't be read: {said}: send files as form fields 'files'"
        ) from error


def _written(text: str) -> str:
    """What an answer can repeat: a charset of the client's choice may give half a character."""
    return text.encode("utf-8", "replace").decode()
