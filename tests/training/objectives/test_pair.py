"""The parts of DeQA-Score's pair objective, and what its weights multiply."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.training.objectives import pair_objective, soft_label_kl


@pytest.mark.parametrize("variant", ["official", "openset", "predstd", "binary"])
def test_released_totals(golden: Path, variant: str) -> None:
    names = ("loss", "loss_rank", "loss_next_token_A", "loss_next_token_B")
    with np.load(golden / "cases.npz") as content:
        total, rank, a, b = (
            torch.from_numpy(content[f"train_pair_{variant}/{name}"]) for name in names
        )
        kl = torch.from_numpy(content["train_softkl/loss_kl"])  # side A has its rows and labels
    loss = pair_objective(rank, next_token=(a - kl, b - 7), soft_label=(kl, torch.tensor(7.0)))
    assert float(loss) == pytest.approx(float(total), abs=1e-6)


def test_each_weight_multiplies_its_part() -> None:
    rank, description, *parts = (torch.tensor(10.0**i) for i in range(6))
    loss = pair_objective(
        rank,
        (parts[0], parts[1]),
        (parts[2], parts[3]),
        description,
        rank_weight=2,
        next_token_weight=3,
        soft_label_weight=4,
        description_weight=5,
    )
    assert float(loss) == 2 + 5 * 10 + 3 * (100 + 1000 + 4 * (10_000 + 100_000))


def test_fillers_alone_give_0_with_zero_gradient() -> None:
    logits = torch.randn(2, 9, requires_grad=True)
    targets = torch.tensor([[0.5, 0.5]]).expand(2, 2)

    def kl() -> Tensor:
        return soft_label_kl(logits, torch.tensor([1, 4]), targets, torch.zeros(2))

    loss = pair_objective(logits.sum() * 0, (kl(), kl()), (kl(), kl()))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0
