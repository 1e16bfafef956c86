"""Scores to an ordering: by every rule, beside relevance, and what is left out or refused."""

import numpy as np
import pytest

from beholder.items import Failure, FailureCode, Score
from beholder.opinions import Point, Scale, ScoreDistribution
from beholder.ranking import (
    QualityFloor,
    Rule,
    Weighted,
    exact_expected_rank,
    gather,
    probability_matrix,
    rank,
)

LEVELS = np.arange(1.0, 6.0)
SURE = (0, 0, 0.7, 0.3, 0)  # 3.3
TORN = (0.2, 0, 0, 0, 0.8)  # 4.2
POOR = (0.9, 0.1, 0, 0, 0)  # 1.1
SOME = {"sure": SURE, "poor": POOR, "torn": TORN}


def score(item: str, probs: tuple[float, ...], task: str = "quality", made_by: str = "f1") -> Score:
    found = ScoreDistribution(LEVELS, np.array(probs), Scale(1, 5))
    return Score(item, made_by, {task: found})


def point(item: str, mean: float) -> Score:
    return Score(item, "f1", {"quality": Point(np.array(mean), Scale(1, 5))})


def failed(item: str, made_by: str = "f1") -> Score:
    failure = Failure(FailureCode.DECODE_TRUNCATED, "the file ends early")
    return Score(item, made_by, failure=failure)


def some() -> list[Score]:
    return [score(item, probs) for item, probs in SOME.items()]


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("mean", ("torn", "sure", "poor")),
        ("lower_bound", ("sure", "torn", "poor")),
        ("expected_rank", ("torn", "sure", "poor")),
    ],
)
def test_each_rule(rule: str, wanted: tuple[str, ...]) -> None:
    found = rank(some(), "quality", rule)
    assert found.item_ids == wanted
    assert [list(SOME)[i] for i in found.order] == list(wanted)
    assert found.left_out == ()
    assert found.below_floor == 0


def test_values_stand_beside_the_items() -> None:
    np.testing.assert_allclose(rank(some(), "quality").values, [4.2, 3.3, 1.1])
    bound = rank(some(), "quality", Rule.LOWER_BOUND, z=2).values
    np.testing.assert_allclose(bound, [3.3 - 2 * 0.21**0.5, 4.2 - 2 * 1.6, 1.1 - 2 * 0.3])
    ranks = rank(some(), "quality", "expected_rank").values
    wanted = exact_expected_rank([4.2, 3.3, 1.1], [1.6, 0.21**0.5, 0.3])
    np.testing.assert_allclose(ranks, wanted)
    assert (np.diff(ranks) > 0).all()


def test_what_has_no_score_is_left_out_and_named() -> None:
    scores = [failed("x", made_by="f2"), *some(), score("other", TORN, "aesthetics")]
    found = rank(scores, "quality")
    assert found.order.tolist() == [3, 1, 2]
    assert found.item_ids == ("torn", "sure", "poor")
    assert [(one.position, one.item_id) for one in found.left_out] == [(0, "x"), (4, "other")]
    assert found.left_out[0].reason == "decode.truncated: the file ends early"
    assert found.left_out[1].reason == "no score for task 'quality', only for ['aesthetics']"


def test_nothing_to_order() -> None:
    for scores in ([], [failed("x")]):
        for rule in Rule:
            found = rank(scores, "quality", rule)
            assert found.order.tolist() == [] and found.item_ids == ()
            assert len(found.left_out) == len(scores)


def test_two_scorers_are_never_in_one_ordering() -> None:
    scores = [*some(), score("new", TORN, made_by="f2")]
    with pytest.raises(ValueError, match=r"'sure' and 'new'.*two scorers \(f1 and f2\)"):
        rank(scores, "quality")
    # Of another task there is nothing that could be compared.
    assert rank([*some(), score("new", TORN, "aesthetics", "f2")], "quality").order.size == 3


def test_two_scales_are_never_in_one_ordering() -> None:
    found = ScoreDistribution(LEVELS, np.array(SURE), Scale(0, 5))
    with pytest.raises(ValueError, match=r"'sure' and 'odd'.*on two scales"):
        rank([*some(), Score("odd", "f1", {"quality": found})], "quality")


def test_points_are_ordered_by_mean_alone() -> None:
    scores = [point("a", 2.5), point("b", 4), point("c", 3)]
    assert rank(scores, "quality").item_ids == ("b", "c", "a")
    for rule in (Rule.LOWER_BOUND, Rule.EXPECTED_RANK):
        with pytest.raises(ValueError, match=rf"'{rule}' needs a spread and row 0 is a point"):
            rank(scores, "quality", rule)
    with pytest.raises(ValueError, match="row 0 is a point"):
        rank(scores, "quality", relevance=[1, 2, 3], blend=QualityFloor(3, 0.5))
    with pytest.raises(ValueError, match=r"P\(A > B\) needs a spread and row 0 .* has no spread"):
        gather(scores, "quality").stack()


