"""Encoded pictures to upright RGB."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from beholder.items import FailureCode, ItemError
from beholder.media.limits import Limits
from beholder.media.sniff import sniff

# Our limit decides; Pillow's warning at half of its own bound would only fill the logs.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

ALPHA_BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as on a page."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, section 4.6.4, tag Orientation: what brings each value upright."""

_UNSUPPORTED_WORDS = ("unsupported", "unknown", "not available", "not supported", "not implemented")


def decode_image(data: bytes, limits: Limits) -> Image.Image:
    """The first frame of an encoded picture as upright 8-bit RGB.

    Only the sniffed format's reader sees the bytes, the size is checked in the header before
    any pixel is decoded, and nothing is decoded at reduced scale: the same bytes always give
    the same pixels. Colour profiles are not applied, as in the released preprocessing.

    Raises:
        ItemError: ``decode.empty``, ``decode.unsupported``, ``decode.truncated`` (cut off or
            damaged) or ``limit.pixels``.
    """
    media_type = sniff(data)
    if media_type.kind != "image":
        raise ItemError(
            FailureCode.DECODE_UNSUPPORTED, f"the content is a {media_type.name} video, no picture"
        )
    try:
        with Image.open(io.BytesIO(data), formats=[media_type.name.upper()]) as image:
            return upright_rgb(image, limits)
    except (ItemError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ItemError(
            FailureCode.LIMIT_PIXELS,
            f"by its header the picture has far more than {limits.max_pixels} pixels, which is "
            "the limit: scale it down",
        ) from error
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into.
        raise _broken(media_type.name, error) from error


def upright_rgb(image: Image.Image, limits: Limits) -> Image.Image:
    """A picture that Pillow has opened, as upright 8-bit RGB.

    Grey, palette, CMYK and other modes are converted by Pillow; transparent pixels are put on
    ``ALPHA_BACKGROUND``; 16 bits become 8 by dropping the low byte, which keeps the range
    where Pillow's own conversion would clip; for 32-bit modes see :func:`_eight_bits`.

    Raises:
        ItemError: ``limit.pixels``, or ``decode.unsupported`` where values have no known range.
    """
    check_pixels(image.width, image.height, limits)
    image.load()
    orientation = _orientation(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(image))
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, ALPHA_BACKGROUND)
        page.alpha_composite(image.convert("RGBA"))
        image = page
    image = image.convert("RGB")
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Refuses a picture or a frame that is too large.

    Raises:
        ItemError: ``limit.pixels`` with the size and the limit.
    """
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise ItemError(
            FailureCode.LIMIT_PIXELS,
            f"{width} x {height} pixels are above the limit of {limits.max_pixels} pixels and "
            f"{limits.max_side} a side: scale it down or raise the limit",
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # A damaged EXIF block says nothing of the pixels: taken as upright.
        return 1


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Grey values of 16 or 32 bits as uint8 (H, W).

    16-bit integers, and 32-bit ones that fit in 16, lose their low byte. Floats of 0..1 are
    scaled by 255, floats of 0..255 rounded.
    """
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and low >= 0 and high < 2**16:
        return np.asarray(values >> 8, np.uint8)
    if image.mode == "F" and low >= 0 and high <= 255:
        return np.asarray(np.rint(values * (255 if high <= 1 else 1)), np.uint8)
    raise ItemError(
        FailureCode.DECODE_UNSUPPORTED,
        f"pixel values lie in {low}..{high} in mode {image.mode}, whose range is not known: "
        "convert the picture to 8 or 16 bits",
    )


def _broken(name: str, error: Exception) -> ItemError:
    text = str(error) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):  # it would tell where the bytes lie in memory
        text = "its header says nothing that can be read"
    if any(word in text.lower() for word in _UNSUPPORTED_WORDS):
        return ItemError(
            FailureCode.DECODE_UNSUPPORTED, f"this kind of {name} can't be decoded: {text}"
        )
    return ItemError(
        FailureCode.DECODE_TRUNCATED,
        f"the {name} is cut off or damaged ({text}): upload it again",
    )
