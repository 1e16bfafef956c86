"""NCM and NCM* out of scored tables, against the logits that the tables were made of."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax

from beholder.backbones import Read
from beholder.catalog.rows import SCORE_FIELDS
from beholder.evaluation import ncm, ncm_star, scorecard
from beholder.evaluation import table as metrics
from beholder.evaluation.matrix import Opinions, opinions_of, predictions_of
from beholder.evaluation.matrix_page import as_markdown
from beholder.evaluation.matrix_run import Evaluation
from beholder.evaluation.scorecard import Measured, measure_scorer
from beholder.evaluation.scored_digits import places_of, scored_digits
from beholder.opinions import Point, Scale
from beholder.readouts import DigitReadout, read_slots

COUNT = 40
VOCABULARY = 30
IDS = list(range(12, 22))


class Logits:
    """A model of random logits behind every beginning of a number, an item its own."""

    def __init__(self, seed: int, sharp: float = 1.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._known: dict[tuple[int, str], np.ndarray] = {}
        self._sharp = sharp

    def behind(self, item: int, written: str) -> np.ndarray:
        """(VOCABULARY,)."""
        if (item, written) not in self._known:
            self._known[item, written] = self._sharp * self._rng.normal(size=VOCABULARY)
        return self._known[item, written]

    def digits(self, item: int, written: str) -> np.ndarray:
        """The ten digits' softmax. (10,)."""
        return softmax(self.behind(item, written)[IDS])

    def read(self, readout: DigitReadout) -> pa.Table:
        """What a pass keeps of all items."""

        def look(written: list[str]) -> Read:
            rows = np.stack([self.behind(n, text) for n, text in enumerate(written)])
            return Read(torch.zeros(COUNT, 3), torch.from_numpy(rows))

        rating = read_slots(readout, IDS, COUNT, look).distribution
        rows = [
            {"item_id": f"i{n}", "task": "quality", "fingerprint": "abc", **rating[n].as_dict()}
            for n in range(COUNT)
        ]
        return pa.Table.from_pylist(rows, schema=SCORE_FIELDS)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 20)
    monkeypatch.setattr(scorecard, "RESAMPLES", 20)


@pytest.fixture(scope="module")
def rated() -> Opinions:
    """On 0..100, so that 39.9 is written 3.99; the last one at the end, where 10.0 is clipped."""
    mos = np.append(np.random.default_rng(5).uniform(0, 99, COUNT - 1), 100.0)
    items = [f"i{n}" for n in range(COUNT)]
    source = [f"photo-{n % 8}" for n in range(COUNT)]
    table = {"item_id": items, "uri": items, "kind": ["image"] * COUNT, "mos": mos}
    return opinions_of("set", "quality", Scale(0, 100), pa.table(table | {"source": source}))


def behind_true(logits: Logits, opinions: Opinions) -> tuple[np.ndarray, np.ndarray]:
    """Each digit's distribution behind the true digits, from the logits, and the truth."""
    true = np.minimum(opinions.mos / 10, 9.99)
    texts = [f"{number:.2f}" for number in true]
    before = [[" ", f" {text[0]}.", f" {text[:3]}"] for text in texts]
    probs = [[logits.digits(n, one) for one in some] for n, some in enumerate(before)]
    return np.array(probs), true


def measured(scores: pa.Table, opinions: Opinions) -> Measured:
    return measure_scorer("a", predictions_of("a", opinions, scores), opinions, True)


def test_a_whole_tree_gives_what_logits_behind_the_true_digits_give(rated: Opinions) -> None:
    logits = Logits(0)
    probs, true = behind_true(logits, rated)
    found = measured(logits.read(DigitReadout(branches=100)), rated).continuity
    assert found is not None
    assert (found.items, found.behind, found.followed) == (COUNT, "true", 1.0)
    assert found.ncm == pytest.approx(ncm(probs, true), rel=1e-9)
    assert found.ncm_star == pytest.approx(ncm_star(probs, true), rel=1e-9)
    assert found.ncm != pytest.approx(found.ncm_star, rel=0.01)
    assert found.ncm_interval is not None
    assert found.ncm_interval.low < found.ncm < found.ncm_interval.high


