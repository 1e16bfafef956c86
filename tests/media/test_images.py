import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from beholder.items import FailureCode, ItemError
from beholder.media import Limits
from beholder.media.images import decode_image

Encode = Callable[..., bytes]


def pixels(data: bytes, limits: Limits) -> np.ndarray:
    image = decode_image(data, limits)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def code_of(data: bytes, limits: Limits) -> FailureCode:
    with pytest.raises(ItemError) as caught:
        decode_image(data, limits)
    return caught.value.failure.code


@pytest.mark.parametrize("size", [(50_000, 50_000), (12_000, 12_000), (90_000, 2)])
def test_a_bomb_is_refused_from_its_header(
    size: tuple[int, int], png_header: Encode, limits: Limits
) -> None:
    data = png_header(*size)
    tracemalloc.start()
    assert code_of(data, limits) is FailureCode.LIMIT_PIXELS
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_the_limit_itself_is_allowed(photo: Image.Image, encode: Encode) -> None:
    data = encode(photo, "PNG")
    decode_image(data, Limits(max_pixels=96 * 64, max_side=96))
    assert code_of(data, Limits(max_pixels=96 * 64 - 1)) is FailureCode.LIMIT_PIXELS
    assert code_of(data, Limits(max_side=95)) is FailureCode.LIMIT_PIXELS


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.9])
def test_cut_off_is_truncated(name: str, part: float, encode: Encode, limits: Limits) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    data = encode(Image.fromarray(noise), name)
    assert code_of(data[: int(len(data) * part)], limits) is FailureCode.DECODE_TRUNCATED


def test_a_start_and_garbage_is_truncated(limits: Limits) -> None:
    garbage = np.random.default_rng(1).bytes(500)
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00"):
        assert code_of(start + garbage, limits) in (
            FailureCode.DECODE_TRUNCATED,
            FailureCode.LIMIT_PIXELS,
        )


@pytest.mark.parametrize("name", ["JPEG", "TIFF", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(
    name: str, orientation: int, photo: Image.Image, encode: Encode, limits: Limits
) -> None:
    # How a camera stores an upright scene under each value of the tag (EXIF 2.32, 4.6.4).
    scene = np.asarray(photo)
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: scene.transpose(1, 0, 2)[::-1],
        7: scene.transpose(1, 0, 2)[::-1, ::-1],
        8: scene.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
    data = encode(image, name, exif=exif, **lossless.get(name, {}))
    difference = np.abs(pixels(data, limits) - scene)
    assert difference.max() <= (12 if name == "JPEG" else 0)


def test_a_damaged_exif_block_leaves_the_picture_as_it_is(
    photo: Image.Image, encode: Encode, limits: Limits
) -> None:
    data = encode(photo, "PNG", exif=b"Exif\0\0no TIFF header at all")
    assert (pixels(data, limits) == np.asarray(photo)).all()


def test_sixteen_bits_lose_the_low_byte_and_are_not_clipped(encode: Encode, limits: Limits) -> None:
    ramp = np.linspace(0, 65535, 96 * 64).astype(np.uint16).reshape(64, 96)
    for name in ("PNG", "TIFF"):
        found = pixels(encode(Image.fromarray(ramp), name), limits)
        assert (found == (ramp >> 8)[..., None]).all()


def test_sixteen_bit_colour_png_loses_the_low_byte(limits: Limits) -> None:
    values = np.array([[[0x12FF, 0x8000, 0xFEFF]]], ">u2")
    body = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, part in (
        (b"IHDR", body),
        (b"IDAT", zlib.compress(b"\0" + values.tobytes())),
        (b"IEND", b""),
    ):
        data += (
            struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        )
    assert pixels(data, limits).tolist() == [[[0x12, 0x80, 0xFE]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 256], [4096, 65535]], np.int32), [[0, 1], [16, 255]]),
        (np.array([[0, 0.2], [0.5, 1]], np.float32), [[0, 51], [128, 255]]),
        (np.array([[0, 51.4], [127.6, 255]], np.float32), [[0, 51], [128, 255]]),
    ],
)
def test_32_bit_tiffs(
    values: np.ndarray, expected: list[list[int]], encode: Encode, limits: Limits
) -> None:
    assert pixels(encode(Image.fromarray(values), "TIFF"), limits)[..., 1].tolist() == expected


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan")])
def test_values_without_a_known_range_are_unsupported(
    value: float, encode: Encode, limits: Limits
) -> None:
    data = encode(Image.fromarray(np.full((2, 2), value, np.float32)), "TIFF")
    assert code_of(data, limits) is FailureCode.DECODE_UNSUPPORTED


def test_transparent_pixels_are_white(encode: Encode, limits: Limits) -> None:
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    grey = Image.new("LA", (4, 4), (50, 0))
    assert (pixels(encode(clear, "PNG"), limits) == 255).all()
    assert (pixels(encode(half, "PNG"), limits) == 127).all()
    assert (pixels(encode(grey, "PNG"), limits) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 10, 20])
    assert (pixels(encode(palette, "PNG"), limits) == (200, 10, 20)).all()
    assert (pixels(encode(palette, "PNG", transparency=1), limits) == 255).all()


def test_cmyk_and_grey_become_rgb(photo: Image.Image, encode: Encode, limits: Limits) -> None:
    ink = encode(photo.convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert np.abs(pixels(ink, limits) - np.asarray(photo)).mean() < 3
    grey = pixels(encode(photo.convert("L"), "PNG"), limits)
    assert (grey[..., 0] == np.asarray(photo.convert("L"))).all() and (
        grey[..., 0] == grey[..., 2]
    ).all()
    assert (pixels(encode(Image.new("1", (4, 4), 1), "PNG"), limits) == 255).all()


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(name: str, encode: Encode, limits: Limits) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    lossless = {"lossless": True} if name == "WEBP" else {}
    data = encode(frames[0], name, save_all=True, append_images=frames[1:], **lossless)
    assert (pixels(data, limits) == (255, 0, 0)).all()


def test_only_the_sniffed_reader_sees_the_bytes(photo: Image.Image, limits: Limits) -> None:
    file = io.BytesIO()
    photo.save(file, "ICO")
    assert code_of(file.getvalue(), limits) is FailureCode.DECODE_UNSUPPORTED
