"""Scorers in object storage: fetched whole, or looked at without their weights."""

import json
from pathlib import Path

import pytest

from beholder.local_stack import ObjectStore
from beholder.media.storage import StorageError, copy_tree, write_bytes
from beholder.scoring import Scorer, ScorerError, load_scorer, outline_scorer


@pytest.fixture(scope="module")
def uri(s3: ObjectStore, small_scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("scorer")
    small_scorer.save(folder)
    copy_tree(folder, f"s3://{s3.bucket}/store/scorer")
    return f"s3://{s3.bucket}/store/scorer"


def test_it_comes_back_as_it_was(uri: str, small_scorer: Scorer) -> None:
    assert load_scorer(uri).fingerprint == small_scorer.fingerprint


def test_an_outline_needs_no_weights(small_scorer: Scorer, tmp_path: Path) -> None:
    small_scorer.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    outline = outline_scorer(str(tmp_path))
    assert outline.pixels == small_scorer.backbone.spec.pixels
    assert outline.file.fingerprint == small_scorer.fingerprint


def test_messages_name_the_uri(uri: str, s3: ObjectStore, tmp_path: Path) -> None:
    fields = {"version": 99}
    broken = f"s3://{s3.bucket}/store/broken"
    for name in ("config.json", "tokenizer.json"):
        write_bytes(f"{broken}/{name}", b"{}")
    write_bytes(f"{broken}/scorer.json", json.dumps(fields).encode())
    with pytest.raises(ScorerError, match=f"scorer folder {broken} is of version 99"):
        outline_scorer(broken)


def test_pickles_are_refused_by_the_listing(s3: ObjectStore) -> None:
    """Nothing else is there: whoever fetched first would find that a file is missing."""
    pickled = f"s3://{s3.bucket}/store/pickled"
    write_bytes(f"{pickled}/pytorch_model.bin", b"")
    with pytest.raises(ScorerError, match=f"{pickled} holds pickled weights"):
        load_scorer(pickled)


def test_a_folder_that_is_not_there(s3: ObjectStore) -> None:
    with pytest.raises((StorageError, ScorerError), match="store/nothing"):
        load_scorer(f"s3://{s3.bucket}/store/nothing")


def test_a_folder_in_storage_is_not_for_the_local_door(uri: str) -> None:
    with pytest.raises(ScorerError, match=f"{uri} is in storage: use beholder.scoring.load_scorer"):
        Scorer.load(uri)