def test_what_a_tree_did_not_follow_is_even_and_counted(rated: Opinions) -> None:
    """Ten branches know every first and second digit, and the third behind ten of the hundred."""
    logits = Logits(1, sharp=2.0)
    probs, true = behind_true(logits, rated)
    tree = predictions_of("a", rated, logits.read(DigitReadout())).digits
    assert tree is not None
    np.testing.assert_allclose(tree.probs[:, :2], probs[:, :2], atol=1e-9)
    third = np.isclose(tree.probs[:, 2], probs[:, 2], atol=1e-9).all(1)
    assert 0 < third.mean() < 1, "an example in which all were followed would prove nothing"
    assert tree.followed == third.mean()
    np.testing.assert_allclose(tree.probs[~third, 2], 0.1, atol=1e-9)
    gap = np.sqrt(ncm(tree.probs, true)) - np.sqrt(ncm(probs, true))
    assert abs(gap) < 0.045


def test_equation_4s_table_is_behind_the_written_digits(rated: Opinions) -> None:
    logits = Logits(2)
    _, true = behind_true(logits, rated)
    probs = []
    for n in range(COUNT):
        first = logits.digits(n, " ")
        second = logits.digits(n, f" {first.argmax()}.")
        third = logits.digits(n, f" {first.argmax()}.{second.argmax()}")
        probs.append([first, second, third])
    found = measured(logits.read(DigitReadout(reading="eq4")), rated).continuity
    assert found is not None
    assert found.behind == "written"
    assert found.ncm == pytest.approx(ncm(np.array(probs), true), rel=1e-9)
    assert found.ncm_star == pytest.approx(ncm_star(np.array(probs), true), rel=1e-9)


def test_uniform_digits() -> None:
    """4.995 whatever the truth: (3.99 - 4.995)^2; 0.01 from below, 4.99 from the middle."""
    found = scored_digits(np.full((1, 1000), 1e-3), np.array([3.99]), np.array([True]))
    assert ncm(found.probs, found.true) == pytest.approx(1.005**2)
    assert found.followed == 0


def test_items_that_can_not_be_measured_are_left_out(rated: Opinions) -> None:
    logits = Logits(3)
    scores = logits.read(DigitReadout(branches=100))
    clips = [[1.0, 2.0] if n < 3 else [1.0] for n in range(COUNT)]
    at = scores.schema.get_field_index("clip_means")
    mixed = scores.set_column(at, "clip_means", pa.array(clips, pa.list_(pa.float64())))
    found = measured(mixed, rated).continuity
    assert found is not None
    assert found.items == COUNT - 3
    probs, true = behind_true(logits, rated)
    assert found.ncm == pytest.approx(ncm(probs[3:], true[3:]))
    sure = scored_digits(np.eye(1000)[[399, 401]], np.array([3.99, 3.99]), np.array([True, True]))
    assert not len(sure.rows), "one has no other digit, the other no true one"


def test_greedy_numbers_have_no_digits_and_the_page_says_why(rated: Opinions) -> None:
    logits = Logits(4)
    cells = [
        measured(logits.read(DigitReadout(reading=way)), rated)  # type: ignore[arg-type]
        for way in ("tree", "greedy")
    ]
    assert cells[1].continuity is None
    text = as_markdown(Evaluation({"a": "nothing"}, ("set",), tuple(cells), ()))
    page = text.split("## Digits as one number")[1].split("## ")[0]
    tree, greedy = [line for line in page.splitlines() if line.startswith("| set ")][1:]
    assert f"{cells[0].continuity.ncm:.3f} [" in tree  # type: ignore[union-attr]
    shown = [cell.strip() for cell in greedy.strip("|").split("|")]
    assert shown == ["set", "a", "-", "-", "-", "", ""]
    assert "- a on set: its scores are numbers as they were written (reading: greedy)" in page


def test_other_scorers_have_no_such_line(rated: Opinions) -> None:
    heads = [Point(np.array(0.01 * n), Scale(0, 1)).as_dict() for n in range(COUNT)]
    words = [
        {"mean": 3.0 + n / COUNT, "std": 1.0, "support": [1, 2, 3, 4, 5], "probs": [0.2] * 5}
        | {"scale": [1, 5]}
        for n in range(COUNT)
    ]
    for made in (heads, words):
        rows = [
            {"item_id": f"i{n}", "task": "quality", "fingerprint": "abc", **one}
            for n, one in enumerate(made)
        ]
        cell = measured(pa.Table.from_pylist(rows, schema=SCORE_FIELDS), rated)
        assert cell.continuity is None
        assert cell.without_continuity is None
        text = as_markdown(Evaluation({"a": "nothing"}, ("set",), (cell,), ()))
        assert "Digits as one number" not in text


def test_places_of_a_support() -> None:
    assert [places_of(DigitReadout(m).support) for m in (1, 2, 3)] == [1, 2, 3]
    assert places_of(np.linspace(1, 10, 10)) is None
