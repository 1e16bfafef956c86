"""What a Serve application can be told; ``serve_apps/`` has examples."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from beholder.config import JobConfig
from beholder.evaluation.succession import SuccessionConfig
from beholder.items import RETRY, FailureCode
from beholder.media.limits import PILLOW_BOMB_PIXELS, Limits
from beholder.media.remote import RemoteHost
from beholder.serving.keys import check_hashes
from beholder.serving.sources import FOLDER

AdapterName = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


def _as_folder(text: str) -> str:
    if not re.fullmatch(FOLDER, text):
        raise ValueError("write it as bucket or bucket/folder, without s3:// before it")
    return text


Folder = Annotated[str, AfterValidator(_as_folder)]


class CandidateConfig(JobConfig):
    """A scorer that is to take the other's place, tried on traffic before."""

    scorer: str = Field(description="URI or path of its folder")
    share: float = Field(
        0.1, gt=0, le=1, description="part of the scored requests that it scores, too"
    )
    criteria: SuccessionConfig = Field(
        default_factory=SuccessionConfig, description="when it is ready, held for each task"
    )


class ServeConfig(JobConfig):
    """One scorer behind one endpoint."""

    scorer: str = Field(description="URI or path of the scorer's folder")
    adapters: dict[AdapterName, str] = Field(
        default_factory=dict,
        description="by name, URI or path of the folder of an adapter over this scorer; requests "
        "ask for one by `scorer`",
    )
    adapters_loaded: int = Field(
        4, ge=1, description="adapters that an engine keeps loaded; the least used one goes first"
    )
    candidate: CandidateConfig | None = Field(
        None, description="a scorer on trial: what it says is at /v1/candidate, and goes nowhere"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where the model is")
    threads: int = Field(1, ge=1, description="CPU threads of the model in an engine")
    batch_frames: int = Field(
        32,
        ge=1,
        description="frames of a batch, at most; a picture has one, a clip up to 30. It bounds "
        "the engine's memory: more keeps a GPU busier, and lets small requests wait longer",
    )
    batch_wait_s: float = Field(
        0.0,
        ge=0,
        description="seconds that an idle engine waits for a batch to fill up; while it scores one "
        "the next fills up anyway, so more than 0 pays only where a half empty batch takes as long",
    )
    decoders: int = Field(
        1,
        ge=1,
        description="decoder processes of a preprocessing replica, which asks for a CPU each",
    )
    request_s: float = Field(
        60.0, gt=0, description="seconds from a request's first byte, after which it is given up"
    )
    stall_s: float = Field(
        10.0,
        gt=0,
        description="seconds without a byte of its body, after which a request is given up: its "
        "bytes count in max_queue_bytes",
    )
    max_queue_frames: int = Field(
        512,
        ge=1,
        description="frames in flight in a replica of the ingress, above which it answers 429: "
        "frames a second that the engines score, times the seconds that somebody may wait",
    )
    max_queue_bytes: int = Field(
        256 * 2**20, ge=1, description="bytes of bodies in its memory, above which it answers 429"
    )
    max_body_bytes: int = Field(
        64 * 2**20, ge=1, description="bytes of a request, all its items together"
    )
    max_items: int = Field(64, ge=1, description="items in a request")
    max_bytes: int = Field(64 * 2**20, ge=1, description="encoded bytes of an item")
    max_pixels: int = Field(
        50_000_000, ge=1, le=PILLOW_BOMB_PIXELS, description="largest picture, pixels"
    )
    max_seconds: float = Field(120.0, gt=0, description="longest video, seconds")
    timeout_s: float = Field(
        20.0, gt=0, description="seconds of decoding after which an item is given up"
    )
    fetch_s: float = Field(
        10.0, gt=0, description="seconds of fetching a URI from a host; tried three times"
    )
    allowed_buckets: tuple[Folder, ...] = Field(
        (), description="S3 buckets that requests may name, each as bucket or bucket/folder"
    )
    allowed_hosts: tuple[RemoteHost, ...] = Field(
        (), description="HTTPS hosts that requests may name"
    )
    max_candidates: int = Field(2000, ge=1, description="candidates of a request to rank")
    catalog: str | None = Field(
        None, description="URI of the catalog whose item ids can be ranked; none: of no catalog"
    )
    catalog_refresh_s: float = Field(
        30.0, gt=0, description="seconds after which a replica looks for a newer ranked snapshot"
    )
    key_hashes: tuple[str, ...] = Field(
        (), description="SHA-256 in hex of the API keys that are let in; none lets everybody in"
    )

    @model_validator(mode="before")
    @classmethod
    def _hashes_only(cls, data: Any) -> Any:
        # Before the fields are: a message about a field repeats what is in it, here maybe a key.
        if isinstance(data, dict):
            check_hashes(data.get("key_hashes", ()))
        return data

    @model_validator(mode="after")
    def _room_for_one(self) -> "ServeConfig":
        if self.max_queue_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_queue_bytes is {self.max_queue_bytes}, which is less than one body may have "
                f"(max_body_bytes, {self.max_body_bytes}): give at least that"
            )
        return self

    @model_validator(mode="after")
    def _time_for_neighbours(self) -> "ServeConfig":
        tries = RETRY[FailureCode.FETCH_TIMEOUT].attempts
        if self.item_s() >= self.request_s:
            raise ValueError(
                f"an item may take {self.item_s():g} s, {tries} times fetch_s ({self.fetch_s:g}) "
                f"and timeout_s ({self.timeout_s:g}), and its request only request_s "
                f"({self.request_s:g}), so that one that hangs would cost the others their "
                "answers: give request_s more, or the two less"
            )
        return self

    def item_s(self) -> float:
        """Seconds that an item may take until its pixels are there, or its failure."""
        return RETRY[FailureCode.FETCH_TIMEOUT].attempts * self.fetch_s + self.timeout_s

    def limits(self) -> Limits:
        """Limits on each item."""
        return Limits(
            max_bytes=self.max_bytes, max_pixels=self.max_pixels, max_seconds=self.max_seconds
        )
