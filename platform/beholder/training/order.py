"""Which row stands where: global step s, slot j to a row, the same for any number of workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from beholder.config import ConfigError
from beholder.training.config import TrainConfig

FILLER = -1
"""The row of a slot behind the last epoch: a dummy at zero weight."""


@dataclass(frozen=True)
class Order:
    """A seeded permutation an epoch, laid end to end and cut into global batches.

    A resume is a skip: nothing but ``step`` is needed to know what comes.

    Rows that are dealt in pairs stand at places 2i and 2i + 1, so that micro-batches of even
    size never part them.

    With shares an epoch has as many places as there are rows, and a set gets its share of them.
    It fills them with its rows in one seeded permutation after another, which go on from epoch to
    epoch: none is seen again before all of its set have been seen.

    Attributes:
        sets: the name of each row's set. (rows,).
        epochs: times that each row is seen, without shares.
        global_batch: rows a step over all workers.
        seed: of the permutations.
        paired: whether rows are dealt in pairs of one set. In a set of odd size one row, another
            in each permutation, is seen twice.
        shares: relative weight of each set, by name.

    Raises:
        ConfigError: pairs are asked of a set with one row, or a set's share is no place.
    """

    sets: NDArray[np.str_]
    epochs: int
    global_batch: int
    seed: int
    paired: bool = False
    shares: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, places in self.places.items():
            if self.paired and len(self._rows[name]) < 2:
                raise ConfigError(f"set {name} has one training row: pairs need two of one set")
            if not places:
                raise ConfigError(
                    f"set {name} gets no place among the {len(self.sets)} of an epoch: raise its "
                    "share or leave it out"
                )

    @cached_property
    def places(self) -> dict[str, int]:
        """Places of each set in an epoch."""
        units = {name: _rounded_up(len(rows), self._width) for name, rows in self._rows.items()}
        if self.shares is not None:
            shares = {name: self.shares.get(name, 0.0) for name in units}
            units = apportion(_rounded_up(len(self.sets), self._width), shares)
        return {name: count * self._width for name, count in units.items()}

    @property
    def epoch_rows(self) -> int:
        """Places in an epoch."""
        return sum(self.places.values())

    @property
    def steps(self) -> int:
        """Optimizer steps; the last one is filled up with fillers."""
        return _rounded_up(self.epoch_rows * self.epochs, self.global_batch)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Row indices of one step, ``FILLER`` behind the end. (global_batch,)."""
        place = step * self.global_batch + np.arange(self.global_batch)
        epoch, within = np.divmod(place, self.epoch_rows)
        found = np.full(self.global_batch, FILLER, dtype=np.int64)
        for number in np.unique(epoch[epoch < self.epochs]):
            here = epoch == number
            found[here] = self._epoch(int(number))[within[here]]
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

    @property
    def _width(self) -> int:
        """Rows that are dealt together."""
        return 2 if self.paired else 1

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        """Each set's rows, by name."""
        return {str(name): np.flatnonzero(self.sets == name) for name in np.unique(self.sets)}

    @cached_property
    def _epochs(self) -> dict[int, NDArray[np.int64]]:
        """The epochs that were asked for."""
        return {}

    def _epoch(self, number: int) -> NDArray[np.int64]:
        """The row at each place of an epoch."""
        if number not in self._epochs:
            rng = np.random.default_rng([self.seed, number])
            if self.shares is not None:
                self._epochs[number] = self._shared(rng, number)
            elif self.paired:
                dealt = [self._permuted(rng, rows) for rows in self._rows.values()]
                self._epochs[number] = rng.permutation(np.concatenate(dealt)).ravel()
            else:
                self._epochs[number] = rng.permutation(len(self.sets))
        return self._epochs[number]

    def _permuted(self, rng: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows in new order, as many together as are dealt together. (units, width)."""
        dealt = rng.permutation(rows)
        return np.append(dealt, dealt[: len(dealt) % self._width]).reshape(-1, self._width)

    def _shared(self, rng: np.random.Generator, epoch: int) -> NDArray[np.int64]:
        """The row at each place of an epoch with shares: sets are mixed, a set's rows in turn."""
        counts = [places // self._width for places in self.places.values()]
        owners = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        dealt = np.empty((len(owners), self._width), dtype=np.int64)
        for number, (rows, count) in enumerate(zip(self._rows.values(), counts, strict=True)):
            size = _rounded_up(len(rows), self._width)
            first = epoch * count
            turns = range(first // size, _rounded_up(first + count, size))
            # A fourth number keeps these seeds apart from the epochs' own, which have two.
            rngs = [np.random.default_rng([self.seed, turn, number, 1]) for turn in turns]
            stream = np.concatenate([self._permuted(one, rows) for one in rngs])
            dealt[owners == number] = stream[first - turns.start * size :][:count]
        return dealt.ravel()


def order_of(config: TrainConfig, sets: Sequence[str]) -> Order:
    """The order of a run whose training rows are of these sets."""
    return Order(
        np.array(sets, dtype=np.str_),
        config.schedule.epochs,
        config.schedule.global_batch,
        config.seed,
        paired=bool(config.objective.fidelity),
        shares={some.name: some.share for some in config.sets if some.share is not None} or None,
    )


def apportion(places: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Places in proportion to shares, rounded by largest remainder; of equals the first wins.

    Args:
        places: to give away.
        shares: relative, not negative, with a sum above 0.
    """
    whole = sum(shares.values())
    exact = {name: places * share / whole for name, share in shares.items()}
    given = {name: int(part) for name, part in exact.items()}
    left = places - sum(given.values())
    for name in sorted(shares, key=lambda name: given[name] - exact[name])[:left]:
        given[name] += 1
    return given


def _rounded_up(count: int, unit: int) -> int:
    return -(-count // unit)
