"""The contract of a readout: an opinion to text and targets, a slot's logits to a distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from beholder.backbones import Backbone, Read
from beholder.conversations import Part
from beholder.opinions import Rating, Scale

Votes = Sequence[Sequence[float] | None]
"""How many people gave each answer, worst first, for M opinions; None where nobody counted."""

ScoreMap = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Scores of one scale to another. (N,) to (N,)."""

Steps = Generator[list[str], Read, "Reading"]
"""Yields what is written before each row's open slot, is sent what a pass reads there."""


@dataclass(frozen=True)
class Reading:
    """What is read at M slots.

    Attributes:
        distribution: M distributions on the readout's own scale, or M points.
        mass: probability that the full softmax puts on the readout's tokens; in several steps, on
            all that were read. (M,); None for a readout without tokens.
    """

    distribution: Rating
    mass: NDArray[np.float64] | None

    def row(self, index: int) -> "Reading":
        """What is read at one slot."""
        mass = None if self.mass is None else self.mass[index : index + 1]
        return Reading(self.distribution[index], mass)


class Readout(ABC):
    """One way of writing and reading opinions. It knows no backbone by name."""

    name: ClassVar[str]
    mode: ClassVar[Literal["forced", "stepped", "generated"]]
    """forced: one pass reads every slot. stepped: what is written at a slot decides what the
    next pass reads behind it. generated: the slot is found in what the model wrote."""
    same_answer: ClassVar[bool] = False
    """Whether the text is the same whatever the opinion: then one pass reads the slots of several
    attributes, of which none can depend on what is written at another."""

    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """The words whose logits are read at the slot; each must be one token of the backbone."""

    def new_tokens(self) -> tuple[str, ...]:
        """Words that no vocabulary has: training adds them to the backbone's before it starts."""
        return ()

    def head(self, hidden_size: int, seed: int = 0) -> nn.Module | None:
        """A fresh head for readouts that read hidden states: (M, H) to ``Read.values``.

        It is trained with the model, and kept beside it by checkpoints and scorers.

        Args:
            hidden_size: H, the backbone's.
            seed: of its weights.
        """
        return None

    @abstractmethod
    def answer(self, name: str, mos: float, scale: Scale) -> tuple[Part, ...]:
        """What is written for an opinion on the set's own scale, with its leading space.

        Args:
            name: of the slots: the attribute.
            mos: the opinion.
            scale: the set's.

        Returns:
            One slot, or several with the text between them, each with what stands there. An
            open slot alone where nothing is written: training then reads it as scoring does.
        """

    def token_ids(self, backbone: Backbone) -> list[int]:
        """The backbone's ids of :meth:`words`, in that order.

        Raises:
            ValueError: its tokenizer can't write or read the answers; the message names one.
        """
        return backbone.token_ids(self.words())

    scale: Scale
    """The scale that it reads scores on."""
    support: NDArray[np.float64]
    """The scores that it can read, ascending: those of :meth:`words` in their order, but for
    readouts that write a score in several. (K,)."""
    has_spread: bool = True
    """Whether it reads distributions; otherwise it reads points."""
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
        """Target probabilities over :attr:`support` for M opinions. (M, K).

        (M, 0) where nothing is taught at the slots but the text itself.

        Args:
            mos: mean opinions on the set's own scale. (M,).
            std: their spreads in the same unit, NaN where none is known. (M,).
            scale: the set's.
            votes: for readouts that can teach them; the answers are equally spaced over the
                set's scale. (M,).

        Raises:
            ValueError: opinions that the readout can't write; names the first such row.
        """

    def read(self, read: Read, token_ids: list[int]) -> Reading:
        """The distributions, or points, at the read positions, where one pass is enough for them.

        Args:
            read: hidden states and logits at M slots, and what the readout's own head makes of
                them where it has one.
            token_ids: as :meth:`token_ids` gives them.
        """
        raise NotImplementedError(f"{self.name} reads in steps: see read_slots")

    def steps(self, count: int, token_ids: list[int]) -> Steps:
        """Reads M opinions pass by pass: :func:`read_slots` runs it.

        Every pass reads one open slot of each opinion. How many passes there are never depends on
        what they read: under ZeRO-3 all workers must make equally many.

        Args:
            count: M.
            token_ids: as :meth:`token_ids` gives them.

        Yields:
            What is written of each opinion before the slot that is to be read next. (M,).

        Returns:
            The reading.
        """
        read = yield [""] * count
        return self.read(read, token_ids)

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


def read_slots(
    readout: Readout, token_ids: list[int], count: int, look: Callable[[list[str]], Read]
) -> Reading:
    """Runs a readout's steps: the one way in which scoring and training read.

    Args:
        readout: what reads.
        token_ids: the backbone's ids of its words.
        count: M opinions.
        look: one pass over all of them. Takes what is written before each open slot, gives what
            the backbone says there, (M, ...).
    """
    steps = readout.steps(count, token_ids)
    written = next(steps)
    while True:
        try:
            written = steps.send(look(written))
        except StopIteration as done:
            reading: Reading = done.value
            return reading
