"""The rank that a candidate has on average when every opinion is drawn anew.

Under Thurstone's model candidate i beats j with :func:`beholder.opinions.thurstone`, so its rank
has the expectation ``1 + sum_{j != i} P(j > i)``. That is a sum over all pairs. For long lists
:func:`binned_expected_rank` groups both sides of the pairs, and errs by no more than
:data:`ERROR_BOUND` of n whatever the means and stds are. Three steps each take a third of it:

- **Stds, on both sides.** Nodes are spaced evenly in ``ln std`` from the smallest std above 0, by
  :data:`STD_STEP`; std 0 is a node of its own. A candidate counts at the two nodes around its
  std, by linear interpolation. As a function of ``u = ln std_j`` the curvature of P(j > i) is at
  most 0.326, wherever the means are (the largest of ``|p^2 t phi(t) (1 - t^2) - 2 p (1 - p) t
  phi(t)|``, where t is the difference of the means in stds of the pair and p the part of one
  variance in the sum). Linear interpolation then errs by ``0.326 STD_STEP^2 / 8`` a side.
- **Means of the others.** At each std node the sorted means are cut into blocks of equal weight
  c, and a block stands at its weighted median. P(j > i) rises with mean_j from 0 to 1, so that
  what the blocks err by adds up to at most c (c / 2 for large blocks) however far apart or close
  the means lie: bins of equal width have no such bound. The c of all nodes sum to
  :data:`BLOCK_SHARE` of n; they are in proportion to the roots of the nodes' weights, which needs
  the fewest blocks.
- **Means of the candidates.** At each std node the sum over the blocks falls as the candidate's
  mean rises. It is worked out at some means, and linear between them; an interval is halved while
  the sum falls by more than :data:`NODE_SHARE` of n across it and there is a number inside.

With K occupied nodes there are at most ``K / BLOCK_SHARE`` blocks, and about ``1.5 K /
NODE_SHARE`` sums over them: the cost is that of sorting n numbers, plus a constant that grows with
the square of ln(largest std / smallest). Memory is O(n) for a list in memory; a list on disk is a
:class:`Field` of its slices, whose size doesn't depend on n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beholder.opinions import thurstone
from beholder.ranking.candidates import Array, Candidates

ERROR_BOUND = 0.005
"""The most that a binned rank differs from the exact one, as a part of n."""

STD_STEP = 0.14
"""Spacing of the nodes in ln std: two sides err by 0.16% of n."""

BLOCK_SHARE = 0.0017
"""Weight of a block at all std nodes together, as a part of n."""

NODE_SHARE = 0.0017
"""How far the sum may fall between two means at which it is worked out, as a part of n."""

EXACT_LIMIT = 4_000
"""Up to how many candidates the exact sum is always taken: 16 million pairs, a second or less."""

CHUNK = 1 << 18
"""Pairs in memory at a time: 2 MB an array."""


def expected_rank(mean: ArrayLike, std: ArrayLike) -> Array:
    """Each candidate's expected rank; exact where that is no more work than binned, or little.

    Args:
        mean: of n opinions in one unit. (n,).
        std: in that unit, 0 or more. (n,).

    Returns:
        Ranks in [1, n], 1 is the best; they sum to n (n + 1) / 2. Candidates of equal mean and
        std have equal ranks, and a permutation of the input permutes the ranks. (n,).

    Raises:
        ValueError: a mean or std is not finite, a std is negative, or shapes don't match.
    """
    count = np.size(mean)
    if count > EXACT_LIMIT:
        s = Candidates(np.asarray(mean), np.asarray(std)).spread("expected_rank")
        occupied = np.count_nonzero(StdNodes.of(s).weights(s))
        # Where stds spread over orders of magnitude, binning pays only for tens of thousands.
        binned = min(2 * count, occupied / BLOCK_SHARE) * 1.5 * occupied / NODE_SHARE
        if count**2 > binned:
            return binned_expected_rank(mean, std)
    return exact_expected_rank(mean, std)


def exact_expected_rank(mean: ArrayLike, std: ArrayLike) -> Array:
    """:func:`expected_rank` by all n^2 pairs, in bounded memory. Arguments as there."""
    order, m, s = _sorted(mean, std)
    ranks = np.empty(len(m))
    step = max(1, CHUNK // max(1, len(m)))
    for start in range(0, len(m), step):
        rows = slice(start, start + step)
        above = thurstone(m, m[rows, None], s, s[rows, None])  # (rows, n): P(j > i)
        # Everyone meets himself at 1/2, which is taken off again.
        ranks[order[rows]] = above.sum(axis=1) + 0.5
    return ranks


def binned_expected_rank(mean: ArrayLike, std: ArrayLike) -> Array:
    """:func:`expected_rank` within ``ERROR_BOUND * n``; see the head of this file.

    Arguments as there. Ranks sum to n (n + 1) / 2 within the same bound.
    """
    order, m, s = _sorted(mean, std)
    if not len(m):
        return m
    nodes = StdNodes.of(s)
    weights = nodes.weights(s)
    field = Field(nodes, weights, [FieldSlice.of(m, s, nodes, weights)])
    found = np.empty(len(m))
    found[order] = field.expected_rank(m, s)
    return found


def _sorted(mean: ArrayLike, std: ArrayLike) -> tuple[NDArray[np.int64], Array, Array]:
    """Candidates by mean, then std: sums in one order, whatever the order of the input."""
    candidates = Candidates(np.asarray(mean), np.asarray(std))
    s = candidates.spread("expected_rank")
    order = np.lexsort((s, candidates.mean))
    return order, candidates.mean[order], s[order]


@dataclass(frozen=True)
class StdNodes:
    """The stds that candidates count as having: 0, and those spaced evenly in ln std.

    Attributes:
        smallest: std above 0 in the list; 1 where there is none.
        largest: the same.
    """

    smallest: float
    largest: float

    @classmethod
    def of(cls, std: Array) -> "StdNodes":
        """The nodes of a whole list in memory. (n,)."""
        spread = std[std > 0]
        return cls(float(spread.min()), float(spread.max())) if len(spread) else cls(1.0, 1.0)

    def std(self, node: int) -> float:
        """A node's std, in the unit of the list's."""
        return self.smallest * float(np.exp((node - 1) * STD_STEP)) if node else 0.0

    def weights(self, std: Array) -> Array:
        """How many candidates count at each node. (nodes,); of a list's parts they add up."""
        total = np.zeros(int(np.log(self.largest / self.smallest) / STD_STEP) + 4)
        for node, _, weights in self.split(std):
            total[node] = weights.sum()
        return total

    def split(self, std: Array) -> Iterator[tuple[int, NDArray[np.int64], Array]]:
        """Each occupied node with its rows, ascending (k,), and their weights in (0, 1]. (k,)."""
        certain, spread = np.flatnonzero(std == 0), np.flatnonzero(std > 0)
        if len(certain):
            yield 0, certain, np.ones(len(certain))
        place = np.log(std[spread] / self.smallest) / STD_STEP
        lower = np.floor(place).astype(np.int64)
        index = np.concatenate([lower, lower + 1]) + 1
        rows = np.concatenate([spread, spread])
        weights = np.concatenate([1 - (place - lower), place - lower])
        kept = np.lexsort((rows, index))
        kept = kept[weights[kept] > 0]
        index, rows, weights = index[kept], rows[kept], weights[kept]
        for part in np.split(np.arange(len(index)), np.flatnonzero(np.diff(index)) + 1):
            if len(part):
                yield int(index[part[0]]), rows[part], weights[part]


