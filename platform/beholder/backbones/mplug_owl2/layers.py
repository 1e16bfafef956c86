"""What the three stacks of the model share: running layers, with or without recomputation."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run_layers(layers: Iterable[nn.Module], x: Tensor, *context: Any, recompute: bool) -> Tensor:
    """Feeds ``x`` through layers of signature ``(x, *context) -> x``.

    Args:
        layers: in order.
        x: the first layer's input.
        context: what every layer gets besides, unchanged.
        recompute: keep only each layer's input for the backward and compute the rest again
            (gradient checkpointing, the non-reentrant kind).
    """
    for layer in layers:
        x = checkpoint(layer, x, *context, use_reentrant=False) if recompute else layer(x, *context)
    return x
