"""One source to its distorted pictures and clips, each with a latent quality and a rating.

    latent = clip(4.5 + offset(source, task) - felt damage, 1, 5),  offset ~ N(0, 0.2) within +-0.5

where damage is the type's ``worst * strength ** power``, pooled over two types in a fifth of the
pictures. Offsets are the photo's own: no picture of another photo says what they are.

Every third picture is rated for the other task, too, and there its damage is felt in part only:
noise takes less from how pleasing a picture is than from how good it is, and a tilt hardly
anything from how good it is. Without such pictures a model could pass for one that tells the
tasks apart by telling the two kinds of damage apart.
"""

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from beholder.datasets.demo import clips
from beholder.datasets.demo.aesthetics import AESTHETIC
from beholder.datasets.demo.distortions import TECHNICAL, Distortion, combined_damage
from beholder.datasets.demo.raters import RaterPool, rate
from beholder.datasets.demo.sources import Pixels, Source, load_photo

PRISTINE = 4.5
OFFSET_STD, OFFSET_LIMIT = 0.2, 0.5
STORE_QUALITY = 95

ALSO_RATED = 3
"""Every so many pictures are rated for both tasks."""
FELT = {"quality": 0.25, "aesthetics": 0.4}
"""The part of the damage that is felt in a task for which the picture was not damaged."""

Damage = list[tuple[Distortion, float]]
"""Distortions with their strengths, in the order of application."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How much of what.

    Attributes:
        seed: of everything random.
        quality_per_photo: technically damaged pictures a source.
        aesthetics_per_photo: aesthetically damaged pictures a source.
        clips_per_scene: clips cut from each real video.
        clips_per_photo: clips that pan over each photograph or texture.
    """

    seed: int = 0
    quality_per_photo: int = 48
    aesthetics_per_photo: int = 26
    clips_per_scene: int = 16
    clips_per_photo: int = 6


@dataclass(frozen=True)
class Made:
    """One file of the demo set: where it goes, its bytes, and its rows but for uri and split.

    Attributes:
        path: below the demo set's folder.
        data: the file.
        rows: by the set that the rating belongs to.
    """

    path: str
    data: bytes
    rows: dict[str, Row]


def generator(seed: int, *keys: object) -> np.random.Generator:
    """The random numbers of one thing, whatever is drawn for others."""
    return np.random.default_rng([seed, zlib.crc32("/".join(map(str, keys)).encode())])


def plan_damage(types: Sequence[Distortion], count: int, rng: np.random.Generator) -> list[Damage]:
    """Damage for ``count`` pictures: types in turn, strengths spread evenly over 0..1 by type.

    A fifth of the pictures get a second type of another family, at a strength of its own.
    """
    turn = rng.permutation(len(types))
    main = [types[turn[i % len(types)]] for i in range(count)]
    uses = {t.name: main.count(t) for t in types}
    ranks = {t.name: list(rng.permutation(uses[t.name])) for t in types}
    double = set(rng.permutation(count)[: int(count / 5 + rng.random())].tolist())
    plans: list[Damage] = []
    for i, kind in enumerate(main):
        strength = (ranks[kind.name].pop() + rng.random()) / uses[kind.name]
        damage = [(kind, float(strength))]
        if i in double:
            others = [t for t in types if t.family != kind.family]
            damage.append((others[int(rng.integers(len(others)))], float(rng.random())))
        plans.append(sorted(damage, key=lambda pair: types.index(pair[0])))
    return plans


def latent_quality(offset: float, damage: Damage, felt: float = 1.0) -> float:
    """The quality 1..5 that raters feel, give or take; ``felt`` is the part of the damage."""
    lost = felt * combined_damage(*(kind.damage(strength) for kind, strength in damage))
    return float(np.clip(PRISTINE + offset - lost, 1, 5))


def photo_offset(seed: int, source: str, dataset: str) -> float:
    """How much better or worse than others an undamaged picture of this source is, in points."""
    drawn = generator(seed, "offset", dataset, source).normal(0, OFFSET_STD)
    return float(np.clip(drawn, -OFFSET_LIMIT, OFFSET_LIMIT))


