"""What travels from the feed to the model: a micro-batch with its labels."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from beholder.backbones import Batch


@dataclass
class TrainBatch:
    """A micro-batch of B rows.

    Attributes:
        batch: rows and media.
        weights: of the rows, 0 for a filler. (B,).
        slots: (row, number of the slot in it) of each opinion that is learned at a slot: one a
            row, and one for each further attribute that people rated. int64 (M, 2).
        slot_weights: of those opinions; a row's together are its weight. (M,).
        targets: the readout's probabilities of its K scores. (M, K).
        scores: mean opinions on the readout's scale. float64 (M,).
        mos: mean opinions in their set's own unit. float64 (B,).
        mos_std: their spreads, known or assumed. float64 (B,).
        sets: a number for each row's set; only rows of one set are compared. int64 (B,).
        share: for each term of the objective this micro-batch's part of what the step's mean is
            over, times the number of micro-batches and workers, so that averaging over them
            gives that mean. (T,).
        failed: rows that are no fillers and whose media could not be used.
    """

    batch: Batch
    weights: Tensor
    slots: Tensor
    slot_weights: Tensor
    targets: Tensor
    scores: Tensor
    mos: Tensor
    mos_std: Tensor
    sets: Tensor
    share: Tensor
    failed: int = 0

    def to(self, device: torch.device) -> "TrainBatch":
        """The same on a device."""
        batch = self.batch
        batch.encoded = batch.encoded.to(device)
        batch.pixels = None if batch.pixels is None else batch.pixels.to(device)
        batch.states = None if batch.states is None else batch.states.to(device)
        tensors: dict[str, Any] = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})
