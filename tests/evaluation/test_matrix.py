"""Scorers by test sets: the join, every figure by its source, ensembles, pairs, the page."""

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from beholder.catalog.rows import SCORE_FIELDS
from beholder.evaluation import compare, evaluate, plcc, scorecard, srcc, zscore_ensemble
from beholder.evaluation import table as metrics
from beholder.evaluation.ensembles import ensemble
from beholder.evaluation.forest import forest_svg
from beholder.evaluation.matrix import (
    MatrixError,
    Opinions,
    Predictions,
    is_zero_shot,
    opinions_of,
    predictions_of,
)
from beholder.evaluation.matrix_page import as_markdown, markdown_table
from beholder.evaluation.matrix_run import EvaluateConfig, Evaluation, evaluate_matrix
from beholder.evaluation.scorecard import compare_scorers, measure_scorer, task_means
from beholder.opinions import Levels, Scale

RATED = Scale(1, 5)
DRAWS = 60


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """Intervals of a few draws, which are as good for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "RESAMPLES", DRAWS)
        patch.setattr(scorecard, "RESAMPLES", DRAWS)
        yield


def manifest(mos: list[float], **columns: list) -> pa.Table:
    items = [f"i{n}" for n in range(len(mos))]
    known = {"item_id": items, "uri": items, "kind": ["image"] * len(mos), "mos": mos}
    return pa.table(known | columns)


def score_rows(
    probs: np.ndarray, items: list[str] | None = None, support: list[float] | None = None, **same
) -> pa.Table:
    """What a finished pass holds for these distributions."""
    support = support or [1.0, 2.0, 3.0, 4.0, 5.0]
    rows = [
        {
            "item_id": items[n] if items else f"i{n}",
            "task": "quality",
            "mean": float(p @ support),
            "std": float(np.sqrt(p @ np.square(support) - (p @ support) ** 2)),
            "support": support,
            "probs": p.tolist(),
            "scale": [support[0], support[-1]],
            "mass": 0.99,
            "fingerprint": "abc",
        }
        | same
        for n, p in enumerate(probs)
    ]
    return pa.Table.from_pylist(rows, schema=SCORE_FIELDS)


def failed(item: str, code: str = "fetch.not_found", task: str = "quality") -> pa.Table:
    row = {"item_id": item, "task": task, "failure_code": code, "fingerprint": "abc"}
    return pa.Table.from_pylist([row], schema=SCORE_FIELDS)


def distributions(level: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Softmax over five levels around noisy ones. (N, 5)."""
    at = level + noise * np.random.default_rng(seed).normal(size=len(level))
    logits = -((np.arange(1, 6) - at[:, None]) ** 2)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def rated(seed: int = 0, count: int = 120) -> tuple[np.ndarray, Opinions]:
    """True levels 1..5, and a set on 0..100 whose mos are their bins' centres."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.6, 5.4, count)
    mos = (level - 0.5) * 20
    table = manifest(
        mos.tolist(),
        std=rng.uniform(8, 20, count).tolist(),
        source=[f"photo-{n % 12}" for n in range(count)],
    )
    return level, opinions_of("koniq", "quality", Scale(0, 100), table)


# --- the join -------------------------------------------------------------------------------------


def test_rows_meet_by_item_whatever_their_order() -> None:
    opinions = opinions_of("set", "quality", RATED, manifest([1.0, 2.0, 3.0, 4.0]))
    scores = score_rows(np.eye(5)[[3, 0, 1]], items=["i3", "i0", "i1"])
    said = predictions_of("a", opinions, pa.concat_tables([failed("i2"), scores]))
    assert said.rows.tolist() == [0, 1, 3]
    assert said.mean.tolist() == [1, 2, 4]
    assert said.failures == {"fetch.not_found": 1}


def test_rows_of_other_splits_and_tasks_do_not_count() -> None:
    table = manifest([1.0, 2.0, 3.0, 4.0], split=["test", "train", "test", "test"])
    opinions = opinions_of("set", "quality", RATED, table, split="test")
    scores = pa.concat_tables(
        [score_rows(np.eye(5)[:4]), score_rows(np.eye(5)[[4] * 4], task="aesthetics")]
    )
    said = predictions_of("a", opinions, scores)
    assert opinions.mos.tolist() == [1, 3, 4]
    assert (said.rows.tolist(), said.mean.tolist()) == ([0, 1, 2], [1, 3, 4])
    with pytest.raises(MatrixError, match=r"no rows of split 'val', only of .*test.*train"):
        opinions_of("set", "quality", RATED, table, split="val")


def test_a_split_that_is_none_is_named() -> None:
    """Its rows would be left out of what is measured without a word."""
    table = manifest([1.0, 2.0, 3.0, 4.0], split=["test", "test", "tset", None])
    for split in ("test", None):
        with pytest.raises(MatrixError, match="item 'i2' is in split 'tset': use train, val, test"):
            opinions_of("set", "quality", RATED, table, split=split)


def test_votes_give_the_spread_where_there_is_no_std() -> None:
    votes = [[0, 0, 2, 2, 0], None, [1, 0, 0, 0, 1]]
    table = manifest([3.5, 2.0, 3.0], votes=pa.array(votes, pa.list_(pa.int32())))
    std = opinions_of("set", "quality", RATED, table).std
    np.testing.assert_allclose(std, [0.5, np.nan, 2])
    tens = opinions_of("set", "quality", Scale(0, 100), table).std
    np.testing.assert_allclose(tens, [12.5, np.nan, 50])


def test_maps_to_the_sets_scale() -> None:
    """Level 1 on 0..100 is 10 by centres and 0 by ends; other supports map by their ends."""
    opinions = opinions_of("set", "quality", Scale(0, 100), manifest([10.0, 50.0]))
    said = predictions_of("a", opinions, score_rows(np.eye(5)[[0, 2]]))
    assert said.levels is not None
    assert said.on_scale["centres"][0].tolist() == [10, 50]
    assert said.on_scale["ends"][0].tolist() == [0, 50]
    unit = predictions_of("a", opinions, score_rows(np.eye(2), support=[0.0, 1.0]))
    assert unit.levels is None
    assert unit.on_scale["given"][0].tolist() == [0, 100]


def test_points_have_errors_and_no_distances() -> None:
    """A regression head on 0..1: its ends are the set's, and nothing stands for a spread."""
    table = manifest([10.0, 40.0, 90.0], std=[5.0, 6.0, 7.0])
    opinions = opinions_of("set", "quality", Scale(0, 100), table)
    unknown = dict.fromkeys(("std", "entropy", "support", "probs", "mass"))
    rows = [
        {"item_id": f"i{n}", "task": "quality", "mean": mean, "scale": [0.0, 1.0]}
        | {"fingerprint": "abc"}
        | unknown
        for n, mean in enumerate([0.2, 0.5, 0.8])
    ]
    said = predictions_of("head", opinions, pa.Table.from_pylist(rows, schema=SCORE_FIELDS))
    assert (said.mode, said.mass, said.std, said.levels) == (None,) * 4
    mean, std = said.on_scale["given"]
    assert std is None
    np.testing.assert_allclose(mean, [20, 50, 80])
    measured = measure_scorer("head", said, opinions, zero_shot=True)
    given = measured.metrics.on_scale["given"]
    assert given.mae == pytest.approx(10)
    assert (given.distances, given.calibration, measured.levels_only) == (None,) * 3
    page = as_markdown(Evaluation({"head": "set"}, ("set",), (measured,), ()))
    assert "- head on set: the scores come without a spread, as a regression head's." in page
    assert "## Spread" not in page


