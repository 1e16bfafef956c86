"""What a training job can be told of learning: how long and fast, what for, on what workers."""

from typing import Literal

from pydantic import Field, model_validator

from beholder.config import JobConfig


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
