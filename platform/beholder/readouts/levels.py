"""Five level words, closed softmax over them (Q-Align, Eq. 1 to 4)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from beholder.backbones import Read
from beholder.opinions import LEVEL_WORDS, LevelRule, Levels, Scale, ScoreDistribution
from beholder.readouts.contract import Reading, Readout


class LevelReadout(Readout):
    """One-hot levels: the slot holds the word of the bin that the opinion falls in.

    Args:
        words: level words, worst first.
        rule: the side that an edge belongs to when labels are cut.
    """

    name: ClassVar[str] = "levels"
    mode: ClassVar[Literal["forced", "stepped", "generated"]] = "forced"

    def __init__(
        self,
        words: Sequence[str] = LEVEL_WORDS,
        rule: LevelRule = LevelRule.RIGHT_CLOSED,
    ) -> None:
        if len(words) < 2 or len(set(words)) != len(words):
            raise ValueError(f"level words must be at least two and distinct, got {list(words)}")
        self._words = tuple(words)
        self._rule = LevelRule(rule)
        self.support = np.arange(1, len(words) + 1, dtype=np.float64)
        self.scale = Scale(1.0, float(len(words)))

    def words(self) -> tuple[str, ...]:
        """The level words, worst first."""
        return self._words

    def _levels(self, scale: Scale) -> Levels:
        return Levels(scale, self._words, self._rule)

    def answer(self, mos: float, scale: Scale) -> str:
        """The word of the bin (Eq. 1)."""
        return self._levels(scale).word(mos)

    def targets(self, mos: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
        """One-hot rows. (M, K)."""
        return np.eye(len(self._words))[self._levels(scale).index(mos)]

    def read(self, read: Read, token_ids: list[int]) -> Reading:
        """Softmax over the level logits alone (Eq. 3); its mean over weights 1..K is Eq. 4."""
        logits = read.logits.double()
        closed = logits[:, token_ids]
        probs = torch.softmax(closed, dim=-1)
        mass = torch.exp(torch.logsumexp(closed, -1) - torch.logsumexp(logits, -1))
        distribution = ScoreDistribution(self.support, probs.cpu().numpy(), self.scale)
        return Reading(distribution, mass.cpu().numpy())

    def invert(self, scores: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
        """Through the bins' centres: a word stands for the middle of its bin."""
        return self._levels(scale).invert(scores, through="centres")

    def config(self) -> dict[str, Any]:
        """Words and edge rule."""
        return {"name": self.name, "words": list(self._words), "rule": str(self._rule)}
