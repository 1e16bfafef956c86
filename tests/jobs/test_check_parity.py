"""The job as it is typed: what it prints and how it exits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch


def check(
    project: Path, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the job as on a machine that has its libraries but not beholder.

    Without ``site`` no editable install is found, so the libraries' folder is given by name.
    """
    libraries = Path(torch.__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-S", "jobs/check_parity.py", *map(str, arguments)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(libraries), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_all_cases_are_within_tolerance(project: Path) -> None:
    done = check(
        project,
        *("--golden", "tests/golden/mplug_owl2"),
        *("--tokenizer", "tests/golden/llama_tokenizer.json"),
        PYTHONPROFILEIMPORTTIME="1",
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "name | max abs difference | tolerance | ok"
    cells = dict(line.split(" | ", 1) for line in lines[:-1])
    assert cells["batch2_quality"].endswith(" | 0.0002 | ok")
    assert cells["train_pair_official"].endswith(" | 0.001 | ok")
    assert cells["grad_norms/train_pair_official (relative)"].endswith(" | 0.0001 | ok")
    assert cells["lora"] == "not covered"
    assert lines[-1].endswith("compared, 0 beyond tolerance")
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert "torch" in imported
    assert not imported & {"ray", "deepspeed"}


def test_a_wrong_model_exits_1(project: Path, golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(golden, folder)
    path = folder / "tiny_mplug_owl2/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 1e-6}))
    done = check(project, "--golden", folder)
    assert done.returncode == 1, done.stderr
    assert any(
        line.startswith("batch2_quality | ") and line.endswith("| FAILED")
        for line in done.stdout.splitlines()
    )


def test_another_folder_exits_2_with_one_sentence(project: Path, tmp_path: Path) -> None:
    done = check(project, "--golden", tmp_path)
    assert done.returncode == 2
    assert "cases_index.json can't be read" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr
