"""How a pool and its decoder processes talk: JSON and raw arrays.

No pickle crosses: a decoder that hostile bytes have taken over can only send numbers.
"""

import json
from dataclasses import asdict
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from beholder.items import FailureCode, ItemError
from beholder.media.clips import Decoded
from beholder.media.decode import Request
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec

READY = b"ready"
_HEADER_BYTES = 2**20


def send_request(pipe: Connection, request: Request) -> None:
    """Pool to decoder.

    Raises:
        OSError: the decoder is gone.
    """
    header = {
        "spec": asdict(request.spec),
        "limits": asdict(request.limits),
        "kind": request.kind,
    }
    pipe.send_bytes(json.dumps(header).encode())
    pipe.send_bytes(request.data)


def receive_request(pipe: Connection) -> Request:
    """Decoder from pool.

    Raises:
        EOFError: the pool is gone.
    """
    header = json.loads(pipe.recv_bytes())
    spec = header["spec"]
    for name in ("background", "mean", "std"):
        spec[name] = tuple(spec[name])
    limits = Limits(**header["limits"])
    return Request(pipe.recv_bytes(), PixelSpec(**spec), limits, header["kind"])


def send_decoded(pipe: Connection, decoded: Decoded) -> None:
    """Decoder to pool: the pixels."""
    header = {
        "kind": decoded.kind,
        "frames": [len(clip) for clip in decoded.clips],
        "seconds": decoded.seconds,
        "coverage": decoded.coverage,
    }
    pipe.send_bytes(json.dumps(header).encode())
    for clip in decoded.clips:
        pipe.send_bytes(np.ascontiguousarray(clip).data.cast("B"))


def send_failure(pipe: Connection, code: FailureCode, message: str) -> None:
    """Decoder to pool: why there are no pixels."""
    pipe.send_bytes(json.dumps({"code": code, "message": message}).encode())


def receive_decoded(pipe: Connection, request: Request) -> Decoded:
    """Pool from decoder.

    Raises:
        ItemError: what the decoder said.
        EOFError: the decoder is gone.
        OSError: the same, or it sent what was not asked for.
    """
    header = json.loads(pipe.recv_bytes(_HEADER_BYTES))
    if "code" in header:
        raise ItemError(FailureCode(header["code"]), header["message"])
    size = request.spec.size
    clips: list[NDArray[np.uint8]] = []
    for frames in header["frames"]:
        if not 0 < frames <= request.limits.clip_frames or len(clips) == request.limits.max_clips:
            raise OSError(f"a decoder sent {header['frames']} frames")
        clip = np.empty((frames, size, size, 3), np.uint8)
        if pipe.recv_bytes_into(clip.data.cast("B")) != clip.nbytes:
            raise OSError("a decoder sent too few pixels")
        clips.append(clip)
    return Decoded(header["kind"], tuple(clips), tuple(header["seconds"]), header["coverage"])
