"""What DeepSpeed wraps: a backbone whose forward is the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from beholder.backbones import Backbone, Batch
from beholder.backbones.contract import IGNORED
from beholder.training.objectives import answer_cross_entropy


@dataclass
class TrainBatch:
    """A micro-batch.

    Attributes:
        batch: rows and media.
        weights: of the rows, 0 for a filler. (B,).
        share: this micro-batch's part of the step's weighted tokens times the number of
            micro-batches and workers, so that averaging over them gives the step's mean.
        failed: rows that are no fillers and whose media could not be used.
    """

    batch: Batch
    weights: Tensor
    share: float = 1.0
    failed: int = 0


class TrainingModel(nn.Module):
    """A backbone under its objective.

    Args:
        backbone: the model; which of its weights are trained is set by ``requires_grad``.
        token_ids: of the readout's words.
    """

    def __init__(self, backbone: Backbone, token_ids: list[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.token_ids = token_ids

    def forward(self, item: TrainBatch, read: bool = False) -> Tensor:
        """The loss, or with ``read`` the logits at each row's slot (B, V)."""
        encoded = item.batch.encoded
        if read:
            rows = torch.arange(len(encoded.ids), device=encoded.ids.device)
            return self.backbone(item.batch, torch.stack([rows, encoded.slots[:, 0]], 1)).logits
        supervised = (encoded.labels != IGNORED).nonzero()  # (M, 2)
        targets = encoded.labels[supervised[:, 0], supervised[:, 1]]
        predicting = supervised - torch.tensor([0, 1], device=supervised.device)
        logits = self.backbone(item.batch, predicting).logits
        weights = item.weights.to(logits.dtype)[supervised[:, 0]]
        return answer_cross_entropy(logits, targets, weights) * item.share


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
