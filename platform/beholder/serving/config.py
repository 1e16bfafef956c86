"""What a Serve application can be told; ``serve_apps/`` has examples."""

from pydantic import Field

from beholder.config import JobConfig
from beholder.media.limits import Limits
from beholder.serving.body_limit import MAX_BODY_BYTES


class ServeConfig(JobConfig):
    """One scorer behind one endpoint."""

    scorer: str = Field(description="URI or path of the scorer's folder")
    device: str = Field("cpu", description="cpu or cuda")
    threads: int = Field(1, ge=1, description="CPU threads of the model in a replica")
    batch_items: int = Field(16, ge=1, description="items scored in one batch, at most")
    batch_wait_s: float = Field(0.01, ge=0, description="seconds a batch waits to fill up")
    decoders: int = Field(1, ge=1, description="decoder processes of an ingress replica")
    max_items: int = Field(64, ge=1, description="items in a request")
    max_pixels: int = Field(50_000_000, ge=1, description="largest picture, pixels")
    max_seconds: float = Field(120.0, gt=0, description="longest video, seconds")
    timeout_s: float = Field(
        60.0, gt=0, description="seconds of decoding after which an item is given up"
    )

    def limits(self) -> Limits:
        """Limits on each item."""
        return Limits(
            max_bytes=MAX_BODY_BYTES,
            max_pixels=self.max_pixels,
            max_seconds=self.max_seconds,
        )
