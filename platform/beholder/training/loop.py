"""The training loop of one worker. It knows DeepSpeed and a feed; it knows no Ray.

Only ``engine(batch)`` is ever called: under ZeRO-3 weights are empty outside a forward.
"""

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from beholder.backbones import Backbone, Read
from beholder.evaluation import srcc
from beholder.evaluation.digits import ncm, ncm_star
from beholder.opinions import Rating
from beholder.readouts import HEAD_FILE, Readout, make_readout, read_slots
from beholder.scoring.adapter import FACTORS
from beholder.training import checkpoints
from beholder.training.adapters import factors_of, merge_adapters
from beholder.training.batch import TrainBatch
from beholder.training.config import TrainConfig
from beholder.training.engine import make_engine, whole_state
from beholder.training.feed import BatchBuilder, MediaSource, Opinion, refuse_failures
from beholder.training.model import TrainingModel, freeze
from beholder.training.objective import Objective
from beholder.training.order import FILLER, order_of

log = logging.getLogger(__name__)

Report = Callable[[dict[str, float], Path], None]
"""Takes metrics and this rank's checkpoint folder; a barrier across ranks."""


@dataclass
class Mix:
    """What is trained on and what selects.

    Attributes:
        rows: all rows, train and validation.
        train: indices of training rows.
        validation: indices of validation rows.
        sets: name of each row's set.
    """

    rows: Sequence[Opinion]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    sets: Sequence[str]


