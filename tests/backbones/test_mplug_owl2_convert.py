"""An official folder to the scorer layout."""

import io
import json
import pickle
import random
from pathlib import Path

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file

from beholder.backbones.loading import INDEX, SINGLE, load_weights, make_backbone
from beholder.backbones.mplug_owl2.convert import (
    BIN_INDEX,
    BIN_SINGLE,
    convert_checkpoint,
    tokenizer_from_sentencepiece,
)
from beholder.conversations import questions

FREQUENCIES = "model.layers.0.self_attn.rotary_emb.inv_freq"
LINES = [
    line
    for attribute in ("quality", "aesthetics")
    for line in questions(attribute, "image") + questions(attribute, "video")
]


def train_vocabulary(kind: str, **options: object) -> bytes:
    """A small sentencepiece model with LLaMA's settings."""
    model = io.BytesIO()
    settings = {
        "vocab_size": 400,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    } | options
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 5), model_writer=model, model_type=kind, **settings
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def vocabulary() -> bytes:
    return train_vocabulary("bpe")


@pytest.fixture(scope="module")
def weights(golden: Path) -> dict[str, torch.Tensor]:
    return load_file(golden / "tiny_mplug_owl2/model.safetensors")


@pytest.fixture
def source(
    golden: Path, tmp_path: Path, vocabulary: bytes, weights: dict[str, torch.Tensor]
) -> Path:
    """An official folder whose weights are one ``.bin``, as the released trainers save it."""
    folder = tmp_path / "official"
    folder.mkdir()
    content = (golden / "tiny_mplug_owl2/config.json").read_bytes()
    (folder / "config.json").write_bytes(content)
    (folder / "tokenizer.model").write_bytes(vocabulary)
    torch.save(weights | {FREQUENCIES: torch.ones(8)}, folder / BIN_SINGLE)
    return folder


def check(target: Path, weights: dict[str, torch.Tensor]) -> None:
    config = json.loads((target / "config.json").read_text())
    backbone = make_backbone(config, target / "tokenizer.json")
    load_weights(backbone, target)
    state = backbone.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def test_one_bin_becomes_one_safetensors(
    source: Path, tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    target = tmp_path / "scorer"
    convert_checkpoint(source, target)
    assert sorted(p.name for p in target.iterdir()) == ["config.json", SINGLE, "tokenizer.json"]
    assert (target / "config.json").read_bytes() == (source / "config.json").read_bytes()
    check(target, weights)


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_shards_stay_shards(
    source: Path, tmp_path: Path, weights: dict[str, torch.Tensor], kind: str
) -> None:
    (source / BIN_SINGLE).unlink()
    parts = {}
    for number, names in enumerate((sorted(weights)[::2], sorted(weights)[1::2])):
        name = f"pytorch_model-{number}.{kind}"
        shard = {key: weights[key] for key in names}
        torch.save(shard, source / name) if kind == "bin" else save_file(shard, source / name)
        parts |= dict.fromkeys(names, name)
    index = BIN_INDEX if kind == "bin" else INDEX
    (source / index).write_text(json.dumps({"weight_map": parts}))
    target = tmp_path / "scorer"
    convert_checkpoint(source, target)
    assert len(list(target.glob("model-0000?-of-00002.safetensors"))) == 2
    stored = json.loads((target / INDEX).read_text())
    assert stored["metadata"]["total_size"] == sum(t.nbytes for t in weights.values())
    check(target, weights)


def test_views_of_one_storage_are_separated(
    source: Path, tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    names = [name for name in weights if name.endswith("input_layernorm.multiway.0.weight")]
    joint = torch.stack([weights[name] for name in names])
    torch.save(weights | dict(zip(names, joint, strict=True)), source / BIN_SINGLE)
    convert_checkpoint(source, tmp_path / "scorer")
    check(tmp_path / "scorer", weights)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.model", BIN_SINGLE])
def test_what_is_missing_is_said_in_a_sentence(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).unlink()
    with pytest.raises(ValueError, match="no weights in" if name == BIN_SINGLE else name):
        convert_checkpoint(source, tmp_path / "scorer")
    assert [p.name for p in tmp_path.iterdir()] == ["official"]


def test_a_missing_shard_is_named(source: Path, tmp_path: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "pytorch_model-7.bin"}}
    (source / BIN_INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"pytorch_model-7\.bin"):
        convert_checkpoint(source, tmp_path / "scorer")


def test_an_incomplete_checkpoint_leaves_nothing_behind(
    source: Path, tmp_path: Path, weights: dict[str, torch.Tensor]
) -> None:
    torch.save({k: v for k, v in weights.items() if k != "model.norm.weight"}, source / BIN_SINGLE)
    with pytest.raises(ValueError, match=r"lacks the weights 'model\.norm\.weight'"):
        convert_checkpoint(source, tmp_path / "scorer")
    assert [p.name for p in tmp_path.iterdir()] == ["official"]


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_bin_that_would_run_code_is_not_run(source: Path, tmp_path: Path, save: object) -> None:
    save({"lm_head.weight": Payload(tmp_path / "ran")}, source / BIN_SINGLE)  # type: ignore[operator]
    with pytest.raises(ValueError, match="damaged or holds more than weights"):
        convert_checkpoint(source, tmp_path / "scorer")
    assert [p.name for p in tmp_path.iterdir()] == ["official"]


def test_an_existing_target_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "scorer").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        convert_checkpoint(source, tmp_path / "scorer")


def test_the_tokenizer_reads_as_sentencepiece_does(tmp_path: Path, vocabulary: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(vocabulary)
    original = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = tokenizer_from_sentencepiece(path)
    assert ours.get_vocab_size() == original.get_piece_size()
    rng = random.Random(0)
    words = " ".join(LINES).split()
    odd = ["  two  spaces ", "ümläut", "日本", "a\nb\tc", " ", "x", "3.99", "qualityquality"]
    mixed = [" ".join(rng.choices(words, k=8)) for _ in range(200)]
    letters = ["".join(rng.choices("aestqulimgvdo ", k=20)) for _ in range(300)]
    for text in LINES + odd + mixed + letters:
        assert ours.encode(text, add_special_tokens=False).ids == original.encode(text), repr(text)
    encoded = ours.encode("good ümläut  日本", add_special_tokens=False).ids
    assert ours.decode(encoded) == "good ümläut  日本"


def test_another_kind_of_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(train_vocabulary("unigram", vocab_size=330))
    with pytest.raises(ValueError, match="another kind of tokenizer"):
        tokenizer_from_sentencepiece(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a sentencepiece model"):
        tokenizer_from_sentencepiece(path)
