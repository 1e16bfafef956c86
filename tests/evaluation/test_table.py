"""All figures together, on the right scale, and as a table."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from beholder.evaluation import (
    Metrics,
    calibrate,
    evaluate,
    gaussian_distances,
    krcc,
    mae,
    metrics_table,
    plcc,
    plcc_fitted,
    rmse,
    srcc,
)
from beholder.opinions import Levels, Scale


def rows() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    true = rng.uniform(1, 5, 120)
    return true + rng.normal(size=120), true, [f"photo-{i % 8}" for i in range(120)]


def released(golden: Path) -> dict:
    return json.loads((golden / "eval_metrics.json").read_text("utf-8"))


def test_every_metric() -> None:
    predicted, true, sources = rows()
    metrics = evaluate(predicted, true, sources)
    assert (metrics.rows, metrics.clusters) == (120, 8)
    for name, metric in [
        ("srcc", srcc),
        ("krcc", krcc),
        ("plcc", plcc),
        ("plcc_fitted", plcc_fitted),
    ]:
        assert getattr(metrics, name) == pytest.approx(metric(predicted, true))
    (given,) = metrics.on_scale.values()
    assert given.mae == pytest.approx(mae(predicted, true))
    assert given.rmse == pytest.approx(rmse(predicted, true))
    assert metrics.mass is given.distances is given.calibration is None
    assert metrics.srcc_interval is not None
    assert metrics.srcc_interval.low < metrics.srcc < metrics.srcc_interval.high
    assert json.loads(json.dumps(metrics.as_dict()))["srcc_interval"] == list(metrics.srcc_interval)


def test_released_evaluation(golden: Path) -> None:
    """On 1..5, through the ends, as the release normalises opinions."""
    recorded = released(golden)
    metrics = evaluate(
        recorded["pred_score"],
        recorded["gt"],
        [str(i) for i in range(80)],
        std=recorded["pred_std"],
        true_std=recorded["gt_std"],
        levels=Levels(Scale(1, 5)),
    )
    assert metrics.srcc == pytest.approx(recorded["srcc_raw"], abs=1e-9)
    assert metrics.plcc == pytest.approx(recorded["plcc_raw"], abs=1e-9)
    assert metrics.plcc_fitted == pytest.approx(recorded["plcc_after_logistic4"], abs=1e-6)
    distances = metrics.on_scale["ends"].distances
    assert distances is not None
    assert distances.kl == pytest.approx(recorded["kl"], abs=1e-7)
    assert distances.js == pytest.approx(recorded["js"], abs=1e-7)
    assert distances.wasserstein == pytest.approx(recorded["wd"], abs=1e-12)
    centres = metrics.on_scale["centres"].distances
    assert centres is not None
    assert centres.kl != pytest.approx(recorded["kl"], abs=1e-3)


def test_levels_are_brought_to_the_sets_own_scale() -> None:
    """Level scores 1..5 of opinions on 0..100; a std takes the map's slope, not its shift."""
    level, std = np.array([1.0, 2.0, 4.5]), np.array([0.5, 1.0, 0.25])
    for name, invert, slope in [
        ("centres", lambda s: (s - 0.5) / 5 * 100, 20),
        ("ends", lambda s: (s - 1) / 4 * 100, 25),
    ]:
        metrics = evaluate(
            level,
            invert(level),
            ["a", "b", "c"],
            std=std,
            true_std=std * slope,
            levels=Levels(Scale(0, 100)),
        )
        assert list(metrics.on_scale) == ["centres", "ends"]
        right = metrics.on_scale[name]
        (wrong,) = (on for other, on in metrics.on_scale.items() if other != name)
        assert right.mae == pytest.approx(0, abs=1e-12)
        # centres - ends = 10 - 5 (S - 1) = 10, 5, -7.5
        assert wrong.mae == pytest.approx(22.5 / 3)
        assert right.distances is not None
        assert right.distances.kl == pytest.approx(0, abs=1e-12)
        assert right.calibration is not None
        assert right.calibration.std_ratio == pytest.approx(1)


