import struct

import pytest

from beholder.items import ItemError
from beholder.media.containers import check_whole
from beholder.media.sniff import MediaType

MP4, MATROSKA, AVI = (MediaType(name, "video") for name in ("mp4", "matroska", "avi"))
START = struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4s", 8, b"moov")
LARGE = struct.pack(">I4sQ", 1, b"mdat", 116) + bytes(100)
EBML = b"\x1aE\xdf\xa3\x80"
SEGMENT = b"\x18\x53\x80\x67"


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        (MP4, START + LARGE),
        (MP4, START + struct.pack(">I4s", 0, b"mdat") + bytes(9)),
        (MP4, START + bytes(50)),
        (MATROSKA, EBML + SEGMENT + b"\x84" + bytes(4)),
        (MATROSKA, EBML + SEGMENT + b"\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(4)),
        (AVI, b"RIFF" + struct.pack("<I", 14) + b"AVI " + bytes(10)),
    ],
)
def test_whole(media_type: MediaType, data: bytes) -> None:
    check_whole(data, media_type)


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        (MP4, (START + LARGE)[:-1]),
        (MP4, START[:8]),
        (MP4, START[:8] + LARGE),
        (MATROSKA, EBML + SEGMENT + b"\x84" + bytes(3)),
        (MATROSKA, EBML + SEGMENT + b"\x40\x04" + bytes(3)),
        (MATROSKA, EBML),
        (AVI, b"RIFF" + struct.pack("<I", 15) + b"AVI " + bytes(10)),
    ],
)
def test_cut_off(media_type: MediaType, data: bytes) -> None:
    with pytest.raises(ItemError, match=r"decode\.truncated"):
        check_whole(data, media_type)
