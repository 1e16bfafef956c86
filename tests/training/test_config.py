"""The shipped training configs, and what is wrong with wrong ones."""

from pathlib import Path

import pytest

from beholder.config import ConfigError, load_config
from beholder.training.config import TrainConfig

POCKET = "configs/train/onealign_pocket.yaml"


def test_every_shipped_config_loads(project: Path) -> None:
    paths = sorted((project / "configs" / "train").glob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        load_config(TrainConfig, path)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("schedule.lerning_rate=1", "schedule.lerning_rate.*learning_rate"),
        ("schedule.global_batch=63", "63 is not a multiple of"),
        ("backbone.name=resnet", "backbone.name"),
        ("deepspeed.stage=4", "deepspeed.stage"),
        ("backbone.train=[vision, language]", "frozen vision"),
        ("sets.1.name=quality", "two sets have one name"),
        ("backbone.dtype=bfloat16", "pocket's float32 states"),
        ("prompt=hello", "prompt 'hello' is none"),
        ("sets.0.task=beauty", "sets.0.task"),
        ("sets.0.scale=[5, 1]", "must be \\[minimum, maximum\\]"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(project: Path, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(TrainConfig, project / POCKET, [override])
