"""Rows to micro-batches: media from the feature cache or a stream, conversations around them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from beholder.backbones import Backbone, Batch, MediaShape
from beholder.conversations import training
from beholder.errors import UserError
from beholder.items import Kind
from beholder.opinions import Scale
from beholder.opinions.normalise import DEFAULT_STD_SHARE
from beholder.readouts import Readout
from beholder.training.batch import TrainBatch
from beholder.training.objective import TERMS
from beholder.training.order import FILLER

CALIBRATION_ROWS = 1024
NO_MEDIA = (
    "not one picture of the mix could be fetched and decoded: check its URIs, and the keys in the "
    "environment of Ray's nodes"
)


@dataclass(frozen=True)
class Opinion:
    """What a row teaches: one item, one task, what people said."""

    kind: Kind
    task: str
    mos: float
    scale: Scale
    rule: str
    weight: float
    std: float
    set_number: int
    votes: Sequence[int] | None = None

    @property
    def spread(self) -> float:
        """The std, or what is assumed where none is known."""
        return DEFAULT_STD_SHARE * self.scale.width if np.isnan(self.std) else self.std


def opinions(mix: pa.Table) -> list[Opinion]:
    """The rows of :func:`beholder.datasets.concatenate`, in order.

    A weight that is not given is 1, a std NaN. Sets are numbered in the order of their names.
    """
    numbers = {name: at for at, name in enumerate(sorted(set(mix["set"].to_pylist())))}
    return [
        Opinion(
            row["kind"],
            row["task"],
            row["mos"],
            Scale(row["scale_min"], row["scale_max"]),
            row["rule"],
            1.0 if row.get("weight") is None else row["weight"],
            float("nan") if row.get("std") is None else row["std"],
            numbers[row["set"]],
            row.get("votes"),
        )
        for row in mix.to_pylist()
    ]


@dataclass
class Looked:
    """One row's media as the backbone takes them: pixels (T, S, S, 3) or vision states (T, ...)."""

    pixels: Tensor | None = None
    states: Tensor | None = None

    @property
    def frames(self) -> int:
        """T."""
        media = self.pixels if self.pixels is not None else self.states
        assert media is not None
        return len(media)


class MediaSource(Protocol):
    """Where media of rows come from; None for what could not be fetched or decoded.

    Attributes:
        blank: states (1, ...) that stand for no medium, None where media are pixels.
    """

    blank: Tensor | None

    def batches(self, plan: Sequence[NDArray[np.int64]]) -> Iterator[list[Looked | None]]:
        """For each micro-batch of row indices, in order, its media."""


class CachedStates:
    """Vision states computed before training, kept in memory.

    Args:
        table: columns ``uri``, ``frames`` (int64, 0 where it failed) and ``states``
            (list<float>), as :func:`beholder.training.features.cache_states` writes it.
        uris: of the mix's rows, in order.
    """

    def __init__(self, table: pa.Table, uris: Sequence[str]) -> None:
        self._uris = uris
        self._states: dict[str, Tensor] = {}
        for batch in table.to_batches():
            found, frames = batch["uri"].to_pylist(), batch["frames"].to_pylist()
            for at, (uri, count) in enumerate(zip(found, frames, strict=True)):
                if count:
                    flat = batch["states"][at].values.to_numpy()
                    self._states[uri] = torch.from_numpy(flat.reshape(count, -1).copy())

        if not self._states:
            raise UserError(NO_MEDIA)
        self.blank: Tensor | None = torch.zeros_like(next(iter(self._states.values()))[:1])

    def get(self, row: int) -> Looked | None:
        """A row's states, None if it failed or is a filler."""
        states = None if row == FILLER else self._states.get(self._uris[row])
        return None if states is None else Looked(states=states)

    def batches(self, plan: Sequence[NDArray[np.int64]]) -> Iterator[list[Looked | None]]:
        """See :class:`MediaSource`."""
        for rows in plan:
            yield [self.get(int(row)) for row in rows]


def refuse_failures(
    failed: int, rows: int, allowed: float, messages: Iterable[object] = ()
) -> None:
    """Ends a run that would learn from too few of its rows.

    Args:
        failed: rows without media.
        rows: all of them.
        allowed: share that may fail.
        messages: what was wrong; the first is told.

    Raises:
        UserError: the share is larger.
    """
    if failed <= allowed * rows:
        return
    first = next((f", the first with '{message}'" for message in messages), "")
    raise UserError(
        f"media of {failed} of {rows} rows could not be fetched and decoded{first}: mend them, or "
        f"raise max_failed above {allowed:g}"
    )


