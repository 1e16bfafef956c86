"""One thing to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

Kind = Literal["image", "video"]
Source = str | Path | bytes | Image.Image | Sequence[Image.Image]
"""A path, a URI, encoded bytes, a decoded picture, or a video's decoded frames at 1 fps."""


@dataclass(frozen=True)
class Item:
    """One picture or video.

    Attributes:
        item_id: the key under which its score is kept; unique in a manifest.
        source: where its pixels come from.
        kind: ``image`` or ``video``; None lets the content decide.
        etag: the version that must be fetched, None for whatever is there.
    """

    item_id: str
    source: Source
    kind: Kind | None = None
    etag: str | None = None

    @classmethod
    def of(cls, source: "Item | Source", position: int) -> "Item":
        """An item made of whatever a caller hands over; its id is the path or its position."""
        if isinstance(source, Item):
            return source
        named = isinstance(source, str | Path)
        return cls(str(source) if named else f"item-{position}", source)
