"""What bytes are, by their content; names and extensions are never looked at."""

from dataclasses import dataclass

from beholder.items import FailureCode, ItemError, Kind


@dataclass(frozen=True)
class MediaType:
    """A type that can be decoded.

    Attributes:
        name: ``jpeg``, ``png``, ``webp``, ``gif``, ``bmp``, ``tiff`` or ``mp4`` (with mov,
            m4v and 3gp), ``matroska`` (with webm), ``avi``.
        kind: what it holds; an animated GIF or WebP counts as the picture it starts with.
    """

    name: str
    kind: Kind


_STARTS: tuple[tuple[bytes, MediaType], ...] = (
    (b"\xff\xd8\xff", MediaType("jpeg", "image")),
    (b"\x89PNG\r\n\x1a\n", MediaType("png", "image")),
    (b"GIF87a", MediaType("gif", "image")),
    (b"GIF89a", MediaType("gif", "image")),
    (b"II*\x00", MediaType("tiff", "image")),
    (b"MM\x00*", MediaType("tiff", "image")),
    (b"II+\x00", MediaType("tiff", "image")),
    (b"MM\x00+", MediaType("tiff", "image")),
    (b"\x1aE\xdf\xa3", MediaType("matroska", "video")),
)
_RIFF = {b"WEBP": MediaType("webp", "image"), b"AVI ": MediaType("avi", "video")}
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_QUICKTIME_BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide"})
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"hevc", b"hevx", b"mif1", b"msf1")
_STILL_BRANDS = {b"avif": "AVIF", b"avis": "AVIF"} | dict.fromkeys(_HEIC_BRANDS, "HEIC")
_AUDIO_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"FLV\x01", "a Flash video"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"RIFF", "a RIFF file that is neither WebP nor AVI"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
)


def sniff(data: bytes) -> MediaType:
    """The type of encoded media, from its first kilobyte.

    Raises:
        ItemError: ``decode.empty`` for no bytes, ``decode.unsupported`` for any type that
            is not decoded here; the message says what it looks like.
    """
    if not data:
        raise ItemError(FailureCode.DECODE_EMPTY, "the file has 0 bytes: upload it again")
    found = _known(data)
    if found is None:
        raise ItemError(
            FailureCode.DECODE_UNSUPPORTED,
            f"the content is {_looks_like(data)}: give JPEG, PNG, WebP, GIF, BMP, TIFF, MP4, "
            "MOV, WebM, MKV or AVI",
            bytes_read=len(data),
        )
    return found


def _known(data: bytes) -> MediaType | None:
    for start, media_type in _STARTS:
        if data.startswith(start):
            return media_type
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    # Two letters are little to go by, so the size of the header that follows is looked at too.
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS:
        return MediaType("bmp", "image")
    if data[4:8] == b"ftyp" and (data[8:12] in _STILL_BRANDS or data[8:12] in _AUDIO_BRANDS):
        return None
    if data[4:8] in _QUICKTIME_BOXES:
        return MediaType("mp4", "video")
    return None


def _looks_like(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        brand = _STILL_BRANDS.get(data[8:12])
        return f"a picture in {brand}" if brand else "an MPEG-4 audio file"
    for start, name in _FOREIGN:
        if data.startswith(start):
            return name
    text = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if text.startswith(b"<"):
        return "XML"
    if text and all(byte >= 32 or byte in b"\t\r\n" for byte in text):
        return f"text that starts with {text[:20].decode('utf-8', 'replace')!r}"
    return f"of an unknown type (it starts with 0x{data[:8].hex()})"
