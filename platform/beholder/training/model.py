"""What DeepSpeed wraps: a backbone whose forward is the loss."""

import torch
from torch import Tensor, nn

from beholder.backbones import Backbone
from beholder.training.adapters import add_adapters, is_adapter
from beholder.training.batch import TrainBatch
from beholder.training.config import TrainConfig
from beholder.training.objective import Objective
from beholder.training.start import new_tokens


class TrainingModel(nn.Module):
    """A backbone under its objective.

    Args:
        backbone: the model; which of its weights are trained is set by ``requires_grad``.
        objective: what is minimised.
    """

    def __init__(self, backbone: Backbone, objective: Objective) -> None:
        super().__init__()
        self.backbone = backbone
        self.objective = objective

    def forward(self, item: TrainBatch, read: bool = False) -> Tensor:
        """The loss, or with ``read`` the logits at each row's slots (B * S, V).

        Reading keeps the media's features in the batch, so that the next pass over it, with
        other text, needs no look of its own.
        """
        if read:
            item.batch.features = self.backbone.features_of(item.batch)
            slots = item.batch.encoded.slots
            rows = torch.arange(len(slots), device=slots.device).repeat_interleave(slots.shape[1])
            return self.backbone(item.batch, torch.stack([rows, slots.flatten()], 1)).logits
        logits = self.backbone(item.batch, self.objective.positions(item)).logits
        return self.objective(logits, item)


def freeze(backbone: Backbone, config: TrainConfig) -> dict[str, tuple[int, int]]:
    """Sets which weights are trained, and adds LoRA's; returns (all, trained) parameters a part.

    Beside LoRA, token embedding and head are trained whole where the readout brings new tokens:
    the rows of all tokens that occur move then, not the new ones alone.

    Args:
        backbone: with the readout's new tokens.
        config: the run's.

    Raises:
        ConfigError: LoRA's targets are none.
    """
    wanted, parts = config.backbone, backbone.spec.parts
    whole = tuple(prefix for part in wanted.train for prefix in parts[part])
    if wanted.lora is not None:
        add_adapters(backbone, wanted.lora, config.seed)
        whole += backbone.spec.embeddings if new_tokens(config) else ()
    counts = dict.fromkeys(parts, (0, 0))
    for name, parameter in backbone.named_parameters():
        trained = name.startswith(whole) or is_adapter(name)
        parameter.requires_grad_(trained)
        part = next(part for part, prefixes in parts.items() if name.startswith(prefixes))
        total, learned = counts[part]
        size = parameter.numel()
        counts[part] = (total + size, learned + size * trained)
    return counts
