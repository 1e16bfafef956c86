"""What a training job can be told of how opinions are written and read."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from beholder.config import JobConfig
from beholder.opinions import LEVEL_WORDS
from beholder.opinions.soft_labels import MAX_ERROR, Density, Form
from beholder.training.set_config import SetConfig


class LevelsConfig(JobConfig):
    """Opinions as level words."""

    name: Literal["levels"] = Field("levels", description="words for levels, Q-Align's and DeQA's")
    words: tuple[str, ...] = Field(LEVEL_WORDS, description="level words, worst first")
    labels: Literal["one_hot", "soft"] = Field(
        "one_hot",
        description="one word an opinion (Q-Align), or probabilities of words (DeQA-Score)",
    )
    density: Density = Field(Density.PDF, description="raw probabilities of soft labels")
    form: Form = Field(Form.EXACT, description="how they become soft labels")
    max_error: float = Field(
        MAX_ERROR,
        ge=0,
        description="of form released: how far, in levels, a label's mean may be from the mos; "
        "beyond, it is interpolated (0.2 gives DeQA-Score's Table 1 for KonIQ)",
    )

    @field_validator("words")
    @classmethod
    def _distinct(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) < 2 or len(set(words)) != len(words) or not all(words):
            raise ValueError(f"level words must be at least two and distinct, got {list(words)}")
        return words

    def for_set(self, some: SetConfig) -> dict[str, Any]:
        """What makes the readout that writes a set's opinions: its edge rule and density."""
        density = self.density if some.density is None else some.density
        return self.model_dump(mode="json") | {"rule": some.rule, "density": str(density)}


class BinaryConfig(JobConfig):
    """Opinions as two words."""

    name: Literal["binary"] = Field("binary", description="two words, Q-Bench's good and poor")
    words: tuple[str, str] = Field(("poor", "good"), description="the worse and the better word")
    labels: Literal["one_hot", "soft"] = Field(
        "one_hot",
        description="the word of the scale's half, or both by the place of the mos on the scale",
    )

    @field_validator("words")
    @classmethod
    def _distinct(cls, words: tuple[str, str]) -> tuple[str, str]:
        if words[0] == words[1] or not all(words):
            raise ValueError(f"they must be two different words, got {list(words)}")
        return words

    def for_set(self, some: SetConfig) -> dict[str, Any]:
        """What makes the readout that writes a set's opinions: its edge rule."""
        return self.model_dump(mode="json") | {"rule": some.rule}


class RegressionConfig(JobConfig):
    """Opinions as a number from a hidden state; nothing is written."""

    name: Literal["regression"] = Field(
        "regression", description="a linear head and a sigmoid, RealQA's section 4.6; no spread"
    )

    def for_set(self, some: SetConfig) -> dict[str, Any]:
        """What makes the readout that writes a set's opinions, the same for all."""
        return self.model_dump(mode="json")


class ScoreTokensConfig(JobConfig):
    """Opinions as a position token, read from score tokens."""

    name: Literal["score_tokens"] = Field(
        "score_tokens", description="new tokens that stand for scores, ROC4MLLM's"
    )
    tokens: int = Field(10, ge=2, description="how many score tokens")
    scale: tuple[float, float] = Field(
        (1.0, 10.0),
        description="[minimum, maximum] of their scores, to which every set's scale is mapped; "
        "smooth L1 bends at a distance of 1 on it",
    )

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] >= scale[1]:
            raise ValueError("it must be [minimum, maximum]")
        return scale

    def for_set(self, some: SetConfig) -> dict[str, Any]:
        """What makes the readout that writes a set's opinions, the same for all."""
        return self.model_dump(mode="json")


class DigitsConfig(JobConfig):
    """Opinions as numbers, from 0 to below 10."""

    name: Literal["digits"] = Field("digits", description="a number digit by digit, RealQA's")
    digits: int = Field(3, ge=1, le=3, description="digits of a number, 3 for 3.99")
    reading: Literal["tree", "eq4", "greedy"] = Field(
        "tree",
        description="conditional distributions behind the most probable digits, each digit's "
        "expectation behind the written ones (Eq. 4), or the written number",
    )
    branches: int = Field(10, ge=1, description="beginnings of each length that a tree follows")

    def for_set(self, some: SetConfig) -> dict[str, Any]:
        """What makes the readout that writes a set's opinions, the same for all."""
        return self.model_dump(mode="json")


ReadoutConfig = Annotated[
    LevelsConfig | BinaryConfig | ScoreTokensConfig | DigitsConfig | RegressionConfig,
    Field(discriminator="name"),
]
"""How opinions are written and read: ``name`` says which fields there are."""
