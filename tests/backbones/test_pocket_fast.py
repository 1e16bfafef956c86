"""The tower on a CPU: the same statistics, without a page fault for every page of every frame."""

import resource
import threading

import pytest
import torch
import torch.nn.functional as F

from beholder.backbones.pocket.fast import Pointwise, frame_by_frame
from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer

FAULTS = 500
"""A frame; a forward of 32 frames at once has 13,000."""


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    torch.manual_seed(0)
    model = Pocket(PocketConfig(), default_tokenizer())
    model.initialise()
    return model.eval()


def frames(count: int) -> torch.Tensor:
    size = PocketConfig().image_size
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)


def test_a_frame_looks_the_same_in_any_company(pocket: Pocket) -> None:
    pixels = frames(5)
    with torch.inference_mode():
        seen = pocket.vision(pixels)
        alone = torch.cat([pocket.vision(pixels[i : i + 1]) for i in range(5)])
        together = pocket._look(pixels)
    assert torch.equal(seen, alone)
    torch.testing.assert_close(seen, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_forward_sees_one_frame(count: int) -> None:
    sizes: list[int] = []

    def look(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return pixels.flatten(1).float()

    assert len(frame_by_frame(look, frames(count))) == count
    assert max(sizes) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pointwise_convolution_is_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours = Pointwise(6, 4).to(dtype)
    x = torch.randn(2, 6, 5, 7, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        theirs = F.conv2d(x.double(), ours.weight.double(), ours.bias.double())
        found = ours(x)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found.double(), theirs, atol=tolerance, rtol=tolerance)


def test_memory_is_not_taken_from_the_kernel_for_each_forward(pocket: Pocket) -> None:
    """Told by page faults, in a thread of its own, as engines have one."""
    pixels, faults = frames(32), []

    def work() -> None:
        with torch.inference_mode():
            for _ in range(3):
                before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
                pocket.vision(pixels)
                faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert min(faults) < FAULTS * len(pixels), faults
