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
