"""Folds: no source on two sides, every source held out once."""

import numpy as np
import pyarrow as pa

from beholder.training.folds import splits_of

GROUPS = {f"photo-{i}": "photo" for i in range(20)} | {f"clip-{i}": "clip" for i in range(6)}


def test_every_source_is_held_out_once_and_never_seen() -> None:
    mix = pa.table(
        {
            "source": [name for name in GROUPS for _ in range(3)],
            "set": ["quality", "quality", "aesthetics"] * len(GROUPS),
            "made_for": ["quality"] * 3 * len(GROUPS),
        }
    )
    source = np.array(mix["source"].to_pylist())
    held: list[str] = []
    for fold in range(5):
        parts = [set(source[rows]) for rows in splits_of(mix, GROUPS, 5, fold, seed=1)]
        train, validation, test = parts
        assert train | validation | test == set(GROUPS)
        assert not train & validation
        assert not train & test
        assert not validation & test
        assert len(validation) == 4
        held += sorted(test)
    made_for_another = np.array(mix["set"].to_pylist()) == "aesthetics"
    for fold in range(5):
        train_rows, *held_rows = splits_of(mix, GROUPS, 5, fold, seed=1)
        assert made_for_another[train_rows].any()
        assert not made_for_another[np.concatenate(held_rows)].any()
    assert sorted(held) == sorted(GROUPS)