@dataclass
class Trainer:
    """One worker's share of a run.

    Args:
        config: the run.
        backbone: in training dtype, on its device, not yet wrapped.
        mix: rows and splits.
        media: pixels or states of rows.
        rank: of this worker, world: their number.

    Attributes:
        curve: ``step``, ``loss``, ``rate`` and ``failed`` of each step, and what validation
            measured behind it.
        failed: rows shown without media so far, over all epochs and workers.
    """

    config: TrainConfig
    backbone: Backbone
    mix: Mix
    media: MediaSource
    rank: int = 0
    world: int = 1
    curve: list[dict[str, float]] = field(default_factory=list)
    failed: int = 0

    def __post_init__(self) -> None:
        config = self.config
        self.readout = make_readout(config.readout.model_dump(mode="json"))
        # A set that the config doesn't name, as in a comparison, has nothing of its own.
        readouts: Mapping[str, Readout] = dict.fromkeys(self.mix.sets, self.readout) | {
            some.name: make_readout(config.readout.for_set(some)) for some in config.sets
        }
        self.builder = BatchBuilder(
            self.backbone,
            readouts,
            self.mix.rows,
            config.prompt,
            config.seed,
            self.media.blank,
            votes=config.objective.needs_votes,
        )
        self.order = order_of(config, [self.mix.sets[i] for i in self.mix.train])
        freeze(self.backbone, config)
        self.token_ids = self.readout.token_ids(self.backbone)
        first = next(self.backbone.parameters())
        self.device = first.device
        head = self.readout.head(self.backbone.spec.hidden_size, config.seed)
        self.head = None if head is None else head.to(first)
        support = torch.from_numpy(self.readout.support)
        self.objective = Objective(config.objective, self.token_ids, support)
        self.model = TrainingModel(self.backbone, self.objective, self.head)
        self.engine = make_engine(self.model, config, self.order.steps)

    def run(self, report: Report, resume: Path | None = None) -> None:
        """Trains to the end, reporting a checkpoint ``schedule.checks`` times.

        Args:
            report: called by all ranks at the same steps.
            resume: a checkpoint's folder, with every rank's files.
        """
        start = 0
        if resume is not None:
            start = checkpoints.load_state(self.engine, resume)
            self.curve = json.loads((resume / checkpoints.CURVE).read_text("utf-8"))
            self.failed = int(self.curve[-1]["failed"])
        steps, checks = self.order.steps, self.config.schedule.checks
        stops = {math.ceil(steps * (i + 1) / checks) for i in range(checks)}
        plan = [micro for step in range(start, steps) for micro in self._share(step)]
        media = self.media.batches(plan)
        began = said = time.monotonic()
        for step in range(start, steps):
            loss = self._step(step, media)
            point = {"step": step, "loss": loss, "rate": self.engine.get_lr()[0]}
            self.curve.append(point | {"failed": self.failed})
            if time.monotonic() - said > 5 and self.rank == 0:
                said = time.monotonic()
                left = (said - began) / (step + 1 - start) * (steps - step - 1)
                log.info("step %d of %d, loss %.4f, %.0f s left", step + 1, steps, loss, left)
            if step + 1 in stops:
                self._check(step + 1, report)

    def _share(self, step: int) -> list[NDArray[np.int64]]:
        """This rank's micro-batches of a step, as row indices."""
        micro = self.config.schedule.micro_batch
        return [
            np.where(part == FILLER, FILLER, self.mix.train[part])
            for part in self.order.micro_batches(step, self.rank, self.world, micro)
        ]

    def _step(self, step: int, media: Any) -> float:
        # Dropout repeats itself after a resume, and differs between ranks.
        torch.manual_seed((self.config.seed * 1_000_003 + step) * 4096 + self.rank)
        self.engine.train()
        items = [self.builder.build(rows, next(media), step) for rows in self._share(step)]
        counts = torch.stack([self.objective.counts(item) for item in items])  # (micro, terms)
        lost = torch.tensor([float(sum(item.failed for item in items))], dtype=torch.float64)
        sums = torch.cat([counts.sum(0), lost]).to(self.device)
        dist.all_reduce(sums)
        self.failed += int(sums[-1])
        shown = self.order.epoch_rows * self.config.schedule.epochs
        refuse_failures(self.failed, shown, self.config.max_failed)
        totals = sums[:-1].cpu().clamp_min(1e-12)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        for item, count in zip(items, counts, strict=True):
            item.share = count / totals * len(items) * self.world
            loss = self.engine(item.to(self.device))
            self.engine.backward(loss)
            self.engine.step()
            loss_sum += loss.detach().double() / (len(items) * self.world)
        dist.all_reduce(loss_sum)
        return float(loss_sum)

    def _check(self, step: int, report: Report) -> None:
        """Validation, then a checkpoint."""
        metrics = self.validate()
        self.curve[-1] |= metrics
        if self.rank == 0:
            log.info("validation: %s", ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
        metrics |= {"step": float(step), "loss": self.curve[-1]["loss"]}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            checkpoints.save_state(self.engine, folder, step)
            stage = self.config.deepspeed.stage
            state = whole_state(self.engine, self.backbone, stage)
            head = None if self.head is None else whole_state(self.engine, self.head, stage)
            if self.rank == 0:
                if head is not None:
                    save_file(dict(head), folder / HEAD_FILE)
                lora = self.config.backbone.lora
                if lora is not None:
                    save_file(factors_of(state), folder / FACTORS)
                    state = merge_adapters(state, lora.scaling)
                save_file(dict(state), folder / checkpoints.WEIGHTS)
                (folder / checkpoints.CURVE).write_text(json.dumps(self.curve), "utf-8")
            checkpoints.commit(folder, self.rank)
            report(metrics, folder)

    def validate(self) -> dict[str, float]:
        """SRCC against MOS by set on the validation rows, and ``selection``, their mean.

        A set of fewer than three rows, or whose scores are all equal, counts 0. For digits also
        RealQA's NCM and NCM* by set, of digits behind the true ones, as cross-entropy sees them.
        """
        rows = self.mix.validation
        metrics = self._correlate(rows, self.predict(rows))
        return metrics | (self._continuity(rows) if self.config.readout.name == "digits" else {})

    def predict(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean scores of some rows on the readout's scale, NaN where media failed. (N,)."""
        return self._rated(rows, lambda rating: rating.mean)

    def distributions(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities of the readout's scores for some rows, NaN where media failed. (N, K).

        Raises:
            NoSpreadError: the readout gives points.
        """
        return self._rated(rows, lambda rating: rating.probs)

    def _rated(
        self, rows: NDArray[np.int64], of: Callable[[Rating], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """What ``of`` takes of some rows' ratings, (B, ...) of B at a time. (N, ...).

        Collective: every rank runs the same number of forwards and gets all of them.
        """

        def read(item: TrainBatch, indices: NDArray[np.int64]) -> Tensor:
            def look(written: list[str]) -> Read:
                shapes = item.batch.shapes
                item.batch.encoded = self.builder.ask(indices, shapes, written).to(self.device)
                found: Read = self.engine(item, read=True)
                return found

            reading = read_slots(self.readout, self.token_ids, len(indices), look)
            return torch.from_numpy(of(reading.distribution))

        return self._over(rows, read)

    def _over(
        self,
        rows: NDArray[np.int64],
        read: Callable[[TrainBatch, NDArray[np.int64]], Tensor],
    ) -> NDArray[np.float64]:
        """What is read of some rows, a micro-batch (B, ...) at a time, NaN where media failed."""
        micro = self.config.schedule.micro_batch
        per_rank = -(-len(rows) // (self.world * micro)) * micro
        padded = np.full(per_rank * self.world, FILLER, dtype=np.int64)
        padded[: len(rows)] = rows
        plan = np.split(padded.reshape(self.world, per_rank)[self.rank], per_rank // micro)
        self.engine.eval()
        found = []
        with torch.no_grad():
            for indices, media in zip(plan, self.media.batches(plan), strict=True):
                item = self.builder.build(indices, media, 0).to(self.device)
                one = read(item, indices).to(self.device)
                one[item.weights == 0] = torch.nan
                found.append(one)
        mine = torch.cat(found)
        gathered = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(gathered, mine)
        return torch.cat(gathered)[: len(rows)].cpu().numpy()

    def _continuity(self, rows: NDArray[np.int64]) -> dict[str, float]:
        """``<set>_ncm`` and ``<set>_ncm_star`` of some rows, in squared units of 0..10."""

        def read(item: TrainBatch, indices: NDArray[np.int64]) -> Tensor:
            logits = self.engine(item, read=True).logits
            digits = logits[:, self.token_ids].double().softmax(-1)
            return digits.reshape(len(indices), -1, len(self.token_ids))  # (B, M, 10)

        probs = self._over(rows, read)
        opinions = [self.mix.rows[i] for i in rows]
        own = [float(self.readout.scores(np.array([o.mos]), o.scale)[0]) for o in opinions]
        written = np.minimum(own, self.readout.support[-1])
        names = np.array([self.mix.sets[i] for i in rows])
        metrics: dict[str, float] = {}
        for name in sorted(set(names)):
            here = (names == name) & np.isfinite(probs).all((1, 2))
            if here.any():
                metrics[f"{name}_ncm"] = ncm(probs[here], written[here])
                metrics[f"{name}_ncm_star"] = ncm_star(probs[here], written[here])
        return metrics

    def _correlate(
        self, rows: NDArray[np.int64], predicted: NDArray[np.float64]
    ) -> dict[str, float]:
        mos = np.array([self.mix.rows[i].mos for i in rows])
        names = np.array([self.mix.sets[i] for i in rows])
        metrics: dict[str, float] = {}
        for name in sorted(set(names)):
            here = (names == name) & np.isfinite(predicted)
            enough = here.sum() >= 3
            metrics[f"{name}_srcc"] = srcc(predicted[here], mos[here]) if enough else 0.0
        metrics["selection"] = float(np.mean(list(metrics.values()))) if metrics else 0.0
        return metrics
