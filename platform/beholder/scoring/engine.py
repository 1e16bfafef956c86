"""Schedules pixels through a backbone: batches by frames, one look for all tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from beholder.backbones import Backbone, Batch, MediaShape, Read
from beholder.conversations import Conversation, Part, scoring
from beholder.items import Kind
from beholder.readouts import Reading, Readout, read_slots, through_head


@dataclass(frozen=True)
class Clip:
    """One forward's worth of media: a picture (T = 1) or a clip's frames, with its questions.

    Attributes:
        frames: uint8 (T, S, S, 3).
        kind: what it is called in the question.
        tasks: what is asked of it.
    """

    frames: NDArray[np.uint8]
    kind: Kind
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class _Question:
    """One conversation about one clip.

    Attributes:
        clip: index among the clips.
        names: what its answer speaks of, up to the last that is read.
        read: which of them are.
    """

    clip: int
    names: tuple[str, ...]
    read: tuple[int, ...]


class Engine:
    """Runs clips through a backbone and a readout.

    Args:
        backbone: in inference mode, on its device.
        readout: reads the slots.
        prompt: prompt variant.
        max_frames: frames in a forward; the one limit on memory. A clip longer than it goes
            alone.
        told: for tasks that are read behind others in one answer, those, in order.
        head: the readout's, where it has one.

    Raises:
        ValueError: the backbone's tokenizer can't write what the readout reads, or ``told`` is
            given for a readout that has no :attr:`~beholder.readouts.Readout.same_answer`.
    """

    def __init__(
        self,
        backbone: Backbone,
        readout: Readout,
        prompt: str,
        max_frames: int = 32,
        told: Mapping[str, tuple[str, ...]] | None = None,
        head: nn.Module | None = None,
    ) -> None:
        self._backbone = backbone
        self._readout, self._head = readout, head
        self._prompt = prompt
        self._told = told or {}
        if self._told and not readout.same_answer:
            raise ValueError(
                f"task '{next(iter(self._told))}' is read behind others in one answer, which "
                f"readout {readout.name} can't do, for its text depends on their scores: give it "
                "a scorer of its own, or use readout score_tokens"
            )
        self._token_ids = readout.token_ids(backbone)
        self.max_frames = max_frames

    def batches(self, clips: Sequence[Clip]) -> Iterator[list[int]]:
        """Indices of clips, in order, in groups of at most ``max_frames`` frames."""
        group: list[int] = []
        frames = 0
        for index, clip in enumerate(clips):
            if group and frames + len(clip.frames) > self.max_frames:
                yield group
                group, frames = [], 0
            group.append(index)
            frames += len(clip.frames)
        if group:
            yield group

    def run(self, clips: Sequence[Clip]) -> list[Mapping[str, Reading | None]]:
        """A reading a task for each clip; None where the model's answer is not finite."""
        answers: list[Mapping[str, Reading | None]] = [{}] * len(clips)
        for group in self.batches(clips):
            for index, answer in zip(group, self._forward([clips[i] for i in group]), strict=True):
                answers[index] = answer
        return answers

    @torch.inference_mode()
    def _forward(self, clips: Sequence[Clip]) -> list[dict[str, Reading | None]]:
        device = next(self._backbone.parameters()).device
        pixels = torch.from_numpy(np.concatenate([clip.frames for clip in clips])).to(device)
        shapes = [MediaShape(*clip.frames.shape[:3]) for clip in clips]
        features = self._backbone.embed(pixels, shapes)
        asked = [q for index, clip in enumerate(clips) for q in self._questions(index, clip)]
        finite = np.ones(sum(len(one.read) for one in asked), dtype=bool)

        def look(written: list[str]) -> Read:
            nonlocal finite
            rows = self._conversations(asked, clips, written)
            encoded = self._backbone.encode(rows, shapes).to(device)
            places = [(row, slot) for row, one in enumerate(asked) for slot in one.read]
            row, slot = torch.tensor(places, device=device).unbind(1)
            positions = torch.stack([row, encoded.slots[row, slot]], 1)
            read = self._backbone(Batch(encoded, shapes, features=features), positions)
            read = through_head(read, self._head)
            whole = torch.isfinite(read.logits).all(-1)
            if read.values is not None:
                whole &= torch.isfinite(read.values).all(-1)
                read.values[~whole] = 0.0
            read.logits[~whole] = 0.0
            finite &= whole.cpu().numpy()
            return read

        reading = read_slots(self._readout, self._token_ids, len(finite), look)
        answers: list[dict[str, Reading | None]] = [{} for _ in clips]
        tasks = [(one.clip, one.names[slot]) for one in asked for slot in one.read]
        for row, (index, task) in enumerate(tasks):
            answers[index][task] = reading.row(row) if finite[row] else None
        return answers

    def _questions(self, index: int, clip: Clip) -> list[_Question]:
        """What is asked of a clip: tasks of which one answer speaks are read together."""
        deepest: dict[str, tuple[str, ...]] = {}
        for task in clip.tasks:
            names = (*self._told.get(task, ()), task)
            deepest[names[0]] = max(deepest.get(names[0], ()), names, key=len)
        return [
            _Question(index, names, tuple(i for i, n in enumerate(names) if n in clip.tasks))
            for names in deepest.values()
        ]

    def _conversations(
        self, asked: Sequence[_Question], clips: Sequence[Clip], written: Sequence[str]
    ) -> list[Conversation]:
        """A row a question; ``written`` has an entry for each of its answers, all the same."""
        rows, at = [], 0
        for one in asked:
            *before, last = one.names
            told = [(name, self._same_answer(name)) for name in before]
            kind = clips[one.clip].kind
            rows.append(scoring(self._prompt, last, kind, one.clip, written=written[at], told=told))
            at += len(one.read)
        return rows

    def _same_answer(self, name: str) -> tuple[Part, ...]:
        """What stands at a slot of a readout whose text is the same whatever the opinion."""
        scale = self._readout.scale
        return self._readout.answer(name, scale.minimum, scale)
