"""A shadow's night: whose config it has, when there is none, and what the job's exit code says."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from beholder.catalog import nightly
from beholder.catalog import shadow as module
from beholder.catalog.config import NightlyConfig
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.plan import EarlierDateError, PlanError, make_plan, preview, read_plan
from beholder.catalog.snapshot import open_snapshot
from beholder.errors import UserError

NEW = "new" * 8


@pytest.fixture
def config(platform: Any) -> dict[str, Any]:
    """Of a night whose shadow has bounds of its own."""
    made = platform()
    return {
        "catalog": made.layout.root,
        "manifest": made.manifest,
        "scorer": "current",
        "logical_date": "2026-11-21",
        "tasks": ["quality"],
        "sample": 0.5,
        "limit": 100,
        "webhook": "https://example.org/hook",
        "prices": {"cpu_hour": 1},
        "shadow": {"scorer": f"s3://runs/{NEW}", "budget": 2.5, "limit": 7},
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NightlyConfig]:
    """Configs of the nights that were run in a shadow; none of them does anything."""
    seen: list[NightlyConfig] = []
    monkeypatch.setattr(module, "run_night", seen.append)
    monkeypatch.setattr(
        module,
        "outline_scorer",
        lambda uri: SimpleNamespace(file=SimpleNamespace(fingerprint=uri.rpartition("/")[2])),
    )
    return seen


@pytest.mark.parametrize("plan", [make_plan, preview])
def test_another_scorer_is_refused_at_the_door(config: dict[str, Any], plan: Any) -> None:
    """All items would be scored anew in one night, and readers would see the part that was."""
    night = NightlyConfig.model_validate(config | {"scorer": f"s3://runs/{NEW}"})
    tasks = {"quality": SimpleNamespace(kinds=("image",))}
    outline: Any = SimpleNamespace(file=SimpleNamespace(fingerprint=NEW, tasks=tasks))
    run = RunId(night.logical_date)
    said = (
        f"s3://runs/{NEW} has fingerprint {NEW}, but readers of .* see scores of {'old' * 8}: set "
        f"scorer=current, and shadow.scorer=s3://runs/{NEW} .* jobs/promote_scorer.py"
    )
    with pytest.raises(PlanError, match=said):
        plan(night, open_snapshot(night.catalog), outline, run)
    assert read_plan(Layout(night.catalog), run) is None


def test_a_shadow_has_the_night_of_its_catalog_within_its_own_bounds(
    config: dict[str, Any], asked: list[NightlyConfig]
) -> None:
    night = NightlyConfig.model_validate(config)
    module.fill_shadow(night)
    (made,) = asked
    assert made.catalog == f"{night.catalog}/shadows/{NEW}"
    assert (made.scorer, made.limit, made.budget) == (f"s3://runs/{NEW}", 7, 2.5)
    assert (made.deadline_hours, made.sample, made.webhook) == (None, 1.0, None)
    assert (made.buckets, made.shadow) == (3, None)
    same = {"manifest", "logical_date", "tasks", "prices", "chunk", "audit"}
    assert made.model_dump(include=same) == night.model_dump(include=same)
    assert NightlyConfig.model_validate(made.model_dump()) == made


def test_the_current_scorer_has_no_shadow(
    config: dict[str, Any], asked: list[NightlyConfig]
) -> None:
    config["shadow"]["scorer"] = "s3://elsewhere/" + "old" * 8
    assert module.fill_shadow(NightlyConfig.model_validate(config)) is None
    assert not asked


def test_a_scorer_that_names_a_folder_elsewhere(
    config: dict[str, Any], asked: list[NightlyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = SimpleNamespace(file=SimpleNamespace(fingerprint="../../other"))
    monkeypatch.setattr(module, "outline_scorer", lambda _: foreign)
    with pytest.raises(UserError, match=r"'\.\./\.\./other' is no fingerprint"):
        module.fill_shadow(NightlyConfig.model_validate(config))
    assert not asked


def test_a_budget_without_prices_is_refused(config: dict[str, Any]) -> None:
    config["prices"] = {}
    with pytest.raises(ValidationError, match=r"shadow\.budget is 2\.5, but no machine"):
        NightlyConfig.model_validate(config)


@pytest.mark.parametrize(
    ("own", "shadow", "code"),
    [
        *(("published", "partial", 0), ("standing", "published", 0), ("partial", "published", 4)),
        *(("partial", "refused", 5), ("published", None, 0), ("refused", "never asked", 3)),
        ("published", "too early", 5),
    ],
)
def test_exit_codes(
    own: str,
    shadow: str | None,
    code: int,
    config: dict[str, Any],
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = importlib.util.spec_from_file_location("job", project / "jobs/score_catalog.py")
    assert spec and spec.loader
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    record: Any = SimpleNamespace(id="2026-11-21.0", counts={"scored": 3}, audit={"checks": []})

    def ended(name: Any) -> Any:
        assert name != "never asked"
        if name == "too early":
            raise EarlierDateError("2026-11-21.0 is REFUSED")
        return name and nightly.Outcome(name, record)

    monkeypatch.setattr(nightly, "run_night", lambda _: ended(own))
    monkeypatch.setattr(module, "fill_shadow", lambda _: ended(shadow))
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump(config))
    assert job.main(["--config", str(path)]) == code
    said = capsys.readouterr().out
    assert ("take `shadow` out of the config" in said) == (shadow is None)
    assert ("shadow: 2026-11-21.0 is REFUSED" in said) == (code == 5)
