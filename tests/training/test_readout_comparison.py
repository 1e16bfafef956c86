"""The comparison's table: a readout without a spread stands in it without a distance."""

import numpy as np
import pyarrow as pa
import pytest

from beholder.datasets.demo.comparison import COMPARED
from beholder.training.readout_comparison import Trial, as_markdown, figures

COUNT = 12


@pytest.fixture(scope="module")
def mix() -> pa.Table:
    rng = np.random.default_rng(0)
    population = rng.dirichlet(np.ones(5), COUNT * len(COMPARED))
    return pa.table(
        {
            "set": [one.name for one in COMPARED for _ in range(COUNT)],
            "source": [f"photo-{at % 4}" for at in range(len(population))],
            "latent": population @ np.arange(1, 6),
            "population": population.tolist(),
        }
    )


def _trial(mix: pa.Table, variant: str, spread: bool) -> Trial:
    rows = np.arange(mix.num_rows)
    probs = np.array(mix["population"].to_pylist())
    mean = probs @ np.arange(1, 6)
    return Trial(variant, 1e-3, 0, 0, 0.5, rows, probs if spread else None, mean, mean)


def test_points_are_compared_by_order_and_errors_alone(mix: pa.Table) -> None:
    trials = [_trial(mix, "words", True), _trial(mix, "head", False), _trial(mix, "again", True)]
    table = figures(mix, trials, ["words", "head", "again"])
    head, again = (next(row for row in table if row["variant"] == v) for v in ("head", "again"))
    assert head["srcc"] == pytest.approx(1)
    assert head["d_srcc"] == 0
    assert not {"kl", "w1", "d_kl", "d_w1"} & head.keys()
    assert again["kl"] == pytest.approx(0, abs=1e-9) and again["d_w1"] == 0
    lines = [line for line in as_markdown(table).splitlines() if "| head |" in line]
    assert len(lines) == len(COMPARED)
    assert all(line.count("no spread") == 2 for line in lines)
