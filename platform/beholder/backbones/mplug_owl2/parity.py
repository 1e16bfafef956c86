"""Does this code compute what the released code computed? Compares a golden folder, case by case.

A golden folder holds a tiny model with random weights in the official layout and what the
released code made of it (its README.json says what each array is). Nothing here knows a size,
an id or a prompt of a particular folder: sets of other sizes and seeds are compared alike.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from beholder.backbones.contract import IGNORED, Batch, Encoded, MediaShape
from beholder.backbones.loading import load_weights
from beholder.backbones.mplug_owl2.language import Layout
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.backbones.mplug_owl2.preprocess import OwlText, read_tokenizer
from beholder.backbones.mplug_owl2.vision import normalise
from beholder.backbones.vicuna import PLACEHOLDER, Row, assemble
from beholder.conversations import Conversation, Media, Slot, Text, Turn
from beholder.media.clips import plan_clips
from beholder.media.limits import Limits
from beholder.media.preprocess import to_pixels
from beholder.media.video import frame_indices, frame_times

Array = NDArray[Any]

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


@dataclass(frozen=True)
class Line:
    """The outcome of one case.

    Attributes:
        name: the case; after a slash the part of it that has a tolerance of its own.
        difference: largest absolute difference; infinite where shapes differ; None where the
            case is not covered.
        tolerance: what the folder allows.
    """

    name: str
    difference: float | None = None
    tolerance: float = 0.0

    @property
    def ok(self) -> bool:
        """Within tolerance, or not compared at all; NaN is never within."""
        return self.difference is None or self.difference <= self.tolerance

    def __str__(self) -> str:
        if self.difference is None:
            return f"{self.name} | not covered"
        verdict = "ok" if self.ok else "FAILED"
        return f"{self.name} | {self.difference:.3g} | {self.tolerance:.3g} | {verdict}"


@dataclass(frozen=True)
class Tolerances:
    """What the folder's README recommends; absolute."""

    logits: float
    scores: float
    vision: float
    language: float
    loss: float

    @classmethod
    def read(cls, recommended: dict[str, Any]) -> "Tolerances":
        """From ``recommended_atol``, where that of the intermediates is a sentence."""
        stated = re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", str(recommended["intermediates_fp32"]))
        return cls(
            logits=float(recommended["logits_fp32"]),
            scores=float(recommended["scores_fp32"]),
            vision=float(stated[0]),
            language=float(stated[-1]),
            loss=float(recommended["loss_fp32"]),
        )


