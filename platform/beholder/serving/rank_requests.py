"""What ``/v1/rank`` takes and gives, as OpenAPI shows it."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from beholder.ranking import DEFAULT_Z, QualityFloor, Weighted
from beholder.serving.requests import RequestError, fault_of
from beholder.serving.schemas import MediaIn, Scale, ScorerName

MAX_PAIRS = 1000
"""Pairs of a request."""
MOST_CANDIDATES = 100_000
"""Beyond which nothing of a list is looked at."""
MAX_SUPPORT = 1000
"""Scores that a stored distribution may be over."""

Name = Annotated[str, Field(min_length=1, max_length=512)]
Number = Annotated[float, Field(allow_inf_nan=False)]
OnScale = Annotated[float, Field(ge=-1e9, le=1e9)]
"""Of any scale in use, and its square is a number."""


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StoredScore(_In):
    """One task's score, as ``/v1/score`` answered it: a distribution, or its mean and std.

    A mean without a std is a point, which has a place by mean alone.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {
                    "required": ["support", "probs"],
                    "properties": {"support": {"type": "array"}, "probs": {"type": "array"}},
                },
                {
                    "required": ["mean"],
                    "properties": {
                        "mean": {"type": "number"},
                        "support": {"type": "null"},
                        "probs": {"type": "null"},
                    },
                },
            ]
        }
    )

    support: list[OnScale] | None = Field(
        None, max_length=MAX_SUPPORT, description="scores that probs belong to, ascending"
    )
    probs: list[OnScale] | None = Field(
        None, max_length=MAX_SUPPORT, description="one probability a score, summing to 1"
    )
    mean: OnScale | None = Field(None, description="expected score; not read beside probs")
    std: Annotated[float, Field(ge=0, le=1e9)] | None = Field(
        None, description="spread, in the unit of scale; not read beside probs"
    )
    scale: tuple[OnScale, OnScale] = Field(description="[minimum, maximum]")
    entropy: Any = Field(None, description="not read: an answer of /v1/score may be sent as it is")
    mass: Any = Field(None, description="not read")
    clips: Any = Field(None, description="not read")

    @model_validator(mode="after")
    def _has_a_score(self) -> "StoredScore":
        if (self.support is None) != (self.probs is None):
            raise ValueError("give support and probs together")
        if self.probs is None and self.mean is None:
            raise ValueError("give support and probs, or mean and std")
        return self


def _only(source: str, **others: dict[str, str]) -> dict[str, Any]:
    """The schema of a candidate that has this source and no other."""
    needed = [name for name, schema in others.items() if schema["type"] != "null"]
    null = {name: {"type": "null"} for name in ("scores", "item", "media") if name != source}
    given = {source: {"type": "string" if source == "item" else "object"}}
    return {"required": [source, *needed], "properties": null | given | others}


