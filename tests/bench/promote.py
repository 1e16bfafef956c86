"""What it takes to let readers see a new scorer's scores: jobs/promote_scorer.py, but for Ray.

``python jobs/bench.py promote``. A catalog and a shadow of all but one in two hundred of its items
are drawn on a disk, as nights write them; of at most a million the scores are compared, so that a
million takes less in a large catalog. The promotion of it is
:func:`beholder.catalog.promotion.promote`, in a process of its own.
"""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import duckdb

from beholder.catalog import promotion
from beholder.catalog.buckets import Buckets, conform
from beholder.catalog.head import publish
from beholder.catalog.layout import Layout
from beholder.catalog.promotion_report import PromotionConfig
from beholder.catalog.record import KEYS, File, Record
from beholder.catalog.state_files import store_file
from beholder.catalog.tables import ITEMS, SCORES
from bench import Row
from bench.catalog import GIB, LARGE, ROWS_A_BUCKET, SMALL, Cost, alone, measured

RUN = "2026-11-20.0"
OLD, NEW = "0" * 16, "1" * 16
STEP = 250_000
LEFT_OUT = 200
"""Of so many items one is not in the shadow."""

_ITEMS = """
    select printf('item-%09d', i) as item_id, printf('s3://uploads/%s.jpg', md5(i::varchar)) as uri,
        'image' as kind, 'user-' || (i % 9973) as owner, 'segment-' || (i % 20) as segment,
        make_timestamptz(1700000000000000 + 31000000 * i) as created_at, md5(i::varchar) as etag,
        100000 + i % 900000 as size, sha256(i::varchar) as sha256, 'scored' as state,
        null as failure_code, null as failure_message, 1 as attempts, size as bytes_read,
        '{run}' as run, false as removed
    from range({start}, {end}) t(i) where {where}
"""
_SCORES = """
    select sha256(i::varchar) as sha256, '{fingerprint}' as fingerprint, 'quality' as task,
        1.5 + 3 * (hash(i) % 1000 / 1000) + 0.2 * (hash(i, '{fingerprint}') % 1000 / 1000) as mean,
        1.1 as std, 1.4 as entropy, [1.0, 2.0, 3.0, 4.0, 5.0] as support,
        [0.05, 0.1, 0.2, 0.4, 0.25] as probs, [1.0, 5.0] as scale, 0.95 as mass,
        [mean] as clip_means, 1.0 as coverage, '{run}' as run
    from range({start}, {end}) t(i) where {where}
"""


def rows(sizes: Sequence[int] = (SMALL, LARGE)) -> list[Row]:
    """At each size, seconds a million items and peak memory."""
    told = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="beholder-bench-") as folder:
            root = f"{folder}/catalog"
            alone(draw, root, OLD, size)
            alone(draw, Layout(root).shadow(NEW).root, NEW, size)
            cost = alone(run, root, size)
        millions = size / 1e6
        name, note = f"promote, {millions:g} M", f"CPU {cost.cpu / millions:.1f} s a million"
        told.append(Row(f"{name}: time", cost.seconds / millions, "s a million", note=note))
        told.append(Row(f"{name}: peak memory", cost.peak / GIB, "GiB", "<= 6"))
    return told


def run(root: str, size: int) -> Cost:
    """A promotion in this process; what it took."""
    costs: dict[str, Cost] = {}
    new = SimpleNamespace(file=SimpleNamespace(fingerprint=NEW))
    with patch.object(promotion, "outline_scorer", lambda _: new):
        promote = measured(promotion.promote, "promote", costs)
        found = promote(PromotionConfig(catalog=root, scorer="s3://scorers/new"))
    assert found.name == "promoted", found.refused
    counts = promotion.open_snapshot(root).record.counts
    assert counts == {"stale": 0, "left_out": size // LEFT_OUT}, counts
    return costs["promote"]


def draw(root: str, fingerprint: str, size: int) -> None:
    """A published snapshot of one base file a bucket."""
    layout, buckets = Layout(root), size // ROWS_A_BUCKET
    files: dict[str, dict[int, tuple[File, ...]]] = {"items": {}, "scores": {}}
    where = "true" if fingerprint == OLD else f"i % {LEFT_OUT} > 0"
    said = {"run": RUN, "fingerprint": fingerprint, "where": where}
    Path(root).mkdir(parents=True, exist_ok=True)
    for table, sql, schema in (("items", _ITEMS, ITEMS), ("scores", _SCORES, SCORES)):
        with tempfile.TemporaryDirectory(dir=root) as scratch, duckdb.connect() as connection:
            split = Buckets(Path(scratch), buckets, KEYS[table][0], schema)
            for start in range(0, size, STEP):
                asked = sql.format(start=start, end=min(start + STEP, size), **said)
                split.add(conform(connection.sql(asked).arrow().read_all(), schema))
            for bucket in range(buckets):
                uri = layout.state(table, bucket, f"{RUN}-bench")
                file = store_file(layout, uri, split.read(bucket), deltas=False)
                files[table][bucket] = (file,)
    record = Record(
        id=RUN,
        parent=None,
        created_at=datetime.now(UTC),
        buckets=buckets,
        scorer=f"s3://scorers/{fingerprint}",
        fingerprint=fingerprint,
        tasks={"image": ("quality",)},
        manifest={"uri": "s3://lists/all", "version": "1"},
        config={},
        **files,
    )
    publish(layout, record, "bench")
