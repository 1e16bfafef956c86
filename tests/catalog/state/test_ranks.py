"""Ranks of a whole snapshot by Ray Data against a sort in memory, and what may go wrong."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from beholder.catalog import order_pass, ranks
from beholder.catalog.layout import RunId
from beholder.catalog.rank_record import RANKS, RankRecord, find_ranks, read_ranks
from beholder.catalog.ranks import RankConfig, rank_catalog
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import open_snapshot
from beholder.errors import UserError
from beholder.local_stack import RayCluster
from beholder.media.storage import StorageError, list_files
from beholder.opinions import Scale, ScoreDistribution
from beholder.ranking import exact_expected_rank

RUN = "2026-11-20.0"
SUPPORT = [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.fixture(scope="module", autouse=True)
def connected(ray_cluster: RayCluster) -> Iterator[None]:
    yield
    ray.shutdown()


def task_row(task: str, probs: np.ndarray) -> dict:
    rating = ScoreDistribution(np.array(SUPPORT), probs, Scale(1, 5))
    return {"task": task, **rating.as_dict(), "mass": 1.0}


def point_row(task: str, mean: float) -> dict:
    return {"task": task, "mean": mean, "scale": [1.0, 5.0]}


@pytest.fixture
def catalog(nights: Callable) -> Callable:
    """``catalog(count, points)``: items in three segments, some alike, some failed.

    Aesthetics are points where asked for.
    """

    def made(count: int = 700, points: bool = False):
        rng = np.random.default_rng(count)
        found = nights(buckets=5)
        rows = []
        for at in range(count):
            name, segment = f"item-{at * 7919 % count:05d}", ("phone", "web", None)[at % 7 % 3]
            if at % 50 == 0:
                rows.append(found.failed(name, RUN, segment=segment))
                continue
            quality = rng.dirichlet(np.ones(5)) if at % 3 else np.eye(5)[at % 5]
            taste = rng.dirichlet(np.ones(5))
            second = point_row("aesthetics", 1 + at % 9 / 3) if points else None
            scores = [task_row("quality", quality), second or task_row("aesthetics", taste)]
            # Every eleventh shares its bytes with the one before: scored once, ranked twice.
            if at % 11 == 1 and rows[-1]["state"] == "scored":
                rows.append(found.known(name, RUN, rows[-1]["sha256"], segment=segment))
            else:
                rows.append(found.known(name, RUN, f"{at:064d}", scores=scores, segment=segment))
        found.night(RUN, rows)
        return found

    return made


def read(catalog, record: RankRecord) -> dict[str, list[dict]]:
    return {
        rule: [
            row for table in read_ranks(catalog.layout, record, rule) for row in table.to_pylist()
        ]
        for rule in record.ranks
    }


def wanted(catalog, rule: str, z: float) -> list[dict]:
    """The same by a sort of everything in memory and the exact sum over pairs."""
    rows = pa.concat_tables(open_snapshot(catalog.layout.root).rows()).to_pylist()
    groups: dict[tuple, list] = {}
    for row in sorted(rows, key=lambda row: row["item_id"]):
        if row["task"] is not None and (rule == "mean" or row["std"] is not None):
            groups.setdefault((row["task"], row["segment"] or ""), []).append(row)
    found = []
    for task, segment in sorted(groups):
        group = groups[task, segment]
        mean = np.array([row["mean"] for row in group])
        if rule == "mean":
            values, keys = mean, -mean
        elif rule == "lower_bound":
            values = mean - z * np.array([row["std"] for row in group])
            keys = -values
        else:
            values = keys = exact_expected_rank(mean, [row["std"] for row in group])
        for rank, at in enumerate(sorted(range(len(group)), key=lambda i: keys[i]), 1):
            row = {k: group[at][k] for k in ("item_id", "mean", "std")}
            row |= {"segment": segment, "task": task, "value": values[at], "rank": rank}
            found.append(row | {"percentile": (len(group) - rank + 0.5) / len(group)})
    return found


def test_ranks_are_those_of_a_sort_in_memory(catalog) -> None:
    made = catalog()
    record, ours = rank_catalog(RankConfig(catalog=made.layout.root + "/", z=1.5))
    assert ours and record == find_ranks(made.layout, RunId.parse(RUN))
    assert record.fingerprint == "f1" and record.items == 700
    found = read(made, record)
    assert list(found) == ["mean", "lower_bound", "expected_rank"]
    for rule, rows in found.items():
        assert rows == [{n: row[n] for n in RANKS.names} for row in wanted(made, rule, 1.5)], rule
    # What was only on its way is gone, and what stands is what the record names.
    left = {made.layout.relative(path) for path in list_files(f"{made.layout.root}/ranks")}
    assert left == {part.path for part in record.files()} | {f"ranks/{RUN}.json"}


def test_a_second_run_does_nothing(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    made = catalog(60)
    config = RankConfig(catalog=made.layout.root)
    record, _ = rank_catalog(config)
    before = list_files(made.layout.root)
    monkeypatch.setattr(ranks, "connect", None)  # it asks for no cluster
    assert rank_catalog(config) == (record, False)
    assert list_files(made.layout.root) == before
    with pytest.raises(UserError, match=r"is ranked with z 1 and not 2"):
        rank_catalog(RankConfig(catalog=made.layout.root, z=2))


def test_large_segments_are_cut(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of 400 rows: their order is the same, and expected ranks are within the bound."""
    monkeypatch.setattr(order_pass, "RANGE_ROWS", 400)
    monkeypatch.setattr(ranks, "RANGE_ROWS", 400)
    made = catalog(6000)
    record, _ = rank_catalog(RankConfig(catalog=made.layout.root))
    found = read(made, record)
    assert all(len(parts) > 10 for parts in record.ranks.values())
    for rule in ("mean", "lower_bound"):
        rows = [{n: row[n] for n in RANKS.names} for row in wanted(made, rule, 1.0)]
        assert found[rule] == rows, rule
    exact = {(r["task"], r["item_id"]): r for r in wanted(made, "expected_rank", 1.0)}
    assert len(exact) == len(found["expected_rank"])
    sizes: dict[tuple, list[float]] = {}
    for row in found["expected_rank"]:
        group = sizes.setdefault((row["task"], row["segment"]), [])
        group.append(row["value"])
        assert row["rank"] == len(group)
    for group in sizes.values():
        assert group == sorted(group)
    for row in found["expected_rank"]:
        n = len(sizes[row["task"], row["segment"]])
        assert abs(row["value"] - exact[row["task"], row["item_id"]]["value"]) <= 0.005 * n


