"""A scale on which people, or a scorer, give numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Scale:
    """The closed interval ``[minimum, maximum]`` in the unit of whoever asked the question.

    KonIQ's MOS is on ``Scale(0, 100)``, a five-level question on ``Scale(1, 5)``. A set's
    *declared* scale is what raters could answer, which is wider than what they did answer.

    Raises:
        ValueError: the bounds are not finite or not in order.
    """

    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.minimum) and np.isfinite(self.maximum)):
            raise ValueError(f"scale bounds must be finite, got [{self.minimum}, {self.maximum}]")
        if self.minimum >= self.maximum:
            raise ValueError(
                f"scale [{self.minimum}, {self.maximum}] is empty: give the smaller bound first"
            )

    @property
    def width(self) -> float:
        """``maximum - minimum``."""
        return self.maximum - self.minimum

    def to_unit(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values on this scale, mapped linearly to [0, 1]; values outside leave [0, 1]."""
        return (np.asarray(values, dtype=np.float64) - self.minimum) / self.width

    def from_unit(self, values: ArrayLike) -> NDArray[np.float64]:
        """The inverse of :meth:`to_unit`."""
        return self.minimum + np.asarray(values, dtype=np.float64) * self.width
