"""Low-rank adapters on a frozen language part (LoRA, Hu et al. 2021, section 4.1), through peft.

A layer's ``W x`` becomes ``W x + scaling * B A dropout(x)`` with ``scaling = alpha / rank``. A
starts at random and B at 0, so that training starts from the model as it was. Adapted layers live
in training alone: what leaves it is merged weights under the backbone's own keys and, beside them,
A and B.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from beholder.backbones import Backbone
from beholder.config import ConfigError
from beholder.scoring.adapter import DOWN, UP, merged
from beholder.training.config import LoraConfig

_MARK = ".lora_"
_BASE = ".base_layer."


def adapted_layers(backbone: Backbone, lora: LoraConfig) -> list[str]:
    """Names of the layers that the config's targets mean: linear ones of the language part.

    The head is none of them: a layer as wide as the vocabulary is trained whole or not at all.

    Raises:
        ConfigError: targets that no layer's name ends with; the message names them.
    """
    spec = backbone.spec
    layers = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear)
        and f"{name}.".startswith(spec.parts["language"])
        and not f"{name}.".startswith(spec.embeddings)
    ]
    if lora.targets == "all-linear":
        return layers
    targets = spec.lora_targets if lora.targets is None else lora.targets
    idle = [target for target in targets if not any(_ends(name, target) for name in layers)]
    if idle or not targets:
        named = ", ".join(f"'{target}'" for target in idle) or "nothing"
        raise ConfigError(
            f"backbone.lora.targets: no linear layer of {backbone.name}'s language part is called "
            f"{named}: its names end in {', '.join(spec.lora_targets)} (what null adapts) or as "
            f"in '{layers[-1]}', or write all-linear"
        )
    return [name for name in layers if any(_ends(name, target) for target in targets)]


def _ends(name: str, target: str) -> bool:
    return f".{name}".endswith(f".{target}")


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is an adapter's."""
    return _MARK in name


def add_adapters(backbone: Backbone, lora: LoraConfig, seed: int) -> None:
    """Puts adapters into a backbone, in its device and type; every worker makes them alike.

    Args:
        backbone: changed in place: an adapted layer's own weight is ``base_layer.weight`` below
            its name, and every weight but the adapters' is frozen.
        lora: rank, scaling, dropout and targets.
        seed: of A.

    Raises:
        ConfigError: see :func:`adapted_layers`.
    """
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    names = [re.escape(f"backbone.{name}") for name in adapted_layers(backbone, lora)]
    torch.manual_seed(seed)
    # peft would take the backbone's method `config` for the configuration of a transformers
    # model, so it is handed over inside of something that has none.
    inject_adapter_in_model(
        PeftConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="|".join(names),  # as a string it is a pattern of whole names
        ),
        nn.ModuleDict({"backbone": backbone}),
    )


def merge_adapters(state: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Whole weights with adapters to the weights that do the same without: ``W + scaling * B A``.

    Args:
        state: of a backbone with adapters; weights without one are passed on untouched.
        scaling: :attr:`LoraConfig.scaling`.

    Returns:
        The backbone's own keys. Sums are in fp32 and end in the weight's type.
    """
    whole = {}
    for name, tensor in state.items():
        if is_adapter(name):
            continue
        layer, adapted, weight = name.partition(_BASE)
        if adapted and weight == "weight":
            down, up = (state[f"{layer}{_MARK}{side}.default.weight"] for side in "AB")
            tensor = merged(tensor, down, up, scaling)
        whole[f"{layer}.{weight}" if adapted else name] = tensor
    return whole


def factors_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A and B of a backbone with adapters, by the names of :mod:`beholder.scoring.adapter`."""
    ends = {f"{_MARK}A.default.weight": DOWN, f"{_MARK}B.default.weight": UP}
    return {
        f"{name.removesuffix(end)}.weight{side}": tensor
        for end, side in ends.items()
        for name, tensor in state.items()
        if name.endswith(end)
    }


def remove_adapters(backbone: Backbone) -> None:
    """Leaves the layers as they were before :func:`add_adapters`; their weights stay."""
    names = [name for name, _ in backbone.named_modules() if f"{name}.".endswith(_BASE)]
    for name in names:
        layer = backbone.get_submodule(name)
        backbone.set_submodule(name.removesuffix(_BASE.rstrip(".")), layer)
