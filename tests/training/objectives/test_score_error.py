"""Smooth L1, squared error and votes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from beholder.training.objectives import (
    earth_movers_distance,
    score_moments,
    smooth_l1,
    soft_cross_entropy,
    squared_error,
)

ONE = torch.ones(1)
P = torch.tensor([[0.05, 0.15, 0.4, 0.3, 0.1]])
Q = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15]])


def test_smooth_l1_by_hand() -> None:
    for distance, expected in [(0.5, 0.125), (2.0, 1.5), (-2.0, 1.5), (1.0, 0.5)]:
        loss = smooth_l1(torch.tensor([5 + distance]), torch.tensor([5.0]), ONE)
        assert float(loss) == pytest.approx(expected)


def test_squared_error_by_hand() -> None:
    loss = squared_error(torch.tensor([0.5, 0.2]), torch.tensor([0.1, 0.2]), torch.ones(2))
    assert float(loss) == pytest.approx(0.08)


def test_squared_error_through_the_sigmoid_has_its_gradient() -> None:
    """d/dz (sigmoid(z) - y)^2 = 2 (s - y) s (1 - s), on one row."""
    value = torch.tensor([0.4], requires_grad=True)
    squared_error(value.sigmoid(), torch.tensor([0.9]), torch.ones(1)).backward()
    s = 1 / (1 + math.exp(-0.4))
    assert value.grad is not None
    assert float(value.grad) == pytest.approx(2 * (s - 0.9) * s * (1 - s), rel=1e-5)


def test_smooth_l1_moves_score_tokens_only_and_keeps_their_sum() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 40, dtype=torch.float64, requires_grad=True)
    tokens, support = torch.arange(30, 40), torch.linspace(1, 10, 10, dtype=torch.float64)
    mean, _ = score_moments(logits[:, tokens].softmax(dim=1), support)
    scores = torch.tensor([2.0, 9.0], dtype=torch.float64)
    smooth_l1(mean, scores, torch.ones(2, dtype=torch.float64)).backward()
    assert logits.grad is not None
    assert logits.grad[:, :30].abs().max() == 0
    assert logits.grad[:, 30:].abs().max() > 1e-2
    assert logits.grad.sum(dim=1).abs().max() < 1e-12


def test_a_slot_does_not_feel_the_target_of_another() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 10, requires_grad=True)
    support, gradients = torch.linspace(1, 10, 10), []
    for first in (2.0, 8.0):
        mean, _ = score_moments(logits.softmax(dim=1), support)
        loss = smooth_l1(mean, torch.tensor([first, 3.0]), torch.ones(2))
        gradients.append(torch.autograd.grad(loss, logits)[0])
    assert torch.equal(gradients[0][1], gradients[1][1])
    assert (gradients[0][0] - gradients[1][0]).abs().max() > 1e-3


def test_earth_movers_distance_by_hand() -> None:
    assert float(earth_movers_distance(Q, P, ONE)) == pytest.approx(0.05477, abs=5e-6)
    # One root over the batch: sqrt((.003 + 0) / 2), where a mean of roots would give .02739.
    two = earth_movers_distance(torch.cat([Q, P]), torch.cat([P, P]), torch.ones(2))
    assert float(two) == pytest.approx(math.sqrt(0.0015), abs=1e-6)


def test_earth_movers_distance_grows_with_the_way() -> None:
    votes = torch.eye(5)
    near, far = (earth_movers_distance(votes[k : k + 1], votes[:1], ONE) for k in (1, 4))
    assert float(near) == pytest.approx(math.sqrt(1 / 5))
    assert float(far) == pytest.approx(math.sqrt(4 / 5))


def test_equal_distributions_are_0_apart_with_zero_gradient() -> None:
    probs = P.clone().requires_grad_()
    loss = earth_movers_distance(probs, P, ONE)
    loss.backward()
    assert float(loss.detach()) == 0
    assert probs.grad is not None
    assert probs.grad.abs().max() == 0


def test_soft_cross_entropy_is_kl_plus_entropy() -> None:
    entropy = -float((P * P.log()).sum())
    loss = float(soft_cross_entropy(Q.log(), P, ONE))
    assert loss == pytest.approx(0.05141 + entropy, abs=1e-5)
    assert loss != pytest.approx(float(soft_cross_entropy(P.log(), Q, ONE)), abs=1e-2)


def test_soft_cross_entropy_gradient_is_q_minus_p() -> None:
    logits = Q.log().requires_grad_()
    soft_cross_entropy(logits, P, ONE).backward()
    torch.testing.assert_close(logits.grad, Q - P)


def test_moments_of_printed_logits() -> None:
    # Q-Align, Tables 12 and 15: logits of excellent to bad, and the score.
    logits = torch.tensor(
        [[18.03, 18.38, 14.63, 11.60, 9.477], [7.043, 10.289, 15.852, 18.688, 16.766]]
    )
    mean, _ = score_moments(logits.softmax(dim=1), torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]))
    assert mean.tolist() == pytest.approx([4.3926, 1.9277], abs=2e-3)


def test_moments_of_equal_levels() -> None:
    mean, std = score_moments(torch.full((1, 5), 0.2), torch.arange(1.0, 6.0))
    assert float(mean) == pytest.approx(3)
    assert float(std) == pytest.approx(1.41421, abs=5e-6)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth_l1": lambda x, w: smooth_l1(x[:, 0], torch.full_like(w, 4.0), w),
    "squared_error": lambda x, w: squared_error(x[:, 0], torch.full_like(w, 4.0), w),
    "earth_movers_distance": lambda x, w: earth_movers_distance(
        x.softmax(dim=1), P.expand(len(x), 5), w
    ),
    "soft_cross_entropy": lambda x, w: soft_cross_entropy(x, P.expand(len(x), 5), w),
}


@pytest.mark.parametrize("name", LOSSES)
def test_weights(name: str) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 5, requires_grad=True)
    loss = LOSSES[name]
    with_filler = loss(rows, torch.tensor([1.0, 1.0, 0.0]))
    (gradient,) = torch.autograd.grad(with_filler, rows)
    assert torch.equal(with_filler, loss(rows[:2], torch.ones(2)))
    assert gradient[2].abs().max() == 0
    assert (gradient[:2].abs().amax(dim=1) > 0).all()
    doubled = loss(rows[[0, 0, 1]], torch.ones(3))
    torch.testing.assert_close(loss(rows[:2], torch.tensor([2.0, 1.0])), doubled)


@pytest.mark.parametrize("name", LOSSES)
def test_fillers_alone_give_0_with_zero_gradient(name: str) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 5, requires_grad=True)
    loss = LOSSES[name](rows, torch.zeros(3))
    (gradient,) = torch.autograd.grad(loss, rows)
    assert float(loss.detach()) == 0
    assert gradient.abs().max() == 0
