"""A readout's trained head: where it is applied, and its file beside the model's weights."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from beholder.backbones import Read
from beholder.backbones.loading import check_complete, check_tensor, read_shard

HEAD_FILE = "readout.safetensors"
"""In a checkpoint's and a scorer's folder, where the readout has a head."""


def through_head(read: Read, head: nn.Module | None) -> Read:
    """What was read, with the head's values; the same where there is no head."""
    return read if head is None else replace(read, values=head(read.hidden))


def load_head(head: nn.Module | None, folder: Path) -> None:
    """Fills a readout's head from a folder; nothing to do where it has none.

    Raises:
        ValueError: the file is missing or damaged, or is of another head; names the key.
    """
    if head is None:
        return
    path = folder / HEAD_FILE
    if not path.is_file():
        raise ValueError(
            f"'{folder}' has no {HEAD_FILE}, the readout's trained head: copy it again"
        )
    expected = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    tensors = dict(read_shard(path))
    for name, tensor in tensors.items():
        check_tensor(name, tensor, expected, path)
    check_complete({name: expected[name] for name in expected.keys() - tensors.keys()}, folder)
    head.load_state_dict(tensors)
