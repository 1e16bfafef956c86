"""Cross-entropy on the answer."""

import math

import pytest
import torch

from beholder.training.objectives import answer_cross_entropy


def test_uniform_logits_give_ln_v() -> None:
    loss = answer_cross_entropy(torch.zeros(3, 50), torch.tensor([0, 7, 49]), torch.ones(3))
    assert float(loss) == pytest.approx(math.log(50))


def test_it_is_the_weighted_mean() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], requires_grad=True)
    targets = torch.tensor([0, 0])
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    loss = answer_cross_entropy(logits, targets, torch.tensor([3.0, 1.0]))
    assert float(loss) == pytest.approx(float((3 * each[0] + each[1]) / 4))
    filler = answer_cross_entropy(logits, targets, torch.tensor([1.0, 0.0]))
    (gradient,) = torch.autograd.grad(filler, logits)
    assert gradient[1].abs().max() == 0
    assert gradient[0].abs().max() > 0


def test_fillers_alone_give_zero_with_zero_gradient() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    loss = answer_cross_entropy(logits, torch.tensor([1, 2]), torch.zeros(2))
    loss.backward()
    assert float(loss) == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0
