"""KL to soft labels: the release's own values, numbers by hand, and gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.training.objectives import (
    answer_cross_entropy,
    closed_soft_label_kl,
    soft_label_kl,
)

P = torch.tensor([[0.05, 0.15, 0.4, 0.3, 0.1]])
Q = torch.tensor([[0.1, 0.2, 0.3, 0.25, 0.15]])
FIVE = torch.arange(5)
ONE = torch.ones(1)
RELEASED_IDS = torch.tensor([20, 11, 33, 42, 17])  # excellent to bad, as README.json states


@pytest.mark.parametrize("case", ["kl0", "kl1", "kl2", "kl3"])
def test_released_values(golden: Path, case: str) -> None:
    with np.load(golden / "losses.npz") as recorded:
        logits = torch.from_numpy(recorded[f"{case}/logits"])
        labels = torch.from_numpy(recorded[f"{case}/labels"])
        targets = torch.from_numpy(recorded[f"{case}/level_probs"])
        positions = torch.from_numpy(recorded[f"{case}/expected_level_logit_index"])
        expected = float(recorded[f"{case}/expected_loss"])
    rows = torch.arange(len(logits))
    assert torch.isin(labels[rows, positions + 1], RELEASED_IDS).all()
    at_level = logits[rows, positions]
    loss = soft_label_kl(at_level, RELEASED_IDS, targets, torch.ones(len(rows)))
    assert float(loss) == pytest.approx(expected, abs=1e-5)
    backwards = soft_label_kl(at_level, RELEASED_IDS.flip(0), targets, torch.ones(len(rows)))
    assert abs(float(backwards) - expected) > 1e-3


def test_some_released_labels_do_not_sum_to_1(golden: Path) -> None:
    with np.load(golden / "losses.npz") as recorded:
        assert (np.abs(recorded["kl2/level_probs"].sum(axis=1) - 1) > 0.2).all()


def test_direction() -> None:
    assert float(closed_soft_label_kl(Q.log(), P, ONE)) == pytest.approx(0.05141, abs=5e-6)
    assert float(soft_label_kl(Q.log(), FIVE, P, ONE)) == pytest.approx(0.05141, abs=5e-6)
    assert float(closed_soft_label_kl(P.log(), Q, ONE)) == pytest.approx(0.05579, abs=5e-6)


def test_open_and_closed_softmax() -> None:
    uniform = torch.zeros(1, 50)
    ids = torch.tensor([20, 11, 33, 42, 17])
    assert float(soft_label_kl(uniform, ids, P, ONE)) == pytest.approx(2.51970, abs=5e-6)
    assert float(closed_soft_label_kl(uniform[:, ids], P, ONE)) == pytest.approx(0.21712, abs=5e-6)


def test_certain_labels_are_finite() -> None:
    certain = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.0]])
    assert float(closed_soft_label_kl(torch.zeros(1, 5), certain, ONE)) == pytest.approx(np.log(5))


@pytest.mark.parametrize("total", [1.0, 1.09])
def test_gradient_is_sum_p_times_q_minus_p(total: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([7, 2, 9, 0, 4])
    targets = torch.rand(3, 5, dtype=torch.float64)
    targets = total * targets / targets.sum(dim=1, keepdim=True)
    soft_label_kl(logits, ids, targets, torch.ones(3, dtype=torch.float64)).backward()
    wide = torch.zeros(3, 12, dtype=torch.float64).index_copy(1, ids, targets)
    expected = (total * logits.detach().softmax(dim=1) - wide) / 3
    torch.testing.assert_close(logits.grad, expected, atol=1e-12, rtol=0)


def test_closed_softmax_is_blind_to_other_words() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 12)
    louder = logits.clone()
    louder[0, 11] += 3
    ids = torch.tensor([7, 2, 9, 0, 4])
    assert torch.equal(
        closed_soft_label_kl(logits[:, ids], P, ONE), closed_soft_label_kl(louder[:, ids], P, ONE)
    )
    assert soft_label_kl(louder, ids, P, ONE) > soft_label_kl(logits, ids, P, ONE) + 0.1


def test_the_level_position_moves_kl_and_not_the_masked_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 12), torch.tensor([1, 8, 7, 3])
    ids, level = torch.tensor([7, 2, 9, 0, 4]), 2
    other = torch.arange(4) != level

    def losses(logits: Tensor) -> tuple[Tensor, Tensor]:
        text = answer_cross_entropy(logits[other], labels[other], torch.ones(3))
        return text, soft_label_kl(logits[level : level + 1], ids, P, ONE)

    moved = logits.clone()
    moved[level, 11] += 3  # no level
    (text, kl), (text_moved, kl_moved) = losses(logits), losses(moved)
    assert torch.equal(text, text_moved)
    assert kl_moved > kl + 0.1


def test_weights() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 12, requires_grad=True)
    ids, targets = torch.tensor([7, 2, 9, 0, 4]), P.expand(3, 5)
    two = soft_label_kl(logits[:2], ids, targets[:2], torch.ones(2))
    with_filler = soft_label_kl(logits, ids, targets, torch.tensor([1.0, 1.0, 0.0]))
    assert torch.equal(two, with_filler)
    (gradient,) = torch.autograd.grad(with_filler, logits)
    assert gradient[2].abs().max() == 0 < gradient[1].abs().max()
    each = [soft_label_kl(logits[i : i + 1], ids, P, ONE) for i in range(2)]
    weighted = soft_label_kl(logits[:2], ids, targets[:2], torch.tensor([3.0, 1.0]))
    torch.testing.assert_close(weighted, (3 * each[0] + each[1]) / 4)


def test_closed_weights() -> None:
    logits = torch.tensor([[0.0, 1, 2, 3, 4], [9.0, 0, 0, 0, 0]])
    alone = closed_soft_label_kl(logits[:1], P, ONE)
    both = closed_soft_label_kl(logits, P.expand(2, 5), torch.tensor([1.0, 0.0]))
    assert torch.equal(alone, both)
