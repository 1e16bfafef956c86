"""Training the real backbone's tiny twin, streamed, under ZeRO-3 on two workers; one is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from beholder.datasets.demo import Recipe, build_demo
from beholder.local_stack import ObjectStore, RayCluster
from beholder.media.storage import copy_tree, exists, list_files, read_bytes, write_bytes
from beholder.scoring import load_scorer

pytestmark = pytest.mark.e2e

RECIPE = Recipe(quality_per_photo=3, aesthetics_per_photo=1, clips_per_scene=1, clips_per_photo=0)


@pytest.fixture(scope="module")
def sets(s3: ObjectStore, golden: Path) -> list[str]:
    """Overrides that point the shipped config at a small demo set and the tiny mPLUG-Owl2."""
    demo = build_demo(f"s3://{s3.bucket}/faults", RECIPE, workers=2)
    weights = f"s3://{s3.bucket}/weights/tiny"
    copy_tree(golden / "tiny_mplug_owl2", weights)
    tokenizer = (golden.parent / "tiny_tokenizer.json").read_bytes()
    write_bytes(f"{weights}/tokenizer.json", tokenizer)
    manifests = [
        f"sets.{at}.manifest={demo.manifests[name]}"
        for at, name in enumerate(("quality", "aesthetics", "video"))
    ]
    return [
        *manifests,
        f"storage=s3://{s3.bucket}/runs",
        "backbone.name=mplug_owl2",
        f"backbone.weights={weights}",
        "backbone.train=[vision, projector, language]",
        "backbone.gradient_checkpointing=true",
        "prompt=scorer",
        "cache_features=false",
        "schedule.global_batch=8",
        "schedule.micro_batch=2",
        "schedule.epochs=2",
        "schedule.checks=4",
        "schedule.learning_rate=0.001",
        "deepspeed.stage=3",
        "evaluate=[mos]",
    ]


def _command(project: Path, sets: list[str], *more: str) -> list[str]:
    words = [word for one in (*sets, *more) for word in ("--set", one)]
    config = project / "configs/train/onealign_pocket.yaml"
    return [
        sys.executable,
        str(project / "jobs/train_onealign.py"),
        "--config",
        str(config),
        *words,
    ]


def _losses(run: str) -> list[float]:
    return [point["loss"] for point in json.loads(read_bytes(f"{run}/summary.json"))["curve"]]


def test_a_killed_worker_costs_no_step(
    s3: ObjectStore, ray_cluster: RayCluster, project: Path, sets: list[str], tmp_path: Path
) -> None:
    runs = f"s3://{s3.bucket}/runs"
    whole = subprocess.run(
        _command(project, sets, "name=whole"), capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, (whole.stdout + whole.stderr)[-4000:]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            _command(project, sets, "name=killed"), stdout=log, stderr=subprocess.STDOUT
        )
        _kill_a_worker_after_the_first_checkpoint(f"{runs}/killed", job)
        assert job.wait(600) == 0, (tmp_path / "log").read_text()[-4000:]
    expected, got = _losses(f"{runs}/whole"), _losses(f"{runs}/killed")
    assert len(got) == len(expected)
    assert got == pytest.approx(expected, rel=1e-4)
    first, second = (load_scorer(f"{runs}/{name}/scorer") for name in ("whole", "killed"))
    assert first.backbone.name == second.backbone.name == "mplug_owl2"
    assert expected[-1] < expected[0]


def _kill_a_worker_after_the_first_checkpoint(run: str, job: subprocess.Popen) -> None:
    deadline = time.monotonic() + 400
    while not (exists(f"{run}/mix.parquet") and _committed(run)):
        assert job.poll() is None, "the job ended before it could be hurt"
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.2)  # polls the store: it has no event to await
    workers = [p for p in psutil.process_iter() if "RayTrainWorker" in " ".join(_words(p))]
    assert workers
    os.kill(workers[-1].pid, signal.SIGKILL)


def _committed(run: str) -> bool:
    return any("checkpoint_manager_snapshot" in name for name in list_files(f"{run}/checkpoints"))


def _words(process: psutil.Process) -> list[str]:
    try:
        return [process.name(), *process.cmdline()]
    except psutil.Error:
        return []


def test_one_worker_and_two_take_the_same_steps(
    s3: ObjectStore, ray_cluster: RayCluster, project: Path, sets: list[str]
) -> None:
    """ZeRO-3 on two workers and plain data parallelism on one: the losses are equal."""
    run = f"s3://{s3.bucket}/runs"
    if not exists(f"{run}/whole/summary.json"):
        subprocess.run(_command(project, sets, "name=whole"), check=True)
    alone = ("name=alone", "workers.count=1", "schedule.micro_batch=4", "deepspeed.stage=0")
    subprocess.run(_command(project, sets, *alone), check=True, capture_output=True)
    assert _losses(f"{run}/alone") == pytest.approx(_losses(f"{run}/whole"), rel=1e-3)
