"""Media streamed through Ray Data, for backbones whose vision part is trained."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from beholder.catalog.session import in_blocks
from beholder.catalog.stages import Decode, staged_rows
from beholder.media.limits import Limits
from beholder.media.pixels import PixelSpec
from beholder.media.stage import Staged
from beholder.training.feed import Looked
from beholder.training.order import FILLER


class StreamedPixels:
    """Fetches and decodes ahead of the training loop, in the order of its plan.

    Each worker streams its own micro-batches, so that which row stands where depends on the
    seed alone and never on which worker was quicker.

    Args:
        rows: the mix: columns ``row, item_id, uri, kind``.
        spec: what the backbone wants to see.
        ahead: micro-batches decoded ahead.
    """

    def __init__(self, rows: pa.Table, spec: PixelSpec, ahead: int = 4) -> None:
        self._rows = rows.select(["row", "item_id", "uri", "kind"])
        self._spec = spec
        self._ahead = ahead
        self.blank: torch.Tensor | None = None

    def batches(self, plan: Sequence[NDArray[np.int64]]) -> Iterator[list[Looked | None]]:
        """For each micro-batch of row indices, in order, its pixels; None for what failed."""
        if not plan:
            return
        size = len(plan[0])
        flat = np.concatenate(plan)
        # Fillers carry nothing: they are left out of the stream and put back here.
        wanted = self._rows.take(pa.array(flat[flat != FILLER]))
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        stream = (
            in_blocks(wanted, len(plan))
            .map_batches(
                Decode,
                fn_constructor_args=(self._spec, Limits(max_clips=1)),
                batch_size=size,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=1),
                num_cpus=0.5,
            )
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=self._ahead)
        )
        media = self._media(stream)
        for rows in plan:
            yield [None if row == FILLER else next(media) for row in rows]

    def _media(self, stream: Iterable[pa.Table]) -> Iterator[Looked | None]:
        for table in stream:
            for _, item in staged_rows(table, self._spec.size):
                if isinstance(item, Staged):
                    yield Looked(pixels=torch.from_numpy(np.array(item.clips[0])))
                else:
                    yield None
