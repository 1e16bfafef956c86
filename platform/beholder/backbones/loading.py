"""Backbones and their weights from a scorer's folder; safetensors only."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

from beholder.backbones.contract import Backbone

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth")
IGNORED_SUFFIX = "rotary_emb.inv_freq"
"""Older files store the rotary frequencies, which follow from the config."""


class _Uninitialised(TorchFunctionMode):
    """``torch.nn.init`` leaves tensors as they are."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@contextmanager
def unallocated() -> Iterator[None]:
    """What is made inside is on the meta device: it has shapes, and no memory.

    Nothing is initialised either: drawing numbers for the meta device would import a compiler,
    which takes seconds.
    """
    with torch.device("meta"), _Uninitialised():
        yield


def make_backbone(config: Mapping[str, Any], tokenizer: Path) -> Backbone:
    """The backbone that ``config.json`` names, with fresh weights.

    Inside :func:`unallocated` nothing is allocated and :func:`load_weights` puts the file's own
    tensors in place.

    Raises:
        ValueError: no such backbone, or one whose config or tokenizer is incomplete.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"config.json holds no fields but {config!r:.60}: copy it again")
    kind = config.get("model_type")
    if kind == "mplug_owl2":
        from beholder.backbones.mplug_owl2.model import MplugOwl2

        return MplugOwl2.from_config(config, tokenizer)
    if kind == "pocket":
        from beholder.backbones.pocket.model import Pocket

        return Pocket.from_config(config, tokenizer)
    raise ValueError(f"config.json: unknown model_type {kind!r}: use mplug_owl2 or pocket")


def load_weights(backbone: Backbone, folder: Path) -> None:
    """Fills a backbone from a folder's safetensors, one shard at a time.

    Every key must be there, no other may be, and every shape must fit. Tensors take the
    backbone's type; on the meta device they keep the file's.

    Raises:
        ValueError: no safetensors, a damaged one, or a key that is missing, unexpected or of
            another shape; one sentence names it.
    """
    expected = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    missing = dict(expected)
    on_meta = any(parameter.is_meta for parameter in backbone.parameters())
    for shard in weight_files(folder):
        tensors = dict(read_shard(shard))
        for name, tensor in tensors.items():
            check_tensor(name, tensor, expected, shard)
            missing.pop(name, None)
        backbone.load_state_dict(tensors, strict=False, assign=on_meta)
    check_complete(missing, folder)


def check_tensor(
    name: str, tensor: Tensor, expected: Mapping[str, tuple[int, ...]], where: Path
) -> None:
    """Refuses a tensor that the model has no place for.

    Raises:
        ValueError: the key is unexpected or the shape another one.
    """
    if name not in expected:
        raise ValueError(f"'{where}' has an unexpected key '{name}': it is of another model")
    if tuple(tensor.shape) != tuple(expected[name]):
        raise ValueError(
            f"'{where}': '{name}' has shape {tuple(tensor.shape)} but config.json asks for "
            f"{tuple(expected[name])}"
        )


def check_complete(missing: Mapping[str, Any], folder: Path) -> None:
    """Refuses a folder that left keys unfilled.

    Raises:
        ValueError: names the first missing key and says how many there are.
    """
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"'{folder}' lacks the weights '{next(iter(missing))}'{more}")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by its index or the single one.

    Raises:
        ValueError: there are none, or the index names one that is not there.
    """
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"'{folder / INDEX}' is not an index of weights: {error}") from error
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise ValueError(f"'{folder / INDEX}' names '{name}', which is not in the folder")
        return [folder / name for name in names]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"'{folder}' has its weights in '{pickles[0]}', a format that can run code and is "
            "never loaded: convert first, with the backbone's convert_checkpoint"
        )
    raise ValueError(f"no weights in '{folder}': expected {SINGLE} or {INDEX}")


def read_shard(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one file, memory-mapped, without what follows from the config.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118 - not a mapping
                if not name.endswith(IGNORED_SUFFIX):
                    yield name, shard.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged, copy it again: {error}") from error
