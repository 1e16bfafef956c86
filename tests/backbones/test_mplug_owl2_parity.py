"""The comparison itself: it passes on our code and catches every way of being wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from beholder.backbones.mplug_owl2 import abstractor, language, vision
from beholder.backbones.mplug_owl2.golden import GoldenSet, Line, difference
from beholder.backbones.mplug_owl2.parity import compare

TINY = "tiny_mplug_owl2"


@pytest.fixture
def copied(golden: Path, tmp_path: Path) -> Path:
    """A copy of the golden folder, to be tampered with; without the slow large pictures."""
    ignore = shutil.ignore_patterns("preprocess448")
    return Path(shutil.copytree(golden, tmp_path / "golden", ignore=ignore))


def failures(folder: Path) -> list[str]:
    return [line.name for line in compare(GoldenSet(folder)) if not line.ok]


def test_every_case_is_compared_or_named(golden: Path) -> None:
    lines = list(compare(GoldenSet(golden), golden.parent / "llama_tokenizer.json"))
    assert [line.name for line in lines if not line.ok] == []
    compared = {line.name.split("/")[0] for line in lines if line.difference is not None}
    skipped = {line.name for line in lines if line.difference is None}
    cases = set(json.loads((golden / "cases_index.json").read_text()))
    assert cases <= compared | skipped
    assert compared == {case for case in cases if not case.startswith("train_")} | {
        "train_ce",
        "preprocess448",
        "video_frame_indices",
        "tokenization",
    }
    assert skipped == {case for case in cases if case.startswith("train_")} - {"train_ce"} | {
        "video_batch_unequal/official_logits_last",
        "preprocess448/nopad_center_crop",
        "eval_metrics.json",
        "grad_norms.json",
        "lora",
        "losses.npz",
        "soft_labels.json",
    }


def test_every_recorded_field_is_looked_at(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a field skipped in silence, changing its array would go unseen."""
    with np.load(golden / "cases.npz") as content:
        arrays = dict(content)
    seen = set()

    def spoilt(self: Any, case: str, field: str) -> Any:
        seen.add(f"{case}/{field}")
        return arrays[f"{case}/{field}"]

    monkeypatch.setattr(GoldenSet, "array", spoilt)
    skipped = {line.name for line in compare(GoldenSet(golden)) if line.difference is None}
    unseen = {n for n in arrays if n not in seen and n.split("/")[0] not in skipped}
    assert unseen <= skipped


def change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / TINY / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(rms_norm_eps=1e-6),
        lambda c: c.update(rope_theta=20000.0),
        lambda c: c["visual_config"]["visual_model"].update(layer_norm_eps=1e-5),
        lambda c: c["visual_config"]["visual_abstractor"].update(layer_norm_eps=1e-5),
    ],
    ids=["rms eps", "rope theta", "vision eps", "ffn_ln eps"],
)
def test_a_wrong_config_is_seen(copied: Path, change: Callable[[dict[str, Any]], None]) -> None:
    change_config(copied, change)
    assert "batch2_quality" in failures(copied)


@pytest.mark.parametrize(
    "part", ["k_proj", "v_proj", "input_layernorm", "post_attention_layernorm"]
)
def test_swapped_modalities_are_seen(copied: Path, part: str) -> None:
    path = copied / TINY / "model.safetensors"
    weights = load_file(path)
    swapped = {
        name.replace(f"{part}.multiway.0", "@").replace(f"{part}.multiway.1", f"{part}.multiway.0")
        .replace("@", f"{part}.multiway.1"): tensor
        for name, tensor in weights.items()
    }  # fmt: skip
    save_file(swapped, path)
    assert "batch2_quality" in failures(copied)


def exact_gelu(self: nn.Module, x: Tensor) -> Tensor:
    return self.fc2(F.gelu(self.fc1(x)))


def flat_joint(self: nn.Module, x: Tensor) -> Tensor:
    frames, positions, width = x.shape
    joint = self.query_key_value(x).view(frames, positions, 3, self.heads, -1)
    query, key, value = joint.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return self.dense(mixed.transpose(1, 2).reshape(frames, positions, width))


