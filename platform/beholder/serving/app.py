"""The Serve application: an HTTP ingress that decodes, and an engine that scores in batches."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from beholder.logs import setup_logging
from beholder.media.pool import DecoderPool
from beholder.scoring import load_scorer, outline_scorer
from beholder.serving import keys
from beholder.serving.config import ServeConfig
from beholder.serving.endpoint import Asked, make_endpoint, sources_of


@serve.deployment(max_ongoing_requests=256)
class Engine:
    """Holds the scorer; gathers items of concurrent requests into batches."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = ServeConfig.model_validate(config)
        torch.set_num_threads(settings.threads)
        self._scorer = load_scorer(settings.scorer, settings.device)
        self.score.set_max_batch_size(settings.batch_items)  # type: ignore[attr-defined]
        self.score.set_batch_wait_timeout_s(settings.batch_wait_s)  # type: ignore[attr-defined]

    def about(self) -> dict[str, Any]:
        """What the ingress needs to know of the scorer."""
        return {
            "fingerprint": self._scorer.fingerprint,
            "pixels": self._scorer.backbone.spec.pixels,
            "tasks": {name: list(task.kinds) for name, task in self._scorer.tasks.items()},
        }

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)
    async def score(self, asked: list[Asked]) -> list[dict[str, Any]]:
        """One answer an item; requests for different tasks share a batch of their own kind."""
        return await asyncio.to_thread(self._score, asked)

    def _score(self, asked: Sequence[Asked]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = [{}] * len(asked)
        for tasks in {some for _, _, some in asked}:
            here = [i for i, (_, _, some) in enumerate(asked) if some == tasks]
            staged = [(asked[i][1], asked[i][0]) for i in here]
            for index, score in zip(here, self._scorer.score_staged(staged, tasks), strict=True):
                answers[index] = score.as_dict()
        return answers


class DistantEngine:
    """An engine behind its handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def about(self) -> dict[str, Any]:
        """As :meth:`beholder.serving.endpoint.ScoringEngine.about`."""
        about: dict[str, Any] = await self._handle.about.remote()
        return about

    async def score(self, asked: Asked) -> dict[str, Any]:
        """As :meth:`beholder.serving.endpoint.ScoringEngine.score`."""
        answer: dict[str, Any] = await self._handle.score.remote(asked)
        return answer


@serve.deployment(max_ongoing_requests=64)
@serve.ingress()
class Ingress:
    """A replica of the endpoint, with decoder processes of its own."""

    def __init__(self, engine: DeploymentHandle, config: dict[str, Any]) -> None:
        setup_logging()
        self._config = ServeConfig.model_validate(config)
        self._engine = DistantEngine(engine)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application, made on the replica: its guards depend on the config."""
        pool = DecoderPool(self._config.decoders, self._config.timeout_s)
        return make_endpoint(self._config, self._engine, pool, sources_of(self._config))


def build(config: ServeConfig) -> serve.Application:
    """The application for ``serve.run`` or a Serve config file.

    API keys are known by ``key_hashes`` and the environment variable ``BEHOLDER_KEY_HASHES``.

    Raises:
        ScorerError: the scorer's folder is not usable; checked here, not on a replica.
        ConfigError: the environment variable holds something else than hashes.
    """
    outline_scorer(config.scorer)
    hashes = keys.known_hashes(config.key_hashes, os.environ.get(keys.ENVIRONMENT, ""))
    settings = config.model_copy(update={"key_hashes": hashes}).model_dump(mode="json")
    resources = {"num_cpus": config.threads, "num_gpus": int(config.device.startswith("cuda"))}
    engine = Engine.options(ray_actor_options=resources).bind(settings)  # type: ignore[attr-defined]
    return Ingress.bind(engine, settings)  # type: ignore[attr-defined]
