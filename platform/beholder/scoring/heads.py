"""Whether weights are an adapter's base, told by the first bytes of each tensor.

A whole base takes minutes to fetch and to hash; its heads are some hundred kilobytes, read by
ranges. Training moves every number of the tensors that it trains, so other weights have other
heads; who holds all of the weights compares all of them (:mod:`beholder.scoring.adapter`).
"""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from beholder.backbones.loading import IGNORED_SUFFIX, INDEX, SINGLE
from beholder.media.storage import exists, explained, open_filesystem, read_bytes

HEAD_BYTES = 1024
LENGTH_BYTES = 8
"""Before a safetensors file's header, little-endian: the header's length."""
MOST_HEADER_BYTES = 100 * 2**20
"""As the format says."""


class Head(NamedTuple):
    """A tensor's shape and the first of its bytes."""

    shape: tuple[int, ...]
    data: bytes


def head_of(tensor: Tensor) -> Head:
    """The head of a tensor in memory."""
    first = tensor.detach().reshape(-1)[: HEAD_BYTES // tensor.element_size()].cpu()
    return Head(tuple(tensor.shape), first.contiguous().view(torch.uint8).numpy().tobytes())


def heads_hash(heads: Mapping[str, Head]) -> str:
    """SHA-256 over names, shapes and first bytes, sorted by name: shards don't matter."""
    digest = hashlib.sha256()
    for name in sorted(heads):
        digest.update(f"{name} {heads[name].shape}\n".encode())
        digest.update(heads[name].data)
    return digest.hexdigest()


def names_in(uri: str) -> list[str]:
    """The tensors of a safetensors file at a URI or path.

    Raises:
        StorageError: it can't be read.
        ValueError: it is no safetensors file.
    """
    return [name for name, _, _ in _tensors(uri)]


def read_heads(folder: str) -> dict[str, Head]:
    """The heads of all weights of a scorer's folder at a URI or path.

    Raises:
        StorageError: a file is missing or can't be read.
        ValueError: a file is not what its name says.
    """
    folder = folder.rstrip("/")
    files = [SINGLE]
    if exists(f"{folder}/{INDEX}"):
        files = sorted(set(json.loads(read_bytes(f"{folder}/{INDEX}"))["weight_map"].values()))
    found: dict[str, Head] = {}
    for file in files:
        uri = f"{folder}/{file}"
        told = [one for one in _tensors(uri) if not one[0].endswith(IGNORED_SUFFIX)]
        starts = [start for _, _, (start, _) in told]
        ends = [min(end, start + HEAD_BYTES) for _, _, (start, end) in told]
        filesystem, path = open_filesystem(uri)
        with explained(uri):
            data = filesystem.cat_ranges([path] * len(told), starts, ends)
        for (name, shape, _), head in zip(told, data, strict=True):
            found[name] = Head(shape, bytes(head))
    return found


def _tensors(uri: str) -> list[tuple[str, tuple[int, ...], tuple[int, int]]]:
    """Name, shape and place of each tensor of a file, by its header."""
    filesystem, path = open_filesystem(uri)
    with explained(uri):
        length = int.from_bytes(filesystem.cat_file(path, start=0, end=LENGTH_BYTES), "little")
        first = LENGTH_BYTES + min(length, MOST_HEADER_BYTES)
        header = filesystem.cat_file(path, start=LENGTH_BYTES, end=first)
    try:
        told = {n: about for n, about in json.loads(header).items() if n != "__metadata__"}
        places = {n: [first + at for at in about["data_offsets"]] for n, about in told.items()}
        return [
            (name, tuple(about["shape"]), (places[name][0], places[name][1]))
            for name, about in told.items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"'{uri}' is damaged, copy it again: {error!r}") from error
