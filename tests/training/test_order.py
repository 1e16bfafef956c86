"""Which row stands where."""

import numpy as np
import pytest

from beholder.config import ConfigError
from beholder.training.order import FILLER, Order, apportion


def one_set(rows: int, epochs: int, global_batch: int, seed: int) -> Order:
    return Order(np.full(rows, "a"), epochs, global_batch, seed)


def test_every_row_is_seen_once_an_epoch() -> None:
    order = one_set(37, 3, 8, 4)
    flat = np.concatenate([order.batch(step) for step in range(order.steps)])
    assert order.steps == 14
    for epoch in range(3):
        assert sorted(flat[37 * epoch : 37 * (epoch + 1)]) == list(range(37))
    assert (flat[111:] == FILLER).all()
    assert not np.array_equal(flat[:37], flat[37:74])


def test_any_number_of_workers_sees_the_same_global_batches() -> None:
    order = one_set(50, 2, 12, 0)
    for step in range(order.steps):
        whole = order.batch(step)
        for world, micro in ((1, 12), (2, 3), (3, 4), (4, 1)):
            shares = [
                np.concatenate(order.micro_batches(step, rank, world, micro))
                for rank in range(world)
            ]
            assert np.array_equal(np.concatenate(shares), whole)


def test_seeds_differ() -> None:
    first, second = (one_set(50, 1, 10, seed).batch(0) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_a_batch_that_can_not_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 9"):
        one_set(50, 1, 12, 0).micro_batches(0, 0, 3, 3)


SETS = np.array(["a"] * 7 + ["b"] * 10 + ["c"] * 3)


def test_pairs_are_of_one_set_and_of_two_rows() -> None:
    order = Order(SETS, epochs=2, global_batch=8, seed=3, paired=True)
    flat = np.concatenate([order.batch(step) for step in range(order.steps)])
    assert order.epoch_rows == 22
    for epoch in range(2):
        here = flat[22 * epoch : 22 * (epoch + 1)]
        assert set(here) == set(range(20)), "every row is seen"
        pairs = here.reshape(-1, 2)
        assert (SETS[pairs[:, 0]] == SETS[pairs[:, 1]]).all()
        assert (pairs[:, 0] != pairs[:, 1]).all()
    assert not np.array_equal(flat[:22], flat[22:44])


def test_no_worker_parts_a_pair() -> None:
    order = Order(SETS, epochs=1, global_batch=8, seed=3, paired=True)
    for step, world in ((0, 2), (1, 1), (1, 4)):
        for rank in range(world):
            for micro in order.micro_batches(step, rank, world, 2):
                a, b = micro
                assert SETS[a] == SETS[b]


def test_a_set_of_one_row_has_no_pairs() -> None:
    with pytest.raises(ConfigError, match="set b has one training row"):
        Order(np.array(["a", "a", "b"]), epochs=1, global_batch=2, seed=0, paired=True)


def test_the_order_of_a_seed_never_changes() -> None:
    """Figures in the README were made with it, and a run of an older release can go on."""
    assert one_set(8, 1, 8, 4).batch(0).tolist() == [1, 2, 0, 7, 4, 5, 3, 6]
    paired = Order(SETS, epochs=1, global_batch=8, seed=3, paired=True)
    assert paired.batch(0).tolist() == [7, 10, 8, 15, 12, 11, 0, 5]


# --- shares -------------------------------------------------------------------------------------


def test_places_are_rounded_by_largest_remainder() -> None:
    """4.1, 3.7 and 2.2 places: the one that is left goes to 3.7."""
    assert apportion(10, {"a": 41, "b": 37, "c": 22}) == {"a": 4, "b": 4, "c": 2}
    assert apportion(10, {"a": 1, "b": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert apportion(288049, {"a": 0.1, "b": 0.2, "c": 0.7}) == {
        "a": 28805,
        "b": 57610,
        "c": 201634,
    }


SHARES = {"a": 3.0, "b": 1.0, "c": 1.0}


def flat(order: Order) -> np.ndarray:
    rows = np.concatenate([order.batch(step) for step in range(order.steps)])
    return rows[rows != FILLER]


@pytest.mark.parametrize("paired", [False, True])
def test_every_epoch_has_each_sets_share(paired: bool) -> None:
    order = Order(SETS, epochs=5, global_batch=8, seed=3, paired=paired, shares=SHARES)
    assert order.places == {"a": 12, "b": 4, "c": 4}
    assert order.epoch_rows == len(SETS)
    epochs = flat(order).reshape(5, 20)
    for rows in epochs:
        names, counts = np.unique(SETS[rows], return_counts=True)
        assert dict(zip(names, counts, strict=True)) == order.places
        assert len(set(SETS[rows[:8]])) > 1, "sets stand mixed, not one after another"
    assert len({tuple(rows) for rows in epochs}) == 5


def test_no_row_is_seen_again_before_all_of_its_set() -> None:
    """Over epochs, too: a's 7 rows fill 60 places, b's 10 and c's 3 fill 20 each."""
    rows = flat(Order(SETS, epochs=5, global_batch=8, seed=3, shares=SHARES))
    for name, places in (("a", 60), ("b", 20), ("c", 20)):
        members, mine = set(np.flatnonzero(name == SETS)), rows[SETS[rows] == name]
        assert len(mine) == places
        turns = [mine[at : at + len(members)] for at in range(0, places, len(members))]
        for turn in turns:
            assert len(set(turn)) == len(turn)
            assert set(turn) == members or turn is turns[-1]
        assert tuple(turns[0]) != tuple(turns[1])


def test_pairs_stand_together_with_shares() -> None:
    order = Order(SETS, epochs=4, global_batch=8, seed=3, paired=True, shares=SHARES)
    pairs = flat(order).reshape(-1, 2)
    assert (SETS[pairs[:, 0]] == SETS[pairs[:, 1]]).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    in_b = pairs[SETS[pairs[:, 0]] == "b"].ravel()
    assert sorted(np.unique(in_b, return_counts=True)[1]) == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]


def test_with_shares_any_number_of_workers_sees_the_same() -> None:
    order = Order(SETS, epochs=2, global_batch=12, seed=1, shares=SHARES)
    again = Order(SETS, epochs=2, global_batch=12, seed=1, shares=SHARES)
    for step in reversed(range(order.steps)):  # a resume asks for a later step first
        whole = again.batch(step)
        for world in (1, 2, 4):
            shares = [np.concatenate(order.micro_batches(step, r, world, 3)) for r in range(world)]
            assert np.array_equal(np.concatenate(shares), whole)


def test_a_share_that_is_no_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="set c gets no place among the 20 of an epoch"):
        Order(SETS, epochs=1, global_batch=4, seed=0, shares=SHARES | {"c": 1e-3})
