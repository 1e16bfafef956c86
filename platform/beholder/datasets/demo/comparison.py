"""Four sets on three scales: what readouts are compared on.

``wide`` has every technical distortion at every strength, on 1..5. ``narrow`` has pictures of
middling quality alone: there the first digit of a written score turns over, and most is left to
those behind it. ``other`` has three distortions on 0..100, and its raters' answers are stretched
to that scale: pairs are only ever made within a set, so a scorer must learn both. ``unseen`` has
two more on 1..10, one of which no training set has, and is never trained on. All sources give
80 pictures, some to each set, so that a held-out source is held out of all.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from beholder.datasets.demo import clips
from beholder.datasets.demo.aesthetics import OVER_SATURATION
from beholder.datasets.demo.distortions import (
    JPEG,
    LOW_CONTRAST,
    MOTION_BLUR,
    OVER_EXPOSURE,
    TECHNICAL,
    UNDER_EXPOSURE,
    Distortion,
)
from beholder.datasets.demo.raters import population
from beholder.datasets.demo.render import Row, pictures, rater_pool
from beholder.datasets.demo.sources import SOURCES, Source, find_sources, load_photo
from beholder.opinions import Scale

RATED = Scale(1, 5)
"""The scale that raters answer on; ``population`` and ``latent`` stay on it."""
ANY = (1.0, 5.0)


@dataclass(frozen=True)
class ComparedSet:
    """One of the sets.

    Attributes:
        name: its key.
        types: the damage dealt.
        count: pictures a source.
        scale: of its ``mos`` and ``std``.
        latent: the qualities, on 1..5, that its pictures may have.
        trained: whether training may see it.
    """

    name: str
    types: tuple[Distortion, ...]
    count: int
    scale: Scale
    latent: tuple[float, float] = ANY
    trained: bool = True


COMPARED = (
    ComparedSet("wide", TECHNICAL, 32, RATED),
    ComparedSet("narrow", TECHNICAL, 16, RATED, latent=(2.5, 3.5)),
    ComparedSet("other", (OVER_EXPOSURE, UNDER_EXPOSURE, LOW_CONTRAST), 16, Scale(0, 100)),
    ComparedSet("unseen", (MOTION_BLUR, JPEG, OVER_SATURATION), 16, Scale(1, 10), trained=False),
)
DRAWN = 8
"""Times its count that a set may draw pictures to find enough within its latent qualities."""


def build_compared(out: Path, seed: int, workers: int, share: float = 1.0) -> pa.Table:
    """Makes the pictures under ``out`` and returns the rows of all sets.

    Args:
        out: a folder.
        seed: of everything random.
        workers: processes that render.
        share: of each set's pictures a source; below 1 for a quick look.

    Returns:
        ``item_id, uri, kind, mos, std`` (on the set's scale), ``votes`` for 1..5, ``set, source,
        made_for, latent`` (1..5), ``population`` (probabilities of 1..5), ``task, scale_min,
        scale_max, rule``.
    """
    sources = [source for source in SOURCES if source.has_stills]
    render = partial(_render, str(out), seed, share)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        rows = [row for some in pool.map(render, sources) for row in some]
    return pa.Table.from_pylist(rows)


def _render(out: str, seed: int, share: float, source: Source) -> list[Row]:
    path = find_sources()[source.name]
    if source.group == "clip":
        frames, rate = clips.read_frames(path)
        stills = [frames[int(t * rate)] for t in source.stills]
    else:
        stills = [load_photo(path)]
    rows = []
    for one in COMPARED:
        types = [t for t in one.types if not (t.needs_colour and source.grey)]
        count = max(2, round(one.count * share))
        low, high = one.latent
        tries = count if one.latent == ANY else DRAWN * count
        drawn = pictures(one.name, types, source, stills, seed, tries)
        fit = (made for made in drawn if low <= made.rows[one.name]["latent"] <= high)
        for made in islice(fit, count):
            file = Path(out) / made.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(made.data)
            rows.append(_row(one, made.rows[one.name], str(file), seed))
    return rows


def _row(one: ComparedSet, rated: Row, uri: str, seed: int) -> Row:
    stretch = one.scale.width / RATED.width
    kept = ("item_id", "kind", "source", "made_for", "latent", "votes")
    return {name: rated[name] for name in kept} | {
        "uri": uri,
        "mos": one.scale.minimum + (rated["mos"] - RATED.minimum) * stretch,
        "std": rated["std"] * stretch,
        "population": np.asarray(population(rater_pool(seed), rated["latent"])[0]).tolist(),
        "set": one.name,
        "task": "quality",
        "scale_min": float(one.scale.minimum),
        "scale_max": float(one.scale.maximum),
    }
