"""The contract of a readout: an opinion to text and targets, a slot's logits to a distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from beholder.backbones import Read
from beholder.opinions import Scale, ScoreDistribution

Votes = Sequence[Sequence[float] | None]
"""How many people gave each answer, worst first, for M opinions; None where nobody counted."""

ScoreMap = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Scores of one scale to another. (N,) to (N,)."""


@dataclass(frozen=True)
class Reading:
    """What is read at M slots.

    Attributes:
        distribution: M distributions on the readout's own scale.
        mass: probability that the full softmax puts on the readout's tokens. (M,).
    """

    distribution: ScoreDistribution
    mass: NDArray[np.float64]


class Readout(ABC):
    """One way of writing and reading opinions. It knows no backbone by name."""

    name: ClassVar[str]
    mode: ClassVar[Literal["forced", "stepped", "generated"]]
    """forced: one pass reads every slot. stepped: one cached step a digit. generated: the
    slot is found in what the model wrote."""

    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """The words whose logits are read at the slot; each must be one token of the backbone."""

    def new_tokens(self) -> tuple[str, ...]:
        """Words that no vocabulary has: training adds them to the backbone's before it starts."""
        return ()

    @abstractmethod
    def answer(self, mos: float, scale: Scale) -> str:
        """What is written at the slot for an opinion on the set's own scale."""

    scale: Scale
    """The scale that it reads scores on."""
    support: NDArray[np.float64]
    """The score of each of :meth:`words`, ascending. (K,)."""
    needs_std: bool = False
    """Whether :meth:`targets` depends on how far people disagree."""

    @abstractmethod
    def scores(self, mos: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
        """Opinions on the readout's own scale, :meth:`invert` undoes it. (M,)."""

    @abstractmethod
    def targets(
        self,
        mos: NDArray[np.float64],
        std: NDArray[np.float64] | None,
        scale: Scale,
        votes: Votes | None = None,
    ) -> NDArray[np.float64]:
        """Target probabilities over :meth:`words` for M opinions. (M, K).

        Args:
            mos: mean opinions on the set's own scale. (M,).
            std: their spreads in the same unit, NaN where none is known. (M,).
            scale: the set's.
            votes: for readouts that can teach them; the answers are equally spaced over the
                set's scale. (M,).

        Raises:
            ValueError: opinions that the readout can't write; names the first such row.
        """

    @abstractmethod
    def read(self, read: Read, token_ids: list[int]) -> Reading:
        """The distributions at the read positions.

        Args:
            read: hidden states and logits at M slots.
            token_ids: the backbone's ids of :meth:`words`, in that order.
        """

    @abstractmethod
    def invert(self, scores: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
        """The readout's scores on the set's own scale: the inverse of its labels."""

    @abstractmethod
    def inverse_maps(self, scale: Scale) -> Mapping[str, ScoreMap]:
        """Named maps from the readout's scores to the set's scale under which errors are told.

        :meth:`invert` is one of them; straight lines all.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What ``scorer.json`` keeps, from which the same readout is made again."""
