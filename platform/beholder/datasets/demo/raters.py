"""Simulated raters: a latent quality to votes, and votes to MOS and std.

The model, for a picture of latent quality q on 1..5 and rater r of the pool:

    vote = clip(round(q + b_r + s_r(q) e), 1, 5),  e ~ N(0, 1)
    s_r(q) = k_r (0.30 + 0.40 (1 - ((q - 3) / 2)^2))
    b_r ~ N(0, 0.30),  k_r ~ U(0.8, 1.2)

Three raters of the pool of 60 are careless: with probability 0.7 their vote is uniform on 1..5
whatever the picture. Each picture is seen by n ~ U{20..25} raters drawn without replacement.
A rater's own spread is 0.70 k_r in mid-scale and 0.30 k_r at the ends, as in the public sets,
where people agree on what is excellent and what is bad.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

POOL = 60
CARELESS = 3
CARELESS_PROBABILITY = 0.7
FEWEST, MOST = 20, 25
LEVELS = np.arange(1, 6)


@dataclass(frozen=True)
class RaterPool:
    """60 simulated people.

    Attributes:
        bias: b_r, in points of the 1..5 scale. Shape (60,).
        spread: k_r, a factor. Shape (60,).
        careless: who answers near random. Shape (60,).
    """

    bias: NDArray[np.float64]
    spread: NDArray[np.float64]
    careless: NDArray[np.bool_]

    @classmethod
    def draw(cls, seed: int) -> "RaterPool":
        """The pool of a seed."""
        rng = np.random.default_rng([seed, POOL])
        careless = np.zeros(POOL, dtype=bool)
        careless[rng.choice(POOL, CARELESS, replace=False)] = True
        return cls(rng.normal(0.0, 0.30, POOL), rng.uniform(0.8, 1.2, POOL), careless)


@dataclass(frozen=True)
class Rating:
    """What the raters of one picture said.

    Attributes:
        votes: answers 1..5 counted, worst first; they sum to 20..25.
        mos: mean vote, 1..5.
        std: standard deviation of the votes (population), in points.
    """

    votes: tuple[int, ...]
    mos: float
    std: float


def within_rater_spread(latent: ArrayLike) -> NDArray[np.float64]:
    """s_r(q) of a rater with k_r = 1, in points. Same shape as ``latent``."""
    q = np.asarray(latent, dtype=np.float64)
    middle = 1.0 - ((q - 3.0) / 2.0) ** 2
    return 0.30 + 0.40 * middle


def population(pool: RaterPool, latent: ArrayLike) -> NDArray[np.float64]:
    """What the whole pool would answer, asked without end: probabilities of 1..5. (N,) to (N, 5).

    The votes of :func:`rate` are a sample of 20 to 25 people from this distribution.
    """
    q = np.atleast_1d(np.asarray(latent, dtype=np.float64))
    felt = q[:, None] + pool.bias  # (N, 60)
    spread = pool.spread * within_rater_spread(q)[:, None]
    below = ndtr((np.arange(1.5, 5) - felt[..., None]) / spread[..., None])  # (N, 60, 4)
    edges = np.concatenate([np.zeros((*felt.shape, 1)), below, np.ones((*felt.shape, 1))], -1)
    absent = CARELESS_PROBABILITY * pool.careless[:, None]
    return ((1 - absent) * np.diff(edges) + absent / len(LEVELS)).mean(axis=1)


def rate(pool: RaterPool, latent: float, rng: np.random.Generator) -> Rating:
    """The votes of 20 to 25 raters of the pool on a picture of latent quality 1..5."""
    who = rng.choice(POOL, int(rng.integers(FEWEST, MOST + 1)), replace=False)
    felt = latent + pool.bias[who]
    felt = felt + pool.spread[who] * within_rater_spread(latent) * rng.normal(size=len(who))
    votes = np.clip(np.rint(felt), 1, 5).astype(np.int64)
    absent = pool.careless[who] & (rng.random(len(who)) < CARELESS_PROBABILITY)
    votes[absent] = rng.integers(1, 6, int(absent.sum()))
    counts = np.bincount(votes, minlength=6)[1:]
    return Rating(tuple(int(c) for c in counts), float(votes.mean()), float(votes.std()))
