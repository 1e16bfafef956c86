from collections.abc import Callable

import pytest
from PIL import Image

from beholder.items import FailureCode, ItemError
from beholder.media.sniff import sniff


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures(name: str, photo: Image.Image, encode: Callable[..., bytes]) -> None:
    found = sniff(encode(photo, name))
    assert (found.name, found.kind) == (name.lower(), "image")


@pytest.mark.parametrize(
    ("suffix", "codec", "name"),
    [
        ("mp4", "libx264", "mp4"),
        ("mov", "libx264", "mp4"),
        ("3gp", "mpeg4", "mp4"),
        ("webm", "libvpx", "matroska"),
        ("mkv", "libx264", "matroska"),
        ("avi", "mpeg4", "avi"),
    ],
)
def test_videos(suffix: str, codec: str, name: str, video: Callable[..., bytes]) -> None:
    found = sniff(video([0, 0.5], suffix, codec))
    assert (found.name, found.kind) == (name, "video")


def test_nothing_is_empty() -> None:
    with pytest.raises(ItemError, match="0 bytes") as caught:
        sniff(b"")
    assert caught.value.failure.code is FailureCode.DECODE_EMPTY


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<svg/>", "an SVG drawing"),
        (b"\xef\xbb\xbf <!DOCTYPE html><html></html>", "an HTML page"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a picture in HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "a picture in AVIF"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", "an MPEG-4 audio file"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "a RIFF file that is neither WebP nor AVI"),
        (b"BMW is a maker of cars", "text that starts with 'bmw is a maker of ca'"),
        (b"\x07\x01\x02\x03" * 9, "an unknown type"),
    ],
)
def test_all_else_is_unsupported_and_named(data: bytes, looks: str) -> None:
    with pytest.raises(ItemError, match=looks) as caught:
        sniff(data)
    assert caught.value.failure.code is FailureCode.DECODE_UNSUPPORTED
