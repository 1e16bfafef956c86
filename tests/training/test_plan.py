"""The dry run's numbers."""

from pathlib import Path

import pytest

from beholder.config import load_config
from beholder.media.storage import StorageError
from beholder.training.config import TrainConfig
from beholder.training.plan import describe_run, memory_by_stage


def test_memory_follows_zero_section_3() -> None:
    """The paper's own example: 7.5 B parameters on 64 GPUs take 120, 31.4, 16.6 and 1.9 GB."""
    table = memory_by_stage(int(7.5e9), int(7.5e9), 64, bfloat16=True)
    totals = [table[stage].total / 1e9 for stage in range(4)]
    assert totals == pytest.approx([120, 31.4, 16.6, 1.88], rel=0.01)


def test_frozen_parameters_take_only_weights() -> None:
    table = memory_by_stage(100, 10, 2, bfloat16=False)
    assert table[0] == (400, 40, 80)
    assert table[3] == (200, 20, 40)


def test_the_paper_run_is_described_without_weights_or_gpu(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    config = load_config(TrainConfig, project / "configs/train/onealign.yaml")
    text = describe_run(config)
    assert "8,197,859,328" in text
    assert "288,049 rows x 2 epochs / 256" in text
    assert "2,251 optimizer steps" in text
    assert "ZeRO 3      1.91       1.91      11.45   15.27  <- this config" in text
    assert "learning_rate: 2.0e-05" in text


def test_a_set_that_can_not_be_counted_is_named(project: Path) -> None:
    path = project / "configs/train/onealign.yaml"
    config = load_config(
        TrainConfig, path, ["sets.0.rows=null", "sets.0.manifest=/nowhere.parquet"]
    )
    with pytest.raises(StorageError, match=r"/nowhere\.parquet"):
        describe_run(config)
