"""What goes over the wire, as OpenAPI shows it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_TASKS = 32
"""Tasks that a request may name; no scorer has as many."""
MAX_NAME = 64
"""Characters of a task's or a scorer's name."""

TaskName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
ScorerName = Annotated[str, Field(max_length=MAX_NAME)]
Scale = tuple[float, float]


BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


class MediaIn(BaseModel):
    """One picture or video in a request: its bytes, or where they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["data"]}, {"required": ["uri"]}]},
    )

    data: str = Field(
        "",
        description="the encoded file's bytes in base64",
        json_schema_extra={"contentEncoding": "base64", "pattern": BASE64},
    )
    uri: str = Field(
        "",
        description="s3://bucket/key or https://host/path, of at most 2048 printable characters, "
        "in a bucket or on a host that the endpoint allows; what can't be fetched is the item's "
        "failure and harms no other",
    )
    id: str | None = Field(
        None, max_length=512, description="name in the answer; item-0, item-1 ... where it is none"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "MediaIn":
        if ("data" in self.model_fields_set) == ("uri" in self.model_fields_set):
            raise ValueError("give either data or uri")
        return self


class ScoreRequest(BaseModel):
    """Items to score."""

    model_config = ConfigDict(extra="forbid")

    items: list[MediaIn] = Field(min_length=1, description="scored in this order")
    tasks: list[TaskName] | None = Field(
        None,
        max_length=MAX_TASKS,
        description="of those in /v1/scorers, such as quality; none for all that fit an item",
    )
    scorer: ScorerName | None = Field(
        None, description="name of one of /v1/scorers; none for the one without a name"
    )


class TaskScore(BaseModel):
    """One task's score.

    A regression head gives points: what speaks of a spread is then left out.
    """

    mean: float = Field(description="expected score, in the unit of scale")
    std: float | None = Field(
        None, ge=0, description="spread of the distribution, in the unit of scale"
    )
    entropy: float | None = Field(None, ge=0, description="nats; 0 where the scorer is certain")
    support: list[float] | None = Field(
        None, description="the scores that probs belong to, ascending"
    )
    probs: list[float] | None = Field(None, description="one probability a score, summing to 1")
    scale: Scale = Field(description="[minimum, maximum]")
    mass: float | None = Field(
        None, ge=0, description="probability that the model put on the readout's words at all"
    )
    clips: list[float] = Field(description="mean of each clip of a video; one for a picture")


class ItemFailure(BaseModel):
    """Why an item has no score."""

    code: str = Field(description="closed set, e.g. decode.truncated, limit.pixels")
    message: str = Field(description="one sentence for a person")
    attempts: int = Field(ge=1, description="times that it was tried")
    bytes_read: int = Field(ge=0, description="of it, until it failed")


class ItemAnswer(BaseModel):
    """One item's scores, or its failure."""

    item_id: str = Field(description="the file's name, the item's id, or item- and its position")
    fingerprint: str = Field(description="of the scorer; compare scores only within one")
    coverage: float | None = Field(
        None, ge=0, le=1, description="part of a video's seconds looked at"
    )
    scores: dict[str, TaskScore] | None = Field(
        None, description="by task; left out where there is a failure"
    )
    attributes: dict[str, str] | None = Field(None, description="named, where the scorer has them")
    text: str | None = Field(None, description="what the scorer wrote, where it writes")
    failure: ItemFailure | None = Field(None, description="in place of scores")


class ScoreAnswer(BaseModel):
    """Answers in the order of the request's items."""

    items: list[ItemAnswer] = Field(description="one an item, whatever became of it")


class ScorerOut(BaseModel):
    """A scorer behind the endpoint."""

    name: str = Field(description="to ask for it by; empty for the one that needs no asking")
    fingerprint: str = Field(description="of whatever moves a score: weights, prompts, pixels")
    readout: str = Field(description="how its answer is read, e.g. levels")
    scale: Scale = Field(description="[minimum, maximum] of its means")
    tasks: dict[str, list[str]] = Field(description="the kinds of media that each task rates")


class LimitsOut(BaseModel):
    """What a request and its items may cost."""

    max_items: int = Field(description="items in a request, and media among candidates")
    max_candidates: int = Field(description="candidates of a request to rank")
    max_body_bytes: int = Field(description="bytes of a request")
    max_bytes: int = Field(description="encoded bytes of an item")
    max_pixels: int = Field(description="width times height of a picture or a video's frame")
    max_seconds: float = Field(description="a video's duration")
    request_s: float = Field(description="seconds after which a request is given up")


class ScorersAnswer(BaseModel):
    """What this endpoint scores with, and its limits."""

    scorers: list[ScorerOut] = Field(description="the first is the one that needs no asking")
    limits: LimitsOut = Field(description="above which a request or an item is refused")


class ReadyAnswer(BaseModel):
    """A picture was scored a moment ago."""

    ready: bool = Field(description="true: what is not ready answers 503")
    fingerprint: str = Field(description="of the scorer")


class Problem(BaseModel):
    """A request that was refused as a whole."""

    error: str = Field(description="one sentence with the offending value and the remedy")
    request_id: str = Field(description="stands in the endpoint's log, too")
