"""A scorer that shares another's weights: LoRA adapters over a base, in a folder of some megabytes.

The folder is a scorer's (:mod:`beholder.scoring.folder`) with two files in place of
``model.safetensors``: ``adapter.safetensors`` has ``<weight>.lora_A`` (R, in) and
``<weight>.lora_B`` (out, R) of each adapted weight and, under their own names, tensors that were
trained whole; ``adapter.json`` says over what they go. An adapter's scorer and the merged one of
the same training have one fingerprint and one set of weights ``W + scaling * B A`` (LoRA, Hu et
al. 2021, section 4.1), so scores don't tell which of the two was loaded.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from beholder.backbones import Backbone
from beholder.backbones.loading import (
    check_complete,
    check_tensor,
    make_backbone,
    read_shard,
    unallocated,
)
from beholder.scoring.fingerprint import weights_hash
from beholder.scoring.folder import ADAPTER, ScorerError, read_scorer_file
from beholder.scoring.heads import head_of, heads_hash
from beholder.scoring.scorer import Scorer, save_tensors

FACTORS = "adapter.safetensors"
DOWN, UP = ".lora_A", ".lora_B"
OTHER_BASE = (
    "it was trained over other weights than those of scorer {}: give it the scorer that its "
    "training started from"
)


class AdapterFile(BaseModel):
    """Content of ``adapter.json``.

    Attributes:
        base: :func:`~beholder.scoring.fingerprint.weights_hash` over the base's weights that the
            adapter doesn't replace whole, in the scorer's dtype.
        scaling: alpha / rank.
        sha256: of ``adapter.safetensors``.
        heads: :func:`~beholder.scoring.heads.heads_hash` over the same weights of the base, by
            which another is refused before it is loaded; empty in older files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    scaling: float
    sha256: str
    heads: str = ""


def merged(weight: Tensor, down: Tensor, up: Tensor, scaling: float) -> Tensor:
    """``W + scaling * B A``, summed in fp32, in the weight's type and on its device.

    Args:
        weight: W (out, in).
        down: A (R, in).
        up: B (out, R).
        scaling: alpha / rank.
    """
    down, up = down.to(weight.device).float(), up.to(weight.device).float()
    return (weight.float() + scaling * (up @ down)).to(weight.dtype)


def save_adapter(
    scorer: Scorer,
    base: Mapping[str, Tensor],
    factors: Mapping[str, Tensor],
    scaling: float,
    folder: Path,
) -> None:
    """Writes what a merged scorer adds to the weights that its training started from.

    Args:
        scorer: with merged weights.
        base: state of the backbone that training started from, in the scorer's dtype.
        factors: A and B of each adapted weight, by its name with ``.lora_A`` and ``.lora_B``.
        scaling: alpha / rank.
        folder: to write into; ``scorer.json`` comes last.
    """
    adapted = {name.removesuffix(DOWN) for name in factors if name.endswith(DOWN)}
    whole = {
        name: tensor
        for name, tensor in scorer.backbone.state_dict().items()
        if name not in adapted and not (name in base and torch.equal(base[name], tensor.cpu()))
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors({**factors, **whole}, folder / FACTORS)
    kept = {name: tensor for name, tensor in base.items() if name not in whole}
    about = AdapterFile(
        base=weights_hash(kept),
        scaling=scaling,
        sha256=_sha256(folder / FACTORS),
        heads=heads_hash({name: head_of(tensor) for name, tensor in kept.items()}),
    )
    (folder / ADAPTER).write_text(about.model_dump_json(indent=2), "utf-8")
    scorer.save_around(folder)


def over(base: Scorer, folder: Path) -> Scorer:
    """The scorer of an adapter's folder, over the weights of a loaded one.

    What the adapter leaves alone is shared and not copied: an adapter costs the memory of its
    adapted layers. Neither scorer sees the other.

    Args:
        base: the scorer whose weights its training started from, on the device to be used.
        folder: that :func:`save_adapter` wrote.

    Raises:
        ScorerError: see :func:`~beholder.scoring.folder.read_scorer_file`; the folder is no
            adapter's, a file of it was changed, or it was trained over other weights.
    """
    file = read_scorer_file(folder)
    about = _read_about(folder)
    try:
        tensors = dict(read_shard(folder / FACTORS))
        with unallocated():
            config = json.loads((folder / "config.json").read_text("utf-8"))
            backbone = make_backbone(config, folder / "tokenizer.json")
        _fill(backbone, base, tensors, about, folder)
        scorer = Scorer.around(folder, file, backbone, base.engine.max_frames)
    except (ValueError, KeyError) as error:
        raise ScorerError(f"adapter folder {folder}: {error}") from error
    # Sums of products may differ in the last bit between processors, which makes no other scorer:
    # its parts have been proved by their own hashes.
    scorer.file.fingerprint = scorer.fingerprint = file.fingerprint
    return scorer


def _read_about(folder: Path) -> AdapterFile:
    if not (folder / ADAPTER).is_file():
        raise ScorerError(
            f"scorer folder {folder} has no {ADAPTER}: it is no adapter, load it as a scorer"
        )
    try:
        about = AdapterFile.model_validate_json((folder / ADAPTER).read_text("utf-8"))
        found = _sha256(folder / FACTORS)
    except (ValidationError, OSError) as error:
        raise ScorerError(
            f"adapter folder {folder} is not whole, fetch it again: {error}"
        ) from error
    if found != about.sha256:
        raise ScorerError(
            f"adapter folder {folder}: {FACTORS} has sha256 {found}, not {about.sha256} as "
            "recorded: it was changed after it was made, fetch it again"
        )
    return about


def _fill(
    backbone: Backbone,
    base: Scorer,
    tensors: Mapping[str, Tensor],
    about: AdapterFile,
    folder: Path,
) -> None:
    """Gives a backbone on the meta device its tensors: the base's own, merged or replaced."""
    given = base.backbone.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
    adapted = {name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
    whole = {n: tensor for n, tensor in tensors.items() if not n.endswith((DOWN, UP))}
    kept = {name: tensor for name, tensor in given.items() if name not in whole}
    if weights_hash(kept) != about.base:
        raise ValueError(OTHER_BASE.format(base.fingerprint))
    device = next(base.backbone.parameters()).device
    state = {name: tensor.to(device) for name, tensor in whole.items()} | kept
    for name in adapted:
        down, up = tensors[name + DOWN], tensors[name + UP]
        state[name] = merged(state[name], down, up, about.scaling)
    for name, tensor in state.items():
        check_tensor(name, tensor, expected, folder / FACTORS)
    check_complete({n: shape for n, shape in expected.items() if n not in state}, folder)
    backbone.load_state_dict(state, assign=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
