"""Do labels, losses, gradients and metrics come out as the released code's? A golden folder, whole.

The model's own numbers are compared by :mod:`beholder.backbones.mplug_owl2.parity`, which names
what else there is. Here those names become comparisons: labels and metrics by
:mod:`beholder.evaluation.parity`, losses and gradients by this file.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from beholder.backbones.contract import IGNORED
from beholder.backbones.mplug_owl2 import parity as model_parity
from beholder.backbones.mplug_owl2.golden import (
    Array,
    GoldenSet,
    Line,
    difference,
    read_batch,
    worst_lines,
)
from beholder.evaluation.parity import metric_lines, soft_label_lines
from beholder.training.objectives import (
    answer_cross_entropy,
    fidelity_loss,
    pair_objective,
    score_moments,
    soft_label_kl,
)

SIDES = ("_A", "_B")
INPUTS = model_parity.INPUTS | {"level_probs", "gt_scores", "stds"}
NO_TRUE_GRADIENT = "crossattention.attention.key.bias"
"""One number added to all of a query's scores, which softmax doesn't see: only rounding is left."""


def compare(folder: Path, tokenizer: Path | None = None) -> Iterator[Line]:
    """Compares all that this package can do and names what it can't.

    Args:
        folder: the golden folder.
        tokenizer: LLaMA's ``tokenizer.json``, with which the tokenization is compared too.

    Raises:
        ValueError: the folder is not of this format.
    """
    golden = GoldenSet(folder)
    for line in model_parity.compare(golden, tokenizer):
        if line.difference is None and line.name in FILES:
            yield from FILES[line.name](golden)
        elif line.difference is None and line.name in golden.index:
            yield from _objective_lines(golden, line.name)
        else:
            yield line


def _lines(
    golden: GoldenSet,
    case: str,
    recorded: Mapping[str, Array],
    ours: Mapping[str, Tensor],
    loss: str,
) -> list[Line]:
    """The bare name's line is that of the losses, whose tolerance is ``loss``."""
    if not ours:
        return [Line(case)]
    found = [
        (_kind(field, loss), difference(ours[field].numpy(), array))
        for field, array in recorded.items()
        if field in ours
    ]
    uncovered = [Line(f"{case}/{field}") for field in recorded if field not in ours]
    return worst_lines(case, found, golden.tolerances, own=loss) + uncovered


def _kind(field: str, loss: str) -> str:
    if field.endswith("_index"):
        return "layout"
    return "scores" if field.startswith("pred_") else loss


def level_columns(labels: Tensor, prefix: list[int]) -> Tensor:
    """Where each row's level token stands: right after the only ``prefix`` in its labels. (B,).

    Args:
        labels: int64 (B, L).
        prefix: the tokens of the answer up to the level.

    Raises:
        ValueError: a row has the prefix not once.
    """
    windows = labels[:, :-1].unfold(1, len(prefix), 1)  # (B, W, n); a token follows each
    found = (windows == torch.tensor(prefix)).all(dim=-1)
    times = found.sum(dim=1).tolist()
    if set(times) != {1}:
        raise ValueError(f"the level's prefix {prefix} is in the rows' labels {times} times, not 1")
    return found.int().argmax(dim=1) + len(prefix)


class Supervised(NamedTuple):
    """A case's M supervised tokens.

    Attributes:
        labels: of all positions. int64 (B, L).
        row: where each token stands, and its column. (M,).
        column: see ``row``. (M,).
        logits: that predict it. (M, V).
    """

    labels: Tensor
    row: Tensor
    column: Tensor
    logits: Tensor

    def cross_entropy(self, kept: Tensor) -> Tensor:
        """The mean over the kept ones, bool (M,). Scalar."""
        targets = self.labels[self.row, self.column][kept]
        return answer_cross_entropy(self.logits[kept], targets, torch.ones(len(targets)))


def _supervised(golden: GoldenSet, case: str, side: str = "") -> Supervised:
    batch = read_batch(golden, case, side)
    row, column = torch.nonzero(batch.encoded.labels != IGNORED, as_tuple=True)
    logits = golden.model(batch, torch.stack([row, column - 1], dim=1)).logits
    return Supervised(batch.encoded.labels, row, column, logits)


