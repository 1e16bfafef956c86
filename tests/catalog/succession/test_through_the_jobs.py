"""A new scorer for a catalog, through the jobs, on a real S3 and a real Ray."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from beholder.backbones.pocket.model import Pocket
from beholder.backbones.pocket.preprocess import default_tokenizer
from beholder.config import dump_config
from beholder.items import Item
from beholder.local_stack import ObjectStore, RayCluster
from beholder.readouts import LevelReadout
from beholder.scoring import Scorer

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"


@pytest.mark.e2e
def test_a_new_scorer_fills_a_shadow_and_takes_over(
    ray_cluster: RayCluster,
    s3: ObjectStore,
    night: Callable,
    look: Callable,
    new_uploads: type,
    pictures: list[bytes],
    small_scorer: Scorer,
    project: Path,
    tmp_path: Path,
) -> None:
    """Two scorers and 26 items through the jobs, from the first night to a rollback."""
    torch.manual_seed(8)
    backbone = Pocket(small_scorer.backbone.settings, default_tokenizer())
    backbone.initialise()
    for stage in backbone.abstractor.stages:
        torch.nn.init.normal_(stage.weight, std=0.3)
    other = Scorer(backbone, LevelReadout(), small_scorer.tasks, "brief")
    other.save(tmp_path / "other")
    assert other.fingerprint != small_scorer.fingerprint
    uploads = new_uploads(f"s3://{s3.bucket}/succession")
    for at in range(25):
        uploads.put(f"{at:02d}.jpg", pictures[at])
    uploads.put("page.jpg", b"<!doctype html><html></html>")
    uploads.list()
    catalog = f"{uploads.root}/catalog"

    def job(name: str, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(project / "jobs" / name), *words],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def nightly(date: str, **fields: object) -> tuple[int, str]:
        path = tmp_path / f"{date}.yaml"
        path.write_text(dump_config(night(uploads, date, **fields)))
        return job("score_catalog.py", "--config", str(path))

    def promote() -> tuple[int, str]:
        near = ("min_items=20", "min_srcc=-1", "max_churn=1", "max_shift=1")
        words = [word for one in near for word in ("--set", f"succession.{one}")]
        scorer = str(tmp_path / "other")
        return job("promote_scorer.py", "--catalog", catalog, "--scorer", scorer, *words)

    shadow = {"scorer": str(tmp_path / "other")}
    code, text = nightly(FIRST, shadow=shadow | {"limit": 10})
    assert code == 0 and f"shadow: {FIRST}.0 is published (partial)" in text, text
    first = look(catalog).scores
    code, text = promote()
    assert code == 3 and "of the items that readers see scores of" in text, text
    assert look(catalog).scores == first
    code, text = nightly(SECOND, scorer="current", shadow=shadow)
    assert code == 0 and f"shadow: {SECOND}.0 is published (published)" in text, text
    code, text = promote()
    assert code == 0 and f"readers see {SECOND}.1 now" in text, text

    found = look(catalog).scores
    assert found.keys() == first.keys()
    for at, score in enumerate(other.score([Item(str(i), pictures[i]) for i in range(25)])):
        for task, said in score.tasks.items():
            assert found[f"{at:02d}.jpg", task] == pytest.approx(said.probs, abs=1e-5)
    code, text = nightly(THIRD)
    assert code == 2 and "set scorer=current" in text, text
    code, text = nightly(THIRD, scorer="current", shadow=shadow)
    assert code == 0 and "26 unchanged" in text and "take `shadow` out" in text, text
    assert look(catalog).scores == found
    code, text = job("rollback.py", "--set", f"catalog={catalog}", "--set", f"to={SECOND}.0")
    assert code == 0 and f"({small_scorer.fingerprint}) again" in text, text
    assert look(catalog).scores == first