def test_what_does_not_fit_is_one_sentence() -> None:
    opinions = opinions_of("set", "quality", RATED, manifest([1.0, 2.0, 3.0]))
    good = score_rows(np.eye(5)[:3])
    stranger = score_rows(np.eye(5)[:1], items=["elsewhere"])
    mixed = pa.concat_tables([good.slice(0, 2), score_rows(np.eye(5)[:1], ["i2"], fingerprint="x")])
    for scores, message in [
        (pa.concat_tables([good, stranger]), "'a' on set 'set': item 'elsewhere' has a score and"),
        (score_rows(np.eye(5)[:3], task="aesthetics"), r"scored \['aesthetics'\], not 'quality'"),
        (good.slice(0, 0), "0 scored items in common"),
        (pa.concat_tables([good.slice(0, 1), failed("i1")]), r"1 scored .* \(1 fetch.not_found"),
        (mixed, r"mixes scores of \['abc', 'x'\]"),
    ]:
        with pytest.raises(MatrixError, match=message):
            predictions_of("a", opinions, scores)
    with pytest.raises(MatrixError, match=r"item 'i2' has mos 30, outside its scale \[1, 5\]"):
        opinions_of("set", "quality", RATED, manifest([1.0, 2.0, 30.0]))
    with pytest.raises(MatrixError, match="item 'i1' has std -1"):
        opinions_of("set", "quality", RATED, manifest([1.0, 2.0], std=[1.0, -1.0]))
    ragged = pa.array([[1, 2], [1, 2, 3]], pa.list_(pa.int32()))
    with pytest.raises(MatrixError, match="votes can't be read"):
        opinions_of("set", "quality", RATED, manifest([1.0, 2.0], votes=ragged))