def calibrate(backbone: Backbone, media: MediaSource, rows: NDArray[np.int64], seed: int) -> None:
    """Shows a backbone that asks for it a sample of the training rows, before the first step.

    Args:
        backbone: on its device, not yet wrapped.
        media: of the rows.
        rows: indices of training rows.
        seed: of the sample; every worker draws the same one.

    Raises:
        UserError: no medium of the sample could be used.
    """
    if not backbone.calibrates:
        return
    drawn = np.random.default_rng(seed).permutation(rows)[:CALIBRATION_ROWS]
    device = next(backbone.parameters()).device
    states = []
    for some in media.batches(np.split(drawn, range(16, len(drawn), 16))):
        for looked in some:
            if looked is None:
                continue
            seen = looked.states
            if seen is None:
                assert looked.pixels is not None
                seen = backbone.vision(looked.pixels.to(device))
            states.append(seen.to(device))
    if not states:
        raise UserError(NO_MEDIA)
    backbone.calibrate(torch.cat(states))


def labels_of(
    rows: Sequence[Opinion], readouts: Mapping[str, Readout], votes: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the readout teaches of each opinion: targets (N, K), and scores (N,).

    Args:
        rows: the opinions.
        readouts: by edge rule.
        votes: whether targets are made of votes, where there are any.
    """
    kinds: dict[tuple[str, Scale], list[int]] = {}
    for at, row in enumerate(rows):
        kinds.setdefault((row.rule, row.scale), []).append(at)
    words = len(next(iter(readouts.values())).words())
    targets, scores = np.zeros((len(rows), words)), np.zeros(len(rows))
    for (rule, scale), places in kinds.items():
        mos = np.array([rows[at].mos for at in places])
        std = np.array([rows[at].std for at in places])
        counted = [rows[at].votes for at in places] if votes else None
        targets[places] = readouts[rule].targets(mos, std, scale, counted)
        scores[places] = readouts[rule].scores(mos, scale)
    return targets, scores


class BatchBuilder:
    """Makes micro-batches of opinions and media.

    Args:
        backbone: encodes.
        readouts: by edge rule, writes the answers.
        rows: the mix, by index.
        prompt: prompt variant.
        seed: draws the paraphrases.
        blank: states (1, ...) that stand for no medium, None where media are pixels.
        votes: whether targets are made of votes, where there are any.
    """

    def __init__(
        self,
        backbone: Backbone,
        readouts: Mapping[str, Readout],
        rows: Sequence[Opinion],
        prompt: str,
        seed: int,
        blank: Tensor | None,
        votes: bool = False,
    ) -> None:
        self._blank = blank
        self._backbone, self._readouts, self._rows = backbone, readouts, rows
        self._prompt, self._seed = prompt, seed
        self._targets, self._scores = labels_of(rows, readouts, votes)

    def build(
        self, indices: NDArray[np.int64], media: Sequence[Looked | None], step: int
    ) -> TrainBatch:
        """One micro-batch; rows without media and fillers stand in it at zero weight.

        Args:
            indices: rows, ``FILLER`` for none. (B,).
            media: their media, None where there are none.
            step: makes the choice of paraphrases differ between epochs, and repeatable.
        """
        size = self._backbone.spec.pixels.size
        looked = [m if m is not None else self._dummy() for m in media]
        shapes = [MediaShape(m.frames, size, size) for m in looked]
        shown = np.maximum(indices, 0)  # a filler shows the first row, at no weight
        opinions = [self._rows[int(index)] for index in shown]
        conversations, weights = [], []
        for slot, (index, medium, opinion) in enumerate(zip(indices, media, opinions, strict=True)):
            filler = index == FILLER
            word = self._readouts[opinion.rule].answer(opinion.mos, opinion.scale)
            draw = np.random.default_rng([self._seed, step, max(int(index), 0)]).integers(1 << 30)
            conversations.append(
                training(self._prompt, opinion.task, opinion.kind, slot, word, int(draw))
            )
            weights.append(0.0 if filler or medium is None else opinion.weight)
        encoded = self._backbone.encode(conversations, shapes)
        batch = Batch(encoded, shapes)
        if looked[0].pixels is not None:
            batch.pixels = torch.cat([m.pixels for m in looked if m.pixels is not None])
        else:
            batch.states = torch.cat([m.states for m in looked if m.states is not None])
        failed = sum(i != FILLER and m is None for i, m in zip(indices, media, strict=True))
        return TrainBatch(
            batch,
            torch.tensor(weights),
            targets=torch.from_numpy(self._targets[shown]),
            scores=torch.from_numpy(self._scores[shown]),
            mos=torch.tensor([opinion.mos for opinion in opinions], dtype=torch.float64),
            mos_std=torch.tensor([opinion.spread for opinion in opinions], dtype=torch.float64),
            sets=torch.tensor([opinion.set_number for opinion in opinions]),
            share=torch.ones(len(TERMS), dtype=torch.float64),
            failed=int(failed),
        )

    def _dummy(self) -> Looked:
        """One frame of nothing: under ZeRO-3 all workers must run the same parts at every step."""
        if self._blank is not None:
            return Looked(states=self._blank)
        size = self._backbone.spec.pixels.size
        return Looked(pixels=torch.zeros((1, size, size, 3), dtype=torch.uint8))
