"""What a training job can be told; `configs/train/` has examples."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from beholder.config import JobConfig
from beholder.conversations import PROMPTS
from beholder.opinions import LEVEL_WORDS
from beholder.opinions.soft_labels import MAX_ERROR, Density, Form


def _folder_name(name: str) -> str:
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise ValueError("it names a folder: give it at least one letter and no path")
    return name


FolderName = Annotated[str, AfterValidator(_folder_name)]
"""A name that becomes one folder's, so never a path."""


class SetConfig(JobConfig):
    """One data set in the mix."""

    name: FolderName = Field(description="name in reports and metrics")
    manifest: str = Field(description="URI of its Parquet manifest (columns mos and split)")
    task: Literal["quality", "aesthetics"] = Field(description="what its MOS rates")
    scale: tuple[float, float] = Field(
        description="[minimum, maximum] over which its levels are cut, in its MOS's unit"
    )
    rule: Literal["right_closed", "left_closed"] = Field(
        "right_closed",
        description="the side of a level that a score on its edge belongs to",
    )
    assume_std: bool = Field(
        False,
        description="take a fifth of the scale as std where the set has none (DeQA-Score, PIPAL)",
    )
    attributes: dict[str, str] = Field(
        default_factory=dict,
        description="further attributes of which the same answer speaks, by name the manifest's "
        "column of their mean opinions on the same scale; empty cells are not learned",
    )
    density: Density | None = Field(
        None, description="raw probabilities of this set's soft labels; none: readout.density"
    )
    within: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="by column [from, below]: rows for training and validation whose number lies "
        "outside are left out, and counted in the log (Q-Align's KonIQ); test rows stay",
    )
    rows: int | None = Field(
        None,
        description="training rows expected, of those within, before a fraction is taken; refused "
        "if the manifest has another number, and used by --dry-run where it can't be read",
    )
    fraction: float = Field(
        1.0, gt=0, le=1, description="part of the training rows that is learned from (few-shot)"
    )
    fraction_seed: int = Field(0, description="of the choice of that part")
    share: float | None = Field(
        None,
        gt=0,
        description="relative weight of the set where mixing is weighted: its part of an epoch is "
        "this over the sum of all",
    )


class LoraConfig(JobConfig):
    """Low-rank adapters on the language part, whose own weights then stay as they are.

    Q-Align's and DeQA-Score's releases have rank 128, alpha 256 and dropout .05 on mPLUG-Owl2's
    default targets; RealQA has rank 128 on all linear layers.
    """

    rank: int = Field(128, ge=1, description="width of an adapter")
    alpha: int = Field(256, ge=1, description="an adapter's output is scaled by alpha / rank")
    dropout: float = Field(0.05, ge=0, lt=1, description="on what enters an adapter, in training")
    targets: tuple[str, ...] | Literal["all-linear"] | None = Field(
        None,
        description="endings of the names of the layers that are adapted, or all-linear; none: "
        "the backbone's own choice",
    )

    @property
    def scaling(self) -> float:
        """What an adapter's output is multiplied by."""
        return self.alpha / self.rank


