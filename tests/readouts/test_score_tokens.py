"""Score tokens against ROC4MLLM's equation and numbers anybody can recompute."""

import json

import numpy as np
import pytest
import torch

from beholder.backbones import Read
from beholder.conversations import Slot
from beholder.opinions import Scale
from beholder.readouts import Readout, ScoreTokenReadout, make_readout
from beholder.readouts.contract import Reading

IDS = [*range(20, 30)]  # in a vocabulary of 40
AVA = Scale(1, 10)


def read(logits: object, others: float = 0.0, readout: Readout | None = None) -> Reading:
    tokens = torch.as_tensor(np.asarray(logits, dtype=np.float32))
    full = torch.full((len(tokens), 40), others)
    full[:, IDS[: tokens.shape[1]]] = tokens
    made = readout or ScoreTokenReadout()
    return made.read(Read(torch.zeros(len(full), 3), full), IDS[: tokens.shape[1]])


def test_words() -> None:
    readout = ScoreTokenReadout()
    assert readout.words() == tuple(f"[IMG{i}]" for i in range(10))
    assert readout.new_tokens() == ("[SCORE]", *readout.words())
    assert (readout.mode, readout.needs_std) == ("forced", False)
    answers = {readout.answer("color", mos, AVA) for mos in (1.0, 5.5, 10.0)}
    assert answers == {(Slot("color", " [SCORE]"),)}


def test_the_support_is_evenly_spaced_whatever_the_number() -> None:
    np.testing.assert_allclose(ScoreTokenReadout().support, np.arange(1, 11))
    np.testing.assert_allclose(ScoreTokenReadout(4).support, [1, 4, 7, 10])
    np.testing.assert_allclose(ScoreTokenReadout(5, (0, 1)).support, [0, 0.25, 0.5, 0.75, 1])


def test_scores_by_hand() -> None:
    d = read([[0.0] * 10, [0.0] * 9 + [50.0]]).distribution
    assert d.mean == pytest.approx([5.5, 10])
    assert float(d.std[0]) == pytest.approx(np.sqrt(99 / 12))  # of 1..10, each as likely
    two = read([[np.log(3), 0.0]], readout=ScoreTokenReadout(2, (0, 1))).distribution
    assert float(two.mean[0]) == pytest.approx(0.25)


def test_scores_reach_the_whole_scale() -> None:
    """The printed Eq. 5, over probabilities, gives 4.84 to 6.16 at most."""
    d = read([[50.0] + [0.0] * 9, [0.0] * 9 + [50.0]]).distribution
    assert d.mean == pytest.approx([1, 10])
    e = np.exp(1.0)
    printed = (np.arange(1, 11) * np.array([1.0] * 9 + [e])).sum() / (9 + e)
    assert printed == pytest.approx(6.16, abs=0.005)


def test_only_score_tokens_count_and_the_mass_is_their_share_of_all() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 10))
    plain, other = read(logits), read(logits, others=3.0)
    np.testing.assert_allclose(other.distribution.probs, plain.distribution.probs, atol=1e-7)
    assert (other.mass < plain.mass).all()
    assert float(read([[0.0] * 10]).mass[0]) == pytest.approx(10 / 40)
    assert float(read([[60.0] * 10]).mass[0]) == pytest.approx(1)


def test_a_set_is_mapped_by_its_ends_and_back() -> None:
    readout, koniq = ScoreTokenReadout(), Scale(0, 100)
    mos = np.array([0.0, 25, 50, 100])
    np.testing.assert_allclose(readout.scores(mos, koniq), [1, 3.25, 5.5, 10])
    np.testing.assert_allclose(readout.scores(np.array([1.0, 7.3]), AVA), [1, 7.3])
    np.testing.assert_allclose(readout.invert(readout.scores(mos, koniq), koniq), mos)
    ((name, invert),) = readout.inverse_maps(koniq).items()
    assert name == "ends"
    np.testing.assert_allclose(invert(np.array([1.0, 10.0])), [0, 100])


def test_targets_are_votes_where_there_are_any() -> None:
    readout = ScoreTokenReadout()
    votes = [0, 1, 5, 17, 38, 36, 15, 6, 5, 1]
    fractions = np.array(votes) / sum(votes)
    mos = float(fractions @ np.arange(1, 11))
    targets = readout.targets(np.array([mos, 3.25]), None, AVA, [votes, None])
    np.testing.assert_allclose(targets[0], fractions)
    np.testing.assert_allclose(targets[1], [0, 0, 0.75, 0.25, 0, 0, 0, 0, 0, 0])


def test_targets_keep_the_mean_of_fewer_answers() -> None:
    """Five answers on ten tokens: 1..5 are 1, 3.25, 5.5, 7.75 and 10."""
    readout, votes = ScoreTokenReadout(), [[2, 3, 10, 5, 0], [0, 0, 0, 0, 4]]
    mos = np.array([(2 + 6 + 30 + 20) / 20, 5.0])
    targets = readout.targets(mos, None, Scale(1, 5), votes)
    np.testing.assert_allclose(targets.sum(1), 1)
    np.testing.assert_allclose(targets @ readout.support, readout.scores(mos, Scale(1, 5)))
    np.testing.assert_allclose(targets[0, [1, 2, 3]], [0, 0.1125, 0.0375])
    np.testing.assert_allclose(targets[0, [0, 4, 5]], [0.1, 0.25, 0.25])


def test_votes_for_different_numbers_of_answers_may_stand_together() -> None:
    votes = [[1, 1], [0, 1, 0], None, [1, 0, 1]]
    targets = ScoreTokenReadout(3).targets(np.full(4, 5.5), None, AVA, votes)
    np.testing.assert_allclose(targets, [[0.5, 0, 0.5], [0, 1, 0], [0, 1, 0], [0.5, 0, 0.5]])


@pytest.mark.parametrize(
    ("votes", "sentence"),
    [
        ([[0] * 10], "no votes at all"),
        ([[1] * 9 + [-1]], "-1 votes for 10"),
        ([[3]], "at least two scores"),
        ([[9] + [0] * 9], "mean at 0% of the scale and the mos is at 50%: give the scale"),
    ],
)
def test_votes_that_are_none_are_refused(votes: list[list[int]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ScoreTokenReadout().targets(np.array([5.5]), None, AVA, votes)


def test_config_round_trip() -> None:
    readout = ScoreTokenReadout(20, (0, 5))
    again = make_readout(json.loads(json.dumps(readout.config())))
    assert isinstance(again, ScoreTokenReadout)
    assert again.config() == {"name": "score_tokens", "tokens": 20, "scale": [0.0, 5.0]}
    np.testing.assert_array_equal(again.support, readout.support)


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two score tokens, got 1"):
        ScoreTokenReadout(1)
    with pytest.raises(ValueError, match="smaller bound first"):
        ScoreTokenReadout(10, (10, 1))
    with pytest.raises(ValueError, match=r"is \[minimum, maximum\], got \[1, 5, 10\]"):
        ScoreTokenReadout(10, (1, 5, 10))
    with pytest.raises(ValueError, match="does not take"):
        make_readout({"name": "score_tokens", "rule": "left_closed"})
