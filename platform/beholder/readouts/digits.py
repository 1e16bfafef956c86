"""A number digit by digit (RealQA, "Next Token Is Enough", section 3.2).

Cross-entropy teaches the text, ``3.99``; a score is read from what the model says of each digit
behind those before it, ``p(d1) p(d2|d1) p(d3|d1 d2)``. Each pass goes over the whole row: a
reading costs 3 passes of the language model along one path and 21 over ten branches.
"""

from collections.abc import Generator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from beholder.backbones import Backbone, Read
from beholder.conversations import Part
from beholder.opinions import Point, Scale, ScoreDistribution
from beholder.readouts.contract import Reading, Readout, ScoreMap, Steps, Votes
from beholder.readouts.numbers import BASE, DIGITS, Numbers

Array = NDArray[np.float64]
Way = Literal["tree", "eq4", "greedy"]


class DigitReadout(Readout):
    """M digits, most significant first, of a scale from 0 to below 10.

    A set's declared ends are 0 and 10; opinions that would be written above 9.99 (for M = 3) are
    written as 9.99.

    Args:
        digits: M, 1 to 3.
        reading: ``greedy``: the number that is written (the paper's tables), without a spread.
            ``eq4``: each digit's distribution behind the digits written before it, as if they
            were independent; its mean is Eq. 4. ``tree``: the ``branches`` most probable
            beginnings of each length are followed. Behind them every digit has its own
            conditional distribution; the probability of the others is shared evenly by the numbers
            that begin so, which moves the mean by less than half a unit of their last digit.
            Only this one sees that 3.99 and 4.00 are neighbours.
        branches: of ``tree``; from ``10^(M-1)`` on it leaves nothing out.
    """

    name: ClassVar[str] = "digits"
    mode: ClassVar[Literal["forced", "stepped", "generated"]] = "stepped"

    def __init__(self, digits: int = 3, reading: Way = "tree", branches: int = 10) -> None:
        if not 1 <= digits <= 3:
            raise ValueError(f"a score is written in 1 to 3 digits, not in {digits}")
        if reading not in ("tree", "eq4", "greedy"):
            raise ValueError(f"digits are read as tree, eq4 or greedy, not as '{reading}'")
        if branches < 1:
            raise ValueError(f"a tree needs at least one branch, got {branches}")
        self._numbers, self._reading, self._branches = Numbers(digits), reading, branches
        self._digits = digits
        self.has_spread = reading != "greedy"
        self.scale = Scale(0.0, 10.0)
        self.support = np.arange(BASE**digits) / BASE ** (digits - 1)

    def words(self) -> tuple[str, ...]:
        """The ten digits."""
        return DIGITS

    def token_ids(self, backbone: Backbone) -> list[int]:
        """See :meth:`beholder.readouts.numbers.Numbers.token_ids`."""
        return self._numbers.token_ids(backbone)

    def answer(self, name: str, mos: float, scale: Scale) -> tuple[Part, ...]:
        """The opinion in M digits, a slot each; the space and the point are text."""
        own = float(self.scores(np.array([mos]), scale)[0])
        number = round(own * BASE ** (self._digits - 1))
        return self._numbers.parts(name, min(max(number, 0), len(self.support) - 1))

    def scores(self, mos: Array, scale: Scale) -> Array:
        """The set's ends become 0 and 10; not rounded, not clipped."""
        return self.scale.from_unit(scale.to_unit(mos))

    def targets(
        self, mos: Array, std: Array | None, scale: Scale, votes: Votes | None = None
    ) -> Array:
        """None but the text, (M, 0).

        Raises:
            ValueError: an opinion outside the scale.
        """
        unit = scale.to_unit(mos)
        wrong = np.flatnonzero(~((unit >= 0) & (unit <= 1)))
        if len(wrong):
            raise ValueError(
                f"row {wrong[0]} has an opinion of {mos[wrong[0]]} outside the scale "
                f"[{scale.minimum}, {scale.maximum}]: declare the scale that raters could answer on"
            )
        return np.zeros((len(unit), 0))

    def steps(self, count: int, token_ids: list[int]) -> Steps:
        """M passes along one path, or a tree's ``1 + branches + branches``.

        The mass is the probability of the full softmax: for a tree that of all numbers which its
        branches reach, otherwise that a digit stands in every place of the path.
        """
        way = self._tree if self._reading == "tree" else self._path
        probs, mass = yield from way(count, token_ids)
        if not self.has_spread:
            return Reading(Point(probs @ self.support, self.scale), mass)
        return Reading(ScoreDistribution(self.support, probs, self.scale), mass)

    def _path(
        self, count: int, token_ids: list[int]
    ) -> Generator[list[str], Read, tuple[Array, Array]]:
        """Probabilities of all numbers along the digits that are written."""
        number = np.zeros(count, dtype=np.int64)
        probs, mass = np.ones((count, 1)), np.ones(count)
        for place in range(self._digits):
            read = yield [self._numbers.text(int(n), place) for n in number]
            closed, on_digits = _of_digits(read, token_ids)  # (M, 10), (M,)
            written = closed.argmax(1)
            number, mass = number * BASE + written, mass * on_digits
            if self._reading == "greedy":
                closed = np.eye(BASE)[written]
            probs = (probs[:, :, None] * closed[:, None]).reshape(count, -1)
        return probs, mass

    def _tree(
        self, count: int, token_ids: list[int]
    ) -> Generator[list[str], Read, tuple[Array, Array]]:
        """Probabilities of all numbers over the most probable beginnings, W at each place."""
        rows = np.arange(count)[:, None]
        probs = np.zeros((count, len(self.support)))
        begun = np.zeros((count, 1), dtype=np.int64)  # beginnings that are followed, (M, W)
        closed, full = np.ones((2, count, 1))  # their probabilities among digits, among all tokens
        for place in range(self._digits):
            looks = []
            for branch in begun.T:
                read = yield [self._numbers.text(int(n), place) for n in branch]
                looks.append(_of_digits(read, token_ids))
            digits = np.stack([among for among, _ in looks], 1)  # (M, W, 10)
            on_digits = np.stack([mass for _, mass in looks], 1)  # (M, W)
            numbers = (begun[:, :, None] * BASE + np.arange(BASE)).reshape(count, -1)
            full = ((full * on_digits)[:, :, None] * digits).reshape(count, -1)
            closed = (closed[:, :, None] * digits).reshape(count, -1)
            last = place == self._digits - 1
            kept = 0 if last else min(self._branches, numbers.shape[1])
            order = np.argsort(-closed, axis=1, kind="stable")
            left = order[:, kept:]
            span = BASE ** (self._digits - 1 - place)  # numbers that begin alike
            shared = probs.reshape(count, -1, span)
            shared[rows, numbers[rows, left]] = closed[rows, left][:, :, None] / span
            if not last:
                most = order[:, :kept]
                begun, closed, full = numbers[rows, most], closed[rows, most], full[rows, most]
        return probs, full.sum(1)

    def invert(self, scores: Array, scale: Scale) -> Array:
        """0 and 10 become the set's ends."""
        return scale.from_unit(self.scale.to_unit(scores))

    def inverse_maps(self, scale: Scale) -> Mapping[str, ScoreMap]:
        """:meth:`invert` alone."""
        return {"ends": lambda scores: self.invert(scores, scale)}

    def config(self) -> dict[str, Any]:
        """How many digits, how they are read."""
        made = {"name": self.name, "digits": self._digits, "reading": self._reading}
        return made | ({"branches": self._branches} if self._reading == "tree" else {})


def _of_digits(read: Read, token_ids: list[int]) -> tuple[Array, Array]:
    """Each digit's probability among the ten, (M, 10), and theirs in the full softmax, (M,)."""
    logs = read.logits.double().log_softmax(-1)[:, token_ids]
    return logs.softmax(-1).cpu().numpy(), logs.logsumexp(-1).exp().cpu().numpy()
