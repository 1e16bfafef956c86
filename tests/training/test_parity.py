"""The whole comparison: it passes on our code and catches losses and gradients gone wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from beholder.backbones.mplug_owl2.golden import report
from beholder.training import parity
from beholder.training.objectives import closed_soft_label_kl, fidelity_loss, soft_label_kl
from beholder.training.parity import compare, level_columns

PAIRS = ("official", "openset", "predstd", "binary")
TRAINING = ("train_ce", "train_softkl", *(f"train_pair_{variant}" for variant in PAIRS))
GRADIENTS = {f"grad_norms/{case} (relative)" for case in TRAINING}
SETS = ("koniq_like", "spaq_like", "kadid_like")


@pytest.fixture
def copied(golden: Path, tmp_path: Path) -> Path:
    """A copy to be tampered with: of the cases only those with a loss, and no large pictures."""
    ignore = shutil.ignore_patterns("preprocess448", "lora", "tokenization.json", "video_*.json")
    folder = Path(shutil.copytree(golden, tmp_path / "golden", ignore=ignore))
    change_json(folder, "cases_index.json", lambda c: [c.pop(n) for n in set(c) - set(TRAINING)])
    return folder


def change_json(folder: Path, name: str, change: Callable[[Any], object]) -> None:
    content = json.loads((folder / name).read_text("utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), "utf-8")


def change_arrays(folder: Path, name: str, changed: list[str]) -> None:
    with np.load(folder / name) as content:
        arrays = dict(content)
    for key in changed:
        arrays[key] = arrays[key].astype(np.float64)
        arrays[key].flat[-1] += 0.01
    np.savez(folder / name, **arrays)


def failures(folder: Path) -> set[str]:
    """Names of the lines that say FAILED; the exit status must agree."""
    written: list[str] = []
    status = report(compare(folder), folder, written.append)
    failed = {line.split(" | ")[0] for line in written if line.endswith("| FAILED")}
    assert status == (1 if failed else 0), written
    return failed


def test_everything_is_within_tolerance_or_named(golden: Path) -> None:
    lines = list(compare(golden, golden.parent / "llama_tokenizer.json"))
    assert [line.name for line in lines if not line.ok] == []
    compared = {line.name for line in lines if line.difference is not None}
    assert set(TRAINING) | GRADIENTS <= compared
    assert {name for name in compared if name.startswith("losses/")} == {
        *(f"losses/kl{i}{part}" for i in range(4) for part in ("", "/layout")),
        *(f"losses/rank{i}" for i in range(6)),
    }
    assert {name for name in compared if name.startswith("soft_labels/")} == {
        f"soft_labels/{name}{part}" for name in SETS for part in ("", "/words")
    }
    assert {name for name in compared if name.startswith("eval_metrics/")} == {
        f"eval_metrics/{group}" for group in ("scores", "distances", "correlations")
    }
    assert {line.name for line in lines if line.difference is None} == {
        "video_batch_unequal/official_logits_last",
        "preprocess448/nopad_center_crop",
        "lora",
        *(f"losses/rank{i}/expected_binary_bce" for i in range(6)),
    }


def test_tolerances_are_those_of_the_folder(golden: Path) -> None:
    tolerances = {
        line.name: line.tolerance for line in compare(golden) if line.difference is not None
    }
    assert {tolerances[case] for case in TRAINING[1:]} == {1e-3}
    assert {tolerances[f"{case}/scores"] for case in TRAINING[2:]} == {1e-4}
    assert {tolerances[name] for name in GRADIENTS} == {1e-4}
    assert {tolerances[f"losses/{name}"] for name in ("kl0", "rank0")} == {1e-5}
    assert {tolerances[f"soft_labels/{name}"] for name in SETS} == {1e-6}
    assert tolerances["train_softkl/layout"] == 0


LOSSES = ("loss", "loss_rank", "loss_next_token_A", "loss_next_token_B")
SCORES = ("pred_scores_A", "pred_scores_B", "pred_stds_A", "pred_stds_B")


@pytest.mark.parametrize("first", range(3))
def test_every_recorded_number_counts(copied: Path, first: int) -> None:
    """One loss and one score of each kind of pairs are changed, another in each round."""
    soft = ("loss", "loss_ce", "loss_kl")[first]
    changed = {f"train_softkl/{soft}": "train_softkl"}
    for i, variant in enumerate(PAIRS):
        case = f"train_pair_{variant}"
        changed[f"{case}/{LOSSES[(i + first) % 4]}"] = case
        changed[f"{case}/{SCORES[(i + first) % 4]}"] = f"{case}/scores"
    change_arrays(copied, "cases.npz", [*changed])
    assert failures(copied) == set(changed.values())


def test_every_raw_loss_and_index_counts(copied: Path) -> None:
    change_arrays(copied, "cases.npz", ["train_softkl/level_logit_index"])
    changed = {
        "kl0/expected_level_label_index": "losses/kl0/layout",
        "kl1/expected_level_logit_index": "losses/kl1/layout",
        "kl2/expected_loss": "losses/kl2",
        "rank0/expected_loss_fix1": "losses/rank0",
        "rank3/expected_loss_fix0": "losses/rank3",
        "rank5/expected_binary_fidelity": "losses/rank5",
    }
    change_arrays(copied, "losses.npz", [*changed])
    assert failures(copied) == {"train_softkl/layout", *changed.values()}


@pytest.mark.parametrize("factor", [1.01, 0.0, float("nan")])
def test_every_gradient_counts(copied: Path, factor: float) -> None:
    def change(norms: Any) -> None:
        norms["train_pair_binary"]["lm_head.weight"] *= factor

    change_json(copied, "grad_norms.json", change)
    assert failures(copied) == {"grad_norms/train_pair_binary (relative)"}


def test_gradients_of_other_parameters_are_seen(copied: Path) -> None:
    change_json(copied, "grad_norms.json", lambda norms: norms["train_ce"].pop("lm_head.weight"))
    assert failures(copied) == {"grad_norms/train_ce (relative)"}


def reversed_kl(logits: Tensor, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    predicted = logits.softmax(-1)[:, ids]
    each = (predicted * (predicted.log() - targets.clamp_min(1e-9).log())).sum(-1)
    return (each * weights).sum() / weights.sum()


def closed_kl(logits: Tensor, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return closed_soft_label_kl(logits[:, ids], targets, weights)


def best_level_last(logits: Tensor, ids: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    return soft_label_kl(logits, ids.flip(0), targets, weights)


@pytest.mark.parametrize("wrong", [reversed_kl, closed_kl, best_level_last])
def test_another_divergence_is_seen(
    copied: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(parity, "soft_label_kl", wrong)
    everywhere = set(TRAINING) | GRADIENTS | {f"losses/kl{i}" for i in range(4)}
    assert failures(copied) == everywhere - {"train_ce", "grad_norms/train_ce (relative)"}


def test_a_spread_that_is_not_detached_is_seen(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No value changes by it: only the gradients tell."""
    monkeypatch.setattr(Tensor, "detach", lambda self: self)
    assert failures(copied) == {"grad_norms/train_pair_predstd (relative)"}