def raw_residual(self: nn.Module, queries: Tensor, frame: Tensor) -> Tensor:
    return self.output(self.attention(self.norm1(queries), self.normk(frame)), queries)


def interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., ::2], x[..., 1::2]
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return x * cos + turned * sin


def text_only(self: nn.Module, x: Tensor, text: int) -> Tensor:
    return self.multiway[0](x)


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        (vision.VisionMLP, "forward", exact_gelu),
        (vision.VisionAttention, "forward", flat_joint),
        (abstractor.CrossAttentionBlock, "forward", raw_residual),
        (abstractor, "NORM_EPS", 1e-6),
        (language, "rotate", interleaved),
        (language.Multiway, "forward", text_only),
    ],
    ids=["gelu", "qkv layout", "abstractor residual", "norm eps", "rope", "modality ignored"],
)
def test_wrong_mathematics_is_seen(
    golden: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrong: Any
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    found = failures(golden)
    assert "single_quality" in found
    assert "train_ce" in found


def test_a_wrong_end_of_frame_is_seen(copied: Path) -> None:
    path = copied / TINY / "model.safetensors"
    weights = load_file(path)
    weights["model.visual_abstractor.vit_eos"].zero_()
    save_file(weights, path)
    found = failures(copied)
    assert "batch2_quality" in found
    assert "text_only" not in found


@pytest.mark.parametrize(
    "name",
    [
        "pixel_values/pixel_values",
        "single_aesthetics/std",
        "video_batch_unequal/correct_logits_last",
        "two_placeholders/logits_last",
        "text_only/logits_all_positions",
        "train_ce/loss",
        "single_quality/intermediate_abstractor_out",
        "single_quality/modality_indicators",
    ],
)
def test_recorded_numbers_count(copied: Path, name: str) -> None:
    with np.load(copied / "cases.npz") as content:
        arrays = dict(content)
    arrays[name] = arrays[name].astype(np.float64)
    arrays[name].flat[0] += 0.01
    np.savez(copied / "cases.npz", **arrays)
    found = failures(copied)
    assert len(found) == 1
    assert found[0].split("/")[0] == name.split("/")[0]


def test_a_model_of_nan_is_seen(copied: Path) -> None:
    path = copied / TINY / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"][0, 0] = torch.nan
    save_file(weights, path)
    assert {"text_only", "train_ce"} <= set(failures(copied))


def test_other_pixels_and_frames_are_seen(golden: Path, copied: Path) -> None:
    large = Path(shutil.copytree(golden / "preprocess448", copied / "preprocess448"))
    shutil.copy(large / "square_448.png", large / "wide_extreme.png")
    clips = json.loads((copied / "video_frame_indices.json").read_text())
    clips[0]["indices"][-1] += 1
    (copied / "video_frame_indices.json").write_text(json.dumps(clips))
    assert failures(copied) == [
        "preprocess448/wide_extreme",
        "video_frame_indices/300 frames at 30.0 fps",
    ]


def test_other_ids_are_seen(copied: Path) -> None:
    recorded = json.loads((copied / "tokenization.json").read_text())
    recorded["training_samples"][2]["labels"][-1] = -100
    recorded["prompts"]["iqa_eval_script"]["input_ids"][16] = 13
    (copied / "tokenization.json").write_text(json.dumps(recorded))
    lines = compare(GoldenSet(copied), copied.parent / "absent.json")
    with pytest.raises(ValueError, match="no tokenizer at"):
        list(lines)
    tokenizer = Path(__file__).parents[1] / "golden/llama_tokenizer.json"
    wrong = [line.name for line in compare(GoldenSet(copied), tokenizer) if not line.ok]
    assert wrong == ["tokenization/iqa_eval_script", "tokenization/training_samples/2"]


def test_shapes_and_nan_are_never_within_tolerance() -> None:
    assert not Line("shape", difference(np.zeros(3), np.zeros(4)), 1.0).ok
    assert not Line("nan", difference(np.array([np.nan]), np.zeros(1)), 1.0).ok
    assert Line("edge", difference(np.array([1.0]), np.zeros(1)), 1.0).ok
