"""A golden folder: a tiny model and what the released code made of it, opened and read.

Its README.json says what each array is. Nothing here knows a size, an id or a prompt of a
particular folder: sets of other sizes and seeds are read alike.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from beholder.backbones.contract import IGNORED, Batch, MediaShape
from beholder.backbones.loading import load_weights
from beholder.backbones.mplug_owl2.model import MplugOwl2
from beholder.backbones.vicuna import PLACEHOLDER, Row, assemble
from beholder.media.preprocess import to_pixels

Array = NDArray[Any]


@dataclass(frozen=True)
class Line:
    """The outcome of one case.

    Attributes:
        name: the case; after a slash the part of it that has a tolerance of its own.
        difference: largest absolute difference, of gradient norms the largest relative one;
            infinite where shapes differ; None where the case is not covered.
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
    """What the folder's README recommends; absolute unless it says otherwise.

    Attributes:
        logits: at any position.
        scores: and spreads, and what is made of them.
        vision: of the vision tower's and the abstractor's states.
        language: of the language model's states.
        loss: of losses of the whole model, and of their parts.
        raw_loss: of losses on raw tensors.
        soft_labels: of the levels' probabilities.
        gradient: of a parameter's gradient norm, relative.
        gradient_floor: the norm below which gradients are rounding noise.
    """

    logits: float
    scores: float
    vision: float
    language: float
    loss: float
    raw_loss: float
    soft_labels: float
    gradient: float
    gradient_floor: float

    @classmethod
    def read(cls, recommended: dict[str, Any]) -> "Tolerances":
        """From ``recommended_atol``, where two are sentences: of intermediates and gradients."""
        stated, gradient = (
            [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", str(recommended[name]))]
            for name in ("intermediates_fp32", "grad_norm_rel")
        )
        return cls(
            logits=float(recommended["logits_fp32"]),
            scores=float(recommended["scores_fp32"]),
            vision=stated[0],
            language=stated[-1],
            loss=float(recommended["loss_fp32"]),
            raw_loss=float(recommended["losses_npz"]),
            soft_labels=float(recommended["soft_labels"]),
            gradient=gradient[0],
            gradient_floor=gradient[1],
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
        """A recorded array of ``cases.npz``."""
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


def worst_lines(
    case: str, found: Iterable[tuple[str, float]], tolerances: Tolerances, own: str
) -> list[Line]:
    """A line for each kind of number in a case, with the largest difference among them.

    Args:
        case: its name.
        found: the kind, a field of :class:`Tolerances`, of each number and its difference;
            other kinds must be equal.
        tolerances: the folder's.
        own: the kind whose line has the case's bare name.
    """
    worst: dict[str, float] = {}
    for kind, one in found:
        worst[kind] = float(np.maximum(worst.get(kind, 0.0), one))  # keeps NaN
    return [
        Line(case if kind == own else f"{case}/{kind}", one, getattr(tolerances, kind, 0.0))
        for kind, one in worst.items()
    ]


def read_batch(golden: GoldenSet, case: str, side: str = "") -> Batch:
    """The case's rows and media as a batch; every row is read at its end.

    Args:
        golden: the folder.
        case: its name.
        side: what the names of the fields end in: ``_A`` or ``_B`` where it is one of pairs.

    Raises:
        ValueError: a field is missing, padding is not on the right, or the pictures don't fit.
    """
    fields = set(golden.index[case]["fields"])
    ids = golden.array(case, f"input_ids{side}")
    mask, labels = np.ones(ids.shape), np.full(ids.shape, IGNORED)
    if f"attention_mask{side}" in fields:
        mask = golden.array(case, f"attention_mask{side}")
    if f"labels{side}" in fields:
        labels = golden.array(case, f"labels{side}")
    lengths = mask.astype(bool).sum(axis=1)
    if not np.array_equal(mask.astype(bool), np.arange(ids.shape[1]) < lengths[:, None]):
        raise ValueError(f"'{case}': the attention mask is not padding on the right")
    media: list[list[int]] = []
    if f"image_index{side}" in fields:
        index = golden.array(case, f"image_index{side}")
        media = _media(golden, case, index, int((ids == PLACEHOLDER).sum()))
    rows, used = [], 0
    for row, label, length in zip(ids, labels, lengths, strict=True):
        kept = [int(i) for i in row[:length]]
        count = kept.count(PLACEHOLDER)
        supervised = [int(i) for i in label[:length]]
        rows.append(Row(kept, supervised, [*range(used, used + count)], [length - 1]))
        used += count
    size = golden.model.spec.pixels.size
    shapes = [MediaShape(len(frames), size, size) for frames in media]
    encoded = assemble(rows, shapes, golden.model.spec.tokens_per_frame)
    pixels = golden.pictures[[i for frames in media for i in frames]] if media else None
    return Batch(encoded, shapes, pixels=pixels)


def _media(golden: GoldenSet, case: str, index: Array, placeholders: int) -> list[list[int]]:
    """The pictures of each placeholder: a row of the index is a clip, a lone number a picture."""
    if index.ndim == 1:
        index = index[None] if placeholders == 1 else index[:, None]
    media = [[int(i) for i in frames if i >= 0] for frames in index]
    if len(media) != placeholders or max(map(max, media)) >= len(golden.pictures):
        raise ValueError(f"'{case}': image_index {index.tolist()} doesn't fit its placeholders")
    return media


def report(lines: Iterable[Line], folder: Path, write: Callable[[str], None]) -> int:
    """Writes a line a case and tells the exit status.

    Args:
        lines: the comparison of ``folder``, made while they are taken.
        folder: what is compared.
        write: takes each line.

    Returns:
        0: all compared cases are within tolerance; 1: one is not; 2: the folder is not of
        this format, or nothing in it could be compared.
    """
    failed = compared = 0
    write("name | max abs difference | tolerance | ok")
    try:
        for line in lines:
            write(str(line))
            compared += line.difference is not None
            failed += not line.ok
    except (ValueError, OSError, LookupError, TypeError, AttributeError) as error:
        about = "" if isinstance(error, ValueError) else f"'{folder}' is not of this format: "
        write(f"cannot compare: {about}{' '.join(str(error).split())}")
        return 2
    if not compared:
        write(f"cannot compare: '{folder}' has no case that this code covers")
        return 2
    write(f"{compared} compared, {failed} beyond tolerance")
    return 1 if failed else 0
