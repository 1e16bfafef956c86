"""The dry run's numbers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.config import ConfigError, load_config
from beholder.errors import UserError
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


def test_what_training_would_refuse_the_dry_run_refuses(project: Path, tmp_path: Path) -> None:
    columns = {"item_id": ["a", "b"], "uri": ["a", "b"], "kind": ["image"] * 2, "mos": [1.0, 2.0]}
    manifest = tmp_path / "set.parquet"
    pq.write_table(pa.table(columns | {"split": ["train", "train"]}), manifest)
    path = project / "configs/train/onealign.yaml"
    sets = [f"sets.0.manifest={manifest}"]
    with pytest.raises(ConfigError, match=r"expects \d+ training rows and .*set.parquet has 2"):
        describe_run(load_config(TrainConfig, path, sets))
    pq.write_table(pa.table(columns | {"split": ["train", "val"]}), manifest)
    with pytest.raises(UserError, match=r"item 'a' has mos 1\.0, outside its declared scale"):
        describe_run(load_config(TrainConfig, path, [*sets, "sets.0.rows=1"]))
    pq.write_table(pa.table(columns | {"split": ["train", "train"]}), manifest)
    with pytest.raises(ConfigError, match="no row in split 'val'"):
        describe_run(load_config(TrainConfig, path, [*sets, "sets.0.rows=null"]))


def test_settings_that_the_model_does_not_have(project: Path) -> None:
    path = project / "configs/train/onealign_pocket.yaml"
    unread = [f"sets.{i}.{key}" for i in range(3) for key in ("rows=10", "manifest=/nowhere")]
    config = load_config(TrainConfig, path, [*unread, "backbone.settings.colour=red"])
    with pytest.raises(UserError, match=r"backbone\.settings: .*colour"):
        describe_run(config)
