"""A scorer on disk: the Hugging Face layout plus ``scorer.json``.

``config.json``, ``model.safetensors`` (or shards with an index), ``tokenizer.json``,
``scorer.json`` and a model card, ``README.md``; ``readout.safetensors`` where the readout has a
trained head; the golden panel in ``panel/``. An adapter's folder has ``adapter.json`` and
``adapter.safetensors`` in place of the weights. Nothing in it is ever unpickled or run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beholder.conversations import PROMPTS
from beholder.errors import UserError
from beholder.items import Kind

SCORER_VERSION = 1
PREPROCESSING_VERSION = 1
"""Raised when the way from bytes to pixels changes a pixel."""
ADAPTER = "adapter.json"
"""In the folder of an adapter, see :mod:`beholder.scoring.adapter`."""
PANEL = "panel"
"""The golden panel's folder inside of a scorer's, see :mod:`beholder.scoring.panel`."""
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class ScorerError(UserError):
    """A scorer folder that can't be used; the message names the file and the remedy."""


class TaskSpec(BaseModel):
    """What a scorer can rate.

    Attributes:
        kinds: ``image``, ``video`` or both.
        scale: [minimum, maximum] of the set it learned the task from, onto which
            ``Readout.invert`` maps its scores.
        after: the tasks of which the same answer speaks before, in order; it is then read in
            their sentence, behind them. Empty where it is asked for by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[Kind, ...]
    scale: tuple[float, float]
    after: tuple[str, ...] = ()


class ScorerFile(BaseModel):
    """Content of ``scorer.json``.

    Attributes:
        version: of this layout.
        readout: what the readout's ``config`` method wrote.
        prompt: the prompt variant's name.
        tasks: by name.
        preprocessing: version of the way from bytes to pixels.
        dtype: in which the weights are kept and used.
        fingerprint: see :mod:`beholder.scoring.fingerprint`.
        metrics: recorded at the end of training, not hashed.
        made_with: library versions, seed and sources, not hashed.
    """

    model_config = ConfigDict(extra="forbid")

    version: int
    readout: dict[str, Any]
    prompt: str
    tasks: dict[str, TaskSpec]
    preprocessing: int
    dtype: Literal["float32", "bfloat16", "float16"]
    fingerprint: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    made_with: dict[str, Any] = Field(default_factory=dict)


def read_scorer_file(folder: Path) -> ScorerFile:
    """Reads and checks a scorer folder up to, not including, its weights.

    Raises:
        ScorerError: the folder or a file is missing, it is of another version, it holds
            pickled weights, or ``scorer.json`` is not what it should be.
    """
    if not folder.is_dir():
        raise ScorerError(
            f"no scorer folder at {folder}: train one with `make quickstart`, or give the path "
            "of a folder that holds scorer.json"
        )
    found = [file for pattern in ("*", f"{PANEL}/*") for file in folder.glob(pattern)]
    check_names(str(folder), [str(file.relative_to(folder)) for file in found])
    try:
        fields = json.loads((folder / "scorer.json").read_text("utf-8"))
    except ValueError as error:
        raise ScorerError(f"{folder / 'scorer.json'} is not JSON: {error}") from error
    version = fields.get("version") if isinstance(fields, dict) else None
    if version != SCORER_VERSION:
        raise ScorerError(
            f"scorer folder {folder} is of version {version}, this Beholder reads version "
            f"{SCORER_VERSION}: export it again with a matching release"
        )
    try:
        file = ScorerFile.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ScorerError(f"{folder / 'scorer.json'}: '{where}': {first['msg']}") from error
    if file.preprocessing != PREPROCESSING_VERSION:
        raise ScorerError(
            f"scorer folder {folder} was made with preprocessing {file.preprocessing}, this "
            f"Beholder has {PREPROCESSING_VERSION}: its scores would move, export it again"
        )
    if file.prompt not in PROMPTS:
        raise ScorerError(
            f"{folder / 'scorer.json'}: prompt '{file.prompt}' is none of "
            f"{', '.join(PROMPTS)}: export it again with a matching release"
        )
    return file


def check_names(folder: str, names: Sequence[str]) -> None:
    """Refuses a folder for what it lists, before anything of it is fetched or read.

    Args:
        folder: what to call it in a message.
        names: paths of all its files, relative to it.

    Raises:
        ScorerError: it holds pickled weights, or a file is missing.
    """
    pickled = sorted(name for name in names if name.endswith(_PICKLES))
    if pickled:
        raise ScorerError(
            f"scorer folder {folder} holds pickled weights ({pickled[0]}), which can run code: "
            "convert the checkpoint to safetensors and remove the file"
        )
    for name in ("scorer.json", "config.json", "tokenizer.json"):
        if name not in names:
            raise ScorerError(f"scorer folder {folder} has no {name}: name a finished scorer's")


def check_tasks(known: Iterable[str], asked: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks asked for, or all that are known.

    Raises:
        ScorerError: a task is asked for that the scorer doesn't have.
    """
    for task in asked or ():
        if task not in known:
            raise ScorerError(f"this scorer has no task '{task}': ask for {' or '.join(known)}")
    return tuple(asked or known)


def tasks_by_kind(
    tasks: Mapping[str, TaskSpec], asked: Sequence[str] | None
) -> dict[str, tuple[str, ...]]:
    """What is asked of a picture and of a video.

    Raises:
        ScorerError: a task is asked for that the scorer doesn't have.
    """
    wanted = check_tasks(tasks, asked)
    return {kind: tuple(t for t in wanted if kind in tasks[t].kinds) for kind in get_args(Kind)}


def model_card(file: ScorerFile, backbone: str) -> str:
    """The folder's ``README.md``: what the scorer is, how it was made, how well it does."""
    lines = [
        "---",
        "library_name: beholder",
        "tags: [image-quality-assessment, image-aesthetics, video-quality-assessment]",
        "---",
        f"# A Beholder scorer on {backbone}",
        "",
        f"Fingerprint `{file.fingerprint}`, readout `{file.readout['name']}`, prompt "
        f"`{file.prompt}`, dtype `{file.dtype}`.",
        "",
        "| task | kinds | scale |",
        "| --- | --- | --- |",
        *(f"| {n} | {', '.join(t.kinds)} | {list(t.scale)} |" for n, t in file.tasks.items()),
        "",
        "## Metrics",
        "",
        "```json",
        json.dumps(file.metrics, indent=2),
        "```",
        "",
        "## Made with",
        "",
        "```json",
        json.dumps(file.made_with, indent=2),
        "```",
        "",
        "## Use",
        "",
        "```python",
        "from beholder.scoring import Scorer",
        'scorer = Scorer.load("path/of/this/folder")',
        'print(scorer.score(["photo.jpg"])[0].tasks["quality"].mean)',
        "```",
    ]
    return "\n".join(lines) + "\n"
