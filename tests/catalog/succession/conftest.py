"""A catalog and its shadow without Ray and a scorer: nights write rows of made-up scores."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import promotion as module
from beholder.catalog.audit import audit
from beholder.catalog.config import NightlyConfig
from beholder.catalog.current_scorer import settle_current
from beholder.catalog.head import publish, read_head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.manifest_files import MANIFEST
from beholder.catalog.plan import Plan, make_plan, read_rows
from beholder.catalog.prepare import DoneChunk, prepare
from beholder.catalog.promotion import Promotion, promote
from beholder.catalog.promotion_report import PromotionConfig
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.catalog.tables import CHUNK
from beholder.media.storage import open_filesystem, write_bytes
from beholder.scoring import PanelCheck

OLD, NEW = "old" * 8, "new" * 8
TASKS = ("quality",)


def outline(fingerprint: str, tasks: Iterable[str] = TASKS) -> Any:
    """What jobs must know of a scorer."""
    made = {task: SimpleNamespace(kinds=("image",)) for task in tasks}
    return SimpleNamespace(file=SimpleNamespace(fingerprint=fingerprint, tasks=made))


def score(fingerprint: str, etag: str) -> float:
    """A made-up mean: the new scorer is half a point more lenient and has its own mind."""
    one, other = (
        int(hashlib.md5(f"{etag}{salt}".encode(), usedforsecurity=False).hexdigest()[:8], 16)
        / 2**32
        for salt in ("", fingerprint)
    )
    return 1 + 3 * one + (0.5 + 0.2 * other if fingerprint == NEW else 0.0)


class Platform:
    """What a platform uploads, its catalog, and the shadow beside it.

    Args:
        root: of the catalog.
        manifest: URI.
    """

    def __init__(self, root: str, manifest: str) -> None:
        self.layout = Layout(root)
        self.inside = self.layout.shadow(NEW)
        self.manifest = manifest
        self.items: dict[str, int] = {}
        self.failing: set[tuple[str, str]] = set()

    def upload(self, names: Iterable[str]) -> None:
        """New items, or new bytes of old ones."""
        self.items |= {name: self.items.get(name, -1) + 1 for name in names}

    def night(self, date: str, scorer: str = OLD, **fields: Any) -> Snapshot:
        """A night of the catalog, or of the shadow, audited and published."""
        layout = self.inside if scorer == NEW and self.live.fingerprint == OLD else self.layout
        self._list()
        given = {"scorer": f"s3://runs/{scorer}", "buckets": 3, "chunk": 8, "logical_date": date}
        config = NightlyConfig(catalog=layout.root, manifest=self.manifest, **given | fields)
        parent = open_snapshot(layout.root) if read_head(layout) else None
        plan = make_plan(config, parent, outline(scorer), RunId(date))
        chunks = [
            DoneChunk(rows["item_id"], self._scored(rows, scorer, plan), "data")
            for rows in read_rows(layout, plan.files)
        ]
        draft = plan.draft(plan.config)
        record = prepare(layout, draft, parent, chunks, read_rows(layout, plan.settled))
        found = audit(
            Snapshot(layout, record), plan, config.audit, PanelCheck(True, None, 1.0, "", "same")
        )
        assert not found.refused, found.checks
        record = record.model_copy(update={"drift": found.drift_record()})
        publish(layout, record, "driver")
        settle_current(layout)
        return Snapshot(layout, record)

    def promote(self, **fields: Any) -> Promotion:
        """A promotion that small catalogs may pass."""
        near = {"min_items": 20, "max_shift": 0.3, "max_churn": 1.0, "min_srcc": 0.5}
        given = {"catalog": self.layout.root, "scorer": f"s3://runs/{NEW}", "succession": near}
        return promote(PromotionConfig.model_validate(given | {"take_over": True} | fields))

    @property
    def live(self) -> Any:
        """The record that readers see; before the first night, one of the old scorer."""
        if read_head(self.layout) is None:
            return SimpleNamespace(fingerprint=OLD)
        return open_snapshot(self.layout.root).record

    def seen(self) -> Mapping[str, tuple[str, float | None]]:
        """State and mean of each item, as readers see them."""
        rows = [r for t in open_snapshot(self.layout.root).rows() for r in t.to_pylist()]
        return {row["item_id"]: (row["state"], row["mean"]) for row in rows}

    def expected(self, scorer: str) -> Mapping[str, tuple[str, float | None]]:
        """What readers see once all items are scored."""
        return {n: ("scored", score(scorer, f"{n} v{v}")) for n, v in self.items.items()}

    def _list(self) -> None:
        rows = [
            {"item_id": name, "uri": f"s3://b/{name}", "kind": "image", "owner": f"u{name[:2]}"}
            | {"etag": f"{name} v{v}", "size": 10, "created_at": datetime(2026, 11, 1, tzinfo=UTC)}
            for name, v in self.items.items()
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=MANIFEST), sink)
        write_bytes(self.manifest, sink.getvalue().to_pybytes())

    def _scored(self, planned: pa.Table, scorer: str, plan: Plan) -> pa.Table:
        rows = []
        for row in planned.to_pylist():
            if (row["item_id"], scorer) in self.failing:
                made: dict[str, Any] = {"state": "failed", "failure_code": "fetch.not_found"}
            else:
                mean = score(scorer, row["etag"])
                value = {"task": "quality", "mean": mean, "scale": [1.0, 5.0], "mass": 0.9}
                made = {"sha256": row["etag"], "state": "scored", "scores": [value]}
            rows.append(row | {"run": plan.run} | made)
        return pa.Table.from_pylist(rows, schema=CHUNK)


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Platform]:
    """``platform(root)``: a catalog of one night with 40 items; on disk unless it has a root."""

    def known(uri: str) -> Any:
        return outline(uri.rpartition("/")[2])

    monkeypatch.setattr(module, "outline_scorer", known)

    def made(root: str | None = None) -> Platform:
        root = root or str(tmp_path)
        found = Platform(f"{root}/catalog", f"{root}/manifest.parquet")
        open_filesystem(root)[0].makedirs(root.removeprefix("s3://"), exist_ok=True)
        found.upload(f"{number:02d}" for number in range(40))
        found.night("2026-11-20")
        return found

    return made