def test_zero_shot_is_by_whole_names() -> None:
    assert not is_zero_shot(("KonIQ", "spaq"), "koniq")
    assert is_zero_shot(("koniq-10k",), "koniq")
    assert not is_zero_shot("koniq and SPAQ, two epochs", "spaq")
    assert is_zero_shot("koniq-10k only", "koniq")
    assert is_zero_shot("", "koniq")


# --- figures --------------------------------------------------------------------------------------


def test_released_evaluation_through_the_table(golden: Path) -> None:
    """Scores and opinions of DeQA-Score's released evaluation, soft labels on 1..5."""
    recorded = json.loads((golden / "eval_metrics.json").read_text("utf-8"))
    table = manifest(recorded["gt"], std=recorded["gt_std"])
    opinions = opinions_of("released", "quality", RATED, table)
    rows = score_rows(np.full((80, 5), 0.2)).to_pylist()
    for row, mean, std in zip(rows, recorded["pred_score"], recorded["pred_std"], strict=True):
        row |= {"mean": mean, "std": std}
    said = predictions_of("a", opinions, pa.Table.from_pylist(rows, schema=SCORE_FIELDS))
    found = measure_scorer("a", said, opinions, zero_shot=False)
    assert found.metrics.srcc == pytest.approx(recorded["srcc_raw"], abs=1e-9)
    assert found.metrics.plcc_fitted == pytest.approx(recorded["plcc_after_logistic4"], abs=1e-6)
    distances = found.metrics.on_scale["ends"].distances
    assert distances is not None
    assert distances.kl == pytest.approx(recorded["kl"], abs=1e-7)
    assert distances.wasserstein == pytest.approx(recorded["wd"], abs=1e-12)
    low, high = found.intervals["ends.kl"]
    assert low < recorded["kl"] < high
    low, high = found.intervals["plcc_fitted"]
    assert low < recorded["plcc_after_logistic4"] < high


def test_every_interval_holds_its_figure() -> None:
    level, opinions = rated()
    said = predictions_of("a", opinions, score_rows(distributions(level, 0.6, 1)))
    found = measure_scorer("a", said, opinions, zero_shot=True)
    on = found.metrics.on_scale
    figures = {"krcc": found.metrics.krcc, "plcc_fitted": found.metrics.plcc_fitted}
    for through in ("centres", "ends"):
        distances = on[through].distances
        assert distances is not None
        figures[f"{through}.mae"] = on[through].mae
        figures[f"{through}.rmse"] = on[through].rmse
        figures[f"{through}.kl"] = distances.kl
        figures[f"{through}.wasserstein"] = distances.wasserstein
    assert figures.keys() == found.intervals.keys()
    for name, (low, high) in found.intervals.items():
        assert low < figures[name] < high, name
    assert on["centres"].mae < on["ends"].mae, "labels were cut at centres"
    same = evaluate(
        said.mean,
        opinions.mos,
        opinions.sources,
        std=said.std,
        true_std=opinions.std,
        mass=said.mass,
        levels=Levels(Scale(0, 100)),
    )
    assert found.metrics == same


def test_levels_are_those_of_the_opinions() -> None:
    """Right-closed edges: 4.2 is good. Every second prediction is one level too high."""
    mos = [4.2, 4.2, 4.3, 4.3, 1.8, 1.8]
    opinions = opinions_of("set", "quality", RATED, manifest(mos))
    said = predictions_of("a", opinions, score_rows(np.eye(5)[[3, 4, 4, 4, 0, 1]]))
    found = measure_scorer("a", said, opinions, zero_shot=False)
    assert [(level.word, level.rows) for level in found.levels] == [
        ("bad", 2),
        ("good", 2),
        ("excellent", 2),
    ]
    bad, good, excellent = found.levels
    assert bad.bias["ends"] == pytest.approx(1.5 - 1.8)
    assert good.bias["ends"] == pytest.approx(4.5 - 4.2)
    assert good.mae["ends"] == pytest.approx((0.2 + 0.8) / 2)
    assert excellent.bias["centres"] == pytest.approx(4.6 - 4.3)
    assert excellent.srcc == 0


