"""Whether a video's container is all there: decoders play what is left of one and say nothing."""

from beholder.items import FailureCode, ItemError
from beholder.media.sniff import MediaType

_SEGMENT = b"\x18\x53\x80\x67"


def check_whole(data: bytes, media_type: MediaType) -> None:
    """Refuses a video that is shorter than its container says.

    Raises:
        ItemError: ``decode.truncated`` with both lengths, or that the index is missing.
    """
    length = {"mp4": _mp4, "matroska": _matroska, "avi": _avi}[media_type.name](data)
    if length is not None and length > len(data):
        raise ItemError(
            FailureCode.DECODE_TRUNCATED,
            f"the {media_type.name} video has {len(data)} of {length} bytes: upload it again",
        )


def _mp4(data: bytes) -> int:
    """The end of the last box (ISO/IEC 14496-12, section 4.2)."""
    at, found = 0, set()
    while at + 8 <= len(data) and data[at + 4 : at + 8].isalnum():
        size, header = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:  # It reaches to the end.
            size = len(data) - at
        if size < header:
            break
        found.add(data[at + 4 : at + 8])
        at += size
    if b"moov" not in found:
        raise ItemError(
            FailureCode.DECODE_TRUNCATED,
            "the mp4 video has no index (moov box), so it was cut off or never finished: "
            "upload it again",
        )
    return at


def _matroska(data: bytes) -> int | None:
    """The end of the Segment (RFC 8794, section 4; RFC 9559, section 5.1), None if it is open."""
    at = data.find(_SEGMENT, 0, 4096)
    if at < 0 or len(data) < at + 5:
        return len(data) + 1
    width = 9 - data[at + 4].bit_length()
    stored = data[at + 4 : at + 4 + width]
    size = int.from_bytes(stored, "big") & ((1 << 7 * width) - 1)
    return None if size == (1 << 7 * width) - 1 else at + 4 + width + size


def _avi(data: bytes) -> int:
    """The end of the RIFF chunk, whose size excludes its first 8 bytes."""
    return int.from_bytes(data[4:8], "little") + 8
