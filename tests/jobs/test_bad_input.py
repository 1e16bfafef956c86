"""Wrong input ends in one sentence with the thing and the remedy, no traceback, nothing written."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from beholder.local_stack import ObjectStore
from beholder.media.storage import list_files, write_bytes
from beholder.scoring import Scorer

TRAIN = ("jobs/train_onealign.py", "--config", "configs/train/onealign_pocket.yaml")


@pytest.fixture
def run(project: Path):
    """Runs a Python file of the project; a wrong input must end it with 2 and one line."""

    def refused(*words: str, code: int = 2, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        (line,) = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
        return line

    return refused


@pytest.fixture
def scorer(small_scorer: Scorer, tmp_path: Path) -> Path:
    small_scorer.save(tmp_path / "scorer")
    return tmp_path / "scorer"


def _sets(**values: str) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def _score(manifest: str, scorer: Path, output: Path | str) -> list[str]:
    return ["jobs/score_manifest.py", *_sets(manifest=manifest, scorer=scorer, output=output)]


def _manifest(path: Path, **columns: list) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_wrong_keys(run, s3: ObjectStore, scorer: Path) -> None:
    words = _score(f"s3://{s3.bucket}/m.parquet", scorer, f"s3://{s3.bucket}/out")
    line = run(*words, AWS_SECRET_ACCESS_KEY="not-the-key")
    assert s3.bucket in line
    assert "AWS_" in line
    assert "not-the-key" not in line


def test_a_missing_bucket(run, s3: ObjectStore, scorer: Path) -> None:
    line = run(*_score("s3://no-such-bucket/m.parquet", scorer, "s3://no-such-bucket/out"))
    assert "no-such-bucket" in line


def test_an_unreachable_store(run, s3: ObjectStore, scorer: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    words = _score(f"s3://{s3.bucket}/m.parquet", scorer, f"s3://{s3.bucket}/out")
    assert endpoint in run(*words, AWS_ENDPOINT_URL=endpoint)


def test_a_misspelt_column(run, tmp_path: Path, scorer: Path) -> None:
    columns = {"item_id": ["a"], "url": ["x.jpg"], "kind": ["image"]}
    line = run(*_score(_manifest(tmp_path / "m.parquet", **columns), scorer, tmp_path / "out"))
    assert "no column 'uri': rename column 'url' to it" in line
    assert not (tmp_path / "out").exists()


def test_a_manifest_without_labels_for_training(run, tmp_path: Path) -> None:
    columns = {"item_id": ["a"], "uri": ["x"], "kind": ["image"], "split": ["train"]}
    path = _manifest(tmp_path / "m.parquet", **columns)
    line = run(*TRAIN, *_sets(**{"sets.0.manifest": path, "storage": str(tmp_path / "runs")}))
    assert "no column 'mos'" in line
    assert not (tmp_path / "runs").exists()


def test_labels_off_their_scale(run, tmp_path: Path) -> None:
    columns = {
        "item_id": ["a", "b"],
        "uri": ["x", "y"],
        "kind": ["image", "image"],
        "mos": [3.0, 71.5],
        "split": ["train", "val"],
    }
    path = _manifest(tmp_path / "m.parquet", **columns)
    sets = {f"sets.{i}.manifest": path for i in range(3)}
    line = run(*TRAIN, *_sets(**sets, storage=str(tmp_path / "runs"), evaluate="[mos]"))
    assert f"'b' of {path} has mos 71.5, outside its declared scale [1.0, 5.0]" in line


def test_an_unknown_config_key(run) -> None:
    assert "schedule.epochz" in run(*TRAIN, "--set", "schedule.epochz=3")
    assert "schedule.epochs" in run(*TRAIN, "--set", "schedule.epochs=many")
    assert "'nowhere.yaml' does not exist" in run(TRAIN[0], "--config", "nowhere.yaml")


def test_a_taken_port(run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 8000))
        taken.listen()
        line = run("jobs/quickstart.py", "--output", str(tmp_path / "q"))
    assert "8000" in line
    assert not (tmp_path / "q").exists()


def test_no_ray(run, tmp_path: Path, scorer: Path, photos: dict[str, bytes]) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(photos["coffee"])
    columns = {"item_id": ["a"], "uri": [str(picture)], "kind": ["image"]}
    words = _score(_manifest(tmp_path / "m.parquet", **columns), scorer, tmp_path / "out")
    line = run(*words, RAY_ADDRESS="127.0.0.1:1")
    assert "no Ray answers at '127.0.0.1:1'" in line
    assert not (tmp_path / "out").exists()


def test_no_python_311(project: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(project / name, tmp_path)
    shutil.copytree(project / "infra", tmp_path / "infra")
    make = ["make", "install", "PYTHON=python3.none"]
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "error: python3.none is not on the PATH: install Python 3.11" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.fixture
def beholder(project: Path, scorer: Path):
    """The command line on a small scorer."""

    def run(*words: str) -> subprocess.CompletedProcess:
        program = str(Path(sys.executable).with_name("beholder"))
        return subprocess.run(
            [program, *words],
            cwd=project,
            env=os.environ | {"BEHOLDER_SCORER": str(scorer)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_bad_pictures_on_the_command_line(
    beholder, tmp_path: Path, photos: dict[str, bytes]
) -> None:
    good = tmp_path / "good.jpg"
    good.write_bytes(photos["rocket"])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "half.jpg").write_bytes(photos["rocket"][:3000])
    Image.fromarray(np.zeros((11_000, 11_000), np.uint8)).save(tmp_path / "huge.png")
    names = ["good.jpg", "empty.jpg", "half.jpg", "huge.png", "none.jpg"]
    done = beholder("score", *(str(tmp_path / name) for name in names))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for code in ("decode.empty", "decode.truncated", "limit.pixels", "fetch.not_found"):
        assert code in done.stdout
    assert "quality" in done.stdout, "the good neighbour has its scores"


def test_a_scorer_that_is_none_on_the_command_line(beholder, scorer: Path) -> None:
    (scorer / "weights.bin").write_bytes(b"")
    done = beholder("score", "x.jpg")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "weights.bin" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_manifest_in_s3_that_is_no_parquet(run, s3: ObjectStore, scorer: Path) -> None:
    uri = f"s3://{s3.bucket}/bad/m.parquet"
    write_bytes(uri, b"item_id,uri,kind\n")
    line = run(*_score(uri, scorer, f"s3://{s3.bucket}/bad/out"))
    assert f"{uri} is not a Parquet file" in line
    assert list_files(f"s3://{s3.bucket}/bad") == [uri]


@pytest.mark.parametrize("foreign", ["thesis.txt", "logs.txt"])
def test_the_quick_start_removes_nothing_but_its_own(
    project: Path, tmp_path: Path, foreign: str
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / foreign).write_text("years of work")
    done = subprocess.run(
        [sys.executable, "jobs/quickstart.py", "--output", str(tmp_path)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"holds other files ({foreign}): name an empty or a new folder" in done.stderr
    assert (tmp_path / foreign).read_text() == "years of work"
