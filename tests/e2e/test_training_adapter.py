"""A whole LoRA run over a scorer's weights: its adapter is its scorer, at a part of the size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from beholder.datasets.demo import Recipe, build_demo
from beholder.local_stack import ObjectStore
from beholder.media.storage import copy_tree, read_bytes
from beholder.scoring import Scorer, load_adapter, load_scorer
from beholder.scoring.adapter import FACTORS

pytestmark = pytest.mark.e2e

RECIPE = Recipe(quality_per_photo=2, aesthetics_per_photo=0, clips_per_scene=0, clips_per_photo=0)


@pytest.mark.usefixtures("ray_cluster")
def test_a_runs_adapter_over_its_base_is_the_runs_scorer(
    s3: ObjectStore,
    project: Path,
    small_scorer: Scorer,
    photos: dict[str, bytes],
    tmp_path: Path,
) -> None:
    base = f"s3://{s3.bucket}/base"
    small_scorer.save(tmp_path)
    copy_tree(tmp_path, base)
    manifest = build_demo(f"s3://{s3.bucket}/adapted", RECIPE, workers=2).manifests["quality"]
    overrides = [
        f"sets=[{{name: quality, manifest: '{manifest}', task: quality, scale: [1, 5]}}]",
        f"storage=s3://{s3.bucket}/runs",
        "name=adapted",
        f"backbone.weights={base}",
        "backbone.train=[projector]",
        "backbone.lora={rank: 4, alpha: 8, dropout: 0.1}",
        "schedule={epochs: 4, global_batch: 16, micro_batch: 8, checks: 1, learning_rate: 0.01}",
        "evaluate=[mos]",
    ]
    done = subprocess.run(
        [
            *(sys.executable, str(project / "jobs/train_onealign.py")),
            *("--config", str(project / "configs/train/onealign_pocket.yaml")),
            *(word for one in overrides for word in ("--set", one)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    run = f"s3://{s3.bucket}/runs/adapted"
    whole = load_scorer(f"{run}/scorer")
    adapted = load_adapter(load_scorer(base), f"{run}/adapter")
    fingerprint = json.loads(read_bytes(f"{run}/summary.json"))["fingerprint"]
    assert adapted.fingerprint == whole.fingerprint == fingerprint != small_scorer.fingerprint
    told, wanted, before = (
        [score.as_dict()["scores"]["quality"]["probs"] for score in one.score(photos.values())]
        for one in (adapted, whole, small_scorer)
    )
    assert told == wanted != before
    files = (f"{run}/adapter/{FACTORS}", f"{run}/scorer/model.safetensors")
    small, large = (len(read_bytes(file)) for file in files)
    assert small < large / 2
