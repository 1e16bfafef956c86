"""A regression head on a hidden state (Next Token Is Enough, section 4.6).

Nothing is written: the state that would predict the answer's first token is mapped to one number,
and a sigmoid makes a score of it. There is no distribution, so the score is a point.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from beholder.backbones import Read
from beholder.conversations import Part, Slot
from beholder.opinions import Point, RangeRule, Scale, score_range
from beholder.readouts.contract import Reading, Readout, ScoreMap, Votes

Array = NDArray[np.float64]


class RegressionHead(nn.Linear):
    """Hidden states (M, H) to logits (M, 1) of scores.

    It counts in fp32 whatever its weights' type: bf16 would leave some hundred scores.
    """

    def __init__(self, hidden_size: int, seed: int) -> None:
        super().__init__(hidden_size, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            drawn = torch.rand((1, hidden_size), generator=generator)
            self.weight.copy_((2 * drawn - 1) / hidden_size**0.5)
            self.bias.zero_()

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        return F.linear(hidden.float(), self.weight.float(), self.bias.float())


class RegressionReadout(Readout):
    """A linear head to one number and a sigmoid, on 0..1; a set's declared ends are its ends.

    The paper reads "the last token of the question". Prompt ``unanswered`` ends there; with any
    other the state is that behind the sentence which a word would complete.
    """

    name: ClassVar[str] = "regression"
    mode: ClassVar[Literal["forced", "stepped", "generated"]] = "forced"
    has_spread = False

    def __init__(self) -> None:
        self.scale = Scale(0.0, 1.0)
        self.support = np.zeros(0)

    def words(self) -> tuple[str, ...]:
        """None: no logit is read."""
        return ()

    def head(self, hidden_size: int, seed: int = 0) -> nn.Module | None:
        """The linear map, its weights uniform within ``+- 1 / sqrt H``, its bias 0."""
        return RegressionHead(hidden_size, seed)

    def answer(self, name: str, mos: float, scale: Scale) -> tuple[Part, ...]:
        """Nothing is written: the slot stays open."""
        return (Slot(name),)

    def scores(self, mos: Array, scale: Scale) -> Array:
        """The set's ends become 0 and 1."""
        return scale.to_unit(mos)

    def targets(
        self, mos: Array, std: Array | None, scale: Scale, votes: Votes | None = None
    ) -> Array:
        """There are no words to teach. (M, 0).

        Raises:
            ValueError: an opinion outside the scale, which a sigmoid can't reach.
        """
        score_range(mos, RangeRule.DECLARED, scale)
        return np.zeros((len(mos), 0))

    def read(self, read: Read, token_ids: list[int]) -> Reading:
        """The sigmoid of the head's value."""
        assert read.values is not None, "a regression head's values are read with its hidden states"
        scores = read.values[:, 0].double().sigmoid().cpu().numpy()
        return Reading(Point(scores, self.scale), None)

    def invert(self, scores: Array, scale: Scale) -> Array:
        """0 and 1 become the set's ends."""
        return scale.from_unit(scores)

    def inverse_maps(self, scale: Scale) -> Mapping[str, ScoreMap]:
        """:meth:`invert` alone."""
        return {"ends": lambda scores: self.invert(scores, scale)}

    def config(self) -> dict[str, Any]:
        """Its name: the head's weights are kept beside the model's."""
        return {"name": self.name}