def test_rows_without_a_known_spread_count_for_all_else() -> None:
    predicted, true, sources = rows()
    rng = np.random.default_rng(1)
    std, true_std = rng.uniform(0.3, 1, 120), rng.uniform(0.3, 1, 120)
    known = np.ones(120, dtype=bool)
    known[[3, 50]] = False
    true_std[[3, 50]] = 0, np.nan
    metrics = evaluate(predicted, true, sources, std=std, true_std=true_std, mass=np.full(120, 0.9))
    assert metrics.rows == 120
    assert metrics.mass == pytest.approx(0.9)
    given, kept = metrics.on_scale["given"], [v[known] for v in (predicted, std, true, true_std)]
    assert given.distances == gaussian_distances(*kept)
    assert given.calibration == calibrate(*kept)
    ready = json.loads(json.dumps(metrics.as_dict(), allow_nan=False))
    assert ready["on_scale"]["given"]["distances"]["rows"] == 118
    assert ready["on_scale"]["given"]["calibration"]["coverage"][0][0] == 0.5

    std[7] = 0  # one certain answer: a point, with no Gaussian to measure from
    pointed = evaluate(predicted, true, sources, std=std, true_std=true_std).on_scale["given"]
    assert pointed.distances is None
    assert pointed.calibration is not None
    nobody = evaluate(predicted, true, sources, std=std, true_std=np.full(120, np.nan))
    assert nobody.on_scale["given"].calibration is None
    assert nobody.on_scale["given"].without == (
        "fewer than two rows have a known spread of people's opinions"
    )
    assert given.without is None and pointed.without is None
    points = evaluate(predicted, true, sources, true_std=true_std).on_scale["given"]
    assert (points.mae, points.distances, points.calibration) == (given.mae, None, None)
    assert points.without == "the scores come without a spread, as a regression head's"
    with pytest.raises(ValueError, match=r"shapes \(120,\) and \(2,\) don't fit 120 rows"):
        evaluate(predicted, true, sources, std=std, true_std=[1, 1])
    with pytest.raises(ValueError, match="std of the opinions of row 0 is -1"):
        evaluate(predicted, true, sources, std=std, true_std=np.full(120, -1.0))


def test_a_constant_scorer_scores_zero() -> None:
    _, true, sources = rows()
    metrics = evaluate(np.full(120, 3.0), true, sources)
    assert metrics.srcc == metrics.plcc == metrics.plcc_fitted == 0
    assert metrics.srcc_interval == (0, 0)


def test_one_source_has_no_interval() -> None:
    predicted, true, _ = rows()
    assert evaluate(predicted, true, ["one"] * 120).srcc_interval is None


def printed(results: dict[str, Metrics], width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as shown:
        console.print(metrics_table(results))
    return shown.get()


def test_the_table_shows_them(golden: Path) -> None:
    predicted, true, sources = rows()
    recorded = released(golden)
    video = evaluate(
        recorded["pred_score"],
        recorded["gt"],
        ["one"] * 80,
        std=recorded["pred_std"],
        true_std=recorded["gt_std"],
        mass=[0.995] * 80,
    )
    quality = evaluate(predicted, true, sources)
    text = printed({"quality": quality, "video": video}, 80)
    assert "…" not in text, "a terminal of 80 columns holds two tasks"
    lines = {
        cells[0].strip(): [cell.strip() for cell in cells[1:]]
        for cells in (line.strip("│┃").replace("┃", "│").split("│") for line in text.splitlines())
        if len(cells) == 3
    }
    assert lines[""] == ["quality", "video"]
    assert lines["SRCC"][0].startswith(f"{quality.srcc:.3f} (")
    assert lines["SRCC"][1] == f"{recorded['srcc_raw']:.3f}"
    assert lines["KRCC"] == [f"{quality.krcc:.3f}", f"{video.krcc:.3f}"]
    assert lines["KL"] == ["", f"{recorded['kl']:.3f}"]
    assert lines["W2"] == ["", f"{recorded['wd']:.3f}"]
    assert lines["mass on words"] == ["", "0.9950"]
    assert "coverage of 95%" in lines
    assert "KL" not in printed({"quality": quality}, 80)


def test_a_readout_gives_its_own_maps() -> None:
    """Score tokens on 1..10 for a set of 0..1; stds take the slope alone."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 1, 40)
    spread = np.full(40, 0.2)
    metrics = evaluate(
        1 + 9 * true + 0.9,
        true,
        [str(i) for i in range(40)],
        std=9 * spread,
        true_std=spread,
        maps={"ends": lambda scores: (scores - 1) / 9},
    )
    assert list(metrics.on_scale) == ["ends"]
    assert metrics.on_scale["ends"].mae == pytest.approx(0.1)
    assert metrics.on_scale["ends"].calibration is not None
    assert metrics.on_scale["ends"].calibration.std_ratio == pytest.approx(1)
