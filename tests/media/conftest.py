"""Pictures and videos made on the fly, and one pool for the room."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from beholder.media import DecoderPool, Limits, PixelSpec

Encode = Callable[..., bytes]


@pytest.fixture(scope="session")
def spec() -> PixelSpec:
    return PixelSpec(
        56,
        (122, 116, 104),
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    )


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits()


@pytest.fixture(scope="session")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A smooth picture with a different colour in each corner, 96 x 64."""
    y, x = np.mgrid[0:64, 0:96]
    return Image.fromarray(
        np.stack([x * 2.5, y * 3.5, 200 - x - y], axis=-1).clip(0, 255).astype(np.uint8)
    )


@pytest.fixture(scope="session")
def encode() -> Encode:
    """``encode(image, "PNG", **options)`` gives bytes."""

    def _encode(image: Image.Image, name: str, **options: object) -> bytes:
        file = io.BytesIO()
        image.save(file, name, **options)
        return file.getvalue()

    return _encode


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """``video(stamps)`` gives a clip whose frame k has grey value 5 k; stamps in seconds."""
    folder = tmp_path_factory.mktemp("video")

    def _video(
        stamps: Sequence[float],
        suffix: str = "mp4",
        codec: str = "libx264",
        size: tuple[int, int] = (64, 48),
        base: Fraction = Fraction(1, 1000),
        options: dict[str, str] | None = None,
        mark: bool = False,
    ) -> bytes:
        path: Path = folder / f"clip.{suffix}"
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = base
            for index, stamp in enumerate(stamps):
                pixels = np.full((size[1], size[0], 3), (5 * index) % 256, np.uint8)
                if mark:  # The upper left corner is red.
                    pixels[: size[1] // 2, : size[0] // 2] = (255, 0, 0)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = round(Fraction(stamp) / base), base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()

    return _video


@pytest.fixture(scope="session")
def png_header() -> Encode:
    """``png_header(width, height)`` gives a PNG that claims a size and has next to no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + checksum

    def _png_header(width: int, height: int) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        rows = chunk(b"IDAT", zlib.compress(bytes(100)))
        return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")

    return _png_header
