"""The object that scores: the command line, the batch job and the endpoint all call this one."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from beholder.backbones import Backbone
from beholder.backbones.loading import load_weights, make_backbone
from beholder.conversations import FURTHER, PROMPTS, questions
from beholder.items import Failure, FailureCode, Item, Score
from beholder.items.item import Source
from beholder.media.limits import Limits
from beholder.media.pool import DecoderPool
from beholder.media.stage import Stage, Staged
from beholder.opinions import Rating, mixture
from beholder.readouts import HEAD_FILE, Reading, Readout, load_head, make_readout
from beholder.scoring.engine import Clip, Engine
from beholder.scoring.fingerprint import fingerprint, weights_hash
from beholder.scoring.folder import (
    ADAPTER,
    PREPROCESSING_VERSION,
    SCORER_VERSION,
    ScorerError,
    ScorerFile,
    TaskSpec,
    check_tasks,
    model_card,
    read_scorer_file,
)
from beholder.scoring.panel import Panel, read_panel, write_panel

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Scorer:
    """A backbone and a readout that rate pictures and videos.

    Args:
        backbone: the model.
        readout: how its answer is read.
        tasks: what it can rate, by name.
        prompt: prompt variant with which it was trained.
        metrics: what training measured; recorded, not hashed.
        made_with: seed, sources, versions; recorded, not hashed.
        limits: on each item; defaults are in :class:`beholder.media.limits.Limits`.
        max_frames: frames in a forward.
        head: the readout's, trained with the backbone; for readouts that have one.
        panel: what it said of a few media when it was made; recorded, not hashed.

    Raises:
        ValueError: the readout has a head and none is given.
    """

    def __init__(
        self,
        backbone: Backbone,
        readout: Readout,
        tasks: Mapping[str, TaskSpec],
        prompt: str,
        metrics: Mapping[str, Any] | None = None,
        made_with: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        max_frames: int = 32,
        head: nn.Module | None = None,
        panel: Panel | None = None,
    ) -> None:
        if head is None and readout.head(backbone.spec.hidden_size) is not None:
            raise ValueError(
                f"readout '{readout.name}' reads through a head that is trained with the model: "
                "give it, or load the scorer from its folder"
            )
        self.backbone = backbone.eval()
        self.readout = readout
        self.head = None if head is None else head.to(next(backbone.parameters())).eval()
        self.tasks = dict(tasks)
        self.prompt = prompt
        self.limits = limits or Limits()
        self.panel = panel
        told = {name: task.after for name, task in self.tasks.items() if task.after}
        self.engine = Engine(backbone, readout, prompt, max_frames, told, self.head)
        self.file = ScorerFile(
            version=SCORER_VERSION,
            readout=readout.config(),
            prompt=prompt,
            tasks=self.tasks,
            preprocessing=PREPROCESSING_VERSION,
            dtype=str(next(backbone.parameters()).dtype).removeprefix("torch."),
            metrics=dict(metrics or {}),
            made_with=dict(made_with or {}),
        )
        self.file.fingerprint = self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        """See :mod:`beholder.scoring.fingerprint`."""
        tokenizer = self.backbone.tokenizer_json().encode()
        # What only some scorers have is left out of the others', whose fingerprints stay.
        tasks = {name: task.model_dump(exclude_defaults=True) for name, task in self.tasks.items()}
        further = {"further": FURTHER} if any(t.after for t in self.tasks.values()) else {}
        head = {} if self.head is None else {"head": weights_hash(self.head.state_dict())}
        return fingerprint(
            further
            | head
            | {
                "weights": weights_hash(self.backbone.state_dict()),
                "tokenizer": hashlib.sha256(tokenizer).hexdigest(),
                "config": self.backbone.config(),
                "readout": self.readout.config(),
                "prompt": PROMPTS[self.prompt].model_dump(),
                "questions": [questions(task, "image")[0] for task in self.tasks],
                "tasks": tasks,
                "preprocessing": [
                    PREPROCESSING_VERSION,
                    asdict(self.backbone.spec.pixels),
                ],
                "dtype": self.file.dtype,
                "quantisation": None,
            }
        )

    def stage(self, pool: DecoderPool | None = None) -> Stage:
        """The way from items to this scorer's pixels; ``pool`` decodes in killable processes."""
        return Stage(self.backbone.spec.pixels, self.limits, pool)

    def score(
        self, items: Iterable[Item | Source], tasks: Sequence[str] | None = None
    ) -> list[Score]:
        """One score an item, in order; a bad item never spoils its neighbours.

        Scores don't depend on batch, order or padding (within 1e-5 in fp32).

        Args:
            items: paths, URIs, encoded bytes, PIL pictures, lists of PIL frames or Items.
            tasks: which of the scorer's tasks; all that fit an item's kind by default.

        Raises:
            ScorerError: the scorer has no task of that name.
        """
        named = [Item.of(item, position) for position, item in enumerate(items)]
        stage = self.stage()
        scores: list[Score] = []
        # A window at a time: pixels of a long list never stand in memory together.
        window = self.engine.max_frames
        for start in range(0, len(named), window):
            some = named[start : start + window]
            scores += self.score_staged([(i.item_id, stage.stage(i)) for i in some], tasks)
        return scores

    def score_staged(
        self,
        staged: Sequence[tuple[str, Staged | Failure]],
        tasks: Sequence[str] | None = None,
    ) -> list[Score]:
        """Scores what :class:`~beholder.media.stage.Stage` made of some items, in order.

        Raises:
            ScorerError: the scorer has no task of that name.
        """
        wanted = check_tasks(self.tasks, tasks)
        clips: list[Clip] = []
        places: list[range] = []
        for _, item in staged:
            first = len(clips)
            if isinstance(item, Staged):
                apply = tuple(t for t in wanted if item.kind in self.tasks[t].kinds)
                clips += [Clip(frames, item.kind, apply) for frames in item.clips if apply]
            places.append(range(first, len(clips)))
        readings = self.engine.run(clips)
        return [
            self._score(item_id, item, [readings[i] for i in place], wanted)
            for (item_id, item), place in zip(staged, places, strict=True)
        ]

    def _score(
        self,
        item_id: str,
        item: Staged | Failure,
        readings: Sequence[Mapping[str, Reading | None]],
        wanted: Sequence[str],
    ) -> Score:
        if isinstance(item, Failure):
            return Score(item_id, self.fingerprint, failure=item)
        if not readings:
            message = f"none of {', '.join(wanted)} applies to a {item.kind}: ask for another task"
            failure = Failure(FailureCode.TASK_UNSUPPORTED, message, bytes_read=item.bytes_read)
            return Score(item_id, self.fingerprint, failure=failure)
        clips: dict[str, tuple[Rating, ...]] = {}
        mass: dict[str, float] = {}
        for task in readings[0]:
            read = [reading[task] for reading in readings]
            whole = [r for r in read if r is not None]
            if len(whole) < len(read):
                message = f"the model's answer to '{task}' is not finite: report the item"
                failure = Failure(FailureCode.MODEL_NAN, message, bytes_read=item.bytes_read)
                return Score(item_id, self.fingerprint, failure=failure)
            clips[task] = tuple(r.distribution for r in whole)
            known = [float(r.mass[0]) for r in whole if r.mass is not None]
            if known:
                mass[task] = min(known)
        return Score(
            item_id,
            self.fingerprint,
            tasks={task: mixture(some, item.seconds) for task, some in clips.items()},
            mass=mass,
            clips=clips,
            coverage=item.coverage,
        )

    def save(self, folder: Path) -> None:
        """Writes the scorer into a folder, ``scorer.json`` last: a half-written one won't load."""
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(self.backbone.state_dict(), folder / "model.safetensors")
        self.save_around(folder)

    def save_around(self, folder: Path) -> None:
        """Writes all of a scorer's folder but the backbone's weights, ``scorer.json`` last."""
        if self.head is not None:
            save_tensors(self.head.state_dict(), folder / HEAD_FILE)
        (folder / "config.json").write_text(json.dumps(self.backbone.config(), indent=2), "utf-8")
        (folder / "tokenizer.json").write_text(self.backbone.tokenizer_json(), "utf-8")
        card = model_card(self.file, self.backbone.name)
        (folder / "README.md").write_text(card, "utf-8")
        if self.panel is not None:
            write_panel(folder, self.panel)
        (folder / "scorer.json").write_text(self.file.model_dump_json(indent=2), "utf-8")

    @classmethod
    def load(cls, folder: Path | str, device: str = "cpu", max_frames: int = 32) -> "Scorer":
        """Reads a scorer folder and checks that it is the one it says it is.

        Raises:
            ScorerError: see :func:`beholder.scoring.folder.read_scorer_file`, or the weights
                don't fit, or the fingerprint doesn't match what the folder holds.
        """
        path = Path(folder)
        file = read_scorer_file(path)
        if (path / ADAPTER).is_file():
            raise ScorerError(
                f"scorer folder {path} is an adapter: load the scorer that it was trained over, "
                "then this by beholder.scoring.load_adapter"
            )
        try:
            config = json.loads((path / "config.json").read_text("utf-8"))
            backbone = make_backbone(config, path / "tokenizer.json")
            backbone.to(_DTYPES[file.dtype])
            load_weights(backbone, path)
            scorer = cls.around(path, file, backbone.to(device), max_frames)
        except (ValueError, KeyError) as error:
            raise ScorerError(f"scorer folder {path}: {error}") from error
        if scorer.fingerprint != file.fingerprint:
            raise ScorerError(
                f"scorer folder {path} says fingerprint {file.fingerprint} but holds "
                f"{scorer.fingerprint}: a file was changed after it was made, fetch it again"
            )
        return scorer

    @classmethod
    def around(
        cls, folder: Path, file: ScorerFile, backbone: Backbone, max_frames: int
    ) -> "Scorer":
        """The scorer of a folder, around a backbone that has its weights.

        Raises:
            ValueError: the readout is not one, or its head is missing or damaged.
        """
        readout = make_readout(file.readout)
        head = readout.head(backbone.spec.hidden_size)
        load_head(head, folder)
        return cls(
            backbone,
            readout,
            file.tasks,
            file.prompt,
            file.metrics,
            file.made_with,
            max_frames=max_frames,
            head=head,
            panel=read_panel(folder),
        )


def save_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors into a safetensors file, from whatever device they are on."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def library_versions() -> dict[str, str]:
    """Versions that stand beside whatever is made."""
    names = ("beholder", "torch", "numpy", "pillow", "decord2", "tokenizers")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
