"""Which media a new scorer takes along as its golden panel: small ones that it did not learn from.

The panel itself is :mod:`beholder.scoring.panel`.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beholder.datasets import TrainingSet
from beholder.items import ItemError, Kind
from beholder.media.fetch import fetch
from beholder.media.images import decode_image
from beholder.media.limits import Limits
from beholder.scoring import Scorer
from beholder.scoring.panel import PANEL_ITEMS, Panel, make_panel
from beholder.scoring.scorer import library_versions
from beholder.training.sets import rows_of

SIDE = 384
"""Pixels of a panel picture's longer side at most, so that a panel is some 300 kB."""
_QUALITY = 90
_VIDEO = Limits(max_bytes=2 * 2**20)


def panel_of(sets: Sequence[TrainingSet], scorer: Scorer) -> Panel | None:
    """The panel of a trained scorer.

    Pictures of the sets' test rows (validation rows where a set has none), from the worst to the
    best of each set by ``mos``; short videos where there is no picture.

    Args:
        sets: the mix's.
        scorer: the trained one.

    Returns:
        None where nothing could be fetched and scored.
    """
    for kind in ("image", "video"):
        # One of each set in turn, so that every set is among the few.
        turns = zip_longest(*(_candidates(one, kind) for one in sets))
        uris = (uri for uri in chain.from_iterable(turns) if uri is not None)
        media = list(islice(_media(uris, kind), PANEL_ITEMS))
        if (panel := make_panel(scorer, media, library_versions())) is not None:
            return panel
    return None


def _candidates(one: TrainingSet, kind: Kind) -> list[str]:
    """URIs of a set's rows spread over its range of ``mos``; some more than a panel needs."""
    rows = rows_of(one, "test")
    rows = rows if rows.num_rows else rows_of(one, "val")
    rows = rows.filter(pc.equal(rows["kind"], kind)).sort_by("mos")
    if not rows.num_rows:
        return []
    count = min(2 * PANEL_ITEMS, rows.num_rows)
    spread = np.linspace(0, rows.num_rows - 1, count).round().astype(int)
    every_other = np.concatenate([spread[::2], spread[1::2]])
    uris: list[str] = rows["uri"].take(pa.array(every_other)).to_pylist()
    return uris


def _media(uris: Iterator[str], kind: Kind) -> Iterator[tuple[Kind, bytes]]:
    """Encoded media small enough to travel; what can't be had or read is passed over."""
    for uri in uris:
        try:
            if kind == "video":
                yield kind, fetch(uri, _VIDEO).data
                continue
            picture = decode_image(fetch(uri, Limits()).data, Limits())
        except ItemError:
            continue
        picture.thumbnail((SIDE, SIDE))
        sink = io.BytesIO()
        picture.save(sink, "JPEG", quality=_QUALITY)
        yield kind, sink.getvalue()
