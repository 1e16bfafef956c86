"""A score of which no spread is known: what a regression head reads, or a number as written."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beholder.errors import UserError
from beholder.opinions.scale import Scale


class NoSpreadError(UserError, ValueError):
    """Something was asked of a point that only a distribution can answer."""


@dataclass(frozen=True)
class Point:
    """Scores without a spread. What needs one refuses them by name.

    Attributes:
        mean: the scores, in the unit of ``scale``. Shape (...).
        scale: the scale that they lie on.

    Raises:
        ValueError: a score is not finite.
    """

    mean: NDArray[np.float64]
    scale: Scale

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", np.asarray(self.mean, dtype=np.float64))
        if not np.all(np.isfinite(self.mean)):
            raise ValueError("scores must be finite")

    @property
    def std(self) -> NDArray[np.float64]:
        """There is none: raises NoSpreadError, as all below do."""
        raise _refused("a std")

    @property
    def entropy(self) -> NDArray[np.float64]:
        """There is none."""
        raise _refused("an entropy")

    @property
    def support(self) -> NDArray[np.float64]:
        """There is none."""
        raise _refused("a support")

    @property
    def probs(self) -> NDArray[np.float64]:
        """There are none."""
        raise _refused("probabilities")

    def quantile(self, q: float) -> NDArray[np.float64]:
        """There is none."""
        raise _refused("a quantile")

    def probability_above(self, other: object) -> NDArray[np.float64]:
        """There is none."""
        raise _refused("P(A > B)")

    def as_dict(self) -> dict[str, Any]:
        """A JSON-ready form of one score; what is not known is None."""
        unknown = dict.fromkeys(("std", "entropy", "support", "probs"))
        scale = [self.scale.minimum, self.scale.maximum]
        return {"mean": float(self.mean), **unknown, "scale": scale}

    def __len__(self) -> int:
        """How many scores there are (1 where ``mean`` has no axis)."""
        return 1 if self.mean.ndim == 0 else self.mean.shape[0]

    def __getitem__(self, index: int) -> "Point":
        """One of a stack of scores."""
        return Point(self.mean[index], self.scale)


def _refused(what: str) -> NoSpreadError:
    return NoSpreadError(
        "a regression head has no spread, nor has a number read as it is written: the score is a "
        f"point without {what}: use the mean, or a scorer whose readout gives a distribution"
    )