@dataclass(frozen=True)
class Answers:
    """What a forward makes of B rated rows.

    Attributes:
        columns: the positions that predict the level tokens. (B,).
        slots: logits there. (B, V).
        next_token: cross-entropy on all other supervised tokens. Scalar.
        soft_label: KL at the level tokens. Scalar.
    """

    columns: Tensor
    slots: Tensor
    next_token: Tensor
    soft_label: Tensor


def _answers(golden: GoldenSet, case: str, side: str = "") -> Answers:
    tokens = _supervised(golden, case, side)
    level = level_columns(tokens.labels, golden.meta["level_prefix"])
    at_level = tokens.column == level[tokens.row]
    slots = tokens.logits[at_level]
    targets = torch.from_numpy(golden.array(case, f"level_probs{side}"))
    weights = torch.ones(len(slots))
    return Answers(
        columns=level - 1,
        slots=slots,
        next_token=tokens.cross_entropy(~at_level),
        soft_label=soft_label_kl(slots, torch.tensor(golden.levels), targets, weights),
    )


def _objective(golden: GoldenSet, case: str) -> dict[str, Tensor]:
    """What we make of a training case by the recorded fields' names; empty if it isn't covered."""
    fields = golden.index[case]["fields"]
    if "level_probs_A" in fields:
        return _pairs(golden, case)
    if "level_probs" in fields:
        answers = _answers(golden, case)
        return {
            "loss": answers.next_token + answers.soft_label,
            "loss_ce": answers.next_token,
            "loss_kl": answers.soft_label,
            "level_logit_index": answers.columns,
        }
    if "labels" in fields:
        tokens = _supervised(golden, case)
        return {"loss": tokens.cross_entropy(torch.ones(len(tokens.row), dtype=torch.bool))}
    return {}


def _pairs(golden: GoldenSet, case: str) -> dict[str, Tensor]:
    """DeQA-Score's pairs under the options that the case's description states."""
    options = dict(re.findall(r"(\w+)=(\S+)", golden.index[case]["description"]))
    on = {name: value == "True" for name, value in options.items()}
    if not (on["detach_pred_std"] and on["softkl_loss"]):
        return {}
    weights = {name: float(v) for name, v in options.items() if name.startswith("weight_")}
    sides = a, b = [_answers(golden, case, side) for side in SIDES]
    moments = [_moments(golden, answers.slots, on["closeset_rating_loss"]) for answers in sides]
    mean, std = (torch.cat(both) for both in zip(*moments, strict=True))
    rank = _rank(
        mean,
        _both(golden, case, "gt_scores"),
        std=None if on["use_fix_std"] else std,
        mos_std=_both(golden, case, "stds") if on["continuous_rating_loss"] else None,
    )
    made = {
        "loss_rank": rank,
        "loss": pair_objective(
            rank,
            (a.next_token, b.next_token),
            (a.soft_label, b.soft_label),
            rank_weight=weights["weight_rank"],
            next_token_weight=weights["weight_next_token"],
            soft_label_weight=weights["weight_softkl"],
        ),
    }
    for side, answers, (score, spread) in zip(SIDES, sides, moments, strict=True):
        soft_label = weights["weight_softkl"] * answers.soft_label
        made[f"loss_next_token{side}"] = answers.next_token + soft_label
        made |= {f"pred_scores{side}": score, f"pred_stds{side}": spread}
    return made


def _both(golden: GoldenSet, case: str, field: str) -> Tensor:
    return torch.cat([torch.from_numpy(golden.array(case, f"{field}{side}")) for side in SIDES])


def _moments(golden: GoldenSet, slots: Tensor, closed: bool) -> tuple[Tensor, Tensor]:
    ids = golden.levels
    probs = slots[:, ids].softmax(dim=-1) if closed else slots.softmax(dim=-1)[:, ids]
    return score_moments(probs, torch.arange(len(ids), 0, -1, dtype=probs.dtype))


def _rank(mean: Tensor, mos: Tensor, *, std: Tensor | None, mos_std: Tensor | None) -> Tensor:
    """Row i of side A against row i of side B; the sides stand one after the other. (2P,)."""
    rows = torch.arange(len(mean))
    return fidelity_loss(
        mean,
        mos,
        torch.zeros_like(rows),
        torch.ones(len(mean)),
        std=std,
        mos_std=mos_std,
        pairs=rows.reshape(2, -1).T,
        tie=0.0,
    )


