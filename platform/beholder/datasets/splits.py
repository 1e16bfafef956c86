"""Splits by source: who has seen a scene in training has seen all its pictures."""

from collections.abc import Mapping

import numpy as np

SPLITS = TRAIN, VAL, TEST = "train", "val", "test"


def split_sources(groups: Mapping[str, str], folds: int, seed: int) -> dict[str, int]:
    """Deals sources into folds of equal size, group by group, so that each group is spread.

    Args:
        groups: the group (photo, clip, ...) of each source.
        folds: how many; each is held out once.
        seed: of the order within a group.

    Returns:
        The fold 0..folds-1 of each source. Fold sizes differ by at most one, and so do the
        counts of each group. Independent of the order of ``groups``.

    Raises:
        ValueError: fewer than two folds, or fewer sources than folds.
    """
    if not 2 <= folds <= len(groups):
        raise ValueError(f"{len(groups)} sources can't be split into {folds} folds: use 2 or more")
    rng = np.random.default_rng([seed, folds])
    order = [name for members in _shuffled(groups, rng).values() for name in members]
    return {name: i % folds for i, name in enumerate(order)}


def hold_out(
    groups: Mapping[str, str],
    test: Mapping[str, int],
    val: Mapping[str, int],
    seed: int,
) -> dict[str, str]:
    """One fixed split with stated counts a group; everything else is for training.

    Args:
        groups: the group of each source.
        test: how many sources of each group are held out for the final figures.
        val: how many for selection.
        seed: of the choice.

    Returns:
        ``train``, ``val`` or ``test`` for each source.

    Raises:
        ValueError: a group has too few sources to leave one for training.
    """
    split = dict.fromkeys(groups, TRAIN)
    for group, members in _shuffled(groups, np.random.default_rng([seed, 0])).items():
        for_test, for_val = test.get(group, 0), val.get(group, 0)
        if for_test + for_val >= len(members):
            raise ValueError(
                f"group '{group}' has {len(members)} sources: holding out {for_test} for test and "
                f"{for_val} for val leaves none for training"
            )
        split |= dict.fromkeys(members[:for_test], TEST)
        split |= dict.fromkeys(members[for_test : for_test + for_val], VAL)
    return split


def _shuffled(groups: Mapping[str, str], rng: np.random.Generator) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for name in sorted(groups, key=lambda name: (groups[name], name)):
        members.setdefault(groups[name], []).append(name)
    return {group: [str(n) for n in rng.permutation(names)] for group, names in members.items()}