def test_the_same_snapshot_gives_the_same_files(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_pass, "RANGE_ROWS", 40)
    monkeypatch.setattr(ranks, "RANGE_ROWS", 40)
    made = catalog(500)
    config = RankConfig(catalog=made.layout.root)
    hashes = []
    for tasks in (None, 1):
        record, _ = rank_catalog(config.model_copy(update={"tasks": tasks}))
        hashes.append([part.sha256 for part in record.files()])
        Path(made.layout.ranks(RunId.parse(RUN))).unlink()
    assert hashes[0] == hashes[1]


def test_points_are_ordered_by_mean_alone(catalog) -> None:
    made = catalog(200, points=True)
    record, _ = rank_catalog(RankConfig(catalog=made.layout.root))
    assert {task: about.spread for task, about in record.tasks.items()} == {
        "aesthetics": False,
        "quality": True,
    }
    found = read(made, record)
    assert {row["task"] for row in found["mean"]} == {"aesthetics", "quality"}
    for rule in ("lower_bound", "expected_rank"):
        assert {row["task"] for row in found[rule]} == {"quality"}
    for rule, rows in found.items():
        assert rows == [{n: row[n] for n in RANKS.names} for row in wanted(made, rule, 1.0)], rule


def test_a_catalog_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="has no published snapshot"):
        rank_catalog(RankConfig(catalog=str(tmp_path)))


def test_nothing_is_published_of_a_lost_item(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    made = catalog(60)
    whole = ranks._Ranking._order

    def losing(self, plan, lookup):
        parts, *rest = whole(self, plan, lookup)
        first = next(iter(parts.values()))[0]
        first.counts["quality"] -= 1
        return parts, *rest

    monkeypatch.setattr(ranks._Ranking, "_order", losing)
    with pytest.raises(CatalogError, match="have scores for 'quality', and the ranks by mean"):
        rank_catalog(RankConfig(catalog=made.layout.root))
    assert find_ranks(made.layout, RunId.parse(RUN)) is None


def test_a_damaged_snapshot_is_named(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the attempt's files can't be removed, because a task writes another meanwhile."""
    made = catalog(60)
    snapshot = open_snapshot(made.layout.root)
    path = Path(made.layout.absolute(snapshot.record.items[1][0].path))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    removed: list[str] = []

    def fails(uri: str) -> None:
        removed.append(uri)
        raise StorageError(f"{uri} can't be used: [Errno 39] Directory not empty")

    monkeypatch.setattr(ranks, "_remove", fails)
    with pytest.raises(CatalogError, match=f"{path.name}: its sha256 is"):
        rank_catalog(RankConfig(catalog=made.layout.root))
    assert [uri.rpartition("/")[2] for uri in removed] == ["parcels"]
    assert find_ranks(made.layout, RunId.parse(RUN)) is None