def test_likeliest_level_against_the_expectation() -> None:
    """Q-Align Table 12's first row: the expectation is 4.3926 where the likeliest is good, 4."""
    first, second = [9.477, 11.60, 14.63, 18.38, 18.03], [16.766, 18.688, 15.852, 10.289, 7.043]
    logits = np.array([first, second])
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    opinions = opinions_of("set", "quality", RATED, manifest([4.5, 2.0]))
    said = predictions_of("a", opinions, score_rows(probs))
    assert said.mean == pytest.approx([4.3926, 1.9277], abs=0.002)
    assert said.mode is not None
    assert said.mode.tolist() == [4, 2]

    level, opinions = rated()
    said = predictions_of("a", opinions, score_rows(distributions(level, 0.2, 1)))
    only = measure_scorer("a", said, opinions, zero_shot=False).levels_only
    assert only is not None
    assert only.gain is not None
    assert only.gain.value == pytest.approx(srcc(said.mean, opinions.mos) - only.srcc)
    assert only.gain.interval.low > 0, "words alone lose the order inside a level"


def test_a_set_of_one_source_has_figures_and_no_interval() -> None:
    opinions = opinions_of("set", "quality", RATED, manifest([1.0, 3.0, 5.0], source=["one"] * 3))
    said = predictions_of("a", opinions, score_rows(np.eye(5)[[0, 2, 4]]))
    found = measure_scorer("a", said, opinions, zero_shot=False)
    assert found.metrics.srcc == 1
    assert found.intervals == {}
    assert found.levels_only is not None
    assert found.levels_only.gain is None
    with pytest.raises(MatrixError, match="all of source 'one'"):
        compare_scorers(("a", "b"), (said, said), opinions)


# --- several scorers ------------------------------------------------------------------------------


def two(opinions: Opinions, level: np.ndarray) -> tuple[Predictions, Predictions]:
    """A good scorer without item 0, and a poor one without item 1."""
    good = score_rows(distributions(level, 0.3, 1)).slice(1)
    poor = score_rows(distributions(level, 2.0, 2))
    poor = pa.concat_tables([poor.slice(0, 1), poor.slice(2)])
    return predictions_of("good", opinions, good), predictions_of("poor", opinions, poor)


def test_pairs_are_compared_on_common_items() -> None:
    level, opinions = rated()
    said = two(opinions, level)
    found = compare_scorers(("good", "poor"), said, opinions)
    assert found.items == 118
    first, second = said[0].mean[1:], said[1].mean[1:]
    expected = compare(first, second, opinions.mos[2:], opinions.sources[2:], srcc, DRAWS)
    assert found.srcc == expected
    assert found.srcc.interval.low > 0
    assert found.plcc.value == pytest.approx(
        plcc(first, opinions.mos[2:]) - plcc(second, opinions.mos[2:])
    )


def test_ensembles_take_common_items_and_outside_columns() -> None:
    level, opinions = rated()
    good, poor = two(opinions, level)
    both = ensemble("both", opinions, {"good": good, "poor": poor}, ())
    assert both.rows.tolist() == list(range(2, 120))
    expected = zscore_ensemble({"good": good.mean[1:], "poor": poor.mean[1:]})
    np.testing.assert_allclose(both.mean, expected)
    outside = [None, None, None, *(-level[3:]).tolist()]
    table = opinions.table.append_column("clip", pa.array(outside))
    with_column = opinions_of("koniq", "quality", Scale(0, 100), table)
    found = ensemble("with", with_column, {"good": good}, ("clip",))
    assert found.rows.tolist() == list(range(3, 120))
    assert abs(srcc(found.mean, opinions.mos[3:])) < 0.7, "a column turned round undoes the scorer"
    measured = measure_scorer("with", found, with_column, zero_shot=False)
    assert measured.metrics.on_scale == {}
    assert measured.unscored == 3


def test_ensembles_refuse_what_is_no_score() -> None:
    level, opinions = rated()
    good, _ = two(opinions, level)
    table = opinions.table.append_column("flat", pa.array([1.0] * 120))
    opinions = opinions_of("koniq", "quality", Scale(0, 100), table)
    for column, message in [
        ("nowhere", "set 'koniq' has no column 'nowhere'"),
        ("uri", "column 'uri' holds string, not numbers"),
        ("flat", "ensemble 'x' on set 'koniq': column 'column 'flat'' is 1 in every row"),
    ]:
        with pytest.raises(MatrixError, match=message):
            ensemble("x", opinions, {"good": good}, (column,))


# --- the whole, and its page ----------------------------------------------------------------------


