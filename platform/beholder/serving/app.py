"""The Serve application: ingress, preprocessing and engine, each with replicas of its own.

How many replicas each has, and what makes them more, stands in the Serve config file
(``deployments:``, see ``serve_apps/``); what is set here is for whoever calls :func:`build`.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from fastapi import FastAPI
from prometheus_client import Metric
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle

from beholder.config import ConfigError
from beholder.items import Failure, Item
from beholder.logs import event, setup_logging
from beholder.media.pixels import PixelSpec
from beholder.media.pool import DecoderPool
from beholder.media.remote import RemoteClient
from beholder.media.stage import Stage, Staged
from beholder.scoring import (
    Scorer,
    ScorerOutline,
    check_base,
    load_adapter,
    load_scorer,
    outline_scorer,
)
from beholder.serving import keys
from beholder.serving.batching import FrameBatcher
from beholder.serving.config import ServeConfig
from beholder.serving.endpoint import make_endpoint
from beholder.serving.golden import about_file, about_scorer, require_golden
from beholder.serving.handles import ScoringReplicas
from beholder.serving.metrics import EngineMetrics, RequestMetrics
from beholder.serving.preprocess import Preprocessor
from beholder.serving.service import About, Answered, StagedGroup, Tasks
from beholder.serving.sources import Sources
from beholder.serving.trial import Pairs

log = logging.getLogger(__name__)

HEALTH_S = 5.0
"""Seconds between two looks at a replica's health: a dead one is missed for that long."""


def sources_of(config: ServeConfig) -> Sources:
    """What the requests to an endpoint may name."""
    return Sources(config.allowed_buckets, RemoteClient(config.allowed_hosts, config.fetch_s))


@serve.deployment(max_ongoing_requests=64, health_check_period_s=HEALTH_S)
class Preprocess:
    """Fetches, decodes and resizes, in processes that can be killed."""

    def __init__(self, config: dict[str, Any], pixels: PixelSpec) -> None:
        setup_logging()
        settings = ServeConfig.model_validate(config)
        pool = DecoderPool(settings.decoders, settings.timeout_s)
        stage = Stage(pixels, settings.limits(), pool, sources_of(settings).fetch)
        self._preprocessor = Preprocessor(stage, settings.item_s())
        self._warm = False

    async def check_health(self) -> None:
        """Serve asks it before the first request, too: all decoders have started then."""
        if not self._warm:
            await self._preprocessor.warm()
            self._warm = True

    async def stage(self, items: Sequence[Item], request_id: str) -> StagedGroup:
        """See :meth:`beholder.serving.preprocess.Preprocessor.stage`."""
        group = await self._preprocessor.stage(items)
        failed = sum(isinstance(found, Failure) for _, found in group.items)
        event(
            log,
            "staged",
            request_id=request_id,
            items=len(items),
            failed=failed,
            seconds=group.seconds,
        )
        return group


@serve.deployment(max_ongoing_requests=64, health_check_period_s=HEALTH_S)
class Engine:
    """Holds the scorer; starts to serve when it has scored its golden panel as recorded."""

    def __init__(self, config: dict[str, Any]) -> None:
        setup_logging()
        settings = ServeConfig.model_validate(config)
        torch.set_num_threads(settings.threads)
        self._scorer = load_scorer(settings.scorer, settings.device)
        self._scorer.engine.max_frames = settings.batch_frames
        require_golden(self._scorer)
        self._metrics = EngineMetrics()
        adapters = settings.adapters

        async def adapted(name: str) -> Scorer:
            scorer = await asyncio.to_thread(load_adapter, self._scorer, adapters[name])
            scorer.engine.max_frames = settings.batch_frames
            await asyncio.to_thread(require_golden, scorer)
            return scorer

        self._adapted = serve.multiplexed(max_num_models_per_replica=settings.adapters_loaded)(
            adapted
        )
        self._batcher = FrameBatcher(
            score_batch,
            settings.batch_frames,
            settings.batch_wait_s,
            self._metrics.batch,
        )
        self._metrics.waiting.set_function(lambda: self._batcher.waiting_frames)
        self._failed = 0

    async def check_health(self) -> None:
        """After a batch that raised, the golden panel again: Serve replaces who fails it."""
        if self._batcher.failed > self._failed:
            failed = self._batcher.failed
            await asyncio.to_thread(require_golden, self._scorer)
            self._failed = failed

    async def about(self) -> About:
        """What the ingress needs to know of the scorer."""
        return about_scorer(self._scorer)

    async def score(
        self, group: StagedGroup, tasks: Tasks, request_id: str, adapter: str
    ) -> Answered:
        """See :meth:`beholder.serving.batching.FrameBatcher.submit`; an adapter is loaded first."""
        scorer = await self._adapted(adapter) if adapter else self._scorer
        answered = await self._batcher.submit(scorer, group, tasks)
        event(
            log,
            "scored",
            request_id=request_id,
            items=len(answered.answers),
            frames=answered.frames,
            queue_s=answered.seconds["queue"],
            engine_s=answered.seconds["engine"],
        )
        return answered

    async def families(self) -> tuple[str, list[Metric]]:
        """What this replica counts."""
        return _replica(), list(self._metrics.registry.collect())


