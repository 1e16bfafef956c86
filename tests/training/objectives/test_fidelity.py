"""The fidelity loss: the release's own values, numbers by hand, pairs and gradients."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from beholder.training.objectives import fidelity, fidelity_loss, thurstone


def released(golden: Path, case: str) -> dict[str, Tensor]:
    with np.load(golden / "losses.npz") as content:
        return {
            name.removeprefix(f"{case}/"): torch.from_numpy(content[name])
            for name in content.files
            if name.startswith(f"{case}/")
        }


def both_sides(recorded: dict[str, Tensor], name: str) -> Tensor:
    return torch.cat([recorded[f"{name}_A"], recorded[f"{name}_B"]])


def loss_of(recorded: dict[str, Tensor], **options: Any) -> float:
    """With row i of side A against row i of side B."""
    count = len(recorded["pred_scores_A"])
    rows = torch.arange(count)
    loss = fidelity_loss(
        both_sides(recorded, "pred_scores"),
        both_sides(recorded, "gt_scores"),
        torch.zeros(2 * count, dtype=torch.int64),
        torch.ones(2 * count),
        pairs=torch.stack([rows, rows + count], dim=1),
        **options,
    )
    return float(loss)


CASES = [f"rank{i}" for i in range(6)]


@pytest.mark.parametrize("case", CASES)
def test_released_values(golden: Path, case: str) -> None:
    recorded = released(golden, case)
    people, model = both_sides(recorded, "gt_stds"), both_sides(recorded, "pred_stds")
    fixed = loss_of(recorded, mos_std=people)
    predicted = loss_of(recorded, mos_std=people, std=model)
    assert fixed == pytest.approx(float(recorded["expected_loss_fix1"]), abs=1e-5)
    assert predicted == pytest.approx(float(recorded["expected_loss_fix0"]), abs=1e-5)
    assert abs(fixed - predicted) > 1e-3


@pytest.mark.parametrize("case", CASES)
def test_released_binary_values(golden: Path, case: str) -> None:
    recorded = released(golden, case)
    binary = loss_of(recorded, tie=0.0)
    assert binary == pytest.approx(float(recorded["expected_binary_fidelity"]), abs=1e-5)
    p = thurstone(recorded["pred_scores_A"], recorded["pred_scores_B"])
    g = (recorded["gt_scores_A"] > recorded["gt_scores_B"]).float()
    entropy = torch.nn.functional.binary_cross_entropy(p, g)
    assert float(entropy) == pytest.approx(float(recorded["expected_binary_bce"]), abs=1e-5)


def test_a_recorded_tie_counts_one_half_unless_told(golden: Path) -> None:
    recorded = released(golden, "rank5")
    tied = recorded["gt_scores_A"] == recorded["gt_scores_B"]
    p = thurstone(recorded["pred_scores_A"], recorded["pred_scores_B"])[tied]
    assert len(p) == 1
    ours = 1 - (p / 2).sqrt() - ((1 - p) / 2).sqrt()
    theirs = 1 - (1 - p).sqrt()  # as if A were worse
    expected = float(recorded["expected_binary_fidelity"]) + float(ours - theirs) / len(tied)
    assert loss_of(recorded) == pytest.approx(expected, abs=1e-5)
    assert abs(float(ours - theirs)) / len(tied) > 1e-4


def test_thurstone_by_hand() -> None:
    four, three = torch.tensor([4.0]), torch.tensor([3.0])
    p = thurstone(four, three, torch.tensor([0.6]), torch.tensor([0.8]))
    assert float(p) == pytest.approx(0.84134, abs=5e-6)
    assert float(thurstone(four, three)) == pytest.approx(0.76025, abs=5e-6)
    assert float(thurstone(three, four)) == pytest.approx(1 - 0.76025, abs=5e-6)


def test_thurstone_without_spread() -> None:
    zero = torch.zeros(3)
    p = thurstone(torch.tensor([2.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 2.0]), zero, zero)
    assert p.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("p", "g", "expected"), [(0.5, 1.0, 0.29279), (0.0, 1.0, 0.9998), (0.3, 0.7, 0.08348)]
)
def test_fidelity_by_hand(p: float, g: float, expected: float) -> None:
    there = fidelity(torch.tensor([p]), torch.tensor([g]))
    back = fidelity(torch.tensor([1 - p]), torch.tensor([1 - g]))
    assert float(there) == pytest.approx(expected, abs=5e-6)
    assert float(back) == pytest.approx(expected, abs=5e-6)


def test_gradient_is_0_where_p_is_g() -> None:
    g = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    p = g.clone().requires_grad_()
    fidelity(p, g).sum().backward()
    assert p.grad is not None
    assert p.grad.abs().max() < 1e-5  # epsilon's share is 8e-6 at .05
    q = (g + 0.02).requires_grad_()
    fidelity(q, g).sum().backward()
    assert q.grad is not None
    assert (q.grad > 1e-2).all()


BATCH = {
    "mean": torch.tensor([3.1, 2.0, 4.2, 1.4, 3.9]),
    "mos": torch.tensor([60.0, 40.0, 71.0, 0.2, 0.9]),
    "sets": torch.tensor([0, 0, 0, 1, 1]),
    "weights": torch.ones(5),
    "mos_std": torch.tensor([12.0, 9.0, 15.0, 0.1, 0.2]),
    "std": torch.tensor([0.6, 0.5, 0.9, 0.4, 0.7]),
}


def of_pair(a: int, b: int) -> float:
    row = BATCH
    g = thurstone(row["mos"][a], row["mos"][b], row["mos_std"][a], row["mos_std"][b])
    return float(fidelity(thurstone(row["mean"][a], row["mean"][b], *row["std"][[a, b]]), g))


def test_all_pairs_of_a_set_and_none_across() -> None:
    within = [of_pair(a, b) for a, b in [(0, 1), (0, 2), (1, 2), (3, 4)]]
    assert float(fidelity_loss(**BATCH)) == pytest.approx(np.mean(within), abs=1e-6)
    all_sets_one = fidelity_loss(**BATCH | {"sets": torch.zeros(5, dtype=torch.int64)})
    assert abs(float(all_sets_one) - np.mean(within)) > 1e-2


def test_given_pairs() -> None:
    pairs = torch.tensor([[0, 1], [4, 3]])
    expected = np.mean([of_pair(0, 1), of_pair(4, 3)])
    assert float(fidelity_loss(**BATCH, pairs=pairs)) == pytest.approx(expected, abs=1e-6)
    crossing = torch.cat([pairs, torch.tensor([[0, 4], [3, 2]])])
    assert torch.equal(fidelity_loss(**BATCH, pairs=crossing), fidelity_loss(**BATCH, pairs=pairs))


def test_pairs_across_sets_alone_give_0_with_zero_gradient() -> None:
    mean = BATCH["mean"].clone().requires_grad_()
    loss = fidelity_loss(**BATCH | {"mean": mean, "sets": torch.arange(5)})
    loss.backward()
    assert float(loss.detach()) == 0
    assert mean.grad is not None
    assert mean.grad.abs().max() == 0


def test_a_row_alone_has_no_pair() -> None:
    one = {name: value[:1] for name, value in BATCH.items()}
    assert float(fidelity_loss(**one)) == 0


def test_swapping_a_and_b_changes_nothing() -> None:
    pairs = torch.tensor([[0, 1], [2, 1], [3, 4]])
    for options in ({}, {"mos_std": None}):
        there = fidelity_loss(**BATCH | options, pairs=pairs)
        back = fidelity_loss(**BATCH | options, pairs=pairs.flip(1))
        assert float(there) == pytest.approx(float(back), abs=1e-6)


def test_an_affine_map_of_raw_opinions_changes_nothing() -> None:
    moved = {"mos": 0.03 * BATCH["mos"] - 2, "mos_std": 0.03 * BATCH["mos_std"]}
    assert float(fidelity_loss(**BATCH | moved)) == pytest.approx(
        float(fidelity_loss(**BATCH)), abs=1e-5
    )


def test_no_gradient_flows_into_the_spread() -> None:
    mean = BATCH["mean"].clone().requires_grad_()
    std = BATCH["std"].clone().requires_grad_()
    loss = fidelity_loss(**BATCH | {"mean": mean, "std": std})
    of_mean, of_std = torch.autograd.grad(loss, [mean, std], allow_unused=True)
    assert of_std is None
    assert of_mean.abs().min() > 0


@pytest.mark.parametrize("given", [True, False])
def test_gradients_stay_finite_however_wrong_and_certain(given: bool) -> None:
    mean = torch.tensor([1.0, 5.0], requires_grad=True)
    loss = fidelity_loss(
        mean,
        torch.tensor([90.0, 10.0]),
        torch.zeros(2, dtype=torch.int64),
        torch.ones(2),
        std=torch.tensor([1e-3, 0.0]),
        mos_std=torch.zeros(2) if given else None,
    )
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1, abs=1e-3)
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()


def test_it_teaches_the_order() -> None:
    mean = torch.tensor([3.0, 3.0], requires_grad=True)
    opinions = (torch.tensor([70.0, 60.0]), torch.zeros(2, dtype=torch.int64), torch.ones(2))
    for options in ({}, {"mos_std": torch.tensor([10.0, 10.0])}):
        (gradient,) = torch.autograd.grad(fidelity_loss(mean, *opinions, **options), mean)
        assert gradient[0] < 0 < gradient[1]


def test_fillers_change_nothing() -> None:
    nan = float("nan")
    filler = {"mean": 3.0, "mos": nan, "sets": 0, "weights": 0.0, "mos_std": nan, "std": 0.0}
    longer = {n: torch.cat([v, torch.tensor([filler[n]])]) for n, v in BATCH.items()}
    mean = longer["mean"].clone().requires_grad_()
    loss = fidelity_loss(**longer | {"mean": mean})
    loss.backward()
    assert torch.equal(loss, fidelity_loss(**BATCH))
    assert mean.grad is not None
    assert mean.grad[-1] == 0 < mean.grad[0].abs()


def test_fillers_alone_give_0_with_zero_gradient() -> None:
    mean = BATCH["mean"].clone().requires_grad_()
    loss = fidelity_loss(**BATCH | {"mean": mean, "weights": torch.zeros(5)})
    loss.backward()
    assert float(loss.detach()) == 0
    assert mean.grad is not None
    assert mean.grad.abs().max() == 0


def test_a_pair_weighs_the_product_of_its_rows() -> None:
    weights = torch.tensor([1.0, 2.0, 0.0, 3.0, 0.5])
    expected = (2 * of_pair(0, 1) + 1.5 * of_pair(3, 4)) / 3.5
    loss = fidelity_loss(**BATCH | {"weights": weights})
    assert float(loss) == pytest.approx(expected, abs=1e-6)