def whole(**changes) -> Evaluation:
    """Two scorers, of which one lacks a set, an ensemble and a pair."""
    level, _ = rated()
    tables = {"koniq": rated()[1].table, "ava": rated(3)[1].table}
    passes = {
        "a/koniq": pa.concat_tables(
            [score_rows(distributions(level, 0.4, 1)).slice(1), failed("i0")]
        ),
        "a/ava": score_rows(distributions(rated(3)[0], 0.4, 1), task="aesthetics"),
        "b/koniq": score_rows(distributions(level, 1.5, 2), fingerprint="def"),
    }
    base = {
        "output": "out",
        "sets": [
            {"name": "koniq", "manifest": "koniq", "task": "quality", "scale": [0, 100]},
            {"name": "ava", "manifest": "ava", "task": "aesthetics", "scale": [0, 100]},
        ],
        "scorers": [
            {"name": "a", "training": ["koniq"], "scores": {"koniq": "a/koniq", "ava": "a/ava"}},
            {"name": "b|2", "training": "", "scores": {"koniq": "b/koniq"}},
        ],
        "ensembles": [{"name": "both", "of": ["a", "b|2"]}],
        "compare": [["a", "b|2"], ["both", "a"]],
    }
    config = EvaluateConfig.model_validate(base | changes)
    return evaluate_matrix(config, tables.__getitem__, passes.__getitem__)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return whole()


def test_cells_zero_shot_and_means(evaluation: Evaluation) -> None:
    cells = {(cell.scorer, cell.set): cell for cell in evaluation.cells}
    assert cells.keys() == {("a", "koniq"), ("a", "ava"), ("b|2", "koniq"), ("both", "koniq")}
    zero_shot = {key for key, cell in cells.items() if cell.zero_shot}
    assert zero_shot == {("a", "ava"), ("b|2", "koniq")}, "one member of both learned from koniq"
    assert cells["a", "koniq"].failures == {"fetch.not_found": 1}
    assert cells["both", "koniq"].unscored == 1
    means = task_means(evaluation.cells)
    assert means["aesthetics"]["a"] == (
        cells["a", "ava"].metrics.srcc,
        cells["a", "ava"].metrics.plcc,
        ("ava",),
    )
    assert [pair.set for pair in evaluation.pairs] == ["koniq", "koniq"]
    assert json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))["sets"] == ["koniq", "ava"]


def test_the_page(evaluation: Evaluation) -> None:
    text = as_markdown(evaluation)
    lines = text.splitlines()
    cells = {(cell.scorer, cell.set): cell for cell in evaluation.cells}
    start = lines.index("## SRCC by scorer and test set")
    rows = [[c.strip() for c in line.split(" | ")] for line in lines[start + 4 : start + 7]]
    a, b = cells["a", "koniq"].metrics.srcc, cells["b|2", "koniq"].metrics.srcc
    assert rows[0][1:] == [f"**{a:.3f}**", f"**{cells['a', 'ava'].metrics.srcc:.3f}**° |"]
    assert rows[1] == ["| b\\|2", f"{b:.3f}°", "- |"]
    assert "1 fetch.not_found" in text
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({len(line) for line in table.splitlines()}) == 1, "columns are aligned"


def test_the_picture(evaluation: Evaluation) -> None:
    root = ElementTree.fromstring(forest_svg(evaluation))
    dots = [one for one in root.iter() if one.tag.endswith("circle")]
    assert len(dots) == 4
    assert [dot.get("fill") == "#fff" for dot in dots] == [False, True, False, True]
    width = float(root.get("width") or 0)
    assert all(0 < float(dot.get("cx") or 0) < width for dot in dots)


def test_a_table_without_rows_is_left_out() -> None:
    assert markdown_table(("a", "b"), []) == ""
    lines = markdown_table(("a", "b"), [("long", "1")]).splitlines()
    assert lines == ["| a    |  b |", "| ---- | -: |", "| long |  1 |"]


def test_one_name_is_one_scorer() -> None:
    split = [{"name": "a", "training": [], "scores": {"ava": "a/ava", "koniq": "b/koniq"}}]
    with pytest.raises(MatrixError, match="scorer 'a' has passes by different scorers"):
        whole(scorers=split, ensembles=[], compare=[])


def test_nothing_in_common() -> None:
    apart = [
        {"name": "a", "training": [], "scores": {"ava": "a/ava"}},
        {"name": "b", "training": [], "scores": {"koniq": "b/koniq"}},
    ]
    with pytest.raises(MatrixError, match="a and b have no set in common"):
        whole(scorers=apart, ensembles=[], compare=[["a", "b"]])
    with pytest.raises(MatrixError, match="ensemble 'e': a and b have no set in common"):
        whole(scorers=apart, ensembles=[{"name": "e", "of": ["a", "b"]}], compare=[])
