"""Which row stands where."""

import numpy as np
import pytest

from beholder.training.order import FILLER, Order


def test_every_row_is_seen_once_an_epoch() -> None:
    order = Order(rows=37, epochs=3, global_batch=8, seed=4)
    flat = np.concatenate([order.batch(step) for step in range(order.steps)])
    assert order.steps == 14
    for epoch in range(3):
        assert sorted(flat[37 * epoch : 37 * (epoch + 1)]) == list(range(37))
    assert (flat[111:] == FILLER).all()
    assert not np.array_equal(flat[:37], flat[37:74])


def test_any_number_of_workers_sees_the_same_global_batches() -> None:
    order = Order(rows=50, epochs=2, global_batch=12, seed=0)
    for step in range(order.steps):
        whole = order.batch(step)
        for world, micro in ((1, 12), (2, 3), (3, 4), (4, 1)):
            shares = [
                np.concatenate(order.micro_batches(step, rank, world, micro))
                for rank in range(world)
            ]
            assert np.array_equal(np.concatenate(shares), whole)


def test_seeds_differ() -> None:
    first, second = (Order(50, 1, 10, seed).batch(0) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_a_batch_that_can_not_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 9"):
        Order(50, 1, 12, 0).micro_batches(0, 0, 3, 3)


SETS = np.array([0] * 7 + [1] * 10 + [2] * 3)


def test_pairs_are_of_one_set_and_of_two_rows() -> None:
    order = Order(rows=20, epochs=2, global_batch=8, seed=3, sets=SETS)
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
    order = Order(rows=20, epochs=1, global_batch=8, seed=3, sets=SETS)
    for step, world in ((0, 2), (1, 1), (1, 4)):
        for rank in range(world):
            for micro in order.micro_batches(step, rank, world, 2):
                a, b = micro
                assert SETS[a] == SETS[b]


def test_a_set_of_one_row_has_no_pairs() -> None:
    with pytest.raises(ValueError, match="set number 1 has one row"):
        Order(rows=3, epochs=1, global_batch=2, seed=0, sets=np.array([0, 0, 1]))
