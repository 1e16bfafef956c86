"""Score tokens behind a position token (ROC4MLLM, "Method" and Eq. 5).

The text holds ``[SCORE]``, whatever the score; the score is read from N tokens that never stand
in it, at the position that predicts ``[SCORE]``. Text and score then share no target.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from beholder.backbones import Read
from beholder.conversations import Part, Slot
from beholder.opinions import Scale, ScoreDistribution
from beholder.opinions.votes import onto_levels, vote_distribution
from beholder.readouts.contract import Reading, Readout, ScoreMap, Votes

Array = NDArray[np.float64]

POSITION = "[SCORE]"
"""Stands in the text where a score belongs."""

VOTES_OFF = 0.1
"""How far the mean of votes may be from the mos, as a share of the scale: further, and the votes
are not on the scale that the mos is on."""


class ScoreTokenReadout(Readout):
    """N new tokens whose scores are ``linspace(minimum, maximum, N)`` of the readout's own scale.

    That scale is 1..10 for every set, as in the paper (its Figure 3; AVA's own), and a set's
    declared ends are its ends. So the bend of the smooth L1 loss, 1, is the same for all sets of
    a mix, and N sets how finely a score is written, not what an error costs.

    Args:
        tokens: N.
        scale: [minimum, maximum] of the readout's own scale.
    """

    name: ClassVar[str] = "score_tokens"
    mode: ClassVar[Literal["forced", "stepped", "generated"]] = "forced"
    same_answer: ClassVar[bool] = True

    def __init__(self, tokens: int = 10, scale: Sequence[float] = (1.0, 10.0)) -> None:
        if tokens < 2:
            raise ValueError(f"a score needs at least two score tokens, got {tokens}")
        if len(scale) != 2:
            raise ValueError(f"the scale of score tokens is [minimum, maximum], got {list(scale)}")
        self.scale = Scale(float(scale[0]), float(scale[1]))
        self.support = np.linspace(self.scale.minimum, self.scale.maximum, tokens)

    def words(self) -> tuple[str, ...]:
        """The score tokens, lowest first."""
        return tuple(f"[IMG{number}]" for number in range(len(self.support)))

    def new_tokens(self) -> tuple[str, ...]:
        """The position token and the score tokens: no vocabulary has them."""
        return (POSITION, *self.words())

    def answer(self, name: str, mos: float, scale: Scale) -> tuple[Part, ...]:
        """The position token, whatever the opinion."""
        return (Slot(name, f" {POSITION}"),)

    def scores(self, mos: Array, scale: Scale) -> Array:
        """The set's ends become the own scale's."""
        return self.scale.from_unit(scale.to_unit(mos))

    def targets(
        self, mos: Array, std: Array | None, scale: Scale, votes: Votes | None = None
    ) -> Array:
        """Votes on the N tokens; a row without is shared by the two tokens next to its mos.

        Votes for L answers are taken to be equally spaced over the set's scale. Where L is not
        N, one between two tokens gives each a share by its distance: the mean stays. (M, N).

        Raises:
            ValueError: votes that are none, or whose mean is far from the mos.
        """
        own = self.scores(np.asarray(mos, dtype=np.float64), scale)  # (M,)
        step = self.support[1] - self.support[0]
        targets = np.maximum(0, 1 - np.abs(self.support - own[:, None]) / step)
        counted = {at: row for at, row in enumerate(votes or ()) if row is not None}
        for answers in sorted({len(row) for row in counted.values()}):
            rows = [at for at, row in counted.items() if len(row) == answers]
            targets[rows] = self._voted([counted[at] for at in rows], own[rows])
        return targets

    def _voted(self, votes: Sequence[Sequence[float]], own: Array) -> Array:
        """Votes for one number of answers on the N tokens, (M, N); ``own`` are the scores."""
        answers = np.linspace(self.scale.minimum, self.scale.maximum, len(votes[0]))
        said = vote_distribution(votes, answers)
        off = np.abs(said.mean - own) > VOTES_OFF * self.scale.width
        if off.any():
            row = int(np.argmax(off))
            mean, mos = self.scale.to_unit(said.mean[row]), self.scale.to_unit(own[row])
            raise ValueError(
                f"votes {list(votes[row])} have their mean at {mean:.0%} of the scale and the mos "
                f"is at {mos:.0%}: give the scale that the votes are on, and mos in its unit"
            )
        return onto_levels(said, len(self.support)).probs

    def read(self, read: Read, token_ids: list[int]) -> Reading:
        """Softmax over the N score logits alone; its mean over the support is Eq. 5.

        The printed Eq. 5 exponentiates probabilities, which would keep scores within 4.84..6.16
        of 1..10: the softmax is over logits. The mass on the score tokens is small by design, since
        the text teaches the position token where they are read.
        """
        logs = read.logits.double().log_softmax(-1)[:, token_ids]
        probs = logs.softmax(-1).cpu().numpy()
        mass = logs.logsumexp(-1).exp().cpu().numpy()
        return Reading(ScoreDistribution(self.support, probs, self.scale), mass)

    def invert(self, scores: Array, scale: Scale) -> Array:
        """The own scale's ends become the set's."""
        return scale.from_unit(self.scale.to_unit(scores))

    def inverse_maps(self, scale: Scale) -> Mapping[str, ScoreMap]:
        """:meth:`invert` alone."""
        return {"ends": lambda scores: self.invert(scores, scale)}

    def config(self) -> dict[str, Any]:
        """How many tokens, on which scale."""
        scale = [self.scale.minimum, self.scale.maximum]
        return {"name": self.name, "tokens": len(self.support), "scale": scale}
