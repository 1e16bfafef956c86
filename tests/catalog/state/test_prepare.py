"""Files of a snapshot against a plain dictionary, night by night, however they are compacted."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import prepare as module
from beholder.catalog.layout import RunId
from beholder.catalog.prepare import DoneChunk
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import Snapshot, open_snapshot
from beholder.media.storage import list_files

NIGHTS = 30
RESCORED_ON = 17  # another scorer comes


class World:
    """What a catalog should hold, kept as a plain dictionary, and the rows that make it so."""

    def __init__(self, nights, seed: int) -> None:
        self.items: dict[str, dict] = {}
        self.scores: dict[tuple[str, str], float] = {}
        self._nights = nights
        self._random = random.Random(seed)
        self._ids = 0

    def night(self, run: str, rescored: bool) -> tuple[list[dict], list[dict]]:
        """One night's chunk rows and settled rows."""
        rows: list[dict] = []
        if rescored:
            self.scores.clear()
        there = sorted(self.items)
        gone = set(self._random.sample(there, len(there) // 20))
        touched = {item for item in there if rescored or self._random.random() < 0.05} - gone
        settled = [self.items.pop(item) | {"removed": True, "run": run} for item in sorted(gone)]
        late = set(self._random.sample(sorted(self.items), len(self.items) // 30)) - touched
        for item in sorted(late):
            if self.items[item]["state"] == "scored":
                self.items[item] = self.items[item] | {"state": "stale", "run": run}
                settled.append(self.items[item] | {"removed": False})
        added = [f"item-{self._ids + n:04d}" for n in range(40 if not there else 6)]
        self._ids += len(added)
        for item in [*sorted(touched), *added]:
            rows.append(self._row(item, run, rescored))
        return rows, settled

    def _row(self, item: str, run: str, rescored: bool) -> dict:
        sha256 = f"{self._random.randrange(400):064x}"  # the same bytes come again
        what = self._random.random()
        if what < 0.1:
            row = self._nights.failed(item, run)
            old = self.items.get(item)
            if old and old["state"] != "failed" and not rescored:
                row |= {"state": "stale", "sha256": old["sha256"]}
        elif (sha256, "quality") in self.scores and what < 0.6:
            row = self._nights.known(item, run, sha256)
        else:
            row = self._nights.scored(item, run, sha256, float(int(sha256, 16)))
            self.scores |= {(sha256, s["task"]): s["mean"] for s in row["scores"]}
        self.items[item] = {key: value for key, value in row.items() if key != "scores"}
        return row


def test_every_compaction_reads_back_as_the_model(
    nights, contents, run_id, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never, always and by the rule: each night's state is the dictionary's, and stays so."""
    catalogs = {share: nights(str(share), buckets=2) for share in (1e9, -1.0, module.DELTA_SHARE)}
    world = World(next(iter(catalogs.values())), seed=1)
    expected = []
    for number in range(NIGHTS):
        run = run_id(number)
        fingerprint = "f1" if number < RESCORED_ON else "f2"
        rows, settled = world.night(run, rescored=number == RESCORED_ON)
        for share, catalog in catalogs.items():
            monkeypatch.setattr(module, "DELTA_SHARE", share)
            catalog.night(run, rows, settled=settled, fingerprint=fingerprint)
        expected.append((dict(world.items), dict(world.scores), fingerprint))
    for catalog in catalogs.values():
        for number, (items, scores, fingerprint) in list(enumerate(expected))[::-5]:
            snapshot = open_snapshot(catalog.layout.root, run_id(number))
            found, of_bytes = contents(snapshot)
            assert {row["item_id"]: _given(row) for row in found} == items
            assert {(s["sha256"], s["task"]): s["mean"] for s in of_bytes} == scores
            assert {s["fingerprint"] for s in of_bytes} == {fingerprint}
            assert len(of_bytes) == len(scores)
    deepest = {s: _deepest(open_snapshot(c.layout.root)) for s, c in catalogs.items()}
    assert deepest[-1.0] == 1 < deepest[module.DELTA_SHARE] < deepest[1e9]


def _given(row: dict) -> dict:
    return {key: value for key, value in row.items() if value is not None}


def _deepest(snapshot: Snapshot) -> int:
    return max(len(f) for t in ("items", "scores") for f in snapshot.record.files(t).values())


def test_a_base_comes_when_deltas_exceed_a_fifth(nights, run_id) -> None:
    catalog = nights(buckets=1)
    names = [f"i{n:03d}" for n in range(100)]
    catalog.night(run_id(0), [catalog.failed(n, run_id(0)) for n in names])

    def files(night: int, changed: int) -> list[tuple[int, bool]]:
        run = run_id(night)
        snapshot = catalog.night(run, [catalog.failed(n, run) for n in names[:changed]])
        return [(file.rows, file.deltas) for file in snapshot.record.items[0]]

    assert files(1, 15) == [(100, False), (15, True)]
    assert files(2, 5) == [(100, False), (15, True), (5, True)]  # a fifth, not more
    assert files(3, 1) == [(100, False)]
    assert files(4, 21) == [(100, False)]


def test_many_small_deltas_end_in_a_base(nights, run_id, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 3)
    catalog = nights(buckets=1)
    names = [f"i{n:03d}" for n in range(100)]
    catalog.night(run_id(0), [catalog.failed(n, run_id(0)) for n in names])
    lengths = []
    for night in range(1, 7):
        run = run_id(night)
        snapshot = catalog.night(run, [catalog.failed(names[night], run)])
        lengths.append(len(snapshot.record.items[0]))
    assert lengths == [2, 3, 1, 2, 3, 1]


def test_the_same_bytes_in_two_chunks_have_one_row_a_task(nights, contents, run_id) -> None:
    catalog = nights()
    run = run_id(0)
    rows = [catalog.scored(item, run, "ab", 3.0) for item in ("a", "b")]
    _, scores = contents(catalog.night(run, rows, chunk=1))
    assert [(s["sha256"], s["task"], s["mean"], s["run"]) for s in scores] == [
        ("ab", "aesthetics", 3.0, run),
        ("ab", "quality", 4.0, run),
    ]
    assert scores[0]["probs"] == [0.25, 0.75]
    assert scores[0]["support"] is None


def test_counts_say_what_became_of_items(nights, run_id) -> None:
    catalog = nights()
    run = run_id(0)
    rows = [
        catalog.scored("a", run, "aa", 1.0),
        catalog.known("b", run, "aa"),
        catalog.failed("c", run),
        catalog.failed("d", run, state="stale", sha256="aa"),
    ]
    counts = catalog.prepare(run, rows).counts
    assert counts == {"new": 4, "scored": 2, "failed": 1, "failed_stale": 1}


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        (["a", "b", "c"], "item 'c' is not in it"),
        (["a"], "item 'b' is not in its plan"),
        (["a", "c"], "item 'b' is not in its plan"),
    ],
)
def test_other_items_than_planned_are_refused(nights, run_id, planned, said: str) -> None:
    catalog = nights()
    done = catalog.chunk([catalog.failed(item, run_id(0)) for item in "ab"])
    chunk = DoneChunk(pa.chunked_array([planned]), done.rows, "s3://b/data/00000003-x.parquet")
    with pytest.raises(CatalogError, match=f"00000003-x.parquet: {said}"):
        module.prepare(catalog.layout, catalog.prepare(run_id(0), []), None, [chunk])


def test_a_doubled_item_is_refused_and_another_order_is_none(nights, run_id) -> None:
    catalog = nights()
    twice = catalog.chunk([catalog.failed(item, run_id(0)) for item in "aab"])
    chunk = DoneChunk(pa.chunked_array([["a", "b"]]), twice.rows, "x")
    with pytest.raises(CatalogError, match="x: item 'a' is in it more than once"):
        module.prepare(catalog.layout, catalog.prepare(run_id(0), []), None, [chunk])
    turned = DoneChunk(pa.chunked_array([["b", "a"]]), twice.rows.slice(1), "x")
    record = module.prepare(catalog.layout, catalog.prepare(run_id(0), []), None, [turned])
    assert sum(file.rows for files in record.items.values() for file in files) == 2


def test_another_try_has_files_of_its_own(nights, run_id) -> None:
    catalog = nights()
    rows = [catalog.scored("a", run_id(0), "aa", 1.0)]
    first, second = (catalog.prepare(run_id(0), rows) for _ in range(2))
    paths = [{f.path for fs in r.items.values() for f in fs} for r in (first, second)]
    assert not paths[0] & paths[1]
    layout = catalog.layout
    assert len(list_files(f"{layout.root}/items")) == 2
    (path,) = paths[0]
    assert RunId.parse(run_id(0)).date in path
    assert pq.read_table(Path(layout.absolute(path))).num_rows == 1
