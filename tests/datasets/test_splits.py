from collections import Counter

import pytest

from beholder.datasets import hold_out, split_sources
from beholder.datasets.demo import GROUPS

THIRTY = {f"s{i}": "clip" if i < 6 else "photo" for i in range(30)}


def test_folds_are_equal_and_every_group_is_spread() -> None:
    folds = split_sources(THIRTY, 5, seed=1)
    assert set(folds) == set(THIRTY)
    assert Counter(folds.values()) == dict.fromkeys(range(5), 6)
    clips = Counter(folds[s] for s, group in THIRTY.items() if group == "clip")
    assert set(clips) == set(range(5)) and max(clips.values()) <= 2


def test_the_demo_sources_make_five_folds_of_five_or_six() -> None:
    for seed in range(10):
        sizes = Counter(split_sources(GROUPS, 5, seed).values())
        assert len(sizes) == 5 and set(sizes.values()) <= {5, 6}


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    backwards = dict(reversed(THIRTY.items()))
    assert split_sources(THIRTY, 5, 1) == split_sources(backwards, 5, 1)
    assert split_sources(THIRTY, 5, 1) != split_sources(THIRTY, 5, 2)


@pytest.mark.parametrize("folds", [1, 31])
def test_impossible_folds_are_refused(folds: int) -> None:
    with pytest.raises(ValueError, match=f"30 sources can't be split into {folds} folds"):
        split_sources(THIRTY, folds, 0)


def test_hold_out_gives_the_stated_counts() -> None:
    split = hold_out(THIRTY, {"photo": 6, "clip": 2}, {"photo": 3, "clip": 1}, seed=0)
    assert Counter((THIRTY[s], part) for s, part in split.items()) == {
        ("photo", "test"): 6,
        ("photo", "val"): 3,
        ("photo", "train"): 15,
        ("clip", "test"): 2,
        ("clip", "val"): 1,
        ("clip", "train"): 3,
    }


def test_hold_out_leaves_something_for_training() -> None:
    with pytest.raises(ValueError, match="group 'clip' has 6 sources"):
        hold_out(THIRTY, {"clip": 4}, {"clip": 2}, seed=0)