class GoldenSet:
    """A golden folder, opened.

    Raises:
        ValueError: the folder is not of this format; one sentence says what it lacks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ValueError(f"there is no folder '{folder}'")
        self.index = self.json("cases_index.json")
        self.meta = self.json("meta.json")
        try:
            self.tolerances = Tolerances.read(self.json("README.json")["recommended_atol"])
            self.levels = [int(i) for i in self.meta["level_ids"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"'{folder}': README.json or meta.json lack {error}") from error
        self._arrays = self.arrays("cases.npz")
        self.model_folder = self._model_folder()
        self.model = MplugOwl2(self.json(f"{self.model_folder.name}/config.json")).eval()
        load_weights(self.model, self.model_folder)
        self.pictures = self._pictures()

    def json(self, name: str) -> Any:
        """The content of a JSON file of the folder."""
        try:
            return json.loads((self.folder / name).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"'{self.folder}' is not a golden folder: {name} can't be read ({error})"
            ) from error

    def arrays(self, name: str) -> dict[str, Array]:
        """The arrays of a file of the folder."""
        try:
            with np.load(self.folder / name, allow_pickle=False) as content:
                return dict(content)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"'{self.folder}' is not a golden folder: {name} can't be read ({error})"
            ) from error

    def array(self, case: str, field: str) -> Array:
        """A recorded array."""
        try:
            return self._arrays[f"{case}/{field}"]
        except KeyError:
            raise ValueError(f"'{self.folder}': cases.npz lacks '{case}/{field}'") from None

    def _model_folder(self) -> Path:
        found = [
            path.parent
            for path in sorted(self.folder.glob("*/config.json"))
            if self.json(f"{path.parent.name}/config.json").get("model_type") == MplugOwl2.name
        ]
        if len(found) != 1:
            raise ValueError(
                f"'{self.folder}' is not a golden folder: it has {len(found)} folders with an "
                "mplug_owl2 config.json, not one"
            )
        return found[0]

    def _pictures(self) -> Tensor:
        """images/model_{i}.png as the model takes them. uint8 (N, S, S, 3)."""
        count = len(list((self.folder / "images").glob("model_*.png")))
        squares = []
        for i in range(count):
            path = self.folder / "images" / f"model_{i}.png"
            if not path.is_file():
                raise ValueError(f"'{path}' is missing: pictures are numbered from 0")
            with Image.open(path) as image:
                squares.append(to_pixels(image.convert("RGB"), self.model.spec.pixels))
        if not squares:
            raise ValueError(f"'{self.folder}' is not a golden folder: images/ has no model_0.png")
        return torch.from_numpy(np.stack(squares))


def difference(ours: Any, recorded: Any) -> float:
    """Largest absolute difference; infinite where the shapes differ, NaN where one is NaN."""
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(recorded, dtype=np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.max(np.abs(a - b))) if a.size else 0.0


def compare(folder: Path, tokenizer: Path | None = None) -> Iterator[Line]:
    """Compares all that this code can do and names what it can't.

    Args:
        folder: the golden folder.
        tokenizer: LLaMA's ``tokenizer.json``, with which the tokenization is compared too.

    Raises:
        ValueError: the folder is not of this format.
    """
    golden = GoldenSet(folder)
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


def _batch(golden: GoldenSet, case: str, fields: set[str]) -> Batch:
    """The case's rows and media as a batch; every row is read at its end."""
    ids = golden.array(case, "input_ids")
    shape = ids.shape
    mask = golden.array(case, "attention_mask") if "attention_mask" in fields else np.ones(shape)
    labels = golden.array(case, "labels") if "labels" in fields else np.full(shape, IGNORED)
    lengths = mask.astype(bool).sum(axis=1)
    if not np.array_equal(mask.astype(bool), np.arange(shape[1]) < lengths[:, None]):
        raise ValueError(f"'{case}': the attention mask is not padding on the right")
    media = _media(golden, case, fields, int((ids == PLACEHOLDER).sum()))
    rows, used = [], 0
    for row, label, length in zip(ids, labels, lengths, strict=True):
        kept = [int(i) for i in row[:length]]
        count = kept.count(PLACEHOLDER)
        rows.append(
            Row(
                kept,
                [int(i) for i in label[:length]],
                [*range(used, used + count)],
                [length - 1],
            )
        )
        used += count
    side = golden.model.spec.pixels.size
    shapes = [MediaShape(len(frames), side, side) for frames in media]
    encoded = assemble(rows, shapes, golden.model.spec.tokens_per_frame)
    pixels = golden.pictures[[i for frames in media for i in frames]] if media else None
    return Batch(encoded, shapes, pixels=pixels)


def _media(golden: GoldenSet, case: str, fields: set[str], placeholders: int) -> list[list[int]]:
    """The pictures of each placeholder: a row of the index is a clip, a lone number a picture."""
    if "image_index" not in fields:
        return []
    index = golden.array(case, "image_index")
    if index.ndim == 1:
        index = index[None] if placeholders == 1 else index[:, None]
    media = [[int(i) for i in frames if i >= 0] for frames in index]
    if len(media) != placeholders or max(map(max, media)) >= len(golden.pictures):
        raise ValueError(f"'{case}': image_index {index.tolist()} doesn't fit its placeholders")
    return media


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
    batch = _batch(golden, case, fields)
    ours, real = _forward(golden, batch), _real(batch.encoded)
    worst: dict[str, float] = {}
    uncovered = []
    for field in sorted(fields - INPUTS):
        if field not in ours:
            uncovered.append(Line(f"{case}/{field}"))
            continue
        recorded = golden.array(case, field)
        if field in BY_POSITION or field.startswith("intermediate_lm"):
            recorded = recorded[:, : real.shape[1]][real.numpy()]
        found = difference(ours[field].numpy(), recorded)
        group = _group(field)
        worst[group] = float(np.maximum(worst.get(group, 0.0), found))  # keeps NaN
    return [
        Line(
            case if group == "logits" else f"{case}/{group}",
            found,
            getattr(golden.tolerances, group, 0.0),
        )
        for group, found in worst.items()
    ] + uncovered


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


def run(folder: Path, tokenizer: Path | None, write: Callable[[str], None]) -> int:
    """Writes a line a case and tells the exit status.

    Returns:
        0: all compared cases are within tolerance; 1: one is not; 2: the folder is not of
        this format, or nothing in it could be compared.
    """
    failed = compared = 0
    write("name | max abs difference | tolerance | ok")
    try:
        for line in compare(folder, tokenizer):
            write(str(line))
            compared += line.difference is not None
            failed += not line.ok
    except (ValueError, OSError, LookupError, TypeError) as error:
        about = "" if isinstance(error, ValueError) else f"'{folder}' is not of this format: "
        write(f"cannot compare: {about}{' '.join(str(error).split())}")
        return 2
    if not compared:
        write(f"cannot compare: '{folder}' has no case that this code covers")
        return 2
    write(f"{compared} compared, {failed} beyond tolerance")
    return 1 if failed else 0
