"""How long it takes to erase ten of 20,000 owners from a catalog, and in how much memory.

::

    python tests/bench/erase.py [ITEMS]

A catalog of a million items by default, in three snapshots on a local disk. The erasure runs in a
process of its own, whose peak is measured.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "platform"))

import numpy as np
import pyarrow as pa

OWNERS = 20_000
ERASED = 10
BUCKETS = 64
PART = 50_000


def rows(items: int = 1_000_000) -> list[tuple[str, float, str, str]]:
    """Name, value, unit and bar of each figure."""
    with tempfile.TemporaryDirectory() as root:
        build(root, items)
        found = subprocess.run(
            [sys.executable, __file__, "--erase", root],
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"BEHOLDER_ERASURE_KEY": "k" * 32},
        )
    said = json.loads(found.stdout)
    name = f"erase {ERASED} owners from {items:,} items"
    return [
        (f"{name}: time", said["seconds"], "s", ""),
        (f"{name}: peak memory", said["peak_mib"], "MiB", "<= 6144"),
        (f"{name}: rows of items", said["item_rows"], "rows", ""),
        (f"{name}: objects written", said["replaced"], "objects", ""),
    ]


def build(root: str, items: int) -> None:
    """Three nights: all items, then a hundredth of them anew, twice."""
    from beholder.catalog.head import publish, read_head
    from beholder.catalog.layout import Layout
    from beholder.catalog.prepare import prepare
    from beholder.catalog.record import Record
    from beholder.catalog.snapshot import open_snapshot

    layout = Layout(root)
    for night, size in enumerate((items, items // 100, items // 100)):
        parent = open_snapshot(root) if read_head(layout) else None
        draft = Record(
            id=f"2026-11-{night + 18}.0",
            parent=parent.record.id if parent else None,
            created_at=datetime.now(UTC),
            buckets=BUCKETS,
            scorer="none",
            fingerprint="feed5eedfeed5eed",
            tasks={"image": ("quality",)},
            manifest={},
            config={},
        )
        publish(layout, prepare(layout, draft, parent, _chunks(size, night)), "bench")


def _chunks(items: int, night: int) -> Iterator:
    from beholder.catalog.prepare import DoneChunk
    from beholder.catalog.tables import CHUNK

    score = {"task": "quality", "mean": 3.0, "std": 0.5, "scale": [1.0, 5.0], "mass": 0.97}
    score |= {"support": [1.0, 2.0, 3.0, 4.0, 5.0], "probs": [0.1, 0.2, 0.4, 0.2, 0.1]}
    for start in range(0, items, PART):
        numbers = np.arange(start, min(start + PART, items))
        names = [f"item-{n:09d}" for n in numbers]
        constant = {"kind": "image", "state": "scored", "run": f"2026-11-{night + 18}.0"}
        columns = {field.name: pa.nulls(len(names), field.type) for field in CHUNK}
        columns |= {n: pa.repeat(pa.scalar(v), len(names)) for n, v in constant.items()}
        columns |= {
            "item_id": pa.array(names),
            "uri": pa.array([f"s3://media/{name}.jpg" for name in names]),
            "owner": pa.array([f"owner-{n % OWNERS}" for n in numbers]),
            "sha256": pa.array([f"{night}{n:063x}" for n in numbers]),
            "scores": pa.array([[score]] * len(names), CHUNK.field("scores").type),
        }
        table = pa.table(columns, schema=CHUNK)
        yield DoneChunk(table["item_id"], table, "none")


def _erase(root: str) -> None:
    from beholder.catalog.erase import EraseConfig, erase

    owners = tuple(f"owner-{n}" for n in range(ERASED))
    began = time.monotonic()
    (receipt,) = erase(EraseConfig(catalog=root, owners=owners)).receipts.values()
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    said = {"seconds": round(seconds, 1), "peak_mib": round(peak), "item_rows": receipt.item_rows}
    print(json.dumps(said | {"replaced": len(receipt.replaced)}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--erase"]:
        _erase(sys.argv[2])
    else:
        for name, value, unit, bar in rows(*map(int, sys.argv[1:2])):
            print(f"{name}: {value:g} {unit}" + (f" (at most {bar:g})" if bar else ""))
