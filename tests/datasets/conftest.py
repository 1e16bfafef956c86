"""A small demo set, built once for the room."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.datasets.demo import DemoSet, Recipe, build_demo

SMALL = Recipe(
    seed=3, quality_per_photo=7, aesthetics_per_photo=5, clips_per_scene=2, clips_per_photo=0
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoSet:
    return build_demo(tmp_path_factory.mktemp("demo"), SMALL, workers=2)


@pytest.fixture(scope="session")
def demo_tables(demo: DemoSet) -> dict[str, pa.Table]:
    return {name: pq.read_table(Path(uri)) for name, uri in demo.manifests.items()}
