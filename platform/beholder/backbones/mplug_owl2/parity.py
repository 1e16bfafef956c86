"""Does this model compute what the released one computed? Compares a golden folder, case by case.

What is recorded of labels, losses and metrics is named here and compared by
:mod:`beholder.training.parity`, which sees the whole of the package.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from beholder.backbones.contract import IGNORED, Batch, Encoded
from beholder.backbones.mplug_owl2.golden import (
    Array,
    GoldenSet,
    Line,
    difference,
    read_batch,
    worst_lines,
)
from beholder.backbones.mplug_owl2.language import Layout
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.backbones.mplug_owl2.preprocess import OwlText, read_tokenizer
from beholder.backbones.mplug_owl2.vision import normalise
from beholder.conversations import Conversation, Media, Slot, Text, Turn
from beholder.media.clips import plan_clips
from beholder.media.limits import Limits
from beholder.media.preprocess import to_pixels
from beholder.media.video import frame_indices, frame_times

USED = {
    "README.json", "cases.npz", "cases_index.json", "meta.json", "images", "preprocess448",
    "tokenization.json", "video_frame_indices.json", "real_to_tiny_token_ids.json",
}  # fmt: skip
INPUTS = {"input_ids", "image_index", "labels", "attention_mask"}
LAST = {"logits_last", "correct_logits_last", "logits_last_f64"}
BY_POSITION = {"logits_all_positions", "inputs_embeds"}
"""Recorded for whole padded rows, (B, L, ...); only real positions are compared."""
SOFT = {"level_probs"}
"""Fields of objectives that are not compared here."""


def compare(golden: GoldenSet, tokenizer: Path | None = None) -> Iterator[Line]:
    """Compares all that the model can do and names what else there is.

    Args:
        golden: the folder, opened.
        tokenizer: LLaMA's ``tokenizer.json``, with which the tokenization is compared too.

    Raises:
        ValueError: the folder is not of this format.
    """
    folder = golden.folder
    for case, entry in golden.index.items():
        fields = set(entry["fields"])
        if fields == {"pixel_values"}:
            ours = normalise(golden.pictures, golden.model.spec.pixels)
            yield Line(case, difference(ours.numpy(), golden.array(case, "pixel_values")))
        elif "input_ids" in fields and not fields & SOFT:
            yield from _forward_lines(golden, case, fields)
        else:
            yield Line(case)
    if (folder / "preprocess448").is_dir():
        yield from _preprocess_lines(golden)
    if (folder / "video_frame_indices.json").is_file():
        yield from _video_lines(golden)
    if (folder / "tokenization.json").is_file():
        yield from (
            [Line("tokenization")] if tokenizer is None else _token_lines(golden, tokenizer)
        )
    for path in sorted(folder.iterdir()):
        if path.name not in USED | {golden.model_folder.name}:
            yield Line(path.name)


@contextmanager
def _recorder(model: MplugOwl2) -> Iterator[dict[str, Tensor]]:
    """Records what each named part gives in the forwards inside."""
    inner, record = model.model, dict[str, Tensor]()
    parts: dict[str, nn.Module] = {
        "vision_embeddings": inner.vision_model.embeddings,
        "vision_last_hidden_state": inner.vision_model,
        "abstractor_out": inner.visual_abstractor,
        "lm_final_norm": inner.norm,
    }
    for stack, layers in (
        ("vision", inner.vision_model.encoder.layers),
        ("abstractor", inner.visual_abstractor.encoder.layers),
        ("lm", inner.layers),
    ):
        parts |= {f"{stack}_layer_{i}": layer for i, layer in enumerate(layers)}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, made: Tensor) -> None:
            record[name] = made

        return hook

    def keep_input(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        record["inputs_embeds"] = given[0]

    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    handles.append(inner.layers[0].register_forward_pre_hook(keep_input))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def _real(encoded: Encoded) -> Tensor:
    """Which positions are not padding. bool (B, L)."""
    return torch.arange(encoded.ids.shape[1]) < encoded.lengths[:, None]


def _forward_lines(golden: GoldenSet, case: str, fields: set[str]) -> list[Line]:
    """Compares each recorded field; a line for each tolerance, the logits' has the case's name."""
    batch = read_batch(golden, case)
    ours, real = _forward(golden, batch), _real(batch.encoded)
    found: list[tuple[str, float]] = []
    uncovered = []
    for field in sorted(fields - INPUTS):
        if field not in ours:
            uncovered.append(Line(f"{case}/{field}"))
            continue
        recorded = golden.array(case, field)
        if field in BY_POSITION or field.startswith("intermediate_lm"):
            recorded = recorded[:, : real.shape[1]][real.numpy()]
        found.append((_group(field), difference(ours[field].numpy(), recorded)))
    return worst_lines(case, found, golden.tolerances, own="logits") + uncovered


@torch.no_grad()
def _forward(golden: GoldenSet, batch: Batch) -> dict[str, Tensor]:
    """What can be compared, by field, from two forwards: read at the rows' ends and everywhere.

    Language-model fields hold real positions only, row after row.
    """
    model, encoded = golden.model, batch.encoded
    rows, real, layout = torch.arange(len(encoded.ids)), _real(encoded), Layout.of(encoded)
    last = model(batch, torch.stack([rows, encoded.slots[:, 0]], dim=1)).logits
    with _recorder(model) as record:
        everywhere = model(batch, torch.nonzero(real)).logits
    ours = _scores(last[:, golden.levels]) | dict.fromkeys(LAST, last)
    ours |= {
        "logits_all_positions": everywhere,
        "modality_indicators": encoded.modality,
        "seq_len": torch.tensor(real.shape[1]),
    }
    if (encoded.labels != IGNORED).any():
        ours["loss"] = _answer_loss(encoded, everywhere, real)
    for name, made in record.items():
        packed = name.startswith("lm_layer") or name == "inputs_embeds"
        ours[_field(name)] = layout.unpack(made)[real] if packed else made
    return ours | _second_row(encoded, everywhere, real)


def _field(name: str) -> str:
    return name if name == "inputs_embeds" else f"intermediate_{name}"


def _group(field: str) -> str:
    """Which tolerance a field has."""
    if field in ("modality_indicators", "seq_len", "row1_true_last_position"):
        return "layout"
    if field == "loss":
        return "loss"
    if field.startswith("intermediate_lm"):
        return "language"
    if field.startswith("intermediate_") or field == "inputs_embeds":
        return "vision"
    return "logits" if "logits" in field else "scores"


def _scores(levels: Tensor) -> dict[str, Tensor]:
    """What is read from the level logits, best level first. (B, K)."""
    probs = levels.double().softmax(dim=-1)
    weights = torch.arange(probs.shape[1], 0, -1, dtype=torch.float64)
    mean = probs @ weights
    spread = ((weights - mean[:, None]) ** 2 * probs).sum(dim=-1).sqrt()
    return {
        "level_logits": levels,
        "level_probs_closed": probs,
        "score_1_5": mean,
        "score_0_1": (mean - 1) / (probs.shape[1] - 1),
        "std": spread,
    }


def _answer_loss(encoded: Encoded, logits: Tensor, real: Tensor) -> Tensor:
    """Mean next-token cross-entropy over the supervised tokens of the batch."""
    place = torch.zeros_like(encoded.ids)
    place[real] = torch.arange(len(logits))
    row, column = torch.nonzero(encoded.labels != IGNORED, as_tuple=True)
    return F.cross_entropy(logits[place[row, column - 1]], encoded.labels[row, column])


def _second_row(encoded: Encoded, logits: Tensor, real: Tensor) -> dict[str, Tensor]:
    """The true end of the second row, at which the released code does not read."""
    if len(encoded.ids) < 2:
        return {}
    end = int(real[:2].sum()) - 1
    return {
        "row1_true_last_position": encoded.slots[1, 0],
        "row1_logits_at_true_last_position": logits[end],
    }


def _preprocess_lines(golden: GoldenSet) -> Iterator[Line]:
    """Pixels at the real size: equal by hash, or the difference is infinite."""
    expected = golden.json("preprocess448/expected.json")
    samples = golden.arrays("preprocess448/expected.npz")
    for case in expected["cases"]:
        name = f"preprocess448/{case['name']}"
        if "pixel_values_shape" not in case:
            yield Line(name)  # a centre crop, which no scorer here makes
            continue
        spec = replace(golden.model.spec.pixels, size=case["pixel_values_shape"][-1])
        with Image.open(golden.folder / "preprocess448" / case["file"]) as image:
            pixels = to_pixels(image.convert("RGB"), spec)
        values = normalise(torch.from_numpy(pixels)[None], spec)[0].contiguous().numpy()
        hashes = [hashlib.sha256(a.tobytes()).hexdigest() for a in (pixels, values)]
        recorded = [case["sha256_uint8_hwc_after_resize"], case["sha256_float32_chw"]]
        found = difference(values[:, ::7, ::7], _sample(samples, case["name"]))
        yield Line(name, found if found or hashes == recorded else float("inf"))


def _sample(samples: dict[str, Array], name: str) -> Array:
    found = [array for key, array in samples.items() if key.split("/")[0] == name]
    if len(found) != 1:
        raise ValueError(f"preprocess448/expected.npz has {len(found)} arrays for '{name}', not 1")
    return found[0]


def _video_lines(golden: GoldenSet) -> Iterator[Line]:
    """The released rule ``int(fps * i)`` against ours by time stamps.

    Of a clip shorter than a second the released rule takes no frame and ours the first.
    """
    limits = replace(Limits(), max_clips=1_000_000)
    for case in golden.json("video_frame_indices.json"):
        count, fps = case["num_frames"], case["avg_fps"]
        starts = np.arange(count) / fps
        stamps = np.stack([starts, starts + 1 / fps], axis=1).astype(np.float32)
        times, duration = frame_times(stamps, fps)
        ours = [
            i for clip in plan_clips(duration, limits).clips for i in frame_indices(times, clip)
        ]
        name = f"video_frame_indices/{count} frames at {fps} fps"
        yield Line(name, difference(ours, case["indices"] or [0]))


def _token_lines(golden: GoldenSet, path: Path) -> Iterator[Line]:
    """Ids and labels of every prompt and training sample; the difference is of ids."""
    recorded = golden.json("tokenization.json")
    text = OwlText(read_tokenizer(path), golden.model.spec.tokens_per_frame)
    levels = dict(zip(recorded["level_words"], recorded["level_token_ids"], strict=True))
    ours = text.token_ids(list(levels))
    yield Line("tokenization/level_words", difference(ours, list(levels.values())))
    for name, prompt in recorded["prompts"].items():
        row = text.row(read_conversation(prompt["prompt"]))
        yield Line(f"tokenization/{name}", difference(row.ids, prompt["input_ids"]))
    for number, sample in enumerate(recorded["training_samples"]):
        row = text.row(read_conversation(sample["conversation"], sample["level"]))
        found = [
            difference(row.ids, sample["input_ids"]),
            difference(row.labels, sample["labels"]),
            difference([row.ids[slot + 1] for slot in row.slots], [levels[sample["level"]]]),
        ]
        yield Line(f"tokenization/training_samples/{number}", max(found))


def read_conversation(text: str, level: str | None = None) -> Conversation:
    """A conversation from its written-out form, with ``<|image|>`` where a medium goes.

    Args:
        text: ``[system ]USER: ...ASSISTANT: ...``, with ``</s>`` at the end if complete.
        level: the word that stands at the slot of a complete one.
    """
    head, _, rest = text.partition("USER: ")
    user, _, answer = rest.partition("ASSISTANT: ")
    parts: list[Text | Media] = []
    for number, words in enumerate(user[:-1].split("<|image|>")):
        parts += [Media(number - 1)] if number else []
        parts += [Text(words)] if words else []
    before, _, after = answer.removesuffix("</s>").partition(f" {level}")
    slot = (Slot("score", f" {level}"), Text(after)) if level else (Slot("score"),)
    return Conversation(
        turns=(Turn("user", tuple(parts)), Turn("assistant", (Text(before), *slot))),
        system=head.strip() or None,
        separator=user[-1:],
    )
