"""What a training job can be told of one data set."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from beholder.config import JobConfig
from beholder.opinions import RangeRule, Scale
from beholder.opinions.soft_labels import Density


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
    scale: tuple[float, float] | None = Field(
        None,
        description="[minimum, maximum] over which its levels are cut, in its MOS's unit; needed "
        "where range is declared",
    )
    range: RangeRule = Field(
        RangeRule.DECLARED,
        description="where the scale comes from: declared, as scale says; min_max, the smallest "
        "to the largest mos; trimmed, without a thousandth of the rows at each end, which are then "
        "left out of training and validation (Q-Align's KonIQ and LSVQ)",
    )
    range_over: Literal["all", "train"] = Field(
        "all",
        description="rows over which min_max and trimmed are taken: of all splits (DeQA-Score, "
        "Q-Align's KonIQ), or of train (Q-Align's LSVQ and KADID)",
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

    @property
    def bounds(self) -> Scale:
        """The scale, once its range has been taken."""
        assert self.scale is not None, self.name
        return Scale(*self.scale)

    @model_validator(mode="after")
    def _one_range(self) -> "SetConfig":
        if self.range is RangeRule.DECLARED:
            if self.scale is None:
                raise ValueError(
                    f"set {self.name} has no scale: give [minimum, maximum] that its raters could "
                    "answer on, or range min_max or trimmed to take it from the rows"
                )
            if not self.scale[0] < self.scale[1]:
                raise ValueError(f"set {self.name}: scale {self.scale} must be [minimum, maximum]")
            if self.range_over != "all":
                raise ValueError(
                    f"set {self.name}: range_over {self.range_over} is about range min_max and "
                    "trimmed: leave it out"
                )
        elif self.scale is not None:
            raise ValueError(
                f"set {self.name}: scale {list(self.scale)} and range {self.range} are two ranges: "
                "leave one out"
            )
        if self.range is RangeRule.TRIMMED and "mos" in self.within:
            raise ValueError(
                f"set {self.name}: range trimmed says which mos are left out, and so does "
                "within.mos: leave one out"
            )
        return self
