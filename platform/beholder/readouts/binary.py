"""Two words and their closed softmax (Q-Bench; Q-Align, section 3.2.2, Eq. 4 with two levels)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from beholder.opinions import LevelRule, RangeRule, Scale, score_range
from beholder.readouts.contract import Votes
from beholder.readouts.levels import LevelReadout

Array = NDArray[np.float64]


class BinaryReadout(LevelReadout):
    """Levels of which there are two: ``poor`` is 1 and ``good`` is 2.

    The mean is 1 + e^good / (e^good + e^poor), Q-Bench's score and 1. Q-Bench asks an untrained
    model; here the words are taught. Two probabilities that sum to 1 are set by their mean, so a
    soft label is the opinion's place on the scale and no spread of people is asked for: the
    spread that is read follows from the mean, and says nothing of raters.

    Args:
        words: the worse, then the better.
        rule: the word that the middle of the scale belongs to: ``right_closed`` the worse.
        labels: ``one_hot``: the word of the half that the opinion falls in. ``soft``: both, the
            better by the opinion's place from 0 to 1 on the scale.
    """

    name: ClassVar[str] = "binary"

    def __init__(
        self,
        words: Sequence[str] = ("poor", "good"),
        rule: LevelRule = LevelRule.RIGHT_CLOSED,
        labels: Literal["one_hot", "soft"] = "one_hot",
    ) -> None:
        if len(words) != 2:
            raise ValueError(f"a binary readout has two words, got {list(words)}: use levels")
        super().__init__(words, rule, labels)
        self.needs_std = False

    def targets(
        self, mos: Array, std: Array | None, scale: Scale, votes: Votes | None = None
    ) -> Array:
        """One-hot rows, or the linear share of each word; from mos alone. (M, 2).

        Raises:
            ValueError: soft labels of opinions outside the scale.
        """
        if self._labels == "one_hot":
            return super().targets(mos, std, scale, votes)
        score_range(mos, RangeRule.DECLARED, scale)
        better = scale.to_unit(mos)
        return np.stack([1 - better, better], axis=1)

    def config(self) -> dict[str, Any]:
        """Words and how labels are made."""
        fields = {"words": list(self._words), "rule": str(self._rule), "labels": self._labels}
        return {"name": self.name} | fields
