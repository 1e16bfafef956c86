"""A checkpoint is whole or it is not loaded."""

from pathlib import Path

import pytest

from beholder.training.checkpoints import CheckpointError, commit, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "state" / "last").mkdir(parents=True)
    (tmp_path / "state" / "last" / "shard.pt").write_bytes(b"weights")
    (tmp_path / "curve.json").write_text("[]")
    commit(tmp_path, 0)
    return tmp_path


def test_a_whole_checkpoint_passes(folder: Path) -> None:
    verify(folder)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "commit-rank-0000.json").unlink(), "no commit manifest"),
        (lambda f: (f / "curve.json").unlink(), "lacks curve.json"),
        (lambda f: (f / "state/last/shard.pt").write_bytes(b"evil"), "shard.pt was changed"),
        (lambda f: (f / "state/last/more.pt").write_bytes(b"evil"), "no manifest names.*more.pt"),
    ],
)
def test_a_spoilt_one_is_refused_by_name(folder: Path, spoil, sentence: str) -> None:
    spoil(folder)
    with pytest.raises(CheckpointError, match=sentence):
        verify(folder)
