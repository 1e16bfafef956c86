"""The tower's slices: the same statistics, without a page fault for every page of every frame."""

import resource
import threading

import pytest
import torch

from beholder.backbones.pocket.fast import FRAMES, few_at_a_time
from beholder.backbones.pocket.model import Pocket, PocketConfig
from beholder.backbones.pocket.preprocess import default_tokenizer

FAULTS = 3000
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


@pytest.mark.parametrize("count", [1, FRAMES - 1, FRAMES, FRAMES + 1, 3 * FRAMES])
def test_a_frame_looks_the_same_in_any_company(pocket: Pocket, count: int) -> None:
    pixels = frames(count)
    with torch.inference_mode():
        seen = pocket.vision(pixels)
        alone = torch.cat([pocket.vision(pixels[i : i + 1]) for i in range(count)])
    torch.testing.assert_close(seen, alone, atol=1e-4, rtol=1e-4)


def test_no_forward_sees_more_than_a_few_frames() -> None:
    sizes: list[int] = []

    def look(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return pixels.flatten(1).float()

    assert few_at_a_time(look, frames(2 * FRAMES + 1)).shape[0] == 2 * FRAMES + 1
    assert sizes == [FRAMES, FRAMES, 1]


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
