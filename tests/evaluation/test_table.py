import io
import json

import numpy as np
import pytest
from rich.console import Console

from beholder.evaluation import evaluate, mae, metrics_table, plcc, plcc_fitted, rmse, srcc


def rows() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    true = rng.uniform(1, 5, 120)
    return true + rng.normal(size=120), true, [f"photo-{i % 8}" for i in range(120)]


def test_every_metric() -> None:
    predicted, true, sources = rows()
    metrics = evaluate(predicted, true, sources)
    assert (metrics.rows, metrics.clusters) == (120, 8)
    for name, metric in [
        ("srcc", srcc),
        ("plcc", plcc),
        ("plcc_fitted", plcc_fitted),
        ("mae", mae),
        ("rmse", rmse),
    ]:
        assert getattr(metrics, name) == pytest.approx(metric(predicted, true))
    assert metrics.srcc_interval is not None
    assert metrics.srcc_interval.low < metrics.srcc < metrics.srcc_interval.high
    assert json.loads(json.dumps(metrics.as_dict()))["srcc_interval"] == list(metrics.srcc_interval)


def test_a_constant_scorer_scores_zero() -> None:
    _, true, sources = rows()
    metrics = evaluate(np.full(120, 3.0), true, sources)
    assert metrics.srcc == metrics.plcc == metrics.plcc_fitted == 0
    assert metrics.srcc_interval == (0, 0)


def test_one_source_has_no_interval() -> None:
    predicted, true, _ = rows()
    assert evaluate(predicted, true, ["one"] * 120).srcc_interval is None


def test_the_table_shows_them() -> None:
    predicted, true, sources = rows()
    metrics = evaluate(predicted, true, sources)
    console = Console(width=160, file=io.StringIO())
    with console.capture() as shown:
        console.print(metrics_table({"quality": metrics}))
    text = shown.get()
    assert "quality" in text
    assert f"{metrics.srcc:.3f} (" in text