class Candidate(_In):
    """What is to be ranked: by a stored score, by its id in the catalog, or by its media."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                _only("scores", id={"type": "string"}, fingerprint={"type": "string"}),
                _only("item", fingerprint={"type": "null"}),
                _only("media", fingerprint={"type": "null"}),
            ]
        },
    )

    id: Name | None = Field(
        None, description="name in the answer and in pairs; else the item, or a number"
    )
    scores: StoredScore | None = Field(None, description="stored: the task's score")
    fingerprint: Name | None = Field(None, description="of the scorer that gave the stored score")
    item: Name | None = Field(None, description="id of an item of the published catalog")
    media: MediaIn | None = Field(None, description="scored now, as /v1/score does")
    relevance: Number | None = Field(
        None, description="yours, in any unit, higher is better; with blend each one needs it"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Candidate":
        if sum(one is not None for one in (self.scores, self.item, self.media)) != 1:
            raise ValueError("give one of scores, item and media")
        if self.scores is not None and (self.fingerprint is None or self.id is None):
            raise ValueError("stored scores need an id, and the fingerprint that came with them")
        if self.scores is None and self.fingerprint is not None:
            raise ValueError("fingerprint belongs to stored scores: leave it out")
        return self


class WeightIn(_In):
    """``weight * quality + (1 - weight) * relevance``, both as percentiles of the list."""

    weight: float = Field(
        ge=0, le=1, allow_inf_nan=False, description="of quality; 0 orders by relevance alone"
    )

    def blend(self) -> Weighted:
        """As ranking knows it."""
        return Weighted(self.weight)


class FloorIn(_In):
    """Candidates below a quality go behind all others; relevance orders both groups."""

    floor: OnScale = Field(description="the quality that is good enough, in the unit of scale")
    probability: float | None = Field(
        None,
        gt=0,
        le=1,
        description="that a rater gives the floor or more, by the distribution; left out, the mean "
        "must reach it",
    )

    def blend(self) -> QualityFloor:
        """As ranking knows it."""
        return QualityFloor(self.floor, self.probability)


class RankRequest(_In):
    """Candidates of one scorer and how to order them."""

    task: Name = Field(description="such as quality: candidates are ordered by its scores")
    rule: Literal["mean", "lower_bound", "expected_rank"] = Field(
        "mean",
        description="the expected score; what it is at least with some confidence; or the rank "
        "that it has on average when every opinion is drawn anew (Thurstone)",
    )
    confidence: float | None = Field(
        None,
        ge=0.5,
        lt=1,
        description="of lower_bound: the part of raters that give as much or more, by a Gaussian; "
        f"left out, {DEFAULT_Z:g} std below the mean (0.841)",
    )
    scorer: ScorerName = Field("", description="of media: an adapter's name")
    candidates: list[Candidate] = Field(
        min_length=1, max_length=MOST_CANDIDATES, description="ties keep this order"
    )
    blend: WeightIn | FloorIn | None = Field(None, description="with each candidate's relevance")
    pairwise: list[tuple[Name, Name]] = Field(
        [],
        max_length=MAX_PAIRS,
        description="pairs [A, B] of candidates' names: how likely A is rated above B",
    )

    @model_validator(mode="after")
    def _fits(self) -> "RankRequest":
        if self.confidence is not None and self.rule != "lower_bound":
            raise ValueError(f"confidence belongs to lower_bound and the rule is {self.rule}")
        lacking = [n for n, one in enumerate(self.candidates) if one.relevance is None]
        if self.blend is not None and lacking:
            raise ValueError(f"candidate {lacking[0]} has no relevance: a blend needs one of each")
        if self.blend is None and len(lacking) < len(self.candidates):
            raise ValueError("relevance is given without blend: say how it counts")
        names = self.names()
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two candidates are called '{twice[0]}': give them ids of their own")
        if strange := {name for pair in self.pairwise for name in pair} - set(names):
            raise ValueError(f"pairwise names '{min(strange)}', which is no candidate")
        return self

    def names(self) -> list[str]:
        """What each candidate is called in the answer."""
        return [
            one.id or one.item or (one.media and one.media.id) or f"item-{position}"
            for position, one in enumerate(self.candidates)
        ]


class RankedOut(BaseModel):
    """A candidate in its place."""

    id: str = Field(description="its id, its item's or media's, or item- and its position")
    position: int = Field(ge=0, description="in the request, from 0")
    rank: int = Field(ge=1, description="1 is the best")
    value: float = Field(
        description="what it is ordered by: the rule's value, the blend in (0, 1), or behind a "
        "floor the relevance"
    )
    mean: float = Field(description="expected score")
    std: float | None = Field(None, ge=0, description="left out for a point")
    below_floor: bool | None = Field(None, description="with a quality floor")


class LeftOutOut(BaseModel):
    """A candidate without a place."""

    id: str = Field(description="as in ranking")
    position: int = Field(ge=0, description="in the request, from 0")
    code: str = Field(
        description="item.unknown, item.unscored, score.no_task, score.no_spread, "
        "score.no_distribution, or the code of the item's failure, as decode.truncated"
    )
    reason: str = Field(description="one sentence for a person")


class PairOut(BaseModel):
    """How likely a rater gives the first candidate more than the second, ties counted half."""

    a: str = Field(description="name of the first")
    b: str = Field(description="name of the second")
    probability: float | None = Field(
        None, ge=0, le=1, description="left out where a reason stands"
    )
    reason: str | None = Field(None, description="one sentence for a person")


class RankAnswer(BaseModel):
    """The order, the best first, and what has no place in it."""

    task: str = Field(description="that was asked for")
    rule: str = Field(description="that was asked for")
    fingerprint: str | None = Field(None, description="of all that is ranked")
    scale: Scale | None = Field(None, description="of means and stds")
    snapshot: str | None = Field(None, description="of the catalog, where items were named")
    ranking: list[RankedOut] = Field(description="the best first")
    left_out: list[LeftOutOut] = Field(description="who has no place, and why")
    pairwise: list[PairOut] = Field(description="one a pair that was asked for, in that order")


def read_rank_request(content_type: str, body: bytes, max_candidates: int) -> RankRequest:
    """A request's body.

    Raises:
        RequestError: it is no JSON request to rank, or has too many candidates.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(415, f"content type '{kind}' is not read: send JSON")
    try:
        asked = RankRequest.model_validate_json(body, strict=True)
    except ValidationError as error:
        message = f"the JSON body is not a request to rank: {fault_of(error)}"
        raise RequestError(400, message) from error
    if len(asked.candidates) > max_candidates:
        raise RequestError(
            413, f"{len(asked.candidates)} candidates in a request: send at most {max_candidates}"
        )
    return asked
