"""Two words: Q-Bench's score, and labels that mean the same whether hard or soft."""

import json

import numpy as np
import pytest
import torch

from beholder.backbones import Read
from beholder.conversations import Slot
from beholder.opinions import LevelRule, Scale
from beholder.opinions.soft_labels import soft_labels
from beholder.readouts import BinaryReadout, LevelReadout, make_readout

SCALE = Scale(0, 100)


def test_the_mean_is_q_benchs_score_and_one() -> None:
    """e^good / (e^good + e^poor), Q-Align's section 3.2.2, on logits of its Tables 12 and 15."""
    logits = torch.full((2, 9), 3.0)
    logits[:, 4] = torch.tensor([11.60, 18.688])  # poor
    logits[:, 7] = torch.tensor([18.38, 10.289])  # good
    reading = BinaryReadout().read(Read(torch.zeros(2, 1), logits), [4, 7])
    good, poor = np.exp([18.38, 10.289]), np.exp([11.60, 18.688])
    np.testing.assert_allclose(reading.distribution.mean - 1, good / (good + poor), rtol=1e-5)
    assert reading.mass is not None
    assert reading.mass.min() > 0.99


def test_words_are_those_of_the_halves() -> None:
    readout = BinaryReadout()
    said = [readout.answer("quality", mos, SCALE) for mos in (0, 50, 50.1, 100)]
    assert said == [(Slot("quality", word),) for word in (" poor", " poor", " good", " good")]
    np.testing.assert_array_equal(
        readout.targets(np.array([50.0, 50.1]), None, SCALE), [[1, 0], [0, 1]]
    )
    left = BinaryReadout(rule=LevelRule.LEFT_CLOSED)
    assert left.answer("quality", 50, SCALE) == (Slot("quality", " good"),)


def test_a_soft_label_is_the_place_on_the_scale_and_needs_no_std() -> None:
    readout, mos = BinaryReadout(labels="soft"), np.array([0.0, 30, 50, 100])
    targets = readout.targets(mos, None, SCALE)
    np.testing.assert_allclose(targets, [[1, 0], [0.7, 0.3], [0.5, 0.5], [0, 1]])
    assert not readout.needs_std
    np.testing.assert_allclose(readout.invert(targets @ readout.support, SCALE), mos)
    # DeQA-Score's soft labels of two levels come to the same, whatever the spread.
    for std in (0.1, 0.4):
        of_two = soft_labels(1 + mos / 100, np.full(4, std), 2).probs
        np.testing.assert_allclose(targets, of_two, atol=1e-9)
    with pytest.raises(ValueError, match="mos of row 0 is 101, outside the declared scale"):
        readout.targets(np.array([101.0]), None, SCALE)


def test_hard_labels_invert_through_centres() -> None:
    readout = BinaryReadout()
    scores = readout.targets(np.array([10.0, 90.0]), None, SCALE) @ readout.support
    np.testing.assert_allclose(readout.invert(scores, SCALE), [25, 75])


@pytest.mark.parametrize("labels", ["one_hot", "soft"])
def test_config_round_trip(labels: str) -> None:
    readout = BinaryReadout(("dull", "sharp"), labels=labels)  # type: ignore[arg-type]
    again = make_readout(json.loads(json.dumps(readout.config())))
    assert isinstance(again, BinaryReadout)
    assert again.config() == readout.config()
    assert again.words() == ("dull", "sharp")
    assert isinstance(again, LevelReadout) and again.scale == Scale(1, 2)
    with pytest.raises(ValueError, match=r"two words, got .* use levels"):
        BinaryReadout(("bad", "fair", "good"))
