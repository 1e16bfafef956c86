"""What goes over the wire, as OpenAPI shows it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MediaIn(BaseModel):
    """One picture or video in a request: its bytes, or where they are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["data"]}, {"required": ["uri"]}]},
    )

    data: str = Field("", description="the encoded file's bytes in base64")
    uri: str = Field(
        "", description="s3:// or https:// in a bucket or on a host that the endpoint allows"
    )
    id: str | None = Field(None, max_length=512, description="name in the answer; else a number")

    @model_validator(mode="after")
    def _one_source(self) -> "MediaIn":
        if ("data" in self.model_fields_set) == ("uri" in self.model_fields_set):
            raise ValueError("give either data or uri")
        return self


class ScoreRequest(BaseModel):
    """Items to score."""

    model_config = ConfigDict(extra="forbid")

    items: list[MediaIn] = Field(min_length=1, description="scored in this order")
    tasks: list[str] | None = Field(None, description="quality, aesthetics; none for all that fit")
    scorer: str | None = Field(None, description="name of one of /v1/scorers; none for the first")


class TaskScore(BaseModel):
    """One task's score, as :meth:`beholder.items.Score.as_dict` writes it.

    A regression head gives points: what speaks of a spread is then left out.
    """

    mean: float = Field(description="expected score, in the unit of scale")
    std: float | None = Field(None, description="spread of the distribution, in the unit of scale")
    entropy: float | None = Field(None, description="nats; 0 where the scorer is certain")
    support: list[float] | None = Field(
        None, description="the scores that probs belong to, ascending"
    )
    probs: list[float] | None = Field(None, description="one probability a score, summing to 1")
    scale: tuple[float, float] = Field(description="[minimum, maximum]")
    mass: float | None = Field(
        None, description="probability that the model put on the readout's words at all"
    )
    clips: list[float] = Field(description="mean of each clip of a video; one for a picture")


class ItemFailure(BaseModel):
    """Why an item has no score."""

    code: str = Field(description="closed set, e.g. decode.truncated, limit.pixels")
    message: str = Field(description="one sentence for a person")
    attempts: int
    bytes_read: int


class ItemAnswer(BaseModel):
    """One item's scores, or its failure."""

    item_id: str
    fingerprint: str = Field(description="of the scorer; compare scores only within one")
    coverage: float | None = Field(None, description="part of a video's seconds looked at")
    scores: dict[str, TaskScore] | None = None
    attributes: dict[str, str] | None = Field(None, description="named, where the scorer has them")
    text: str | None = Field(None, description="what the scorer wrote, where it writes")
    failure: ItemFailure | None = None


class ScoreAnswer(BaseModel):
    """Answers in the order of the request's items."""

    items: list[ItemAnswer]


class ScorerOut(BaseModel):
    """A scorer behind the endpoint."""

    name: str = Field(description="to ask for it by; empty for the one that needs no asking")
    fingerprint: str = Field(description="of whatever moves a score: weights, prompts, pixels")
    readout: str = Field(description="how its answer is read, e.g. levels")
    scale: tuple[float, float] = Field(description="[minimum, maximum] of its means")
    tasks: dict[str, list[str]] = Field(description="the kinds of media that each task rates")


class LimitsOut(BaseModel):
    """What a request and its items may cost."""

    max_items: int = Field(description="items in a request")
    max_body_bytes: int = Field(description="bytes of a request")
    max_bytes: int = Field(description="encoded bytes of an item")
    max_pixels: int = Field(description="width times height of a picture or a video's frame")
    max_seconds: float = Field(description="a video's duration")
    request_s: float = Field(description="seconds after which a request is given up")


class ScorersAnswer(BaseModel):
    """What this endpoint scores with, and its limits."""

    scorers: list[ScorerOut]
    limits: LimitsOut


class ReadyAnswer(BaseModel):
    """A picture was scored a moment ago."""

    ready: bool
    fingerprint: str


class Problem(BaseModel):
    """A request that was refused as a whole."""

    error: str = Field(description="one sentence with the offending value and the remedy")
    request_id: str = Field(description="stands in the endpoint's log, too")


def _inlined() -> dict[str, Any]:
    """The JSON request's schema with its item in place: OpenAPI finds no ``$defs`` in here."""
    schema = ScoreRequest.model_json_schema()
    schema["properties"]["items"]["items"] = schema.pop("$defs")[MediaIn.__name__]
    return schema


MULTIPART: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _inlined()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                        "tasks": {"type": "array", "items": {"type": "string"}},
                        "scorer": {"type": "string"},
                    },
                }
            },
        },
    }
}
"""Both ways of sending items, for OpenAPI: FastAPI can't describe a choice of bodies itself."""
