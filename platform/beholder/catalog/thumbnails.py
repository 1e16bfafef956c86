"""Small pictures of examples for a night's page."""

import io

from beholder.catalog.checks import Example
from beholder.items import ItemError
from beholder.media.fetch import fetch
from beholder.media.images import decode_image
from beholder.media.limits import Limits

SIDE = 220
_LIMITS = Limits(max_bytes=64 * 2**20)


def thumbnail(example: Example) -> bytes | None:
    """A picture of at most ``SIDE`` pixels a side, as JPEG; None of videos and what can't be had.

    The bytes were decoded within limits when they were scored; they may have changed since.
    """
    if example.kind != "image":
        return None
    try:
        picture = decode_image(fetch(example.uri, _LIMITS).data, _LIMITS)
    except (ItemError, MemoryError):
        return None
    picture.thumbnail((SIDE, SIDE))
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=80)
    return sink.getvalue()
