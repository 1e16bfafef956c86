"""What makes pocket fast on a CPU: its tower sees a few frames at a time, in memory that stays.

A forward of 32 frames asks for blocks of up to 154 MB. glibc gets blocks that large from the
kernel and gives them back when they are freed, and the kernel clears every page anew: 13,000 page
faults a frame, more than half of the time. Four frames' blocks, 19 MB at most, stay with the
process. On one thread of a server's CPU a frame took 33 ms in a forward of 32 and takes 15 in
forwards of 4; more would bring nothing, the convolutions are as fast on one frame as on many.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

FRAMES = 4
"""Frames of a forward of the tower on a CPU."""
KEPT = 30 * 2**20
"""Bytes: glibc learns from the largest block that was freed, and from none of 32 MiB or more."""


def few_at_a_time(look: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """What the tower says of frames (F, S, S, 3), each of which it sees by itself: (F, W).

    On another device than a CPU all frames go in one forward.
    """
    if pixels.device.type != "cpu":
        return look(pixels)
    _keep_freed_memory()
    return torch.cat([look(few) for few in pixels.split(FRAMES)])


@functools.cache
def _keep_freed_memory() -> None:
    """Frees a large block once.

    From then on glibc serves smaller ones from its heap, and gives that back to the kernel only
    when twice as much lies free at its end (mallopt(3), M_MMAP_THRESHOLD). A process that scores
    single pictures would never free one large enough: 4,600 page faults a picture, 8 ms of 27.
    """
    torch.empty(KEPT, dtype=torch.uint8)