@dataclass(frozen=True)
class FieldSlice:
    """A slice of a list, by mean: its candidates in B blocks, and what its means lie between.

    Attributes:
        mean: of the blocks, std: of their nodes, weight: how many candidates they stand for. (B,).
        low: the slice's smallest mean.
        high: its largest.
    """

    mean: Array
    std: Array
    weight: Array
    low: float
    high: float

    @classmethod
    def of(cls, mean: Array, std: Array, nodes: StdNodes, weights: Array) -> "FieldSlice":
        """Blocks of equal weight at each node, at their weighted medians.

        Args:
            mean: of the slice's candidates, ascending; at least one. (k,).
            std: theirs. (k,).
            nodes: of the whole list.
            weights: of the whole list, :meth:`StdNodes.weights`. (nodes,).
        """
        roots = np.sqrt(weights)
        sizes = BLOCK_SHARE * weights.sum() * roots / roots.sum()
        parts = []
        for node, rows, its in nodes.split(std):
            until = its.cumsum()
            before = until - its
            # A block holds less than its size before its last row. Hence it errs by that at most,
            # also where single rows weigh more: the median is then the last row, which is exact.
            starts = np.flatnonzero(np.diff(np.floor(before / sizes[node]), prepend=-1))
            weight = np.add.reduceat(its, starts)
            median = np.searchsorted(until, before[starts] + weight / 2)
            median = median.clip(starts, np.append(starts[1:], len(until)) - 1)
            parts.append((mean[rows[median]], np.full(len(starts), nodes.std(node)), weight))
        means, stds, weighs = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(means, stds, weighs, float(mean[0]), float(mean[-1]))


