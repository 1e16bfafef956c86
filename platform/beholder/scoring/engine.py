"""Schedules pixels through a backbone: batches by frames, one look for all tasks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from beholder.backbones import Backbone, Batch, MediaShape
from beholder.conversations import scoring
from beholder.items import Kind
from beholder.readouts import Reading, Readout


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


class Engine:
    """Runs clips through a backbone and a readout.

    Args:
        backbone: in inference mode, on its device.
        readout: reads the slots.
        prompt: prompt variant.
        max_frames: frames in a forward; the one limit on memory. A clip longer than it goes
            alone.
    """

    def __init__(
        self, backbone: Backbone, readout: Readout, prompt: str, max_frames: int = 32
    ) -> None:
        self._backbone = backbone
        self._readout = readout
        self._prompt = prompt
        self._token_ids = backbone.token_ids(readout.words())
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
        asked = [(index, task) for index, clip in enumerate(clips) for task in clip.tasks]
        conversations = [scoring(self._prompt, task, clips[i].kind, i) for i, task in asked]
        encoded = self._backbone.encode(conversations, shapes).to(device)
        rows = torch.arange(len(asked), device=device)
        positions = torch.stack([rows, encoded.slots[:, 0]], 1)
        read = self._backbone(Batch(encoded, shapes, features=features), positions)
        finite = torch.isfinite(read.logits).all(-1)
        read.logits[~finite] = 0.0
        reading = self._readout.read(read, self._token_ids)
        answers: list[dict[str, Reading | None]] = [{} for _ in clips]
        for row, (index, task) in enumerate(asked):
            one = Reading(reading.distribution[row], reading.mass[row : row + 1])
            answers[index][task] = one if finite[row] else None
        return answers
