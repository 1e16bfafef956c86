"""What a night will take: hours and money, from a scorer's speed measured on the night's items."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from pydantic import ValidationError

from beholder.catalog.config import NightlyConfig
from beholder.catalog.patience import patiently
from beholder.catalog.record import Stored, read_if_there
from beholder.errors import UserError
from beholder.items import Item
from beholder.media.pool import DecoderPool
from beholder.media.stage import Stage
from beholder.media.storage import write_bytes
from beholder.scoring import Scorer, load_scorer


class Rate(Stored):
    """How long one item takes, on the average, failed ones included."""

    items: int
    """on which it was measured"""
    decode_s: float
    """seconds of one decoder to fetch and decode it"""
    score_s: float
    """seconds of one scorer"""


class Rates(Stored):
    """A scorer's speed."""

    setting: dict[str, Any]
    """what it depends on: fingerprint, tasks, device, threads, batch"""
    load_s: float
    """seconds until a scorer stands"""
    kinds: dict[str, Rate]
    """by media kind"""


class Estimate(Stored):
    """What scoring some items takes.

    Items whose bytes turn out to be known count in full: it is an upper bound there. Nothing is
    added for planning, audit and publication.
    """

    items: int
    hours: float
    """on the clock, until the last one is scored"""
    items_per_second: float
    """of all actors together, once they stand"""
    cpu_hours: float
    """of decoders and scorers, from start to end"""
    gpu_hours: float
    """of the scorers"""
    cost: float | None
    """in the prices' currency; None where nothing has a price"""


def estimate(kinds: Mapping[str, int], rates: Rates, config: NightlyConfig) -> Estimate:
    """Time and cost of items: decoders and scorers work side by side, the slower ones decide.

    Args:
        kinds: items by media kind.
        rates: measured, with every one of these kinds.
        config: actors and prices.
    """
    some = {rates.kinds[kind]: n for kind, n in kinds.items() if n}
    decode = sum(n * rate.decode_s for rate, n in some.items()) / config.decoders
    score = sum(n * rate.score_s for rate, n in some.items()) / config.scorers
    items = sum(kinds.values())
    work = max(decode, score)
    hours = (rates.load_s + work) / 3600 if items else 0.0
    cpu_hours, gpu_hours = _machine_hours(hours, config)
    return Estimate(
        items=items,
        hours=hours,
        items_per_second=items / work if work else 0.0,
        cpu_hours=cpu_hours,
        gpu_hours=gpu_hours,
        cost=spent_money(3600 * hours, config),
    )


def _machine_hours(hours: float, config: NightlyConfig) -> tuple[float, float]:
    """CPU- and GPU-hours of all actors."""
    cpus = config.decoders + config.scorers * config.cpus
    return hours * cpus, hours * config.scorers * config.gpus


def spent_money(seconds: float, config: NightlyConfig) -> float | None:
    """What all actors cost for so long, in the prices' currency; None where nothing has a price."""
    prices = config.prices
    cpu_hours, gpu_hours = _machine_hours(seconds / 3600, config)
    if not (prices.cpu_hour or prices.gpu_hour):
        return None
    return cpu_hours * prices.cpu_hour + gpu_hours * prices.gpu_hour


def measured_rates(
    config: NightlyConfig, samples: Mapping[str, pa.Table], fingerprint: str, cache: str
) -> Rates:
    """A scorer's speed, from an earlier measurement in the same setting or by :func:`warm_up`.

    Args:
        config: scorer, tasks, limits and what a scoring actor has.
        samples: by kind, items to try: columns ``item_id, uri, kind, etag``.
        fingerprint: of the scorer.
        cache: URI at which the measurement is kept.

    Raises:
        UserError: a GPU is asked for and this machine has none; or what loading a scorer raises.
    """
    setting = {
        "fingerprint": fingerprint,
        "tasks": list(config.tasks) if config.tasks else None,
        "device": "cuda" if config.gpus else "cpu",
        "threads": max(1, int(config.cpus)),
        "batch": config.batch,
        "warm_up": config.warm_up,
    }
    kept = read_if_there(cache)
    if kept is not None:
        try:
            found = Rates.model_validate_json(kept)
        except ValidationError:
            found = None  # of another version: it is only a measurement
        if found is not None and found.setting == setting and samples.keys() <= found.kinds.keys():
            return found
    rates = warm_up(config, samples, setting)
    patiently(lambda: write_bytes(cache, rates.encode()))
    return rates


def warm_up(
    config: NightlyConfig, samples: Mapping[str, pa.Table], setting: Mapping[str, Any]
) -> Rates:
    """Scores some items in this process, as one decoder and one scoring actor would.

    A first batch that isn't counted warms allocators and caches. The scores are thrown away.

    Raises:
        UserError: a GPU is asked for and this machine has none; or what loading a scorer raises.
    """
    if setting["device"] == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"gpus is {config.gpus}, but this machine has none to measure the scorer's speed on: "
            "run the job on a GPU node, or leave out deadline_hours, budget and --plan-only"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(setting["threads"])
    try:
        began = time.perf_counter()
        scorer = patiently(lambda: load_scorer(config.scorer, setting["device"]))
        load_s = time.perf_counter() - began
        with DecoderPool(1, config.decode_seconds) as pool:
            stage = Stage(scorer.backbone.spec.pixels, config.limits(), pool, config.places().fetch)
            trial = _Trial(scorer, stage, config)
            kinds = {kind: trial.rate(_items(table)) for kind, table in samples.items()}
    finally:
        torch.set_num_threads(threads)
    return Rates(setting=dict(setting), load_s=load_s, kinds=kinds)


@dataclass(frozen=True)
class _Trial:
    scorer: Scorer
    stage: Stage
    config: NightlyConfig

    def rate(self, items: list[Item]) -> Rate:
        self._batch(items[: self.config.batch])
        decode_s = score_s = 0.0
        for start in range(0, len(items), self.config.batch):
            decoded, scored = self._batch(items[start : start + self.config.batch])
            decode_s, score_s = decode_s + decoded, score_s + scored
        return Rate(items=len(items), decode_s=decode_s / len(items), score_s=score_s / len(items))

    def _batch(self, items: list[Item]) -> tuple[float, float]:
        """Seconds of decoding and of scoring."""
        began = time.perf_counter()
        staged = [(item.item_id, self.stage.stage(item)) for item in items]
        decoded = time.perf_counter()
        self.scorer.score_staged(staged, self.config.tasks)
        return decoded - began, time.perf_counter() - decoded


def _items(table: pa.Table) -> list[Item]:
    return [
        Item(row["item_id"], row["uri"], row["kind"], row["etag"])
        for row in table.select(["item_id", "uri", "kind", "etag"]).to_pylist()
    ]
