"""What a training job can be told of its model: where it comes from, which parts are trained."""

from typing import Any, Literal

from pydantic import Field, model_validator

from beholder.config import JobConfig


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
