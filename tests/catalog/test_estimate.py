"""Hours and money from measured seconds; what fits into a night."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from beholder.catalog import estimate as estimating
from beholder.catalog.config import NightlyConfig
from beholder.catalog.estimate import Estimate, Rate, Rates, estimate, measured_rates, warm_up
from beholder.catalog.outlook import outlook, outlook_table
from beholder.catalog.selection import Tally
from beholder.errors import UserError
from beholder.scoring import Scorer

RATES = Rates(
    setting={},
    load_s=36.0,
    kinds={
        "image": Rate(items=64, decode_s=0.1, score_s=0.04),
        "video": Rate(items=8, decode_s=1.0, score_s=2.0),
    },
)


def config(**fields: Any) -> NightlyConfig:
    given = {"catalog": "/c", "manifest": "/m", "scorer": "/s", "logical_date": "2026-11-20"}
    return NightlyConfig(**given | fields)


def test_the_slower_of_decoders_and_scorers_decides() -> None:
    # 36,000 pictures: 3,600 s of decoding, 1,440 s of scoring.
    one = estimate({"image": 36_000}, RATES, config())
    assert one.hours == pytest.approx(1.01) and one.items_per_second == pytest.approx(10)
    four = estimate({"image": 36_000}, RATES, config(decoders=4))
    assert four.hours == pytest.approx(0.01 + 0.4) and four.items_per_second == pytest.approx(25)
    # 900 videos more: 900 s and 1,800 s.
    both = estimate({"image": 36_000, "video": 900}, RATES, config(decoders=4, scorers=3))
    assert both.hours == pytest.approx(0.01 + max(4500 / 4, 3240 / 3) / 3600)


def test_machine_time_has_its_price() -> None:
    prices = {"cpu_hour": 0.1, "gpu_hour": 3.0}
    actors = {"decoders": 4, "scorers": 2, "cpus": 3.0, "gpus": 0.5}
    said = estimate({"image": 180_000}, RATES, config(prices=prices, **actors))
    hours = (36 + 180_000 * max(0.1 / 4, 0.04 / 2)) / 3600
    assert said.hours == pytest.approx(hours)
    assert said.cpu_hours == pytest.approx(10 * hours) and said.gpu_hours == pytest.approx(hours)
    assert said.cost == pytest.approx(0.1 * 10 * hours + 3.0 * hours)
    assert estimate({"image": 1}, RATES, config()).cost is None


def test_nothing_to_do_takes_nothing() -> None:
    said = estimate({}, RATES, config())
    assert (said.items, said.hours, said.items_per_second) == (0, 0.0, 0.0)


@pytest.fixture
def samples(photos: dict[str, bytes], tmp_path: Path) -> dict[str, pa.Table]:
    rows = []
    for name, data in photos.items():
        (tmp_path / name).write_bytes(data)
        row = {"item_id": name, "uri": str(tmp_path / name), "kind": "image", "etag": None}
        rows.append(row)
    rows.append(rows[0] | {"item_id": "gone", "uri": str(tmp_path / "gone")})
    return {"image": pa.Table.from_pylist(rows)}


def test_the_warm_up_is_measured_once(
    samples: dict[str, pa.Table],
    small_scorer: Scorer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_scorer.save(tmp_path / "scorer")
    night = config(scorer=str(tmp_path / "scorer"), batch=3)
    cache = str(tmp_path / "warm-up.json")
    threads = torch.get_num_threads()
    rates = measured_rates(night, samples, small_scorer.fingerprint, cache)
    assert torch.get_num_threads() == threads
    assert rates.kinds["image"].items == 5 and rates.load_s > 0
    assert rates.kinds["image"].decode_s > 0 and rates.kinds["image"].score_s > 0

    def never(*_: Any) -> Rates:
        raise AssertionError("measured again")

    monkeypatch.setattr(estimating, "warm_up", never)
    assert measured_rates(night, samples, small_scorer.fingerprint, cache) == rates
    for other, kinds in ((night.model_copy(update={"cpus": 2.0}), samples), (night, {"video": 0})):
        with pytest.raises(AssertionError, match="measured again"):
            measured_rates(other, kinds, small_scorer.fingerprint, cache)
    Path(cache).write_text("{}")
    with pytest.raises(AssertionError, match="measured again"):
        measured_rates(night, samples, small_scorer.fingerprint, cache)


def test_plan_only_says_what_a_night_takes_and_begins_none(
    samples: dict[str, pa.Table], small_scorer: Scorer, tmp_path: Path, project: Path
) -> None:
    small_scorer.save(tmp_path / "scorer")
    pq.write_table(samples["image"], tmp_path / "manifest.parquet")
    places = {name: str(tmp_path / name) for name in ("catalog", "scorer")}
    about = places | {"manifest": str(tmp_path / "manifest.parquet"), "prices": {"cpu_hour": 36}}
    path = tmp_path / "night.json"
    path.write_text(json.dumps(about))
    command = [sys.executable, str(project / "jobs/score_catalog.py"), "--config", str(path)]
    command += ["--logical-date", "2026-11-20", "--limit", "3", "--sample", "100%", "--plan-only"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["items"]["counts"]["new"], said["items"]["counts"]["left_out"]) == (3, 2)
    assert said["items"]["left_out"] == {"limit": 2}
    takes = said["estimate"]
    assert takes["items"] == 3 and takes["hours"] > 0
    assert takes["cost"] == pytest.approx(36 * takes["cpu_hours"])
    left = {found.name for found in (tmp_path / "catalog").rglob("*") if found.is_file()}
    assert left == {"warm-up.json"}  # the second time it is measured already
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "not in the catalog yet" in done.stdout and "CPU-hours" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one")
def test_a_gpu_that_is_not_here() -> None:
    with pytest.raises(UserError, match=r"gpus is 1.0, but this machine has none"):
        warm_up(config(gpus=1), {}, {"device": "cuda", "threads": 1})


def test_a_budget_needs_prices() -> None:
    with pytest.raises(ValueError, match="budget is 5"):
        config(budget=5, prices={"gpu_hour": 1.0})
    assert config(budget=5, gpus=1, prices={"gpu_hour": 1.0}).bounded()


def test_the_outlook_names_what_is_there() -> None:
    tally = Tally(
        counts={"new": 12_345, "changed": 0, "retried": 7, "unchanged": 1, "stale": 0,
                "left_out": 3, "removed": 2, "erased": 0},
        kinds={"image": 12_352},
        relabelled=0,
        retried={"fetch.timeout": 7},
        left_out={"deadline": 3},
        left_segments={"phones": 2, "": 1},
        oldest_taken="2026-11-01T00:00:00+00:00",
        absent=(3,),
    )  # fmt: skip
    said = Estimate(
        items=12_352, hours=1.5, items_per_second=2.3, cpu_hours=3000, gpu_hours=0, cost=0.00194
    )
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as captured:
        console.print(outlook_table("2026-11-20.0", tally, said))
    lines = {" ".join(line.replace("│", " ").split()) for line in captured.get().splitlines()}
    assert "new 12,345 not in the catalog yet" in lines
    assert "fetch.timeout 7" in lines and "left out by deadline 3" in lines
    assert "left in (no segment) 1" in lines
    assert "time 1.5 h 2.30 items/s" in lines
    assert "CPU-hours 3,000.00 decoders and scorers" in lines
    assert "cost 0.0019 at the prices in the config" in lines  # and not 0.00
    plain = json.loads(json.dumps(outlook(tally, said)))
    assert plain["items"]["counts"]["new"] == 12_345 and plain["estimate"]["cost"] == 0.00194
