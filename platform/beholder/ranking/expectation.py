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
  mean rises. It is worked out at some of the means, and linear between them; an interval is
  halved (by the count of means in it) while the sum falls by more than :data:`NODE_SHARE` of n
  across it.

With K occupied nodes there are at most ``K / BLOCK_SHARE`` blocks, and about ``1.5 K /
NODE_SHARE`` sums over them: the cost is that of sorting n numbers, plus a constant that grows with
the square of ln(largest std / smallest). Memory is O(n).
"""

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
"""Up to how many candidates the exact sum is taken: 16 million pairs, a second or less."""

CHUNK = 1 << 18
"""Pairs in memory at a time: 2 MB an array."""


def expected_rank(mean: ArrayLike, std: ArrayLike) -> Array:
    """Each candidate's expected rank; exact up to :data:`EXACT_LIMIT` candidates, then binned.

    Args:
        mean: of n opinions in one unit. (n,).
        std: in that unit, 0 or more. (n,).

    Returns:
        Ranks in [1, n], 1 is the best; they sum to n (n + 1) / 2. Candidates of equal mean and
        std have equal ranks, and a permutation of the input permutes the ranks. (n,).

    Raises:
        ValueError: a mean or std is not finite, a std is negative, or shapes don't match.
    """
    small = np.size(mean) <= EXACT_LIMIT
    return exact_expected_rank(mean, std) if small else binned_expected_rank(mean, std)


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
    nodes = _std_nodes(s)
    blocks = _blocks(m, nodes)
    ranks = np.full(len(m), 0.5)  # 1, less the 1/2 of meeting himself
    for node in nodes:
        ranks[node.rows] += node.weights * _above(m[node.rows], node.std, blocks)
    found = np.empty(len(m))
    found[order] = ranks.clip(1, len(m))
    return found


def _sorted(mean: ArrayLike, std: ArrayLike) -> tuple[NDArray[np.int64], Array, Array]:
    """Candidates by mean, then std: sums in one order, whatever the order of the input."""
    candidates = Candidates(np.asarray(mean), np.asarray(std))
    s = candidates.spread("expected_rank")
    order = np.lexsort((s, candidates.mean))
    return order, candidates.mean[order], s[order]


@dataclass(frozen=True)
class _StdNode:
    """Candidates that count as having one std. ``rows`` ascend, (k,); weights in (0, 1], (k,)."""

    std: float
    rows: NDArray[np.int64]
    weights: Array


@dataclass(frozen=True)
class _Blocks:
    """The others, in B blocks: ``mean``, ``std`` and ``weight``, (B,) each."""

    mean: Array
    std: Array
    weight: Array


def _std_nodes(std: Array) -> list[_StdNode]:
    """Every candidate at the two nodes around its std, by linear weights in ln std."""
    nodes = []
    certain, spread = np.flatnonzero(std == 0), np.flatnonzero(std > 0)
    if len(certain):
        nodes.append(_StdNode(0.0, certain, np.ones(len(certain))))
    if not len(spread):
        return nodes
    logs = np.log(std[spread])
    place = (logs - logs.min()) / STD_STEP
    lower = np.floor(place).astype(np.int64)
    index = np.concatenate([lower, lower + 1])
    rows = np.concatenate([spread, spread])
    weights = np.concatenate([1 - (place - lower), place - lower])
    kept = np.lexsort((rows, index))
    kept = kept[weights[kept] > 0]
    index, rows, weights = index[kept], rows[kept], weights[kept]
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    for part in np.split(np.arange(len(index)), starts[1:]):
        node = float(np.exp(logs.min() + index[part[0]] * STD_STEP))
        nodes.append(_StdNode(node, rows[part], weights[part]))
    return nodes


def _blocks(mean: Array, nodes: list[_StdNode]) -> _Blocks:
    """Blocks of equal weight at each node, at their weighted medians. ``mean`` ascends."""
    roots = np.array([np.sqrt(node.weights.sum()) for node in nodes])
    sizes = BLOCK_SHARE * len(mean) * roots / roots.sum()
    parts = []
    for node, size in zip(nodes, sizes, strict=True):
        until = node.weights.cumsum()
        before = until - node.weights
        # A block holds less than `size` before its last row. Hence it errs by `size` at most,
        # also where single rows weigh more: the median is then the last row, which is exact.
        starts = np.flatnonzero(np.diff(np.floor(before / size), prepend=-1))
        weight = np.add.reduceat(node.weights, starts)
        median = np.searchsorted(until, before[starts] + weight / 2)
        median = median.clip(starts, np.append(starts[1:], len(until)) - 1)
        parts.append((mean[node.rows[median]], np.full(len(starts), node.std), weight))
    means, stds, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Blocks(means, stds, weights)


def _above(mean: Array, std: float, blocks: _Blocks) -> Array:
    """How many of all beat candidates of these means, ascending, and of one std. (k,)."""
    points, where = np.unique(mean, return_inverse=True)
    known = np.full(len(points), np.nan)
    left, right = np.array([0]), np.array([len(points) - 1])
    known[[0, -1]] = _sum_over(blocks, points[[0, -1]], std)
    tolerance = NODE_SHARE * blocks.weight.sum()
    while len(left):
        wide = (right - left > 1) & (known[left] - known[right] > tolerance)
        left, right = left[wide], right[wide]
        middle = (left + right) // 2
        known[middle] = _sum_over(blocks, points[middle], std)
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    at = np.isfinite(known)
    return np.interp(points, points[at], known[at])[where]


def _sum_over(blocks: _Blocks, mean: Array, std: float) -> Array:
    """``sum_b weight_b P(b > candidate)`` for candidates of one std. (k,)."""
    sums = np.empty(len(mean))
    step = max(1, CHUNK // len(blocks.mean))
    for start in range(0, len(mean), step):
        rows = slice(start, start + step)
        above = thurstone(blocks.mean, mean[rows, None], blocks.std, std)  # (rows, B)
        sums[rows] = above @ blocks.weight
    return sums