class Field:
    """All that the expected ranks of a list's candidates need to know of the list.

    Args:
        nodes: of the list.
        weights: of the list, :meth:`StdNodes.weights`. (nodes,).
        slices: that the list is cut into, by mean; in any number.
    """

    def __init__(self, nodes: StdNodes, weights: Array, slices: Sequence[FieldSlice]) -> None:
        self._nodes = nodes
        self._count = float(round(weights.sum()))
        mean, std, weight = (
            np.concatenate([getattr(part, name) for part in slices])
            for name in ("mean", "std", "weight")
        )
        low, high = min(part.low for part in slices), max(part.high for part in slices)
        ends = np.unique([low, high])
        self._curves = {
            int(node): _curve(mean, std, weight, nodes.std(int(node)), ends)
            for node in np.flatnonzero(weights)
        }

    def expected_rank(self, mean: Array, std: Array) -> Array:
        """The ranks of some of the list's candidates, within ``ERROR_BOUND`` of n. (k,).

        A candidate's rank depends on its own mean and std alone.
        """
        ranks = np.full(len(mean), 0.5)  # 1, less the 1/2 of meeting himself
        for node, rows, weights in self._nodes.split(std):
            ranks[rows] += weights * np.interp(mean[rows], *self._curves[node])
        return ranks.clip(1, self._count)


def _curve(mean: Array, std: Array, weight: Array, own: float, ends: Array) -> tuple[Array, Array]:
    """How many of all beat a candidate of one std, at some means, ascending. Twice (k,)."""
    means, sums = ends, _sum_over(mean, std, weight, ends, own)
    tolerance = NODE_SHARE * weight.sum()
    while True:
        wide = np.flatnonzero(sums[:-1] - sums[1:] > tolerance)
        middle = means[wide] / 2 + means[wide + 1] / 2
        inside = (means[wide] < middle) & (middle < means[wide + 1])
        if not inside.any():
            return means, sums
        at, middle = wide[inside] + 1, middle[inside]
        sums = np.insert(sums, at, _sum_over(mean, std, weight, middle, own))
        means = np.insert(means, at, middle)


def _sum_over(mean: Array, std: Array, weight: Array, points: Array, own: float) -> Array:
    """``sum_b weight_b P(b > candidate)`` for candidates of one std. (k,)."""
    sums = np.empty(len(points))
    step = max(1, CHUNK // len(mean))
    for start in range(0, len(points), step):
        rows = slice(start, start + step)
        sums[rows] = thurstone(mean, points[rows, None], std, own) @ weight  # (rows, B) @ (B,)
    return sums