class BackboneConfig(JobConfig):
    """Where the model comes from."""

    name: Literal["pocket", "mplug_owl2"] = Field(description="folder under beholder/backbones")
    weights: str | None = Field(
        None,
        description="URI of a folder with config.json, safetensors and tokenizer.json to start "
        "from; none: the backbone's own start",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of config.json that differ from its default",
    )
    train: tuple[Literal["vision", "projector", "language"], ...] = Field(
        ("projector", "language"), description="parts whose weights are all trained"
    )
    lora: LoraConfig | None = Field(
        None,
        description="low-rank adapters on the language part instead of all its weights; where the "
        "readout brings new tokens, token embedding and head are trained whole beside them",
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="weights in training")
    gradient_checkpointing: bool = Field(
        False,
        description="recompute activations in the backward pass instead of keeping them",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "BackboneConfig":
        if self.lora is not None and "language" in self.train:
            others = ", ".join(part for part in self.train if part != "language")
            raise ValueError(
                "lora trains adapters in place of the language part, which train names: set "
                f"backbone.train to [{others}], or lora to null"
            )
        return self


class ScheduleConfig(JobConfig):
    """How long and how fast."""

    epochs: int = Field(ge=1, description="times that each row is seen")
    global_batch: int = Field(ge=1, description="rows an optimizer step, over all workers")
    micro_batch: int = Field(ge=1, description="rows a forward on one worker")
    learning_rate: float = Field(gt=0, description="AdamW's peak")
    warmup: float = Field(0.03, ge=0, lt=1, description="part of the steps with a rising rate")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    gradient_clip: float = Field(1.0, gt=0, description="largest global gradient norm")
    checks: int = Field(
        1,
        ge=1,
        description="times that validation is measured and a checkpoint is kept",
    )


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


class ObjectiveConfig(JobConfig):
    """What is minimised: a weighted sum of terms, of which 0 leaves one out.

    DeQA-Score's ``L_rank + 0.05 (CE + KL)`` is next_token 0.05, soft_label 0.05, fidelity 1.
    ROC4MLLM's is next_token 1 and smooth_l1 1, with vote_ce on AVA; its released script for AVA
    has vote_ce 10 instead of smooth_l1. The same two with readout levels are the paper's Eq. 3,
    in which the text's target at the slot is one of the words that are scored: what it decouples.
    """

    next_token: float = Field(
        1.0,
        ge=0,
        description="weight of the cross-entropy of the answer's tokens; without the level "
        "where soft_label is on",
    )
    soft_label: float = Field(
        0.0, ge=0, description="weight of the KL from the soft label to the level token"
    )
    softmax: Literal["full", "closed"] = Field(
        "full", description="soft_label over the whole vocabulary, or over the levels alone"
    )
    fidelity: float = Field(
        0.0, ge=0, description="weight of the fidelity loss over pairs of one set"
    )
    spread: Literal["predicted", "fixed"] = Field(
        "predicted",
        description="std of a predicted score in fidelity: its own (DeQA-Score, Eq. 7), or 1 on "
        "the readout's scale (its release)",
    )
    binary: bool = Field(
        False, description="fidelity asks which of a pair is better, not by how much"
    )
    pairs: Literal["sampled", "all"] = Field(
        "sampled",
        description="fidelity over the pairs that the order deals, or over all pairs of one set "
        "in a micro-batch",
    )
    smooth_l1: float = Field(
        0.0, ge=0, description="weight of the smooth L1 of the score, on the readout's scale"
    )
    emd: float = Field(
        0.0,
        ge=0,
        description="weight of the distance between cumulated votes and score tokens, a root over "
        "a micro-batch (ROC4MLLM's release)",
    )
    vote_ce: float = Field(
        0.0, ge=0, description="weight of the cross-entropy from votes to the score tokens"
    )

    squared_error: float = Field(
        0.0,
        ge=0,
        description="weight of the squared error of the regression head's score, on 0..1",
    )

    @property
    def needs_votes(self) -> bool:
        """Whether a term learns from votes."""
        return bool(self.emd or self.vote_ce)

    @property
    def teaches_scores(self) -> bool:
        """Whether a term is about the score that is read, not the text."""
        return bool(self.fidelity or self.smooth_l1 or self.needs_votes or self.squared_error)

    @model_validator(mode="after")
    def _something(self) -> "ObjectiveConfig":
        if not (self.next_token or self.soft_label or self.teaches_scores):
            raise ValueError("every weight of the objective is 0: give one of its terms a weight")
        return self


class DeepSpeedConfig(JobConfig):
    """What DeepSpeed is told."""

    stage: Literal[0, 1, 2, 3] = Field(description="ZeRO stage")
    offload: bool = Field(False, description="optimizer state in host memory (ZeRO 2 and 3)")


class WorkersConfig(JobConfig):
    """Ray Train's workers."""

    count: int = Field(ge=1, description="workers, one a GPU on GPU clusters")
    cpus: float = Field(1.0, gt=0, description="CPUs a worker")
    gpus: int = Field(0, ge=0, le=1, description="GPUs a worker")
    max_failures: int = Field(3, ge=0, description="restarts after a lost worker or node")


class TrainConfig(JobConfig):
    """One training run of one scorer on one mix."""

    name: FolderName = Field(description="name of the run's folder")
    storage: str = Field(description="URI under which the run's folder is made")
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
            if some.scale[0] >= some.scale[1]:
                raise ValueError(f"set {some.name}: scale {some.scale} must be [minimum, maximum]")
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
