"""One short run of the whole path for this room: demo set, training, on a real Ray and S3."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from beholder.datasets.demo import DemoSet, Recipe, build_demo
from beholder.local_stack import ObjectStore, RayCluster
from beholder.media.storage import read_bytes

SMALL = Recipe(quality_per_photo=6, aesthetics_per_photo=3, clips_per_scene=2, clips_per_photo=0)
RUN_JOB_S = 240


class Trained(NamedTuple):
    """A finished run, the demo set that it learned from, and what its job printed."""

    run: str
    demo: DemoSet
    summary: dict
    printed: str


@pytest.fixture(scope="session")
def submit(project: Path, ray_cluster: RayCluster) -> Callable[..., subprocess.CompletedProcess]:
    """Submits a job as the README shows it."""

    def run(job: str, *arguments: str) -> subprocess.CompletedProcess:
        ray = str(Path(sys.executable).with_name("ray"))
        words = ("job", "submit", "--working-dir", str(project), "--", "python", f"jobs/{job}")
        return subprocess.run(
            [ray, *words, *arguments],
            capture_output=True,
            text=True,
            timeout=RUN_JOB_S,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def demo(s3: ObjectStore) -> DemoSet:
    """A small demo set in the session's S3."""
    return build_demo(f"s3://{s3.bucket}/demo", SMALL, workers=2)


@pytest.fixture(scope="session")
def trained(s3: ObjectStore, demo: DemoSet, submit: Callable) -> Trained:
    """The quick start's config, shortened: ZeRO-2 on two workers."""
    sets = [
        f"sets.{at}.manifest={demo.manifests[name]}"
        for at, name in enumerate(("quality", "aesthetics", "video"))
    ]
    shortened = [
        *sets,
        f"storage=s3://{s3.bucket}/runs",
        "name=short",
        "schedule.epochs=8",
        "schedule.checks=2",
        "backbone.settings={image_size: 128, hidden_size: 64}",
    ]
    config = ["--config", "configs/train/onealign_pocket.yaml"]
    done = submit("train_onealign.py", *config, *[w for o in shortened for w in ("--set", o)])
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-4000:]
    run = f"s3://{s3.bucket}/runs/short"
    return Trained(run, demo, json.loads(read_bytes(f"{run}/summary.json")), printed)
