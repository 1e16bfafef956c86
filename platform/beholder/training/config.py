"""What a training job can be told; `configs/train/` has examples."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from beholder.catalog.locations import Location
from beholder.config import JobConfig
from beholder.conversations import PROMPTS
from beholder.training.learning_config import (
    DeepSpeedConfig,
    ObjectiveConfig,
    ScheduleConfig,
    WorkersConfig,
)
from beholder.training.model_config import BackboneConfig
from beholder.training.readout_config import (
    BinaryConfig,
    LevelsConfig,
    ReadoutConfig,
    RegressionConfig,
)
from beholder.training.set_config import FolderName, SetConfig


class TrainConfig(JobConfig):
    """One training run of one scorer on one mix."""

    name: FolderName = Field(description="name of the run's folder")
    storage: Location = Field(description="URI under which the run's folder is made")
    seed: int = Field(
        0, ge=0, lt=2**32, description="of order, initialisation, dropout and paraphrases"
    )
    sets: tuple[SetConfig, ...] = Field(min_length=1, description="the mix")
    mixing: Literal["concatenate", "weighted"] = Field(
        "concatenate",
        description="an epoch has every row once; or as many places, dealt to the sets by their "
        "shares, each set's rows in turn",
    )
    backbone: BackboneConfig = Field(description="the model")
    readout: ReadoutConfig = Field(LevelsConfig(), description="how opinions are written and read")
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="what is minimised")
    prompt: str = Field("training", description="prompt variant, in training and scoring")
    schedule: ScheduleConfig = Field(description="how long and how fast")
    deepspeed: DeepSpeedConfig = Field(description="optimizer state")
    workers: WorkersConfig = Field(description="Ray Train's workers")
    cache_features: bool = Field(
        False,
        description="compute the frozen vision part once a picture; for pocket in float32; "
        "needs memory on each worker for the states of the whole mix",
    )
    max_failed: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of the training rows whose media may fail; above it the run is refused",
    )
    evaluate: tuple[str, ...] = Field(
        ("mos",), description="test-split columns against which the scorer is measured"
    )

    @field_validator("readout", mode="before")
    @classmethod
    def _named(cls, readout: Any) -> Any:
        """Levels, where no name is given."""
        return {"name": "levels", **readout} if isinstance(readout, Mapping) else readout

    @model_validator(mode="after")
    def _learnable(self) -> "TrainConfig":
        """The objective teaches what the readout reads."""
        objective, readout = self.objective, self.readout
        if isinstance(readout, RegressionConfig):
            self._only_squared_error()
            self._no_edges()
            return self
        if objective.squared_error:
            raise ValueError(
                f"objective.squared_error {objective.squared_error:g} teaches a regression head, "
                f"which readout {readout.name} has not: name readout regression, or set it to 0"
            )
        labels = readout.labels if isinstance(readout, LevelsConfig | BinaryConfig) else ""
        if (labels == "soft") != bool(objective.soft_label):
            named = f".labels {labels}" if labels else f" {readout.name}"
            raise ValueError(
                f"readout{named} and objective.soft_label {objective.soft_label:g} don't go "
                "together: soft labels are what that term teaches"
            )
        if labels:
            if objective.needs_votes:
                raise ValueError(
                    f"objective.emd {objective.emd:g} and objective.vote_ce {objective.vote_ce:g} "
                    "learn votes on score tokens: name readout score_tokens, or set both to 0"
                )
            return self
        if readout.name == "digits" and objective.teaches_scores:
            raise ValueError(
                "readout digits learns numbers as text: leave objective.next_token alone, and set "
                "fidelity, smooth_l1, emd and vote_ce to 0"
            )
        if readout.name == "score_tokens" and not objective.teaches_scores:
            raise ValueError(
                "readout score_tokens learns no score from objective.next_token alone: give "
                "smooth_l1, vote_ce, emd or fidelity a weight"
            )
        self._no_edges()
        return self

    @model_validator(mode="after")
    def _densities(self) -> "TrainConfig":
        soft = isinstance(self.readout, LevelsConfig) and self.readout.labels == "soft"
        for some in self.sets:
            if some.density is not None and not soft:
                raise ValueError(
                    f"set {some.name}: density {some.density} is about soft labels of levels, of "
                    "which there are none: leave it out, or set readout.labels to soft"
                )
        return self

    def _only_squared_error(self) -> None:
        if not self.objective.squared_error:
            raise ValueError(
                "readout regression learns from objective.squared_error alone, which is 0: give "
                "it a weight, and set next_token to 0"
            )
        for term in ("next_token", "soft_label", "fidelity", "smooth_l1", "emd", "vote_ce"):
            if weight := getattr(self.objective, term):
                raise ValueError(
                    f"objective.{term} {weight:g} learns from words, of which readout regression "
                    "writes and reads none: set it to 0"
                )

    def _no_edges(self) -> None:
        for some in self.sets:
            if some.rule != "right_closed":
                raise ValueError(
                    f"set {some.name}: rule {some.rule} is about the edges of levels, of which "
                    f"readout {self.readout.name} has none: leave it out"
                )

    @model_validator(mode="after")
    def _several_attributes(self) -> "TrainConfig":
        """One answer speaks of them in one order, whatever the set."""
        orders: dict[str, tuple[str, ...]] = {}
        for some in self.sets:
            if not some.attributes:
                continue
            if self.readout.name != "score_tokens":
                raise ValueError(
                    f"set {some.name}: attributes share an answer only with readout score_tokens, "
                    f"whose text is the same whatever the scores, not with {self.readout.name}: "
                    "leave them out, or make a set of each"
                )
            if self.objective.fidelity:
                raise ValueError(
                    f"set {some.name}: objective.fidelity compares mos alone: set it to 0 or leave "
                    "attributes out"
                )
            names = tuple(some.attributes)
            if orders.setdefault(some.task, names) != names:
                raise ValueError(
                    f"set {some.name}: attributes {list(names)} and another set's "
                    f"{list(orders[some.task])} of task {some.task} make two answers: give both "
                    "the same names in the same order, and empty cells where nobody rated one"
                )
        every = [*{some.task for some in self.sets}, *(n for some in orders.values() for n in some)]
        for name in every:
            if every.count(name) > 1 or not name.strip() or set(name) & set("{}"):
                raise ValueError(
                    f"attribute '{name}' must be a name of its own, without braces: a scorer "
                    "answers for each by name"
                )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        backbone = self.backbone
        if not (backbone.train or backbone.lora or isinstance(self.readout, RegressionConfig)):
            raise ValueError(
                "backbone.train is empty and there is no backbone.lora: nothing would be trained, "
                "name parts in either"
            )
        share = self.workers.count * self.schedule.micro_batch
        if self.schedule.global_batch % share:
            raise ValueError(
                f"schedule.global_batch {self.schedule.global_batch} is not a multiple of "
                f"workers.count x schedule.micro_batch = {share}: change one of the three"
            )
        if self.cache_features and "vision" in self.backbone.train:
            raise ValueError(
                "cache_features needs a frozen vision part: take vision out of backbone.train"
            )
        if self.cache_features and (self.backbone.name, self.backbone.dtype) != (
            "pocket",
            "float32",
        ):
            raise ValueError(
                f"cache_features keeps pocket's float32 states, not {self.backbone.name}'s in "
                f"{self.backbone.dtype}: set it to false"
            )
        if self.objective.fidelity and self.schedule.micro_batch % 2:
            raise ValueError(
                f"objective.fidelity deals pairs: make schedule.micro_batch "
                f"{self.schedule.micro_batch} an even number"
            )
        if self.prompt not in PROMPTS:
            raise ValueError(f"prompt '{self.prompt}' is none: use one of {', '.join(PROMPTS)}")
        for some in self.sets:
            for column, (start, below) in some.within.items():
                if not start < below:
                    raise ValueError(
                        f"set {some.name}: within {column} [{start:g}, {below:g}] holds nothing: "
                        "give [from, below], the smaller first"
                    )
            if (some.share is None) == (self.mixing == "weighted"):
                given = "no share" if some.share is None else f"a share of {some.share:g}"
                raise ValueError(
                    f"set {some.name} has {given} and mixing is {self.mixing}: shares are what "
                    "mixing weighted deals by, one for each set"
                )
        if len({s.name for s in self.sets}) != len(self.sets):
            raise ValueError("two sets have one name: give each its own")
        return self
