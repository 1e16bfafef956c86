"""An official mPLUG-Owl2 folder (One-Align, DeQA-Score, ...) to the layout that scorers have.

From Python: ``convert_checkpoint(Path("one-align"), Path("one-align-scorer"))``. Weights are
taken one shard at a time and memory-mapped, so that a 7B model needs the memory of one shard.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import Tensor

from beholder.backbones.loading import (
    IGNORED_SUFFIX,
    INDEX,
    SINGLE,
    check_complete,
    check_tensor,
    read_shard,
    unallocated,
    weight_files,
)
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.conversations import PROMPTS

BIN_SINGLE = "pytorch_model.bin"
BIN_INDEX = "pytorch_model.bin.index.json"
SPACE = "▁"  # how the vocabulary writes a space


class Piece(NamedTuple):
    """One entry of a sentencepiece vocabulary; its id is its place.

    Attributes:
        text: as the vocabulary writes it.
        score: of two possible merges the one that makes the higher-scored piece comes first.
        kind: only normal pieces are made by merging.
    """

    text: str
    score: float
    kind: Literal["normal", "special", "byte"]


def convert_checkpoint(source: Path, target: Path) -> None:
    """Writes ``config.json``, ``model*.safetensors`` and ``tokenizer.json``.

    Args:
        source: a folder with ``config.json``, ``tokenizer.model`` and weights as safetensors
            or ``pytorch_model*.bin``.
        target: a folder that doesn't exist yet; it appears only once everything is written.

    Raises:
        ValueError: something is missing, of another model, or damaged; one sentence says what.
    """
    if target.exists():
        raise ValueError(f"'{target}' exists already: name a folder that does not")
    for name in ("config.json", "tokenizer.model"):
        if not (source / name).is_file():
            raise ValueError(f"'{source}' lacks {name}: copy the whole official folder")
    config = _read_json(source / "config.json")
    with unallocated():
        model = MplugOwl2(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shards = _shards(source)
    tokenizer = tokenizer_from_sentencepiece(source / "tokenizer.model")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        shutil.copyfile(source / "config.json", partial / "config.json")
        tokenizer.save(str(partial / "tokenizer.json"))
        _write_weights(shards, expected, partial, source)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is not a JSON object: {error}") from error


def _shards(source: Path) -> list[Path]:
    """The weight files: safetensors where there are any, else ``.bin``."""
    if (source / BIN_INDEX).is_file() and not (source / INDEX).is_file():
        names = sorted(set(_read_json(source / BIN_INDEX).get("weight_map", {}).values()))
        absent = [name for name in names if not (source / name).is_file()]
        if absent or not names:
            raise ValueError(f"'{source}' lacks the shard {absent[:1] or 'that holds weights'}")
        return [source / name for name in names]
    if (source / BIN_SINGLE).is_file() and not (source / SINGLE).is_file():
        return [source / BIN_SINGLE]
    return weight_files(source)


def _write_weights(
    shards: list[Path],
    expected: Mapping[str, tuple[int, ...]],
    target: Path,
    source: Path,
) -> None:
    missing: dict[str, Any] = dict(expected)
    weight_map: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(shards, start=1):
        name = (
            SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        tensors = {}
        for key, tensor in _read(shard):
            check_tensor(key, tensor, expected, shard)
            missing.pop(key, None)
            tensors[key] = tensor
        save_file(_separate(tensors), target / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        size += sum(tensor.nbytes for tensor in tensors.values())
    check_complete(missing, source)
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (target / INDEX).write_text(json.dumps(index, indent=2))


def _read(shard: Path) -> Iterator[tuple[str, Tensor]]:
    if shard.suffix == ".safetensors":
        yield from read_shard(shard)
        return
    try:
        content = torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"'{shard}' is damaged or holds more than weights, and is not read: "
            f"{str(error).splitlines()[0]}"
        ) from error
    for key, value in content.items():
        if not key.endswith(IGNORED_SUFFIX):
            yield key, value


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, each contiguous and in storage of its own, as safetensors wants them."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        result[key] = tensor.clone() if storage in seen else tensor.contiguous()
        seen.add(storage)
    return result


def tokenizer_from_sentencepiece(path: Path) -> Tokenizer:
    """LLaMA's ``tokenizer.model`` as a ``tokenizers`` tokenizer with the same ids.

    Raises:
        ValueError: sentencepiece isn't installed, the file is no BPE model, or the result
            reads the prompts differently from the original.
    """
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ValueError(
            "reading tokenizer.model needs sentencepiece: pip install 'beholder[convert]'"
        ) from error
    try:
        original = SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise ValueError(f"'{path}' is not a sentencepiece model: {error}") from error
    tokenizer = build_tokenizer(_pieces(original))
    for prompt in PROMPTS.values():
        text = f"{prompt.system or ''} {prompt.user} {prompt.answer}"
        if tokenizer.encode(text, add_special_tokens=False).ids != original.encode(text):
            raise ValueError(
                f"'{path}' does not read '{text}' the way LLaMA's BPE does: it is another kind "
                "of tokenizer"
            )
    return tokenizer


def _pieces(original: Any) -> list[Piece]:
    pieces = []
    for i in range(original.get_piece_size()):
        special = original.is_control(i) or original.is_unknown(i) or original.is_unused(i)
        kind: Literal["normal", "special", "byte"] = "special" if special else "normal"
        kind = "byte" if original.is_byte(i) else kind
        pieces.append(Piece(original.id_to_piece(i), original.get_score(i), kind))
    return pieces


def build_tokenizer(pieces: list[Piece]) -> Tokenizer:
    """A byte-pair tokenizer that merges as sentencepiece does: best-scored result first.

    Every way of cutting a piece in two known pieces is a merge; its rank is the score of the
    whole. A space goes before each text, and unknown characters become bytes.
    """
    vocabulary = {piece.text: i for i, piece in enumerate(pieces)}
    normal = {piece.text for piece in pieces if piece.kind == "normal"}
    merges = [
        (-piece.score, number, piece.text[:cut], piece.text[cut:])
        for number, piece in enumerate(pieces)
        if piece.kind == "normal"
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in normal and piece.text[cut:] in normal
    ]
    ranked = [(left, right) for _, _, left, right in sorted(merges)]
    specials = [piece.text for piece in pieces if piece.kind == "special"]
    return assemble_tokenizer(vocabulary, ranked, specials)


def assemble_tokenizer(
    vocabulary: Mapping[str, int], merges: list[tuple[str, str]], specials: list[str]
) -> Tokenizer:
    """LLaMA's normaliser and decoder around a vocabulary and its ranked merges.

    Args:
        vocabulary: pieces to ids.
        merges: best first.
        specials: control pieces, the one for unknown characters first.
    """
    model = models.BPE(
        vocab=dict(vocabulary),
        merges=merges,
        unk_token=specials[0],
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(specials)
    return tokenizer
