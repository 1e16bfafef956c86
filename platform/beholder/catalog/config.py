"""What a night over a catalog can be told; `configs/catalog/` has an example."""

from datetime import date
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from beholder.catalog.checks import AuditConfig
from beholder.catalog.layout import RunId
from beholder.catalog.locations import Location, in_full
from beholder.config import JobConfig
from beholder.errors import UserError
from beholder.media.limits import Limits
from beholder.media.places import Places

BUCKETS = 64
"""Of a catalog whose first night names no number: right up to some ten million items."""


class ScoringConfig(JobConfig):
    """How items are scored: what every pass over a manifest can be told."""

    scorer: Location = Field(description="URI or path of the scorer's folder")
    tasks: tuple[str, ...] | None = Field(
        None,
        description="which of the scorer's tasks; none: all that fit an item's kind",
    )
    batch: int = Field(16, ge=1, description="items that travel together from decode to scorer")
    decoders: int = Field(1, ge=1, description="decode actors, one CPU each")
    scorers: int = Field(1, ge=1, description="scoring actors")
    cpus: float = Field(1.0, gt=0, description="CPUs a scoring actor")
    gpus: float = Field(0.0, ge=0, description="GPUs a scoring actor")
    max_pixels: int = Field(100_000_000, gt=0, description="largest picture or frame, pixels")
    max_bytes: int = Field(512 * 2**20, gt=0, description="largest file, bytes")
    max_seconds: float = Field(7200.0, gt=0, description="longest video, seconds")

    decode_seconds: float = Field(
        60.0, gt=0, description="seconds that decoding an item may take before it is stopped"
    )

    def limits(self) -> Limits:
        """Limits on each item."""
        return Limits(
            max_pixels=self.max_pixels,
            max_bytes=self.max_bytes,
            max_seconds=self.max_seconds,
        )


class PricesConfig(JobConfig):
    """What machine time costs, in any one currency."""

    cpu_hour: float = Field(0.0, ge=0, description="money an hour and CPU")
    gpu_hour: float = Field(0.0, ge=0, description="money an hour and GPU")


CURRENT = "current"
"""The scorer whose scores readers of the catalog see."""


def _current_or_in_full(scorer: str) -> str:
    return scorer if scorer == CURRENT else in_full(scorer)


class ShadowConfig(JobConfig):
    """A new scorer that fills a catalog beside the one that readers see, after each night."""

    scorer: Location = Field(description="URI or path of the new scorer's folder")
    limit: int | None = Field(None, ge=0, description="most items a night, newest first")
    deadline_hours: float | None = Field(None, gt=0, description="hours a night, newest first")
    budget: float | None = Field(None, gt=0, description="money a night, newest first")


class NightlyConfig(ScoringConfig):
    """One night: what has changed in a manifest since the last one is scored and published."""

    scorer: Annotated[str, AfterValidator(_current_or_in_full)] = Field(
        description=f"URI or path of the scorer's folder; '{CURRENT}' is the one whose scores the "
        "catalog has, after its first night"
    )
    catalog: Location = Field(description="URI of the catalog's folder")
    manifest: Location = Field(
        description="URI of a Parquet manifest, or of a folder of such files"
    )
    allowed_places: tuple[Location, ...] = Field(
        (),
        description="folders in which items may be, as s3://bucket, s3://bucket/folder or /folder; "
        "none: all that the keys reach in S3, and no file. An item elsewhere is fetch.denied",
    )
    logical_date: str = Field(description="which night, as 2026-11-20; published once")
    buckets: int | None = Field(
        None,
        ge=1,
        le=9999,
        description="parts that the state is kept in, fixed by the first night; none: the "
        f"catalog's own, at first {BUCKETS}. About 100,000 items a bucket are good",
    )
    chunk: int = Field(256, ge=1, description="items that are committed together")
    retry_nights: int = Field(
        5,
        ge=0,
        description="nights in all on which an item is tried that failed for the store's sake",
    )
    limit: int | None = Field(None, ge=0, description="most items to look at, newest first")
    sample: float = Field(
        1.0,
        gt=0,
        le=1,
        description="part of the items to look at, by hash of item_id: a larger one holds a "
        "smaller one's items",
    )
    deadline_hours: float | None = Field(
        None,
        gt=0,
        description="hours that scoring may take, newest items first; counted from the plan on, "
        "also where a night is run again",
    )
    budget: float | None = Field(
        None, gt=0, description="money that scoring may cost, newest items first"
    )
    prices: PricesConfig = Field(default_factory=PricesConfig, description="what time costs")
    warm_up: int = Field(
        64,
        ge=1,
        description="pictures, and as many videos, that are scored to measure the speed where an "
        "estimate is needed",
    )
    lease_seconds: float = Field(
        120.0, gt=0, description="seconds after which a silent driver's date may be taken over"
    )
    take_over: bool = Field(
        False, description="take the date from a driver that holds it: only if it is dead"
    )
    audit: AuditConfig = Field(
        default_factory=AuditConfig, description="when publication is refused"
    )
    shadow: ShadowConfig | None = Field(
        None, description="a scorer that shall take the place of the current one; none: no"
    )
    webhook: str | None = Field(None, description="URL that gets the night's summary by POST")

    @field_validator("catalog")
    @classmethod
    def _no_slash(cls, catalog: str) -> str:
        return catalog.rstrip("/")

    @field_validator("sample", mode="before")
    @classmethod
    def _in_percent(cls, value: object) -> object:
        text = value.strip() if isinstance(value, str) else ""
        if not text.endswith("%"):
            return value
        try:
            return float(text[:-1]) / 100
        except ValueError:
            raise ValueError("no part: write it as 1% or 0.01") from None

    @field_validator("logical_date", mode="before")
    @classmethod
    def _as_yaml_reads_it(cls, value: object) -> object:
        return value.isoformat() if isinstance(value, date) else value

    @field_validator("logical_date")
    @classmethod
    def _is_a_date(cls, text: str) -> str:
        try:
            RunId(text)
        except UserError:
            raise ValueError("no date: write it as 2026-11-20") from None
        return text

    @model_validator(mode="after")
    def _webhook_is_http(self) -> "NightlyConfig":
        # Not said of the field, whose value would be shown: it may hold a secret.
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise ValueError("webhook is no http:// or https:// URL: give one, or leave it out")
        return self

    @model_validator(mode="after")
    def _budget_has_prices(self) -> "NightlyConfig":
        budgets = {"budget": self.budget, "shadow.budget": self.shadow and self.shadow.budget}
        for name, budget in budgets.items():
            if budget is not None and not self._costs():
                raise ValueError(
                    f"{name} is {budget}, but no machine of this run has a price: set "
                    "prices.cpu_hour or prices.gpu_hour"
                )
        return self

    def _costs(self) -> bool:
        return bool(self.prices.cpu_hour or (self.gpus and self.prices.gpu_hour))

    def places(self) -> Places:
        """Where items may be."""
        return Places(self.allowed_places)

    def bounded(self) -> bool:
        """Whether the night may leave items out."""
        bounds = (self.limit, self.deadline_hours, self.budget)
        return self.sample < 1 or any(bound is not None for bound in bounds)


class ReplayConfig(NightlyConfig):
    """A published night whose failures are looked at again."""

    codes: tuple[str, ...] = Field(
        (), description="of the failures to look at again, as fetch.denied; none: all"
    )
