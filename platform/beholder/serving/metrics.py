"""What Prometheus is told: ``GET /metrics`` speaks for every replica.

Each process counts in a registry of its own, through prometheus-client. Whichever replica of the
ingress is asked gathers the others' counts and its own, each with a label ``replica``, so that one
scraped address is enough, and what it says is of this moment. (``ray.serve.metrics`` would leave
them at each node's agent, on a port of Ray's, seconds late, and nowhere without Ray.)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FRAMES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class RequestMetrics:
    """What an ingress counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "beholder_requests",
            "Answered requests; status 499 where the client went away",
            ("path", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "beholder_request_seconds",
            "From a request's first byte to its answer's last",
            ("path",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._items = Counter(
            "beholder_items",
            "Items by the code of their failure; ok has none",
            ("code",),
            registry=self.registry,
        )
        self._stages = Histogram(
            "beholder_stage_seconds",
            "What a request's items waited for: read, preprocess, queue, engine",
            ("stage",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self.queue_frames = Gauge(
            "beholder_queue_frames", "Frames in flight", registry=self.registry
        )
        self.queue_bytes = Gauge(
            "beholder_queue_bytes", "Bytes of bodies in memory", registry=self.registry
        )

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts an answered request; ``path`` is a route's, not the client's text."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def answers(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Counts a request's items."""
        for answer in answers:
            self._items.labels(answer["failure"]["code"] if "failure" in answer else "ok").inc()

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Notes what each stage took."""
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)


class EngineMetrics:
    """What an engine counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._frames = Histogram(
            "beholder_batch_frames", "Frames of a batch", registry=self.registry, buckets=FRAMES
        )
        self._seconds = Histogram(
            "beholder_batch_seconds", "Seconds of a batch", registry=self.registry, buckets=SECONDS
        )
        self.waiting = Gauge(
            "beholder_engine_waiting_frames", "Frames without a batch", registry=self.registry
        )

    def batch(self, frames: int, seconds: float) -> None:
        """Notes a scored batch."""
        self._frames.observe(frames)
        self._seconds.observe(seconds)


class _Gathered:
    """A collector of what others have collected."""

    def __init__(self, sources: Iterable[tuple[str, Sequence[Metric]]]) -> None:
        self._families: dict[str, Metric] = {}
        for replica, families in sources:
            for family in families:
                one = Metric(family.name, family.documentation, family.type)
                one = self._families.setdefault(family.name, one)
                for sample in family.samples:
                    labels = {**sample.labels, "replica": replica}
                    one.samples.append(sample._replace(labels=labels))

    def collect(self) -> Iterator[Metric]:
        """The families, each once."""
        yield from self._families.values()


def exposition(sources: Iterable[tuple[str, Sequence[Metric]]]) -> bytes:
    """Prometheus' text format of several processes' families.

    Args:
        sources: the value of label ``replica``, and the families.
    """
    registry = CollectorRegistry()
    registry.register(_Gathered(sources))
    return generate_latest(registry)
