"""What a run would do, computed from its config alone: no GPU, no weights, no Ray."""

from typing import NamedTuple

from beholder.config import dump_config
from beholder.datasets import concatenate
from beholder.media.storage import StorageError
from beholder.training.config import SetConfig, TrainConfig
from beholder.training.model import freeze
from beholder.training.order import Order
from beholder.training.sets import load_set, rows_of
from beholder.training.start import sketch

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
    """Training rows of a set, and whether they were counted or are the config's word."""
    try:
        found = load_set(some, config)
    except StorageError as error:
        if some.rows is None:
            raise
        return some.rows, f"expected, not read: {error}"
    concatenate([found])  # refuses labels outside their scale
    return rows_of(found, "train").num_rows, "counted"


def describe_run(config: TrainConfig) -> str:
    """The resolved config, data mix, steps, parameters by part and memory, as text.

    Raises:
        UserError: what :func:`~beholder.training.sets.load_set` refuses, but for a manifest
            that can't be read while its set says ``rows``; or sizes that no model has.
    """
    counts = [training_rows(some, config) for some in config.sets]
    total = sum(rows for rows, _ in counts)
    schedule, workers = config.schedule, config.workers.count
    order = Order(total, schedule.epochs, schedule.global_batch, config.seed)
    lines = ["# resolved config", dump_config(config), "# data mix"]
    for some, (rows, how) in zip(config.sets, counts, strict=True):
        share = rows / total
        lines.append(f"{some.name:<12} {some.task:<11} {rows:>9,} rows {share:>6.1%}  {how}")
    lines += ["", "# steps", f"{total:,} rows x {schedule.epochs} epochs / {schedule.global_batch}"]
    accumulation = schedule.global_batch // (workers * schedule.micro_batch)
    lines.append(
        f"{order.steps:,} optimizer steps; on each of {workers} workers {accumulation} "
        f"micro-batches of {schedule.micro_batch} a step"
    )
    parts = freeze(sketch(config), config.backbone.train)
    lines += ["", "# parameters"]
    for part, (everything, trained) in parts.items():
        lines.append(f"{part:<12} {everything:>15,}  {'trained' if trained else 'frozen'}")
    everything, trained = (sum(column) for column in zip(*parts.values(), strict=True))
    lines.append(f"{'all':<12} {everything:>15,}  {trained:,} trained")
    lines += ["", f"# memory a GPU on {workers} workers, GiB, without activations"]
    lines.append(f"{'stage':<7}{'weights':>9}{'gradients':>11}{'optimizer':>11}{'total':>8}")
    bfloat16 = config.backbone.dtype == "bfloat16"
    table = memory_by_stage(everything, trained, workers, bfloat16, config.deepspeed.offload)
    for stage, memory in table.items():
        weights, gradients, optimizer = (part / _GIB for part in memory)
        chosen = "  <- this config" if stage == config.deepspeed.stage else ""
        lines.append(
            f"ZeRO {stage} {weights:>9.2f}{gradients:>11.2f}{optimizer:>11.2f}"
            f"{memory.total / _GIB:>8.2f}{chosen}"
        )
    return "\n".join(lines)
