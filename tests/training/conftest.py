"""What several files' tests of training share."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from beholder.backbones.pocket.tower import Tower
from beholder.media.storage import copy_tree
from beholder.training.feed import CachedStates, Looked, MediaSource
from beholder.training.folds import _alone
from beholder.training.order import FILLER


@pytest.fixture(scope="session")
def world() -> Iterator[None]:
    """One worker for DeepSpeed; once a session, for it keeps groups that torch forgets."""
    _alone()
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="session")
def states() -> CachedStates:
    """Vision states of 32 rows for pocket, random."""
    flat = np.random.default_rng(0).standard_normal((32, Tower.width)).astype(np.float32)
    rows = [{"uri": str(i), "frames": 1, "states": s} for i, s in enumerate(flat)]
    schema = [("uri", pa.string()), ("frames", pa.int64()), ("states", pa.list_(pa.float32()))]
    table = pa.Table.from_pylist(rows, schema=pa.schema(schema))
    return CachedStates(table, [str(i) for i in range(32)])


class _Pictures:
    """Pixels in memory; no states, so a backbone's own vision runs."""

    blank: Tensor | None = None

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._pixels = [torch.from_numpy(picture)[None] for picture in pictures]

    def batches(self, plan: Sequence[NDArray[np.int64]]) -> Iterator[list[Looked | None]]:
        for rows in plan:
            yield [None if row == FILLER else Looked(pixels=self._pixels[row]) for row in rows]


@pytest.fixture
def pictures() -> Callable[[Sequence[NDArray[np.uint8]]], MediaSource]:
    """Makes a source of media of pictures (S, S, 3)."""
    return _Pictures


@pytest.fixture
def tiny_owl(golden: Path, tmp_path: Path) -> list[str]:
    """Overrides for mPLUG-Owl2 of toy size from a folder with weights, under ZeRO-3."""
    weights = tmp_path / "weights"
    copy_tree(golden / "tiny_mplug_owl2", str(weights))
    tokenizer = (golden.parent / "tiny_tokenizer.json").read_text("utf-8")
    (weights / "tokenizer.json").write_text(tokenizer, "utf-8")
    return [
        "backbone.name=mplug_owl2",
        "backbone.settings={}",
        f"backbone.weights={weights}",
        "backbone.train=[vision, projector, language]",
        "backbone.gradient_checkpointing=true",
        "deepspeed.stage=3",
        "schedule.learning_rate=0.003",
    ]
