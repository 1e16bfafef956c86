"""Bytes to pixels, in whatever process calls it."""

from dataclasses import dataclass

from PIL import Image

from beholder.items import FailureCode, ItemError, Kind
from beholder.media.clips import Decoded
from beholder.media.images import decode_image
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.preprocess import to_pixels
from beholder.media.sniff import MediaType, sniff
from beholder.media.video import decode_video


@dataclass(frozen=True)
class Request:
    """What a decoder needs.

    Attributes:
        data: the encoded media.
        spec: what the pixels shall look like.
        limits: what it may cost.
        kind: what it is said to be; None lets the content decide.
    """

    data: bytes
    spec: PixelSpec
    limits: Limits
    kind: Kind | None = None


def decode(request: Request) -> Decoded:
    """Decodes and preprocesses one item.

    Raises:
        ItemError: a ``decode.*``, ``limit.*`` or ``video.*`` code; ``decode.unsupported`` also
            where the content is of another kind than it is said to be; nothing else is raised.
    """
    try:
        return _decode(request)
    except ItemError:
        raise
    except MemoryError as error:
        raise ItemError(
            FailureCode.DECODE_CRASHED, "decoding takes more memory than there is: scale it down"
        ) from error
    except Exception as error:
        raise ItemError(
            FailureCode.DECODE_CRASHED, f"the decoder failed: {type(error).__name__}: {error}"
        ) from error


def _decode(request: Request) -> Decoded:
    media_type = recognise(request.data, request.kind)
    if media_type.kind == "video":
        return decode_video(request.data, media_type, request.spec, request.limits)
    return picture(decode_image(request.data, request.limits), request.spec)


def recognise(data: bytes, kind: Kind | None) -> MediaType:
    """What content is, by its first bytes, if it is of the kind that it is said to be.

    Raises:
        ItemError: ``decode.empty`` or ``decode.unsupported``.
    """
    media_type = sniff(data)
    check_kind(kind, media_type.kind, f"{media_type.name} content")
    return media_type


def picture(image: Image.Image, spec: PixelSpec) -> Decoded:
    """An RGB picture as one clip of one frame."""
    return Decoded("image", (to_pixels(image, spec)[None],), (0.0,), 1.0)


def check_kind(said: Kind | None, found: Kind, what: str) -> None:
    """Refuses an item that is not of the kind that it is said to be.

    Raises:
        ItemError: ``decode.unsupported``; the message names both kinds.
    """
    if said is not None and said != found:
        raise ItemError(
            FailureCode.DECODE_UNSUPPORTED,
            f"the manifest says '{said}', but this is {what}, of kind '{found}': correct its kind",
        )