def test_a_tie_that_counts_one_half_is_seen(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "fidelity_loss", lambda *a, tie, **k: fidelity_loss(*a, **k))
    assert failures(copied) == {"losses/rank5"}


def test_a_soft_label_at_full_weight_is_seen(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the 0.05 of the next token's part did not multiply the KL as well."""
    right = parity.pair_objective

    def wrong(rank: Tensor, *parts: Any, soft_label_weight: float, **weights: float) -> Tensor:
        return right(rank, *parts, soft_label_weight=soft_label_weight * 20, **weights)

    monkeypatch.setattr(parity, "pair_objective", wrong)
    totals = {f"train_pair_{variant}" for variant in PAIRS}
    assert failures(copied) == totals | {f"grad_norms/{case} (relative)" for case in totals}


def test_a_model_of_nan_is_seen(copied: Path) -> None:
    path = copied / "tiny_mplug_owl2/model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"][0, 0] = torch.nan
    save_file(weights, path)
    assert set(TRAINING) | GRADIENTS <= failures(copied)


def test_what_we_do_not_train_is_named(copied: Path) -> None:
    def change(index: Any) -> None:
        for case, (old, new) in {
            "train_pair_official": ("detach_pred_std=True", "detach_pred_std=False"),
            "train_pair_binary": (" softkl_loss=True", " softkl_loss=False"),
        }.items():
            assert old in index[case]["description"]
            index[case]["description"] = index[case]["description"].replace(old, new)

    change_json(copied, "cases_index.json", change)
    named = {line.name for line in compare(copied) if line.difference is None}
    cases = {"train_pair_official", "train_pair_binary"}
    assert cases | {f"grad_norms/{case}" for case in cases} <= named


def test_the_options_are_those_of_the_description(copied: Path) -> None:
    def swap(index: Any) -> None:
        a, b = index["train_pair_openset"], index["train_pair_predstd"]
        a["description"], b["description"] = b["description"], a["description"]

    change_json(copied, "cases_index.json", swap)
    assert {"train_pair_openset", "train_pair_predstd"} <= failures(copied)


def test_a_level_is_found_after_its_prefix() -> None:
    labels = torch.tensor([[-100, 5, 6, 7, 20, 2], [5, 6, 5, 6, 7, 33]])
    assert level_columns(labels, [5, 6, 7]).tolist() == [4, 5]
    with pytest.raises(ValueError, match=r"labels \[1, 2\] times"):
        level_columns(labels, [5, 6])
    with pytest.raises(ValueError, match=r"labels \[0, 0\] times"):
        level_columns(labels[:, :-1], [6, 7, 20])  # nothing stands after it


@pytest.mark.parametrize(
    "name",
    ["cases_index.json", "cases.npz", "README.json", "meta.json", "tiny_mplug_owl2/config.json"],
)
def test_what_a_folder_must_have(copied: Path, name: str) -> None:
    (copied / name).unlink()
    refused(copied)


@pytest.mark.parametrize(
    "name",
    [
        "cases_index.json",
        "cases.npz",
        "README.json",
        "meta.json",
        "tiny_mplug_owl2/config.json",
        *parity.FILES,
    ],
)
@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_folder_of_another_format_is_said_to_be(copied: Path, name: str, content: str) -> None:
    (copied / name).write_text(content)
    refused(copied)


def refused(folder: Path) -> None:
    written: list[str] = []
    assert report(compare(folder), folder, written.append) == 2
    assert written[-1].startswith("cannot compare: ")
    assert "\n" not in written[-1]


def test_a_folder_need_not_have_losses_and_metrics(copied: Path) -> None:
    for name in parity.FILES:
        (copied / name).unlink()
    assert failures(copied) == set()


def test_a_folder_with_nothing_to_compare_is_no_success(copied: Path) -> None:
    (copied / "cases_index.json").write_text("{}")
    for name in parity.FILES:
        (copied / name).unlink()
    written: list[str] = []
    assert report(compare(copied), copied, written.append) == 2
    assert "no case" in written[-1]
