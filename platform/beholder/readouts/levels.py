"""Level words, closed softmax over them (Q-Align, Eq. 1 to 4; DeQA-Score, Eq. 1 to 5)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from beholder.backbones import Read
from beholder.conversations import Part, Slot
from beholder.opinions import LEVEL_WORDS, LevelRule, Levels, Scale, ScoreDistribution
from beholder.opinions.normalise import normalise_mos, normalise_std
from beholder.opinions.soft_labels import MAX_ERROR, Density, Form, soft_labels
from beholder.readouts.contract import Reading, Readout, ScoreMap, Votes


class LevelReadout(Readout):
    """Levels: the slot holds a word, and what is learned there may be a distribution of words.

    Args:
        words: level words, worst first.
        rule: the side that an edge belongs to when one-hot labels are cut.
        labels: ``one_hot``: the word of the bin that the opinion falls in (Q-Align). ``soft``:
            probabilities with the opinion's mean and, as far as can be, its spread (DeQA-Score).
        density: how soft labels get their raw probabilities.
        form: how those become a label.
        max_error: of a released label's mean, in levels; above it the label is interpolated.
    """

    name: ClassVar[str] = "levels"
    mode: ClassVar[Literal["forced", "stepped", "generated"]] = "forced"

    def __init__(
        self,
        words: Sequence[str] = LEVEL_WORDS,
        rule: LevelRule = LevelRule.RIGHT_CLOSED,
        labels: Literal["one_hot", "soft"] = "one_hot",
        density: Density = Density.PDF,
        form: Form = Form.EXACT,
        max_error: float = MAX_ERROR,
    ) -> None:
        if len(words) < 2 or len(set(words)) != len(words):
            raise ValueError(f"level words must be at least two and distinct, got {list(words)}")
        self._words = tuple(words)
        if labels not in ("one_hot", "soft"):
            raise ValueError(f"labels of levels are one_hot or soft, not '{labels}'")
        self._rule, self._labels = LevelRule(rule), labels
        self._density, self._form = Density(density), Form(form)
        self._max_error = max_error
        self.needs_std = labels == "soft"
        self.support = np.arange(1, len(words) + 1, dtype=np.float64)
        self.scale = Scale(1.0, float(len(words)))

    def words(self) -> tuple[str, ...]:
        """The level words, worst first."""
        return self._words

    def _levels(self, scale: Scale) -> Levels:
        return Levels(scale, self._words, self._rule)

    def answer(self, name: str, mos: float, scale: Scale) -> tuple[Part, ...]:
        """The word of the bin (Q-Align, Eq. 1), with soft labels too, as released."""
        return (Slot(name, f" {self._levels(scale).word(mos)}"),)

    def scores(self, mos: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
        """The set's ends are half a level outside of 1..K where words stand for bins."""
        k = len(self._words)
        if self._labels == "soft":
            return normalise_mos(mos, scale, k)
        return 0.5 + k * scale.to_unit(mos)

    def targets(
        self,
        mos: NDArray[np.float64],
        std: NDArray[np.float64] | None,
        scale: Scale,
        votes: Votes | None = None,
    ) -> NDArray[np.float64]:
        """One-hot rows, or soft labels; from mos and std, whatever the votes. (M, K).

        Raises:
            ValueError: soft labels of opinions outside the scale or with an impossible spread.
        """
        k = len(self._words)
        if self._labels == "one_hot":
            return np.eye(k)[self._levels(scale).index(mos)]
        mean, spread = normalise_mos(mos, scale, k), normalise_std(std, scale, k)
        return soft_labels(
            mean,
            spread,
            k,
            density=self._density,
            form=self._form,
            max_error=self._max_error,
        ).probs

    def read(self, read: Read, token_ids: list[int]) -> Reading:
        """Softmax over the level logits alone (Eq. 3); its mean over weights 1..K is Eq. 4."""
        logits = read.logits.double()
        closed = logits[:, token_ids]
        probs = torch.softmax(closed, dim=-1)
        mass = torch.exp(torch.logsumexp(closed, -1) - torch.logsumexp(logits, -1))
        distribution = ScoreDistribution(self.support, probs.cpu().numpy(), self.scale)
        return Reading(distribution, mass.cpu().numpy())

    def invert(self, scores: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
        """One-hot words stand for the middles of their bins, soft ones span the scale."""
        through = "centres" if self._labels == "one_hot" else "ends"
        return self._levels(scale).invert(scores, through=through)

    def inverse_maps(self, scale: Scale) -> Mapping[str, ScoreMap]:
        """Both: published errors of one-hot words were taken through the ends, too."""
        levels = self._levels(scale)
        return {
            "centres": lambda scores: levels.invert(scores, through="centres"),
            "ends": lambda scores: levels.invert(scores, through="ends"),
        }

    def config(self) -> dict[str, Any]:
        """Words and how labels are made."""
        made = {"name": self.name, "words": list(self._words), "labels": self._labels}
        if self._labels == "one_hot":
            return made | {"rule": str(self._rule)}
        made |= {"density": str(self._density), "form": str(self._form)}
        return made | ({"max_error": self._max_error} if self._form is Form.RELEASED else {})
