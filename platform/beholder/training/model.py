"""What DeepSpeed wraps: a backbone, and the readout's head, whose forward is the loss."""

import torch
from torch import Tensor, nn

from beholder.backbones import Backbone, Read
from beholder.readouts import through_head
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
        head: the readout's, where it has one; it is always trained.
    """

    def __init__(
        self, backbone: Backbone, objective: Objective, head: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.objective = objective
        self.head = head

    def forward(self, item: TrainBatch, read: bool = False) -> Tensor | Read:
        """The loss, or with ``read`` what stands at each row's slots. Scalar, or M = B * S.

        Reading keeps the media's features in the batch, so that the next pass over it, with
        other text, needs no look of its own.
        """
        if read:
            item.batch.features = self.backbone.features_of(item.batch)
            slots = item.batch.encoded.slots
            rows = torch.arange(len(slots), device=slots.device).repeat_interleave(slots.shape[1])
            return self._read(item, torch.stack([rows, slots.flatten()], 1))
        found = self._read(item, self.objective.positions(item))
        return self.objective(found.logits, item, found.values)

    def _read(self, item: TrainBatch, positions: Tensor) -> Read:
        # In here, not with the readout: ZeRO-3 keeps weights empty outside a forward.
        return through_head(self.backbone(item.batch, positions), self.head)


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
