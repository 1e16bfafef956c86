"""Rows to micro-batches: media from the feature cache or a stream, conversations around them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from beholder.backbones import Backbone, Batch, Encoded, MediaShape
from beholder.backbones.contract import IGNORED
from beholder.conversations import Conversation, Part, scoring, training
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
    """What a row teaches: one item, one task, what people said.

    ``further`` are other attributes of which its answer speaks, in order, None where nobody rated
    one; on the same scale.
    """

    kind: Kind
    task: str
    mos: float
    scale: Scale
    set: str
    weight: float
    std: float
    set_number: int
    votes: Sequence[int] | None = None
    further: Sequence[tuple[str, float | None]] = ()

    @property
    def spread(self) -> float:
        """The std, or what is assumed where none is known."""
        return DEFAULT_STD_SHARE * self.scale.width if np.isnan(self.std) else self.std

    def of_attribute(self, mos: float) -> "Opinion":
        """The same row's opinion of another attribute, of which only the mean is known."""
        return replace(self, mos=mos, std=float("nan"), votes=None, further=())


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
            row["set"],
            1.0 if row.get("weight") is None else row["weight"],
            float("nan") if row.get("std") is None else row["std"],
            numbers[row["set"]],
            row.get("votes"),
            row.get("further") or (),
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
        readouts: by set.
        votes: whether targets are made of votes, where there are any.
    """
    kinds: dict[tuple[str, Scale], list[int]] = {}
    for at, row in enumerate(rows):
        kinds.setdefault((row.set, row.scale), []).append(at)
    targets: dict[tuple[str, Scale], NDArray[np.float64]] = {}
    scores = np.zeros(len(rows))
    for (name, scale), places in kinds.items():
        mos = np.array([rows[at].mos for at in places])
        std = np.array([rows[at].std for at in places])
        counted = [rows[at].votes for at in places] if votes else None
        targets[name, scale] = readouts[name].targets(mos, std, scale, counted)
        scores[places] = readouts[name].scores(mos, scale)
    order = np.argsort(np.concatenate(list(kinds.values())))
    return np.concatenate([targets[kind] for kind in kinds])[order], scores


class BatchBuilder:
    """Makes micro-batches of opinions and media.

    Args:
        backbone: encodes.
        readouts: by set, write the answers.
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
        self._slots: list[list[tuple[int, int]]] = []
        """Of each row: its slots that are taught, each with the place of its labels."""
        taught: list[Opinion] = []
        for row in rows:
            slots = []
            for number, mos in enumerate((row.mos, *(mos for _, mos in row.further))):
                if mos is not None:
                    slots.append((number, len(taught)))
                    taught.append(row.of_attribute(mos) if number else row)
            self._slots.append(slots)
        self._targets, self._scores = labels_of(taught, readouts, votes)

    def build(
        self, indices: NDArray[np.int64], media: Sequence[Looked | None], step: int
    ) -> TrainBatch:
        """One micro-batch; rows without media and fillers stand in it at zero weight.

        Args:
            indices: rows, ``FILLER`` for none. (B,).
            media: their media, None where there are none.
            step: makes the choice of paraphrases differ between epochs, and repeatable.
        """
        looked = [m if m is not None else self._dummy() for m in media]
        shapes = self._shapes(looked)
        shown = [max(int(index), 0) for index in indices]  # a filler shows the first row
        opinions = [self._rows[row] for row in shown]
        weights = torch.tensor(
            [
                0.0 if index == FILLER or medium is None else opinion.weight
                for index, medium, opinion in zip(indices, media, opinions, strict=True)
            ]
        )
        conversations = [self._taught(at, row, step) for at, row in enumerate(shown)]
        encoded = self._backbone.encode(conversations, shapes)
        for at, opinion in enumerate(opinions):
            for number, (_, mos) in enumerate(opinion.further, start=1):
                if mos is None:  # nothing is learned where nobody spoke
                    encoded.labels[at, encoded.slots[at, number] + 1] = IGNORED
        batch = Batch(encoded, shapes)
        if looked[0].pixels is not None:
            batch.pixels = torch.cat([m.pixels for m in looked if m.pixels is not None])
        else:
            batch.states = torch.cat([m.states for m in looked if m.states is not None])
        failed = sum(i != FILLER and m is None for i, m in zip(indices, media, strict=True))
        slots = [(at, *slot) for at, row in enumerate(shown) for slot in self._slots[row]]
        rows, numbers, labels = np.array(slots).T
        parts = torch.tensor([1 / len(self._slots[row]) for row in shown])
        return TrainBatch(
            batch,
            weights,
            slots=torch.from_numpy(np.stack([rows, numbers], 1)),
            slot_weights=(weights * parts)[rows],
            targets=torch.from_numpy(self._targets[labels]),
            scores=torch.from_numpy(self._scores[labels]),
            mos=torch.tensor([opinion.mos for opinion in opinions], dtype=torch.float64),
            mos_std=torch.tensor([opinion.spread for opinion in opinions], dtype=torch.float64),
            sets=torch.tensor([opinion.set_number for opinion in opinions]),
            share=torch.ones(len(TERMS), dtype=torch.float64),
            failed=int(failed),
        )

    def ask(
        self, indices: NDArray[np.int64], shapes: Sequence[MediaShape], written: Sequence[str]
    ) -> Encoded:
        """The questions of some rows, each up to its open slot.

        Args:
            indices: as for :meth:`build`.
            shapes: of their media.
            written: what is written of each opinion before the slot.
        """
        rows = []
        for at, (index, text) in enumerate(zip(indices, written, strict=True)):
            row = max(int(index), 0)
            opinion, question = self._rows[row], self._paraphrase(row, 0)
            rows.append(scoring(self._prompt, opinion.task, opinion.kind, at, question, text))
        return self._backbone.encode(rows, shapes)

    def _taught(self, at: int, row: int, step: int) -> Conversation:
        """A row's conversation with its answer, about medium ``at``."""
        opinion = self._rows[row]

        def answer(name: str, mos: float | None) -> tuple[Part, ...]:
            said = opinion.mos if mos is None else mos  # the text is the same
            return self._readouts[opinion.set].answer(name, said, opinion.scale)

        return training(
            self._prompt,
            opinion.task,
            opinion.kind,
            at,
            answer(opinion.task, opinion.mos),
            self._paraphrase(row, step),
            [(name, answer(name, mos)) for name, mos in opinion.further],
        )

    def _paraphrase(self, row: int, step: int) -> int:
        return int(np.random.default_rng([self._seed, step, row]).integers(1 << 30))

    def _shapes(self, looked: Sequence[Looked]) -> list[MediaShape]:
        size = self._backbone.spec.pixels.size
        return [MediaShape(m.frames, size, size) for m in looked]

    def _dummy(self) -> Looked:
        """One frame of nothing: under ZeRO-3 all workers must run the same parts at every step."""
        if self._blank is not None:
            return Looked(states=self._blank)
        size = self._backbone.spec.pixels.size
        return Looked(pixels=torch.zeros((1, size, size, 3), dtype=torch.uint8))