def test_relevance_by_weight() -> None:
    relevance = [5, 1000, 1]
    assert rank(some(), "quality", relevance=relevance, blend=Weighted(0)).item_ids == (
        "poor",
        "sure",
        "torn",
    )
    found = rank(some(), "quality", relevance=relevance, blend=Weighted(0.8))
    assert found.item_ids == ("torn", "sure", "poor")
    np.testing.assert_allclose(found.values * 6, [0.8 * 5 + 0.2, 3, 0.8 + 0.2 * 5])
    # An expected rank counts as a quality: the smallest is the best.
    found = rank(some(), "quality", "expected_rank", relevance, Weighted(1))
    assert found.item_ids == ("torn", "sure", "poor")


def test_equal_blends_are_ordered_by_quality() -> None:
    found = rank(some(), "quality", relevance=[2, 3, 1], blend=Weighted(0.5))
    assert found.values.tolist() == [0.5] * 3
    assert found.item_ids == ("torn", "sure", "poor")


def test_relevance_behind_a_floor() -> None:
    scores = [*some(), score("good", (0, 0, 0, 1, 0)), score("worst", (1, 0, 0, 0, 0))]
    relevance = [1, 9, 5, 1, 10]
    found = rank(scores, "quality", relevance=relevance, blend=QualityFloor(3))
    assert found.item_ids == ("torn", "good", "sure", "worst", "poor")
    assert found.values.tolist() == [5, 1, 1, 10, 9]
    assert found.below_floor == 2
    found = rank(scores, "quality", relevance=relevance, blend=QualityFloor(3, 0.9))
    assert found.item_ids == ("good", "sure", "worst", "poor", "torn")
    assert found.below_floor == 3


def test_relevance_belongs_to_positions_of_the_input() -> None:
    scores = [failed("x"), *some()]
    found = rank(scores, "quality", relevance=[99, 1, 3, 2], blend=Weighted(0))
    assert found.item_ids == ("poor", "torn", "sure")
    ties = rank([failed("x"), *[score(i, SURE) for i in "cab"]], "quality", tie_break=[*"xcab"])
    assert ties.item_ids == ("a", "b", "c")
    alike = [score(i, SURE) for i in "cab"]
    for blend in (Weighted(0.5), QualityFloor(3)):
        found = rank(alike, "quality", "mean", [1, 1, 1], blend, tie_break=[*"cab"])
        assert found.item_ids == ("a", "b", "c")


def test_ties_keep_the_order_of_the_input() -> None:
    scores = [score(str(i), SURE) for i in range(50)]
    for rule in Rule:
        assert rank(scores, "quality", rule).order.tolist() == list(range(50))


def test_a_permutation_of_the_input_changes_no_order() -> None:
    rng = np.random.default_rng(0)
    scores = [score(str(i), tuple(p)) for i, p in enumerate(rng.dirichlet(np.ones(5), 40))]
    relevance = rng.normal(size=40)
    shuffle = rng.permutation(40)
    for rule in Rule:
        for blend in (Weighted(0.3), QualityFloor(3), QualityFloor(3, 0.6)):
            found = rank(scores, "quality", rule, relevance, blend)
            moved = rank([scores[i] for i in shuffle], "quality", rule, relevance[shuffle], blend)
            assert moved.item_ids == found.item_ids
            assert moved.values.tolist() == found.values.tolist()
            assert shuffle[moved.order].tolist() == found.order.tolist()


def test_a_stack_for_pairs() -> None:
    found = gather([failed("x"), *some()], "quality")
    assert found.positions.tolist() == [1, 2, 3]
    matrix = probability_matrix(found.stack())
    # Sure is above torn where torn says 1.
    assert matrix[0, 2] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="what was left out"):
        gather([failed("x")], "quality").stack()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"relevance": [1, 2, 3]}, "relevance is given without blend"),
        ({"blend": Weighted(0.5)}, "blend is given without relevance"),
        ({"relevance": [1, 2], "blend": Weighted(0.5)}, r"shape \(2,\) for 3 scores"),
        ({"relevance": [1, 2, np.nan], "blend": Weighted(0.5)}, "relevance of row 2 is nan"),
        ({"relevance": [1, 2, 3], "blend": QualityFloor(50)}, "floor 50 lies outside"),
        ({"rule": "best"}, "no rule 'best'"),
        ({"rule": "lower_bound", "z": -1}, "z is -1"),
        ({"tie_break": ["a"]}, r"tie-break has shape \(1,\) for 3 scores"),
    ],
)
def test_refusals(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank(some(), "quality", **arguments)
