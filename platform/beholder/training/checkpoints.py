"""A checkpoint's folder: every rank's DeepSpeed shards, whole weights, and what proves them.

::

    state/...                 DeepSpeed's shards and optimizer state (pickled by DeepSpeed)
    model.safetensors         whole weights, by rank 0: a scorer is made of these
    adapter.safetensors       LoRA's A and B, where they are trained, by rank 0
    readout.safetensors       the readout's head, where it has one, by rank 0
    curve.json                loss and rate by step, by rank 0
    commit-rank-0003.json     SHA-256 of each file that rank 3 wrote

DeepSpeed's files are pickles. They are loaded only from the run's own storage and only after
every file's hash matches its commit manifest.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from beholder.errors import UserError

WEIGHTS = "model.safetensors"
CURVE = "curve.json"
STATE = "state"


class CheckpointError(UserError):
    """A checkpoint that is not whole; the message names the file."""


def commit(folder: Path, rank: int) -> None:
    """Writes this rank's manifest over all files that it put into ``folder``."""
    hashes = {
        str(path.relative_to(folder)): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    name = f"commit-rank-{rank:04d}.json"
    (folder / name).write_text(json.dumps(hashes, indent=1), "utf-8")


def verify(folder: Path) -> None:
    """Checks every file against the ranks' manifests.

    Raises:
        CheckpointError: no manifest, a file is missing, changed, or named by no manifest.
    """
    manifests = sorted(folder.glob("commit-rank-*.json"))
    if not manifests:
        raise CheckpointError(f"checkpoint {folder} has no commit manifest: it is not whole")
    expected: dict[str, str] = {}
    for manifest in manifests:
        expected |= json.loads(manifest.read_text("utf-8"))
    state = {str(p.relative_to(folder)) for p in (folder / STATE).rglob("*") if p.is_file()}
    for stray in sorted(state - expected.keys()):
        raise CheckpointError(f"checkpoint {folder}: no manifest names {stray}: not loading it")
    for name, digest in expected.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint {folder} lacks {name}: it is not whole")
        if _sha256(folder / name) != digest:
            raise CheckpointError(f"checkpoint {folder}: {name} was changed after it was written")


def save_state(engine: Any, folder: Path, step: int) -> None:
    """DeepSpeed's shards of this rank, without what is frozen."""
    engine.save_checkpoint(
        str(folder / STATE),
        tag="last",
        client_state={"step": step},
        exclude_frozen_parameters=True,
    )


def load_state(engine: Any, folder: Path) -> int:
    """Puts a verified checkpoint into the engine; returns the step that comes next."""
    verify(folder)
    _, client = engine.load_checkpoint(str(folder / STATE), tag="last", load_module_strict=False)
    return int(client["step"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
