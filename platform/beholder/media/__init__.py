"""Bytes to pixels: fetch, limits, decode, frames at 1 fps, pad and resize. Needs no torch."""

from beholder.media.clips import Decoded
from beholder.media.decode import Request
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.pool import DecoderPool
from beholder.media.stage import Stage, Staged

__all__ = ["Decoded", "DecoderPool", "Limits", "PixelSpec", "Request", "Stage", "Staged"]
