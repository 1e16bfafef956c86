"""Locations are said in full, wherever a config has one."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from beholder.catalog.config import NightlyConfig
from beholder.catalog.erase import EraseConfig
from beholder.catalog.garbage import GarbageConfig
from beholder.catalog.locations import Location
from beholder.catalog.manifest_pass import ManifestPassConfig
from beholder.catalog.promotion_report import PromotionConfig
from beholder.catalog.ranks import RankConfig
from beholder.config import JobConfig, load_config, validate_config
from beholder.errors import ConfigError
from beholder.training.config import TrainConfig

NIGHT = {
    "catalog": "s3://b/catalog",
    "manifest": "/lists/m.parquet",
    "scorer": "current",
    "logical_date": "2026-11-20",
    "shadow": {"scorer": "file:///scorers/new"},
    "allowed_places": ["s3://b", "/media"],
}
PASS = {"manifest": "s3://b/m", "scorer": "/s", "output": "file://localhost/scores"}


@pytest.mark.parametrize(
    "location", ["s3://b", "s3://b/f", "/f", "file:///f", "file://localhost/f"]
)
def test_whole_ones_are_taken(location: str) -> None:
    assert TypeAdapter(Location).validate_python(location) == location


@pytest.mark.parametrize(
    ("location", "said"),
    [
        *((one, "relative to a working .* write s3://") for one in ("catalog", "./c", "~/c", "")),
        ("file://b/catalog", "relative to a working folder"),
        ("s3:///catalog", "names no bucket: write s3://bucket/folder"),
        ("https://b/catalog", "'https' is no storage: use s3://"),
    ],
)
def test_others_are_refused(location: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TypeAdapter(Location).validate_python(location)


@pytest.mark.parametrize(
    ("model", "given", "keys"),
    [
        (NightlyConfig, NIGHT, ("catalog", "manifest", "scorer")),
        (ManifestPassConfig, PASS, ("manifest", "scorer", "output")),
        (PromotionConfig, {"catalog": "/c", "scorer": "/s"}, ("catalog", "scorer")),
        *((one, {"catalog": "/c"}, ("catalog",)) for one in (EraseConfig, RankConfig)),
        (GarbageConfig, {"catalog": "/c"}, ("catalog",)),
    ],
)
def test_every_config_asks_for_them(
    model: type[JobConfig], given: dict, keys: tuple[str, ...]
) -> None:
    validate_config(model, given, "config")
    for key in keys:
        with pytest.raises(ConfigError, match=f"{key}.*'build/x': relative"):
            validate_config(model, given | {key: "build/x"}, "config")


def test_a_training_run_is_not_kept_below_a_working_folder(project: Path) -> None:
    """Nor would its end be measured, whose scores are a pass as above."""
    shipped = project / "configs" / "train" / "onealign_pocket.yaml"
    load_config(TrainConfig, shipped, ["storage=/runs"])
    with pytest.raises(ConfigError, match=r"storage.*'build/x': relative"):
        load_config(TrainConfig, shipped, ["storage=build/x"])


def test_inner_ones_too() -> None:
    for wrong in ({"shadow": {"scorer": "current"}}, {"allowed_places": ["media"]}):
        with pytest.raises(ConfigError, match="relative to a working"):
            validate_config(NightlyConfig, NIGHT | wrong, "config")
