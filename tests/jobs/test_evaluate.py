"""The job on passes and manifests on disk: what it writes, and its one sentence."""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from beholder.catalog.rows import SCORE_FIELDS
from beholder.config import ConfigError, load_config
from beholder.errors import UserError
from beholder.evaluation import scorecard, srcc
from beholder.evaluation import table as metrics
from beholder.evaluation.matrix_run import EvaluateConfig

COUNT = 40


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of a few draws, which are as good for a test."""
    monkeypatch.setattr(metrics, "RESAMPLES", 40)
    monkeypatch.setattr(scorecard, "RESAMPLES", 40)


@pytest.fixture
def job(project: Path) -> ModuleType:
    spec = spec_from_file_location("evaluate_job", project / "jobs" / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def write_pass(folder: Path, mean: np.ndarray, lost: int = 0, fingerprint: str = "f") -> None:
    """A finished pass as jobs/score_manifest.py leaves it: data in parts, then scores.json."""
    data = folder / "data-0123"
    data.mkdir(parents=True)
    rows = [
        {
            "item_id": f"i{n}",
            "task": "quality",
            "mean": float(m),
            "std": 0.6,
            "support": [1.0, 2.0, 3.0, 4.0, 5.0],
            "probs": np.eye(5)[round(float(m)) - 1].tolist(),
            "scale": [1.0, 5.0],
            "mass": 0.98,
            "fingerprint": fingerprint,
        }
        for n, m in enumerate(mean)
    ]
    for n in range(lost):
        rows[n] = {
            "item_id": f"i{n}",
            "task": "quality",
            "failure_code": "decode.truncated",
            "fingerprint": fingerprint,
        }
    table = pa.Table.from_pylist(rows, schema=SCORE_FIELDS)
    pq.write_table(table.slice(0, 15), data / "part-000000.parquet")
    pq.write_table(table.slice(15), data / "part-000001.parquet")
    (folder / "scores.json").write_text(json.dumps({"data": "data-0123"}))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two scorers on a set of the disk; the second learned nothing of it."""
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, COUNT)
    items = [f"i{n}" for n in range(COUNT)]
    manifest = {
        "item_id": items,
        "uri": items,
        "kind": ["image"] * COUNT,
        "mos": mos,
        "std": rng.uniform(0.4, 0.9, COUNT),
        "source": [f"photo-{n % 10}" for n in range(COUNT)],
        "clip_score": mos + rng.normal(size=COUNT),
    }
    pq.write_table(pa.table(manifest), tmp_path / "manifest.parquet")
    write_pass(tmp_path / "a", np.clip(mos + 0.2 * rng.normal(size=COUNT), 1, 5), lost=2)
    write_pass(tmp_path / "b", np.clip(mos + 2 * rng.normal(size=COUNT), 1, 5), fingerprint="g")
    written = {
        "output": str(tmp_path / "out"),
        "sets": [
            {
                "name": "uploads",
                "manifest": str(tmp_path / "manifest.parquet"),
                "task": "quality",
                "scale": [1, 5],
            }
        ],
        "scorers": [
            {
                "name": "a",
                "training": ["uploads"],
                "scores": {"uploads": str(tmp_path / "a")},
            },
            {"name": "b", "training": "koniq", "scores": {"uploads": str(tmp_path / "b")}},
        ],
        "ensembles": [
            {"name": "a + b", "of": ["a", "b"]},
            {"name": "a + clip", "of": ["a"], "columns": ["clip_score"]},
        ],
        "compare": [["a", "b"], ["a + clip", "a"]],
    }
    path = tmp_path / "evaluate.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def test_what_it_prints_and_writes(
    job: ModuleType, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    job.main(["--config", str(config)])
    printed = capsys.readouterr().out
    out = tmp_path / "out"
    text = (out / "evaluation.md").read_text("utf-8")
    assert text in printed
    assert "| uploads | a        |    40 |        0 |      2 | 2 decode.truncated |" in text
    found = json.loads((out / "evaluation.json").read_text("utf-8"))
    cells = {cell["scorer"]: cell for cell in found["cells"]}
    assert list(cells) == ["a", "b", "a + b", "a + clip"]
    assert [cell["zero_shot"] for cell in cells.values()] == [False, True, False, False]
    mos = pq.read_table(tmp_path / "manifest.parquet")["mos"].to_numpy()
    parts = [pq.read_table(part) for part in sorted((tmp_path / "a/data-0123").iterdir())]
    mean = pa.concat_tables(parts)["mean"].drop_null().to_numpy()
    assert cells["a"]["metrics"]["srcc"] == pytest.approx(srcc(mean, mos[2:]))
    assert f"{srcc(mean, mos[2:]):.3f}" in text
    assert [pair["items"] for pair in found["pairs"]] == [38, 38]
    assert found["pairs"][0]["srcc"]["p"] < 0.1
    assert (out / "evaluation.svg").read_text("utf-8").startswith("<svg")
    assert load_config(EvaluateConfig, out / "config.yaml").scorers[1].training == "koniq"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "scorers.0.scores.uploads=nowhere",
            "scorer 'a' on set 'uploads': there is no finished pass at nowhere: run "
            "jobs/score_manifest.py with output=nowhere",
        ),
        ("sets.0.manifest=no.parquet", "no.parquet does not exist"),
        ("sets.0.task=aesthetics", "the pass scored ['quality'], not 'aesthetics'"),
        ("ensembles.1.columns=[niqe]", "set 'uploads' has no column 'niqe'"),
    ],
)
def test_what_is_missing_is_one_sentence(
    job: ModuleType, config: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(UserError) as error:
        job.main(["--config", str(config), "--set", change])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists(), "nothing was written"


def test_an_item_that_the_manifest_does_not_have(
    job: ModuleType, config: Path, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(UserError, match="item 'i0' has a score and is not in the set's manifest"):
        job.main(["--config", str(config)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("scorers.1.scores={koniq: x}", "'b' has scores of an unknown set 'koniq'"),
        ("scorers.1.name=a", "two scorers or ensembles are called 'a'"),
        ("compare=[[a, c]]", r"compare \['a', 'c'\] names an unknown scorer 'c'"),
        ("compare=[[a, a]]", "names one scorer twice"),
        ("ensembles.0.of=[a, z]", "ensemble 'a . b' names an unknown scorer 'z'"),
        ("ensembles.0.of=[a]", "ensemble 'a . b' has one member"),
        ("sets.0.scale=[5, 1]", r"scale \[5.0, 1.0\] is empty"),
    ],
)
def test_a_config_that_names_what_is_not_there(
    job: ModuleType, config: Path, change: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        job.main(["--config", str(config), "--set", change])


def test_the_example_is_valid(project: Path) -> None:
    load_config(EvaluateConfig, project / "configs/evaluate/example.yaml")
