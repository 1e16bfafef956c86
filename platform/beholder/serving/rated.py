"""The opinions of a request's candidates, wherever they come from, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beholder.catalog.lookup import Found
from beholder.catalog.rank_record import RankRecord
from beholder.opinions import Rating, Scale, ScoreDistribution, thurstone
from beholder.ranking import QualityFloor
from beholder.serving.rank_requests import LeftOutOut, PairOut, StoredScore
from beholder.serving.requests import RequestError

ROUNDING = 1e-6
"""Part of a scale by which a mean may lie outside of it, for what is written in few digits."""


class Rated:
    """n candidates with their scores for one task, or the reason why they have no place.

    Args:
        names: of the candidates.
        task: whose scores they are.

    Attributes:
        mean: NaN as long as nothing is known. (n,).
        std: the same, and NaN for a point. (n,).
    """

    def __init__(self, names: Sequence[str], task: str) -> None:
        self.names, self.task = names, task
        self.mean, self.std = np.full(len(names), np.nan), np.full(len(names), np.nan)
        self._origin: dict[int, tuple[str, Scale]] = {}  # fingerprint and scale
        self._left: dict[int, tuple[str, str]] = {}
        self._stacks: list[ScoreDistribution] = []
        self._stacked: dict[int, tuple[int, int]] = {}  # which stack, and the row in it

    def add_stored(self, stored: Mapping[int, tuple[str, StoredScore]]) -> None:
        """Takes fingerprints and scores, by position.

        Raises:
            RequestError: a score is none; it names the candidate.
        """
        alike: dict[tuple[Any, ...], list[int]] = {}
        for position, (fingerprint, score) in stored.items():
            self._origin[position] = fingerprint, self._scale(position, score)
            if score.support is None or score.probs is None:
                self._check_moments(position, score)
                self.mean[position] = score.mean
                self.std[position] = np.nan if score.std is None else score.std
                continue
            if len(score.probs) != len(score.support):
                raise self._refused(
                    position, f"{len(score.probs)} probs for a support of {len(score.support)}"
                )
            alike.setdefault((score.scale, *score.support), []).append(position)
        for (_, *support), positions in alike.items():
            probs = np.array([stored[position][1].probs for position in positions])
            try:
                self._stack(np.array(support), probs, positions)
            except ValueError:
                for row, position in zip(probs, positions, strict=True):
                    try:
                        ScoreDistribution(np.array(support), row, self._origin[position][1])
                    except ValueError as error:
                        raise self._refused(position, str(error)) from error
                raise

    def add_items(self, record: RankRecord, found: Found, positions: Sequence[int]) -> None:
        """Takes what a catalog knows of some candidates, in the order of the positions."""
        about = record.tasks[self.task]
        scale, rows = Scale(*about.scale), []
        for row, position in enumerate(positions):
            if row in found.reasons:
                self._left[position] = _why(found.reasons[row], self.task, record.snapshot)
            else:
                self._origin[position] = record.fingerprint, scale
                rows.append(row)
        there = [positions[row] for row in rows]
        self.mean[there], self.std[there] = found.mean[rows], found.std[rows]
        if about.support is not None and found.probs is not None and rows:
            self._stack(np.array(about.support), found.probs[rows], there)

    def add_answers(self, answers: Mapping[int, Mapping[str, Any]]) -> None:
        """Takes answers as :meth:`beholder.items.Score.as_dict` writes them, by position."""
        scored = {}
        for position, answer in answers.items():
            if "failure" in answer:
                failure = answer["failure"]
                self._left[position] = failure["code"], failure["message"]
            elif self.task not in answer["scores"]:
                reason = f"no score for '{self.task}', only for {sorted(answer['scores'])}"
                self._left[position] = "score.no_task", reason
            else:
                score = StoredScore.model_validate(answer["scores"][self.task])
                scored[position] = answer["fingerprint"], score
        self.add_stored(scored)

    def leave_out_points(self, wanted_by: str) -> None:
        """Takes the place of candidates whose spread nobody knows."""
        reason = f"{wanted_by} needs a spread and the score is a point: order it by mean"
        for position in np.flatnonzero(np.isnan(self.std)).tolist():
            self._left.setdefault(position, ("score.no_spread", reason))

    def passed(self, floor: QualityFloor) -> NDArray[np.bool_]:
        """Who reaches a floor; who has no distribution and needs one loses his place. (n,).

        Raises:
            RequestError: the floor lies outside the scale.
        """
        passed = np.asarray(self.mean >= floor.minimum)
        origin = next((self._origin[p] for p in self.places().tolist()), None)
        if origin and not origin[1].minimum <= floor.minimum <= origin[1].maximum:
            raise RequestError(
                400,
                f"the quality floor {floor.minimum:g} lies outside the scores' scale "
                f"[{origin[1].minimum:g}, {origin[1].maximum:g}]: give it in that unit",
            )
        if floor.probability is None:
            return passed
        reached = [floor.reached(stack) for stack in self._stacks]
        for position in range(len(self.names)):
            if position in self._stacked:
                stack, row = self._stacked[position]
                passed[position] = reached[stack][row]
            else:
                reason = "the floor's probability needs a distribution: send it, or ask for a mean"
                self._left.setdefault(position, ("score.no_distribution", reason))
        return passed

    def places(self) -> NDArray[np.int64]:
        """Positions of all that have a place, ascending. (m,)."""
        return np.array([p for p in range(len(self.names)) if p not in self._left], dtype=np.int64)

    def common(self) -> tuple[str, Scale] | tuple[None, None]:
        """The fingerprint and the scale of all that have a place; None where nobody has.

        Raises:
            RequestError: there are two.
        """
        places = self.places().tolist()
        for position in places:
            for here, there, what in zip(
                self._origin[places[0]], self._origin[position], ("scorers", "scales"), strict=True
            ):
                if here != there:
                    first, second = self.names[places[0]], self.names[position]
                    raise RequestError(
                        400,
                        f"candidates '{first}' and '{second}' have '{self.task}' from two {what} "
                        f"({_told(here)} and {_told(there)}): score both with one",
                    )
        return self._origin[places[0]] if places else (None, None)

    def left_out(self) -> list[LeftOutOut]:
        """Who has no place, by position."""
        return [
            LeftOutOut(id=self.names[position], position=position, code=code, reason=reason)
            for position, (code, reason) in sorted(self._left.items())
        ]

    def pair(self, a: int, b: int) -> PairOut:
        """How likely a rater gives ``a`` more than ``b``: by distributions, else by Gaussians."""
        pair = PairOut(a=self.names[a], b=self.names[b])
        for position in (a, b):
            if position in self._left:
                reason = f"'{self.names[position]}' is left out: {self._left[position][1]}"
                return pair.model_copy(update={"reason": reason})
        if a == b:
            probability = 0.5
        elif a in self._stacked and b in self._stacked:
            probability = float(self._rating(a).probability_above(self._rating(b)))
        elif np.isnan(self.std[[a, b]]).any():
            reason = "P(A > B) needs spreads, and one of the scores is a point"
            return pair.model_copy(update={"reason": reason})
        else:
            means, stds = self.mean[[a, b]], self.std[[a, b]]
            probability = float(thurstone(means[0], means[1], stds[0], stds[1]))
        return pair.model_copy(update={"probability": probability})

    def _rating(self, position: int) -> Rating:
        stack, row = self._stacked[position]
        return self._stacks[stack][row]

    def _stack(
        self, support: NDArray[np.float64], probs: NDArray[np.float64], positions: Sequence[int]
    ) -> None:
        stack = ScoreDistribution(support, probs, self._origin[positions[0]][1])
        for row, position in enumerate(positions):
            self._stacked[position] = len(self._stacks), row
        self._stacks.append(stack)
        self.mean[positions], self.std[positions] = stack.mean, stack.std

    def _check_moments(self, position: int, score: StoredScore) -> None:
        """Refuses what no distribution on the scale has: at most half of it is the std."""
        scale = self._origin[position][1]
        width = scale.maximum - scale.minimum
        low, high = scale.minimum - ROUNDING * width, scale.maximum + ROUNDING * width
        if score.mean is not None and not low <= score.mean <= high:
            said = f"its mean {score.mean:g} lies outside its scale {_told(scale)}"
            raise self._refused(position, f"{said}: send both as scored")
        if score.std is not None and score.std > (0.5 + ROUNDING) * width:
            said = f"its std {score.std:g} is more than half of its scale {_told(scale)}"
            raise self._refused(position, f"{said}: send both as scored")

    def _scale(self, position: int, score: StoredScore) -> Scale:
        try:
            return Scale(*score.scale)
        except ValueError as error:
            raise self._refused(position, str(error)) from error

    def _refused(self, position: int, reason: str) -> RequestError:
        return RequestError(400, f"the score of candidate '{self.names[position]}': {reason}")


def _why(reason: str, task: str, snapshot: str) -> tuple[str, str]:
    """Code and sentence for what a look-up says."""
    if reason == "unknown":
        return "item.unknown", f"snapshot {snapshot} has no such item: check the id"
    if reason == "unscored":
        return "item.unscored", f"its kind of media has no '{task}' in snapshot {snapshot}"
    return reason, f"it failed when it was last looked at, in snapshot {snapshot}"


def _told(origin: object) -> str:
    if isinstance(origin, Scale):
        return f"[{origin.minimum:g}, {origin.maximum:g}]"
    return str(origin)
