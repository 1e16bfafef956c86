"""The feature cache: a frozen vision part looks once at every picture, through Ray Data."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch

from beholder.catalog.session import in_blocks, say_if_short
from beholder.catalog.stages import Decode, staged_rows
from beholder.logs import Progress, event
from beholder.media.limits import Limits
from beholder.media.stage import Staged
from beholder.training.config import TrainConfig
from beholder.training.feed import refuse_failures
from beholder.training.start import outline_backbone, start_backbone

log = logging.getLogger(__name__)

_STATES = pa.schema(
    [
        ("uri", pa.string()),
        ("frames", pa.int64()),
        ("states", pa.list_(pa.float32())),
        ("failure", pa.string()),
    ]
)


class Look:
    """Rows with pixels to vision states; of a long video the first clip is kept.

    Args:
        config: the run's, as a dictionary.
        threads: of the model on a CPU.
    """

    def __init__(self, config: dict[str, Any], threads: int) -> None:
        torch.set_num_threads(threads)
        self._backbone = start_backbone(TrainConfig.model_validate(config)).eval()
        if config["workers"]["gpus"]:
            self._backbone.cuda()

    @torch.inference_mode()
    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows ``uri, frames, states, failure``."""
        device = next(self._backbone.parameters()).device
        found = []
        staged = staged_rows(rows, self._backbone.spec.pixels.size)
        for uri, (_, item) in zip(rows["uri"].to_pylist(), staged, strict=True):
            if not isinstance(item, Staged):
                failure = f"{item.code}: {item.message}"
                found.append({"uri": uri, "frames": 0, "states": [], "failure": failure})
                continue
            pixels = torch.from_numpy(np.ascontiguousarray(item.clips[0])).to(device)
            states = self._backbone.vision(pixels).float().cpu().numpy()
            found.append({"uri": uri, "frames": len(states), "states": states.reshape(-1)})
        return pa.Table.from_pylist(found, schema=_STATES)


def cache_states(rows: pa.Table, config: TrainConfig) -> pa.Table:
    """Vision states of every medium of the mix, one (uri, frames, states, failure) each.

    Args:
        rows: columns ``row, item_id, uri, kind``; a medium that several rows name is looked at
            once.
        config: the run's.

    Raises:
        UserError: more media failed than ``max_failed`` allows.
    """
    spec = outline_backbone(config).spec.pixels
    cpus = config.workers.cpus
    _, first = np.unique(rows["uri"].to_numpy(zero_copy_only=False), return_index=True)
    media = rows.select(["item_id", "uri", "kind"]).take(pa.array(np.sort(first)))
    workers = config.workers
    say_if_short(0.5 + cpus * workers.count, workers.gpus * workers.count)
    looked = (
        in_blocks(media, min(media.num_rows // 32, 200))
        .map_batches(
            Decode,
            fn_constructor_args=(spec, Limits(max_clips=1)),
            batch_size=16,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=0.5,
        )
        .map_batches(
            Look,
            fn_constructor_args=(config.model_dump(mode="json"), max(1, int(cpus))),
            batch_size=16,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=config.workers.count),
            num_cpus=cpus,
            num_gpus=config.workers.gpus or None,
        )
    )
    tables = []
    with Progress(media.num_rows, "look at pictures") as bar:
        for table in looked.iter_batches(batch_size=None, batch_format="pyarrow"):
            assert isinstance(table, pa.Table)
            tables.append(table)
            bar.advance(table.num_rows)
    states = pa.concat_tables(tables)
    failures = states["failure"].drop_null()
    if len(failures):
        event(log, "media.failed", rows=len(failures), of=media.num_rows, first=failures[0].as_py())
    refuse_failures(len(failures), media.num_rows, config.max_failed, failures)
    return states