def score_batch(
    scorer: Scorer, items: Sequence[tuple[str, Staged | Failure]], tasks: Tasks
) -> list[dict[str, Any]]:
    """A batch's answers, as they go over the wire."""
    return [score.as_dict() for score in scorer.score_staged(items, tasks)]


@serve.deployment(
    # Admission bounds the work; these bound the connections that wait for its no.
    max_ongoing_requests=1000,
    max_queued_requests=1000,
    backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
    health_check_period_s=HEALTH_S,
    ray_actor_options={"num_cpus": 0},
)
@serve.ingress()
class Ingress:
    """A replica of the endpoint's application."""

    def __init__(
        self,
        preprocess: DeploymentHandle,
        engine: DeploymentHandle,
        candidate: DeploymentHandle | None,
        adapters: dict[str, About],
        config: dict[str, Any],
    ) -> None:
        setup_logging()
        self._config = ServeConfig.model_validate(config)
        self._metrics = RequestMetrics()
        context = serve.get_replica_context()
        siblings = serve.get_deployment_handle(context.deployment, context.app_name)
        trial = self._config.candidate
        self._replicas = ScoringReplicas(
            preprocess,
            engine,
            siblings,
            self._config.batch_frames,
            adapters,
            candidate,
            trial.share if trial else 0.0,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application, made on the replica: its guards depend on the config."""
        return make_endpoint(self._config, self._replicas, self._metrics, echo_id=False)

    async def pairs(self) -> Pairs:
        """What this replica has seen of the candidate."""
        return self._replicas.trial.pairs

    async def families(self) -> tuple[str, list[Metric]]:
        """What this replica counts."""
        return _replica(), list(self._metrics.registry.collect())


def _replica() -> str:
    return serve.get_replica_context().replica_tag


def _alike(uri: str, beside: ScorerOutline, role: str) -> ScorerOutline:
    """A scorer that gets the pixels which were made for another."""
    outline = outline_scorer(uri, adapter=role == "adapter")
    if outline.pixels != beside.pixels:
        raise ConfigError(
            f"{role} {uri} wants other pixels than scorer {beside.file.fingerprint}: give it an "
            "application of its own"
        )
    return outline


def build(config: ServeConfig) -> serve.Application:
    """The application for ``serve.run`` or a Serve config file.

    API keys are known by ``key_hashes`` and the environment variable ``BEHOLDER_KEY_HASHES``.

    Raises:
        ScorerError: the scorer's folder is not usable, or an adapter is of other weights; checked
            here, not on a replica.
        ConfigError: the environment variable holds something else than hashes, or an adapter or
            the candidate wants other pixels than the scorer.
    """
    outline = outline_scorer(config.scorer)
    hashes = keys.known_hashes(config.key_hashes, os.environ.get(keys.ENVIRONMENT, ""))
    settings = config.model_copy(update={"key_hashes": hashes}).model_dump(mode="json")
    adapters = {}
    for name, uri in config.adapters.items():
        adapters[name] = about_file(_alike(uri, outline, "adapter").file)
        check_base(uri, config.scorer, outline.file.fingerprint)
    on_gpu = int(config.device.startswith("cuda"))
    preprocess = Preprocess.options(  # type: ignore[attr-defined]
        ray_actor_options={"num_cpus": config.decoders}
    ).bind(settings, outline.pixels)
    engine = Engine.options(  # type: ignore[attr-defined]
        ray_actor_options={"num_cpus": config.threads, "num_gpus": on_gpu}
    )
    candidate = None
    if config.candidate is not None:
        _alike(config.candidate.scorer, outline, "candidate")
        tried = settings | {"scorer": config.candidate.scorer, "adapters": {}}
        candidate = engine.options(name="Candidate").bind(tried)
    return Ingress.bind(  # type: ignore[attr-defined]
        preprocess, engine.bind(settings), candidate, adapters, settings
    )
