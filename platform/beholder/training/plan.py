"""What a run would do, computed from its config alone: no GPU, no weights, no Ray."""

from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from beholder.backbones import Backbone
from beholder.backbones.loading import unallocated
from beholder.config import ConfigError, dump_config
from beholder.datasets import concatenate, few_rows
from beholder.media.storage import StorageError, exists
from beholder.readouts import make_readout
from beholder.training.config import TrainConfig
from beholder.training.model import freeze
from beholder.training.order import Order, order_of
from beholder.training.set_config import SetConfig
from beholder.training.sets import doubts, load_set, rows_of, with_range
from beholder.training.start import outline_backbone, sketch

_GIB = 2**30


class Memory(NamedTuple):
    """Bytes on each GPU; activations come on top."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """Of all three."""
        return sum(self)


def memory_by_stage(
    parameters: int, trained: int, workers: int, bfloat16: bool, offload: bool = False
) -> dict[int, Memory]:
    """Memory a GPU for weights, gradients and AdamW's state at ZeRO stages 0 to 3.

    As in Rajbhandari et al. 2020, section 3: with bf16 weights and gradients, the optimizer
    keeps fp32 weights and two moments, 12 bytes a trained parameter; in fp32 the weights are
    their own master copy, so it is 8. Stage 1 divides the optimizer among workers, stage 2 also
    gradients, stage 3 also weights.
    """
    size, state = (2, 12) if bfloat16 else (4, 8)
    found = {}
    for stage in range(4):
        optimizer = trained * state / (workers if stage >= 1 else 1)
        found[stage] = Memory(
            weights=parameters * size / (workers if stage >= 3 else 1),
            gradients=trained * size / (workers if stage >= 2 else 1),
            optimizer=0.0 if offload and stage >= 2 else optimizer,
        )
    return found


def training_rows(some: SetConfig, config: TrainConfig) -> tuple[int, str]:
    """Training rows that are learned from, and how they were found: counted, or by the config."""
    part = "" if some.fraction == 1 else f"{some.fraction:g} of all by seed {some.fraction_seed}, "
    try:
        found = load_set(some, config)
    except StorageError as error:
        if some.rows is None:
            raise
        return few_rows(some.rows, some.fraction), f"{part}expected, not read: {error}"
    learned = replace(found, table=rows_of(found, "train", "val"))
    concatenate([learned])  # refuses labels outside their scale
    return rows_of(found, "train").num_rows, "; ".join([f"{part}counted", *doubts(found)])


def describe_run(config: TrainConfig) -> str:
    """The resolved config, data mix, steps, parameters by part and memory, as text.

    Raises:
        UserError: what :func:`~beholder.training.sets.load_set` refuses, but for a manifest
            that can't be read while its set says ``rows``; start weights that are not there; or
            sizes that no model has.
    """
    config = config.model_copy(update={"sets": tuple(map(_ranged, config.sets))})
    backbone, looked_at = _start(config)
    counts = [training_rows(some, config) for some in config.sets]
    names = [[some.name] * rows for some, (rows, _) in zip(config.sets, counts, strict=True)]
    order = order_of(config, list(chain.from_iterable(names)))
    parts = _parameters(config, backbone)
    return "\n".join(
        [
            *("# resolved config", dump_config(config), *_mix(config, counts, order)),
            *("", *_steps(config, order), "", *_model(config, parts), looked_at),
            *("", *_memory(config, parts)),
        ]
    )


def _ranged(some: SetConfig) -> SetConfig:
    """A set with its range as numbers, where its manifest is within reach."""
    try:
        return with_range(some)
    except StorageError:
        if some.rows is None:
            raise
        return some


def _start(config: TrainConfig) -> tuple[Backbone, str]:
    """The backbone's shapes, and what was looked at; as manifests, weights may be out of reach."""
    uri = config.backbone.weights
    try:
        if uri is not None and not exists(f"{uri.rstrip('/')}/config.json"):
            raise ConfigError(
                f"backbone.weights {uri} has no config.json: give the URI of a folder that holds "
                "a converted checkpoint"
            )
        backbone = outline_backbone(config)
    except StorageError as error:
        return sketch(config), f"weights not looked at, words not checked: {error}"
    words = make_readout(config.readout.model_dump(mode="json")).words()
    checked = f"words {', '.join(words)}: one token each" if words else "no words to check"
    return backbone, f"weights {uri or 'of its own'}; {checked}"


def _mix(config: TrainConfig, counts: list[tuple[int, str]], order: Order) -> list[str]:
    lines = ["# data mix"]
    for some, (rows, how) in zip(config.sets, counts, strict=True):
        share = order.places[some.name] / order.epoch_rows
        lines.append(f"{some.name:<12} {some.task:<11} {rows:>9,} rows {share:>6.1%}  {how}")
    return lines


def _steps(config: TrainConfig, order: Order) -> list[str]:
    schedule, workers = config.schedule, config.workers.count
    accumulation = schedule.global_batch // (workers * schedule.micro_batch)
    return [
        "# steps",
        f"{len(order.sets):,} rows x {schedule.epochs} epochs / {schedule.global_batch}",
        f"{order.steps:,} optimizer steps; on each of {workers} workers {accumulation} "
        f"micro-batches of {schedule.micro_batch} a step",
    ]


def _parameters(config: TrainConfig, backbone: Backbone) -> dict[str, tuple[int, int]]:
    """(all, trained) of each part and, last, of all; the backbone gets its adapters."""
    with unallocated():
        parts = freeze(backbone, config)
        readout = make_readout(config.readout.model_dump(mode="json"))
        head = readout.head(backbone.spec.hidden_size)
    if head is not None:
        size = sum(p.numel() for p in head.parameters())
        parts["readout"] = (size, size)
    everything, trained = (sum(column) for column in zip(*parts.values(), strict=True))
    return parts | {"all": (everything, trained)}


def _model(config: TrainConfig, parts: dict[str, tuple[int, int]]) -> list[str]:
    lines = ["# parameters"]
    for part, (everything, trained) in parts.items():
        whole = {0: "frozen", everything: "trained"} if part != "all" else {}
        said = whole.get(trained, f"{trained:,} trained")
        lines.append(f"{part:<12} {everything:>15,}  {said}")
    lora = config.backbone.lora
    if lora is not None:
        lines.append(f"adapters of rank {lora.rank}, scaled by {lora.scaling:g}, in language")
    return lines


def _memory(config: TrainConfig, parts: dict[str, tuple[int, int]]) -> list[str]:
    workers = config.workers.count
    lines = [f"# memory a GPU on {workers} workers, GiB, without activations"]
    lines.append(f"{'stage':<7}{'weights':>9}{'gradients':>11}{'optimizer':>11}{'total':>8}")
    bfloat16 = config.backbone.dtype == "bfloat16"
    table = memory_by_stage(*parts["all"], workers, bfloat16, config.deepspeed.offload)
    for stage, memory in table.items():
        weights, gradients, optimizer = (part / _GIB for part in memory)
        chosen = "  <- this config" if stage == config.deepspeed.stage else ""
        lines.append(
            f"ZeRO {stage} {weights:>9.2f}{gradients:>11.2f}{optimizer:>11.2f}"
            f"{memory.total / _GIB:>8.2f}{chosen}"
        )
    return lines
