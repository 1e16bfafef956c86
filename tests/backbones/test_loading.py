"""Weights from a folder: strict about keys, and safetensors only."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from beholder.backbones.loading import INDEX, SINGLE, load_weights, make_backbone, unallocated
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.backbones.pocket.model import Pocket
from beholder.backbones.pocket.preprocess import default_tokenizer

QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def config(golden: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((golden / "tiny_mplug_owl2/config.json").read_text())
    return content


@pytest.fixture(scope="module")
def weights(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "tiny_mplug_owl2/model.safetensors")


def loads(folder: Path, config: dict[str, Any]) -> MplugOwl2:
    model = MplugOwl2(config)
    load_weights(model, folder)
    return model


def test_a_backbone_is_made_by_its_name(
    golden: Path, config: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = golden.parent / "tiny_tokenizer.json"
    made = make_backbone(config, tokenizer)
    assert isinstance(made, MplugOwl2)
    assert made.config() == config
    assert json.loads(made.tokenizer_json()) == json.loads(tokenizer.read_text())
    (tmp_path / "tokenizer.json").write_text(default_tokenizer())
    pocket = make_backbone({"model_type": "pocket"}, tmp_path / "tokenizer.json")
    assert isinstance(pocket, Pocket)
    with pytest.raises(ValueError, match="unknown model_type 'llama'"):
        make_backbone({"model_type": "llama"}, tokenizer)


def test_shards_are_joined_and_rotary_frequencies_ignored(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    names = sorted(weights)
    first = {name: weights[name] for name in names[::2]}
    first["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    second = {name: weights[name] for name in names[1::2]}
    save_file(first, tmp_path / "a.safetensors")
    save_file(second, tmp_path / "b.safetensors")
    parts = dict.fromkeys(first, "a.safetensors") | dict.fromkeys(second, "b.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": parts}))
    loaded = loads(tmp_path, config).state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in names)


def test_on_the_meta_device_the_file_fills_the_model(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    save_file({k: v.to(torch.float16) for k, v in weights.items()}, tmp_path / SINGLE)
    with unallocated():
        model = MplugOwl2(config)
    load_weights(model, tmp_path)
    state = model.state_dict()
    assert all(state[k].dtype == torch.float16 for k in state)
    assert torch.equal(state[QUERY], weights[QUERY].half())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_missing_key_is_named(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    save_file({k: v for k, v in weights.items() if k != QUERY}, tmp_path / SINGLE)
    with pytest.raises(ValueError, match=f"lacks the weights '{QUERY}'"):
        loads(tmp_path, config)


def test_an_unexpected_key_is_named(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    save_file(weights | {"model.extra.weight": torch.ones(2)}, tmp_path / SINGLE)
    with pytest.raises(ValueError, match=r"unexpected key 'model\.extra\.weight'"):
        loads(tmp_path, config)


def test_another_shape_is_named(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    save_file(weights | {QUERY: torch.ones(64, 65)}, tmp_path / SINGLE)
    with pytest.raises(ValueError, match=rf"'{QUERY}' has shape \(64, 65\) .* \(64, 64\)"):
        loads(tmp_path, config)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_formats_that_can_run_code_are_refused(
    tmp_path: Path, config: dict[str, Any], name: str
) -> None:
    (tmp_path / name).write_bytes(b"never opened")
    with pytest.raises(ValueError, match=f"'{name}'.*convert first"):
        loads(tmp_path, config)


def test_a_folder_without_weights_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no weights in"):
        loads(tmp_path, config)


def test_a_damaged_file_is_refused(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    save_file(weights, tmp_path / SINGLE)
    whole = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is damaged, copy it again"):
        loads(tmp_path, config)


@pytest.mark.parametrize("name", ["absent.safetensors", "../outside.safetensors"])
def test_an_index_names_only_files_of_its_folder(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, torch.Tensor], name: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(weights, tmp_path / "outside.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(weights, name)}))
    with pytest.raises(ValueError, match="which is not in the folder"):
        loads(folder, config)


def test_a_broken_index_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(ValueError, match="is not an index of weights"):
        loads(tmp_path, config)


def test_an_outline_draws_no_numbers_for_which_torch_imports_its_compiler() -> None:
    script = (
        "import sys\n"
        "from beholder.backbones.loading import unallocated\n"
        "from beholder.backbones.pocket.model import Pocket, PocketConfig\n"
        "from beholder.backbones.pocket.preprocess import default_tokenizer\n"
        "with unallocated():\n"
        "    model = Pocket(PocketConfig(), default_tokenizer())\n"
        "assert all(p.is_meta for p in model.parameters())\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