def crop(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """A random part of a photo, 70 to 100% of its shorter side, of aspect 3:4 to 4:3.

    Of three tries the one with the most detail is kept, so that bare sky is rare. Shrunk to a
    longer side of 224 to 320 px where it is larger, never enlarged, mirrored half the time.
    """
    height, width = photo.shape[:2]
    side = min(height, width) * rng.uniform(0.7, 1.0)
    side = max(side, min(192, height, width))
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    w = int(min(width, side * max(1.0, aspect)))
    h = int(min(height, side * max(1.0, 1 / aspect)))
    tries = [
        photo[y : y + h, x : x + w]
        for y, x in zip(
            rng.integers(0, height - h + 1, 3),
            rng.integers(0, width - w + 1, 3),
            strict=True,
        )
    ]
    picture = Image.fromarray(max(tries, key=_detail))
    scale = rng.uniform(224, 320) / max(w, h)
    if scale < 1:
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        picture = ImageOps.mirror(picture)
    return np.asarray(picture)


def _detail(pixels: Pixels) -> float:
    coarse = pixels[::4, ::4].astype(np.float32).mean(axis=-1)
    return float(np.abs(np.diff(coarse, axis=0)).mean() + np.abs(np.diff(coarse, axis=1)).mean())


def render_source(source: Source, path: Path, recipe: Recipe) -> list[Made]:
    """All pictures and clips of one source, the same for the same recipe."""
    made: list[Made] = []
    if source.group == "clip":
        frames, rate_ = clips.read_frames(path)
        stills = [frames[int(t * rate_)] for t in source.stills]
        cut = partial(clips.cut, frames, rate_)
        made += _clips(source, recipe, recipe.clips_per_scene, cut, rate_, "clip")
    else:
        stills = [load_photo(path)]
        pan = partial(clips.pan, stills[0])
        made += _clips(source, recipe, recipe.clips_per_photo, pan, clips.PAN_RATE, "pan")
    if stills:
        count = recipe.quality_per_photo
        made += pictures("quality", TECHNICAL, source, stills, recipe.seed, count, "aesthetics")
        kinds = [t for t in AESTHETIC if not (t.needs_colour and source.grey)]
        count = recipe.aesthetics_per_photo
        made += pictures("aesthetics", kinds, source, stills, recipe.seed, count, "quality")
    return made


def pictures(
    dataset: str,
    types: Sequence[Distortion],
    source: Source,
    stills: Sequence[Pixels],
    seed: int,
    count: int,
    also: str | None = None,
) -> Iterator[Made]:
    """Distorted pictures of one source for one set.

    Args:
        dataset: the set.
        types: damage to deal.
        source: the scene.
        stills: its photographs, taken in turn.
        seed: of everything random.
        count: how many.
        also: the set for which every third one is rated, too.
    """
    plans = plan_damage(types, count, generator(seed, "plan", dataset, source.name))
    segment = "frame" if source.group == "clip" else source.group
    for i, damage in enumerate(plans):
        rng = generator(seed, dataset, source.name, i)
        pixels = crop(stills[i % len(stills)], rng)
        for kind, strength in damage:
            pixels = kind.apply(pixels, strength, rng)
        buffer = io.BytesIO()
        # The same light compression for every picture, so that the file says nothing.
        Image.fromarray(pixels).save(buffer, "JPEG", quality=STORE_QUALITY, subsampling=0)
        both = i % ALSO_RATED == ALSO_RATED - 1
        tasks = (dataset, also) if also and both else (dataset,)
        about = {"kind": "image", "segment": segment}
        rows = {task: _row(dataset, task, source.name, i, damage, seed) | about for task in tasks}
        path = f"{dataset}/{rows[dataset]['item_id']}.jpg"
        yield Made(path, buffer.getvalue(), rows)


def _clips(
    source: Source,
    recipe: Recipe,
    count: int,
    take: Callable[[np.random.Generator], list[Pixels]],
    frame_rate: Any,
    segment: str,
) -> Iterator[Made]:
    seed = recipe.seed
    plans = plan_damage(clips.CLIP_TYPES, count, generator(seed, "plan", "video", source.name))
    for i, damage in enumerate(plans):
        rng = generator(seed, "video", source.name, i)
        frames = take(rng)
        factor = clips.STORE_CRF
        for kind, strength in damage:
            frames = [kind.apply(frame, strength, rng) for frame in frames]
            if kind is clips.COMPRESSION:
                factor = clips.crf(strength)
        about = {"kind": "video", "segment": segment}
        row = _row("video", "video", source.name, i, damage, seed) | about
        data = clips.encode(frames, frame_rate, factor)
        yield Made(f"video/{row['item_id']}.mp4", data, {"video": row})


@cache
def rater_pool(seed: int) -> RaterPool:
    """The people who rate the sets of a seed."""
    return RaterPool.draw(seed)


def _row(dataset: str, task: str, source: str, i: int, damage: Damage, seed: int) -> Row:
    """How picture ``i`` that was made for ``dataset`` was rated for ``task``."""
    felt = 1.0 if task == dataset else FELT[task]
    latent = latent_quality(photo_offset(seed, source, task), damage, felt)
    rating = rate(rater_pool(seed), latent, generator(seed, "raters", dataset, task, source, i))
    return {
        "item_id": f"{dataset}-{source}-{i:03d}",
        "mos": rating.mos,
        "std": rating.std,
        "votes": list(rating.votes),
        "dataset": f"demo-{task}",
        "source": source,
        "made_for": dataset,
        "latent": latent,
        "distortion": "+".join(kind.name for kind, _ in damage),
        "strength": max(strength for _, strength in damage),
    }
