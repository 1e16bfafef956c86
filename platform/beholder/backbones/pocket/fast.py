"""What makes pocket fast on a CPU: its tower sees frame after frame, in memory that stays, and its
1x1 convolutions, three quarters of the work, go to oneDNN.

A forward of 32 frames asks for blocks of up to 154 MB. glibc gets blocks that large from the
kernel and gives them back when they are freed, and the kernel clears every page anew: 13,000 page
faults a frame, more than half of the time. One frame's blocks, 5 MB at most, stay with the process;
more frames a forward bring nothing, the convolutions are as fast on one as on many. And torch
itself gives small batches on one thread to a plain matrix product. On one thread of a server's CPU
a frame took 33 ms in a forward of 32, takes 15 alone, and 11 with oneDNN.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

KEPT = 30 * 2**20
"""Bytes: glibc learns from the largest block that was freed, and from none of 32 MiB or more."""
_ONEDNN = torch.backends.mkldnn.is_available()


def frame_by_frame(look: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """What the tower says of frames (F, S, S, 3), each of which it sees by itself: (F, W).

    On another device than a CPU all frames go in one forward.
    """
    if pixels.device.type != "cpu":
        return look(pixels)
    _keep_freed_memory()
    return torch.cat([look(one) for one in pixels.split(1)])


@functools.cache
def _keep_freed_memory() -> None:
    """Frees a large block once.

    From then on glibc serves smaller ones from its heap, and gives that back to the kernel only
    when twice as much lies free at its end (mallopt(3), M_MMAP_THRESHOLD). A tower alone never
    frees one large enough: 4,600 page faults a frame, 8 ms.
    """
    torch.empty(KEPT, dtype=torch.uint8)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, by oneDNN where that is to be had.

    A module of its own and called as one: ZeRO-3 keeps weights empty outside a forward.

    Args:
        inputs: channels.
        outputs: channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type == "cpu" and input.dtype == torch.float32 and _ONEDNN:
            return torch.mkldnn_convolution(input, weight, bias, (0, 0), (1, 1), (1, 1), 1)
        return super()._conv_forward(input, weight, bias)
