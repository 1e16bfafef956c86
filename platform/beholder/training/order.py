"""Which row stands where: global step s, slot j to a row, the same for any number of workers."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

FILLER = -1
"""The row of a slot behind the last epoch: a dummy at zero weight."""


@dataclass(frozen=True)
class Order:
    """A seeded permutation an epoch, laid end to end and cut into global batches.

    A resume is a skip: nothing but ``step`` is needed to know what comes.

    Rows that are dealt in pairs stand at places 2i and 2i + 1, so that micro-batches of even
    size never part them.

    Attributes:
        rows: rows in the training set.
        epochs: times that each is seen.
        global_batch: rows a step over all workers.
        seed: of the permutations.
        sets: a number for each row's set, where rows are dealt in pairs of one set. In a set of
            odd size one row, another in each epoch, is seen twice. (rows,).
    """

    rows: int
    epochs: int
    global_batch: int
    seed: int
    sets: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.sets is None:
            return
        numbers, counts = np.unique(self.sets, return_counts=True)
        if (counts < 2).any():
            lonely = numbers[int(np.argmax(counts < 2))]
            raise ValueError(f"set number {lonely} has one row: pairs need two rows of one set")

    @cached_property
    def epoch_rows(self) -> int:
        """Places in an epoch."""
        if self.sets is None:
            return self.rows
        counts = np.unique(self.sets, return_counts=True)[1]
        return int((counts + counts % 2).sum())

    @property
    def steps(self) -> int:
        """Optimizer steps; the last one is filled up with fillers."""
        return -(-self.epoch_rows * self.epochs // self.global_batch)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Row indices of one step, ``FILLER`` behind the end. (global_batch,)."""
        place = step * self.global_batch + np.arange(self.global_batch)
        epoch, within = np.divmod(place, self.epoch_rows)
        found = np.full(self.global_batch, FILLER, dtype=np.int64)
        for number in np.unique(epoch[epoch < self.epochs]):
            here = epoch == number
            found[here] = self._permutation(int(number))[within[here]]
        return found

    def micro_batches(
        self, step: int, rank: int, world: int, micro_batch: int
    ) -> list[NDArray[np.int64]]:
        """One worker's share of a step, as equal micro-batches.

        Raises:
            ValueError: the global batch is not a multiple of ``world * micro_batch``.
        """
        if self.global_batch % (world * micro_batch):
            raise ValueError(
                f"a global batch of {self.global_batch} can't be cut into micro-batches of "
                f"{micro_batch} on {world} workers: choose a multiple of {world * micro_batch}"
            )
        share = self.batch(step).reshape(world, -1)[rank]
        return np.split(share, len(share) // micro_batch)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed, epoch])
        if self.sets is None:
            return rng.permutation(self.rows)
        pairs = []
        for number in np.unique(self.sets):
            dealt = rng.permutation(np.flatnonzero(self.sets == number))
            pairs.append(np.append(dealt, dealt[: len(dealt) % 2]).reshape(-1, 2))
        return rng.permutation(np.concatenate(pairs)).ravel()
