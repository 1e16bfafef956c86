"""What DeepSpeed wraps: a backbone whose forward is the loss."""

import torch
from torch import Tensor, nn

from beholder.backbones import Backbone
from beholder.training.batch import TrainBatch
from beholder.training.objective import Objective


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
        """The loss, or with ``read`` the logits at each row's slot (B, V)."""
        if read:
            slots = item.batch.encoded.slots[:, 0]
            rows = torch.arange(len(slots), device=slots.device)
            return self.backbone(item.batch, torch.stack([rows, slots], 1)).logits
        logits = self.backbone(item.batch, self.objective.positions(item)).logits
        return self.objective(logits, item)


def freeze(backbone: Backbone, trained: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Sets which parts are trained; returns (all, trained) parameters a part."""
    counts: dict[str, tuple[int, int]] = {}
    for part, prefixes in backbone.spec.parts.items():
        some = [p for name, p in backbone.named_parameters() if name.startswith(prefixes)]
        for parameter in some:
            parameter.requires_grad_(part in trained)
        total = sum(p.numel() for p in some)
        counts[part] = (total, total if part in trained else 0)
    return counts
