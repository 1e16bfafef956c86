"""Sizes, refusals and work of mPLUG-Owl2."""

import copy
from typing import Any

import pytest

from beholder.backbones.mplug_owl2.spec import (
    backbone_spec,
    forward_work,
    parameter_counts,
    read_config,
    real_config,
)


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    return parameter_counts(real_config())


def test_the_real_model_has_its_published_size(counts: dict[str, int]) -> None:
    assert sum(counts.values()) == 8_197_859_328
    millions = {part: round(count / 1e6, 1) for part, count in counts.items()}
    assert millions["vision"] == 304.0
    assert millions["projector"] == 81.5
    assert round(millions["language"]) == 7550
    assert round(millions["embeddings"]) == 262


@pytest.mark.parametrize(
    ("frames", "text", "tera"),
    [(1, 27, 1.98), (1, 33, 2.06), (8, 27, 13.5)],
    ids=["quality", "aesthetics", "8-frame video"],
)
def test_work_is_the_published_arithmetic(frames: int, text: int, tera: float) -> None:
    owl = read_config(real_config())
    everywhere = frames * owl.tokens_per_frame + text
    work = forward_work(owl, frames, text, reads=everywhere)
    assert work.total / 1e12 == pytest.approx(tera, abs=0.005 if frames == 1 else 0.05)
    assert work.vision / frames / 1e12 == pytest.approx(0.724, abs=0.0005)
    assert work.projector / frames / 1e12 == pytest.approx(0.038, abs=0.0005)
    assert forward_work(owl, frames, text, reads=1).head * everywhere == work.head


def test_the_pixels_are_those_of_the_released_preprocessing() -> None:
    spec = backbone_spec(read_config(real_config()))
    assert (spec.pixels.size, spec.pixels.background) == (448, (122, 116, 104))
    assert (spec.hidden_size, spec.vocabulary, spec.tokens_per_frame) == (4096, 32000, 65)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("model_type",), "llama", "model_type"),
        (("rope_scaling",), {"type": "linear", "factor": 2.0}, "rope_scaling"),
        (("attention_bias",), True, "attention_bias"),
        (("hidden_size",), None, "hidden_size"),
        (("num_attention_heads",), 5, "64|4096 is not divisible by 5 heads"),
        (("visual_config", "visual_model", "hidden_act"), "gelu", "visual_model.hidden_act"),
        (("visual_config", "visual_model", "image_size"), 450, "450 is not a multiple"),
        (("visual_config", "visual_abstractor", "grid_size"), 16, "grid_size 16 does not fit"),
        (("visual_config", "visual_abstractor", "hidden_size"), 512, "must be equal"),
    ],
)
def test_what_this_code_cannot_do_is_refused(path: tuple[str, ...], value: Any, words: str) -> None:
    config = copy.deepcopy(real_config())
    section = config
    for step in path[:-1]:
        section = section[step]
    section[path[-1]] = value
    with pytest.raises(ValueError, match=words):
        read_config(config)


def test_a_missing_field_is_named() -> None:
    config = real_config()
    del config["rms_norm_eps"]
    with pytest.raises(ValueError, match=r"'rms_norm_eps': Field required; correct config.json"):
        read_config(config)
