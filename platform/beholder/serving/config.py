"""What a Serve application can be told; ``serve_apps/`` has examples."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from beholder.config import JobConfig
from beholder.media.limits import PILLOW_BOMB_PIXELS, Limits
from beholder.media.remote import RemoteHost
from beholder.serving.keys import check_hashes
from beholder.serving.sources import FOLDER

Folder = Annotated[str, StringConstraints(pattern=rf"^{FOLDER}$")]


class ServeConfig(JobConfig):
    """One scorer behind one endpoint."""

    scorer: str = Field(description="URI or path of the scorer's folder")
    device: str = Field("cpu", description="cpu or cuda")
    threads: int = Field(1, ge=1, description="CPU threads of the model in a replica")
    batch_items: int = Field(16, ge=1, description="items scored in one batch, at most")
    batch_wait_s: float = Field(0.01, ge=0, description="seconds a batch waits to fill up")
    decoders: int = Field(1, ge=1, description="decoder processes of an ingress replica")
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
        60.0, gt=0, description="seconds of decoding after which an item is given up"
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

    def limits(self) -> Limits:
        """Limits on each item."""
        return Limits(
            max_bytes=self.max_bytes, max_pixels=self.max_pixels, max_seconds=self.max_seconds
        )
