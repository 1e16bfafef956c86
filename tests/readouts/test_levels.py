"""The level readout against Q-Align's printed logits and numbers anybody can recompute."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from beholder.backbones import Read
from beholder.conversations import Slot
from beholder.opinions import LevelRule, Scale
from beholder.opinions.soft_labels import Density, Form
from beholder.readouts import LevelReadout, make_readout
from beholder.readouts.contract import Reading

IDS = [4, 7, 1, 9, 2]  # bad .. excellent, in a vocabulary of 12


def read(bad_to_excellent: object, others: float = 0.0) -> Reading:
    levels = torch.as_tensor(np.asarray(bad_to_excellent, dtype=np.float32))
    logits = torch.full((*levels.shape[:-1], 12), others)
    logits[..., IDS] = levels
    return LevelReadout().read(Read(torch.zeros(len(logits), 3), logits), IDS)


@pytest.mark.parametrize(
    ("excellent_to_bad", "score"),
    [
        ([18.03, 18.38, 14.63, 11.60, 9.477], 4.3926),  # Q-Align, Table 12
        ([7.043, 10.289, 15.852, 18.688, 16.766], 1.9277),  # Q-Align, Table 15
    ],
)
def test_printed_logits(excellent_to_bad: list[float], score: float) -> None:
    reading = read([excellent_to_bad[::-1]])
    assert float(reading.distribution.mean[0]) == pytest.approx(score, abs=0.002)


def test_equal_logits() -> None:
    d = read([[3.0] * 5]).distribution
    assert float(d.mean[0]) == pytest.approx(3)
    assert float(d.std[0]) == pytest.approx(1.41421, abs=1e-5)
    assert float(d.entropy[0]) == pytest.approx(1.60944, abs=1e-5)


def test_only_differences_between_levels_count() -> None:
    logits = np.array([[0.3, -1.0, 2.0, 0.5, 1.5]])
    plain = read(logits).distribution.probs
    np.testing.assert_allclose(read(logits + 40).distribution.probs, plain, atol=1e-6)
    np.testing.assert_allclose(read(logits, others=9.0).distribution.probs, plain, atol=1e-7)


def test_raising_excellent_raises_the_mean() -> None:
    logits = np.array([[0.3, -1.0, 2.0, 0.5, 1.5]])
    higher = logits + np.array([0, 0, 0, 0, 0.7])
    assert read(higher).distribution.mean[0] > read(logits).distribution.mean[0]


def test_mass_is_what_the_full_softmax_gives_the_levels() -> None:
    assert float(read([[0.0] * 5]).mass[0]) == pytest.approx(5 / 12)
    assert float(read([[50.0] * 5]).mass[0]) == pytest.approx(1)


def test_released_evaluation(golden: Path) -> None:
    """Scores and spreads of 80 rows, as the release's evaluation computed them."""
    recorded = json.loads((golden / "eval_metrics.json").read_text("utf-8"))
    words = LevelReadout().words()
    logits = [[row[word] for word in words] for row in recorded["level_logits"]]
    d = read(logits).distribution
    np.testing.assert_allclose(d.mean, recorded["pred_score"], atol=1e-5)
    np.testing.assert_allclose(d.std, recorded["pred_std"], atol=1e-5)
    unit = np.array(recorded["wa5_0_1"])  # Q-Align's own weights 1, .75, .5, .25, 0
    np.testing.assert_allclose((d.mean - 1) / 4, unit, atol=1e-5)


def test_labels() -> None:
    readout, scale = LevelReadout(), Scale(1, 5)
    assert readout.words() == ("bad", "poor", "fair", "good", "excellent")
    assert readout.answer("quality", 4.2, scale) == (Slot("quality", " good"),)
    np.testing.assert_array_equal(
        readout.targets(np.array([1.0, 4.2, 4.3]), None, scale),
        [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]],
    )
    left = LevelReadout(rule=LevelRule.LEFT_CLOSED)
    assert left.answer("quality", 4.2, scale) == (Slot("quality", " excellent"),)


def test_labels_and_scores_are_inverse_maps() -> None:
    readout, scale = LevelReadout(), Scale(0, 100)
    centres = np.array([10.0, 30, 50, 70, 90])
    scores = readout.targets(centres, None, scale) @ readout.support
    np.testing.assert_allclose(readout.invert(scores, scale), centres)


def test_soft_labels_and_scores_are_inverse_maps() -> None:
    readout, scale = LevelReadout(labels="soft"), Scale(0, 100)
    assert readout.needs_std and not LevelReadout().needs_std
    mos, std = np.array([0.0, 12, 50, 87, 100]), np.array([8.0, 10, 15, 10, 8])
    targets = readout.targets(mos, std, scale)
    np.testing.assert_allclose(readout.invert(targets @ readout.support, scale), mos, atol=1e-9)


def test_soft_labels_of_the_paper() -> None:
    """N(3.5, .25^2) is half fair and half good; without a spread a fifth of the scale is taken."""
    readout, scale = LevelReadout(labels="soft"), Scale(1, 5)
    target = readout.targets(np.array([3.5]), np.array([0.25]), scale)
    np.testing.assert_allclose(target, [[0, 0, 0.5, 0.5, 0]], atol=1e-5)
    assumed = readout.targets(np.array([3.5]), np.array([np.nan]), scale)
    stated = readout.targets(np.array([3.5]), np.array([0.8]), scale)
    np.testing.assert_allclose(assumed, stated)


def test_how_far_a_released_label_may_be_off() -> None:
    """N(1.2, .6^2), whose clipped label has its mean at 1.34; DeQA-Score's release allows .1."""
    opinion = (np.array([1.2]), np.array([0.6]), Scale(1, 5))
    released = LevelReadout(labels="soft", form=Form.RELEASED)
    np.testing.assert_allclose(released.targets(*opinion), [[0.8, 0.2, 0, 0, 0]], atol=1e-7)
    printed = LevelReadout(labels="soft", form=Form.RELEASED, max_error=0.2)
    assert printed.targets(*opinion)[0] @ printed.support == pytest.approx(1.34, abs=0.005)


@pytest.mark.parametrize(
    "readout",
    [
        LevelReadout(("low", "high"), LevelRule.LEFT_CLOSED),
        LevelReadout(("low", "high"), labels="soft", density=Density.CDF),
        LevelReadout(("low", "high"), labels="soft", form=Form.RELEASED, max_error=0.2),
    ],
)
def test_config_round_trip(readout: LevelReadout) -> None:
    again = make_readout(json.loads(json.dumps(readout.config())))
    assert isinstance(again, LevelReadout)
    assert again.config() == readout.config()
    assert again.scale == Scale(1, 2)


def test_unknown_readouts_and_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown readout 'level': use one of levels"):
        make_readout({"name": "level"})
    with pytest.raises(ValueError, match="does not take"):
        make_readout({"name": "levels", "wrods": []})
    with pytest.raises(ValueError, match="distinct"):
        make_readout({"name": "levels", "words": ["good", "good"]})