@torch.no_grad()
def _objective_lines(golden: GoldenSet, case: str) -> list[Line]:
    recorded = {
        field: golden.array(case, field)
        for field in golden.index[case]["fields"]
        if field.removesuffix("_A").removesuffix("_B") not in INPUTS
    }
    return _lines(golden, case, recorded, _objective(golden, case), "loss")


def _gradient_lines(golden: GoldenSet) -> Iterator[Line]:
    """Of each training loss, the norms of all parameters' gradients."""
    for case, norms in golden.json("grad_norms.json").items():
        ours = _objective(golden, case)
        if not ours:
            yield Line(f"grad_norms/{case}")
            continue
        golden.model.zero_grad()
        ours["loss"].backward()
        found = _gradient_difference(golden, norms)
        yield Line(f"grad_norms/{case} (relative)", found, golden.tolerances.gradient)


def _gradient_difference(golden: GoldenSet, norms: dict[str, float | None]) -> float:
    """The largest relative one; infinite where the parameters have other names."""
    grads = {name: p.grad for name, p in golden.model.named_parameters()}
    if set(grads) != set(norms):
        return float("inf")
    names = [name for name in norms if not name.endswith(NO_TRUE_GRADIENT)]
    ours = np.array(
        [0.0 if (grad := grads[name]) is None else float(grad.norm()) for name in names]
    )
    recorded = np.array([norms[name] or 0.0 for name in names])
    floor = golden.tolerances.gradient_floor
    noise = (ours <= floor) & (recorded <= floor)  # not where one is NaN
    return float(np.where(noise, 0, np.abs(ours - recorded) / np.maximum(recorded, floor)).max())


def _raw_loss_lines(golden: GoldenSet) -> Iterator[Line]:
    """Losses on raw tensors. The release's binary cross-entropy of pairs is none of ours."""
    stated = golden.json("README.json")["files"]["losses.npz"]
    prefix, ids = (
        [int(i) for i in re.findall(r"\d+", re.findall(rf"{name}=\[(.*?)\]", stated)[0])]
        for name in ("level_prefix", "level_ids")
    )
    cases: dict[str, dict[str, Array]] = {}
    for name, array in golden.arrays("losses.npz").items():
        case, _, field = name.partition("/")
        cases.setdefault(case, {})[field] = array
    for case, fields in cases.items():
        given = {name: torch.from_numpy(array) for name, array in fields.items()}
        ours = {}
        if "logits" in given:
            ours = _raw_kl(given, prefix, ids)
        elif "pred_scores_A" in given:
            ours = _raw_rank(given)
        recorded = {name: array for name, array in fields.items() if name.startswith("expected_")}
        yield from _lines(golden, f"losses/{case}", recorded, ours, "raw_loss")


def _raw_kl(given: dict[str, Tensor], prefix: list[int], ids: list[int]) -> dict[str, Tensor]:
    columns = level_columns(given["labels"], prefix)
    rows = torch.arange(len(columns))
    slots = given["logits"][rows, columns - 1]
    return {
        "expected_loss": soft_label_kl(
            slots, torch.tensor(ids), given["level_probs"], torch.ones(len(rows))
        ),
        "expected_level_label_index": columns,
        "expected_level_logit_index": columns - 1,
    }


def _raw_rank(given: dict[str, Tensor]) -> dict[str, Tensor]:
    names = ("pred_scores", "pred_stds", "gt_scores", "gt_stds")
    mean, std, mos, mos_std = (torch.cat([given[name + side] for side in SIDES]) for name in names)
    return {
        "expected_loss_fix1": _rank(mean, mos, std=None, mos_std=mos_std),
        "expected_loss_fix0": _rank(mean, mos, std=std, mos_std=mos_std),
        "expected_binary_fidelity": _rank(mean, mos, std=None, mos_std=None),
    }


FILES: dict[str, Callable[[GoldenSet], Iterator[Line]]] = {
    "eval_metrics.json": metric_lines,
    "grad_norms.json": _gradient_lines,
    "losses.npz": _raw_loss_lines,
    "soft_labels.json": soft_label_lines,
}
"""Files of a golden folder that the model's own comparison only names."""
