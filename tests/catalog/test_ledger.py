"""Commit records: one a chunk, whoever is first; files that are checked before they count."""

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import patience
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease, LeaseLostError, _Record
from beholder.catalog.ledger import DamagedChunkError, commit, committed, read_chunk
from beholder.catalog.tables import CHUNK
from beholder.media.storage import StorageError

RUN = RunId("2026-11-20")
SCORE = {"task": "quality", "mean": 3.0, "probs": [0.25, 0.75], "support": [2.0, 3.0]}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path / "catalog"))


def rows(*ids: str) -> pa.Table:
    """The first has scores, the second failed, the others were settled."""
    made = [{"item_id": i, "state": "scored", "sha256": i, "run": str(RUN)} for i in ids]
    made[0]["scores"] = [SCORE]
    if len(made) > 1:
        made[1] |= {"state": "failed", "failure_code": "decode.empty"}
    return pa.Table.from_pylist(made, schema=CHUNK)


def test_a_chunk_is_done_by_its_record_alone(layout: Layout) -> None:
    with Lease(layout.lease(RUN.date)) as lease:
        record = commit(layout, RUN, 3, rows("a", "b", "c", "d"), 1.5, lease)
    assert committed(layout, RUN, range(6)) == {3: record}
    assert (record.rows, record.scored, record.failed, record.known) == (4, 1, 1, 2)
    assert (record.epoch, record.seconds, record.run) == (1, 1.5, "2026-11-20.0")
    assert record.at == pytest.approx(time.time(), abs=30)
    assert not record.path.startswith("/"), "a catalog can be moved"
    assert read_chunk(layout, record).equals(rows("a", "b", "c", "d"))
    Path(layout.commit(RUN, 3)).unlink()
    assert committed(layout, RUN, range(6)) == {}
    assert Path(layout.absolute(record.path)).exists()


def test_the_first_record_stands(layout: Layout) -> None:
    with Lease(layout.lease(RUN.date)) as lease:
        first = commit(layout, RUN, 0, rows("a"), 1.0, lease)
        again = commit(layout, RUN, 0, rows("a"), 9.0, lease)
    assert again == first
    assert len(list(Path(layout.run(RUN), "data").iterdir())) == 2, "attempts share no file"
    assert committed(layout, RUN, [0])[0].path == first.path


def test_who_has_lost_the_lease_commits_nothing(layout: Layout) -> None:
    zombie = Lease(layout.lease(RUN.date), holder="zombie")
    with Lease(layout.lease(RUN.date), take_over=True):
        zombie._record = _Record(1, "zombie", time.time() - 1)  # as if it had stood still
        with pytest.raises(LeaseLostError):
            commit(layout, RUN, 0, rows("a"), 1.0, zombie)
    zombie.release()
    assert committed(layout, RUN, [0]) == {}
    assert not Path(layout.run(RUN)).exists()


def test_a_changed_file_is_refused_with_its_name(layout: Layout) -> None:
    with Lease(layout.lease(RUN.date)) as lease:
        record = commit(layout, RUN, 7, rows("a", "b"), 1.0, lease)
    file = Path(layout.absolute(record.path))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        DamagedChunkError, match=rf"{file}: its sha256 is .*00000007\.json and run"
    ) as seen:
        read_chunk(layout, record)
    assert seen.value.exit_code == 3, "nothing is published, as where an audit refuses"
    file.unlink()
    with pytest.raises(DamagedChunkError, match=rf"{file} is gone.*00000007\.json and run"):
        read_chunk(layout, record)
    for data, said in ((b"no Parquet", "no chunk's rows"), (b"", "no chunk's rows")):
        file.write_bytes(data)
        mended = replace(record, bytes_sha256=hashlib.sha256(data).hexdigest())
        with pytest.raises(
            DamagedChunkError, match=rf"{file} holds {said}.*00000007\.json and run"
        ):
            read_chunk(layout, mended)
    pq.write_table(rows("a"), file)
    mended = replace(record, bytes_sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(DamagedChunkError, match=rf"{file} holds 1 rows, not 2.*remove .* and run"):
        read_chunk(layout, mended)


def test_a_record_under_another_ones_name_is_none(layout: Layout) -> None:
    """Or chunk 7 would be taken for done, and 8 for never begun."""
    with Lease(layout.lease(RUN.date)) as lease:
        commit(layout, RUN, 7, rows("a", "b"), 1.0, lease)
    moved = Path(layout.commit(RUN, 8))
    Path(layout.commit(RUN, 7)).rename(moved)
    said = rf"{moved} is not the commit record .*of chunk 7 of {RUN}\): remove it and run"
    with pytest.raises(DamagedChunkError, match=said):
        committed(layout, RUN, [7, 8])


@pytest.mark.parametrize("left", [30, 0])
def test_a_damaged_record_is_named_with_the_remedy(layout: Layout, left: int) -> None:
    with Lease(layout.lease(RUN.date)) as lease:
        commit(layout, RUN, 7, rows("a", "b"), 1.0, lease)
    name = Path(layout.commit(RUN, 7))
    name.write_bytes(name.read_bytes()[:left])
    said = rf"{name} is not the commit record .*remove it and run"
    with pytest.raises(DamagedChunkError, match=said):
        committed(layout, RUN, [7])
    name.write_bytes(b'{"chunk": 7, "run": "2026-11-20.0", "rows": "many"}')
    with pytest.raises(DamagedChunkError, match=said):
        committed(layout, RUN, [7])


def test_a_record_is_plain_json(layout: Layout) -> None:
    with Lease(layout.lease(RUN.date)) as lease:
        commit(layout, RUN, 0, rows("a"), 1.0, lease)
    assert set(json.loads(Path(layout.commit(RUN, 0)).read_bytes())) == {
        *("chunk", "run", "epoch", "path", "rows", "bytes_sha256"),
        *("scored", "failed", "known", "seconds", "at"),
    }


@pytest.mark.parametrize(("failures", "passes"), [(2, True), (7, False)])
def test_passing_trouble_is_waited_out(
    failures: int, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waits.append)
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) <= failures:
            raise StorageError("slow down") from ConnectionResetError()
        return "answer"

    if passes:
        assert patience.patiently(flaky) == "answer"
        assert 0.25 <= waits[0] <= 0.75 and 0.5 <= waits[1] <= 1.5
    else:
        with pytest.raises(StorageError, match="slow down"):
            patience.patiently(flaky)
        assert len(calls) == 7 and sum(waits) < 48


def test_lasting_trouble_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience.time, "sleep", lambda _: pytest.fail("it waits"))

    def missing() -> None:
        raise StorageError("not there") from FileNotFoundError()

    with pytest.raises(StorageError, match="not there"):
        patience.patiently(missing)
