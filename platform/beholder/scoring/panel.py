"""The golden panel: a few pictures that travel with a scorer, and what it said of them when made.

A scorer that says something else of them on this machine is not the scorer that was measured:
another library decodes otherwise, a kernel rounds otherwise, a patch went wrong. The folder
``panel/`` holds the encoded files and ``panel.json``. It is not part of the fingerprint, for it
doesn't move a score.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from beholder.items import Kind
from beholder.opinions import Point, Rating
from beholder.scoring.folder import PANEL, ScorerError

if TYPE_CHECKING:
    from beholder.scoring.scorer import Scorer

PANEL_ITEMS = 8
TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 2e-2}
"""Largest difference of a probability by dtype. In float32 a score moves by less than 1e-5 with
its batch; half precisions keep 11 and 8 bits of a logit."""


class PanelItem(BaseModel):
    """One file of the panel.

    Attributes:
        file: its name in the panel's folder.
        sha256: of its bytes.
        kind: what it is.
        said: by task, the probabilities over the readout's support; of a point, which has none,
            its mean, from 0 to 1 on its scale.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    kind: Kind
    said: dict[str, tuple[float, ...]]


class PanelFile(BaseModel):
    """Content of ``panel.json``.

    Attributes:
        fingerprint: of the scorer that made it.
        made_with: library versions at that time.
        items: the files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fingerprint: str
    made_with: dict[str, Any]
    items: tuple[PanelItem, ...]


@dataclass(frozen=True)
class Panel:
    """A panel in memory.

    Attributes:
        file: what ``panel.json`` says.
        data: the items' encoded bytes, in its order.
    """

    file: PanelFile
    data: tuple[bytes, ...]


@dataclass(frozen=True)
class PanelCheck:
    """What a scorer says of its panel now.

    Attributes:
        ok: it says what it said.
        difference: the largest |Δp| over items, tasks and scores (of points, of their means on
            0..1); None where none could be compared.
        tolerance: what is allowed.
        where: file and task of the largest difference, or the file that failed.
        reason: one sentence.
    """

    ok: bool
    difference: float | None
    tolerance: float
    where: str
    reason: str


def make_panel(
    scorer: "Scorer", media: Sequence[tuple[Kind, bytes]], made_with: Mapping[str, Any]
) -> Panel | None:
    """Scores some media, so that they can be scored again elsewhere.

    Args:
        scorer: whose panel it becomes.
        media: kind and encoded bytes; at most ``PANEL_ITEMS`` of those that can be scored are
            taken.
        made_with: library versions.

    Returns:
        The panel; None where nothing could be scored.
    """
    items: list[PanelItem] = []
    kept: list[bytes] = []
    for (kind, data), score in zip(media, scorer.score([d for _, d in media]), strict=True):
        if score.failure is None and len(items) < PANEL_ITEMS:
            said = {task: _said(rating) for task, rating in score.tasks.items()}
            name = f"{len(items)}-{kind}"
            digest = hashlib.sha256(data).hexdigest()
            items.append(PanelItem(file=name, sha256=digest, kind=kind, said=said))
            kept.append(data)
    if not items:
        return None
    file = PanelFile(fingerprint=scorer.fingerprint, made_with=dict(made_with), items=tuple(items))
    return Panel(file, tuple(kept))


def _said(rating: Rating) -> tuple[float, ...]:
    if isinstance(rating, Point):
        return (float(rating.scale.to_unit(rating.mean)),)
    return tuple(rating.probs.tolist())


def write_panel(folder: Path, panel: Panel) -> None:
    """Writes a panel below a scorer's folder."""
    inside = folder / PANEL
    inside.mkdir(exist_ok=True)
    for item, data in zip(panel.file.items, panel.data, strict=True):
        (inside / item.file).write_bytes(data)
    (inside / "panel.json").write_text(panel.file.model_dump_json(indent=1), "utf-8")


def read_panel(folder: Path) -> Panel | None:
    """The panel of a scorer's folder; None where it has none.

    Raises:
        ScorerError: ``panel.json`` is not what it should be, or a file is missing or not the one
            that was scored.
    """
    inside = folder / PANEL
    if not inside.is_dir():
        return None
    try:
        file = PanelFile.model_validate(json.loads((inside / "panel.json").read_text("utf-8")))
        data = tuple(_read(inside, item) for item in file.items)
    except (OSError, ValueError) as error:
        shown = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ScorerError(
            f"scorer folder {folder}: its golden panel can't be used ({shown}): fetch the scorer "
            f"again, or remove {PANEL}/"
        ) from error
    return Panel(file, data)


def _read(inside: Path, item: PanelItem) -> bytes:
    if Path(item.file).name != item.file:
        raise ValueError(f"'{item.file}' is no plain file name")
    data = (inside / item.file).read_bytes()
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise ValueError(f"'{item.file}' is not the file that was scored")
    return data


def check_panel(scorer: "Scorer") -> PanelCheck:
    """Scores the panel that came with a scorer again.

    A scorer without a panel fails: nothing shows that it is the one that was measured.
    """
    tolerance = TOLERANCE[scorer.file.dtype]
    panel = scorer.panel
    if panel is None:
        reason = "this scorer has no golden panel: train it again, or accept that"
        return PanelCheck(False, None, tolerance, "", reason)
    if panel.file.fingerprint != scorer.fingerprint:
        reason = (
            f"the golden panel is of scorer {panel.file.fingerprint}, this is "
            f"{scorer.fingerprint}: copy the scorer's folder whole"
        )
        return PanelCheck(False, None, tolerance, "", reason)
    worst, where = 0.0, ""
    for item, score in zip(panel.file.items, scorer.score(panel.data), strict=True):
        now = {task: _said(rating) for task, rating in score.tasks.items()}
        if {t: len(v) for t, v in now.items()} != {t: len(v) for t, v in item.said.items()}:
            what = score.failure.message if score.failure else f"it is rated for {sorted(now)}"
            reason = f"{item.file} of the golden panel had other scores than now: {what}"
            return PanelCheck(False, None, tolerance, item.file, reason)
        for task, said in item.said.items():
            difference = float(np.abs(np.subtract(now[task], said)).max())
            if difference >= worst:
                worst, where = difference, f"{item.file}, {task}"
    ok = worst <= tolerance
    reason = f"probabilities differ by at most {worst:.2g} ({where}), {tolerance:g} is allowed"
    return PanelCheck(ok, worst, tolerance, where, reason)
