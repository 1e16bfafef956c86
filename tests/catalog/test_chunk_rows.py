"""Fetch, settle, decode, score and gather in this process: what a chunk's rows say."""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

import beholder.media.pool as pool_module
from beholder.catalog import scoring_pass, stages
from beholder.catalog.chunk_rows import TRAVELLING, Gathering, ScoreChunk
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease
from beholder.catalog.ledger import commit, committed, read_chunk
from beholder.catalog.scoring_pass import Chunk, read_planned
from beholder.catalog.stages import Decode
from beholder.catalog.tables import CHUNK, PLANNED
from beholder.errors import UserError
from beholder.items import RETRY, FailureCode
from beholder.local_stack import ObjectStore
from beholder.media import Limits, storage
from beholder.media.storage import write_bytes
from beholder.scoring import Scorer

RUN = RunId("2026-11-20")
Work = Callable[..., list[dict]]


@pytest.fixture(scope="module")
def scoring(small_scorer: Scorer, scorer_folder: str) -> ScoreChunk:
    return ScoreChunk(str(RUN), small_scorer.fingerprint, scorer_folder, None, "cpu", 1)


@pytest.fixture
def decode(small_scorer: Scorer) -> Decode:
    return Decode(small_scorer.backbone.spec.pixels, Limits(), settle=True, timeout_s=20.0)


@pytest.fixture
def work(decode: Decode, scoring: ScoreChunk) -> Work:
    """``work(items)`` gives one chunk's rows."""

    def run(items: Sequence[Mapping], **options: Decode) -> list[dict]:
        planned = pa.Table.from_pylist(
            [{"kind": "image", "change": "new", "attempts": 0, "chunk": 0, **i} for i in items],
            schema=PLANNED,
        ).append_column("position", pa.array(range(len(items)), pa.int32()))
        gathering = Gathering({0: len(items)})
        parts = [scoring(batch) for batch in options.get("decode", decode)(planned)]
        random.Random(3).shuffle(parts)
        [(number, rows, seconds)] = [whole for part in parts for whole in gathering.add(part)]
        assert number == 0 and seconds >= 0 and rows.schema.equals(CHUNK)
        assert rows["item_id"].to_pylist() == [item["item_id"] for item in items]
        return rows.to_pylist()

    return run


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[str, bytes], str]:
    def store(name: str, data: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return store


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_rows_say_what_was_seen(
    work: Work, stored: Callable, pictures: list[bytes], small_scorer: Scorer
) -> None:
    md5 = hashlib.md5(pictures[0]).hexdigest()
    asked = {"item_id": "a", "uri": stored("a", pictures[0]), "segment": "food", "owner": "me"}
    told = asked | {"item_id": "b", "etag": f'"{md5}"', "size": 7, "attempts": 2}
    plain, known_to_the_manifest = work([asked, told])
    assert (plain["segment"], plain["owner"], plain["run"]) == ("food", "me", "2026-11-20.0")
    assert (plain["etag"], plain["size"]) == (None, len(pictures[0])), "a file has no etag"
    assert plain["sha256"] == sha256(pictures[0])
    assert (plain["state"], plain["attempts"]) == ("scored", 1)
    assert plain["bytes_read"] == len(pictures[0])
    score = small_scorer.score([pictures[0]])[0]
    assert [values["task"] for values in plain["scores"]] == ["quality", "aesthetics"]
    for values in plain["scores"]:
        distribution = score.tasks[values["task"]]
        assert values["probs"] == pytest.approx(distribution.probs.tolist(), abs=1e-6)
        assert values["mean"] == pytest.approx(float(distribution.mean), abs=1e-6)
    # What the manifest says stays as it is: the next night compares it with itself.
    assert known_to_the_manifest["etag"] == f'"{md5}"'
    assert (known_to_the_manifest["size"], known_to_the_manifest["attempts"]) == (7, 3)


def test_equal_bytes_are_decoded_and_scored_once(
    work: Work, stored: Callable, pictures: list[bytes], decode: Decode, monkeypatch
) -> None:
    decoded: list[str] = []
    plain = decode._stage.decode
    monkeypatch.setattr(
        decode._stage,
        "decode",
        lambda item, data: decoded.append(item.item_id) or plain(item, data),
    )
    cut = pictures[0][:900]
    rows = work(
        [
            {"item_id": "first", "uri": stored("1", pictures[0])},
            {"item_id": "other", "uri": stored("2", pictures[1])},
            {"item_id": "twin", "uri": stored("3", pictures[0])},
            {"item_id": "cut", "uri": stored("4", cut)},
            {"item_id": "cut twin", "uri": stored("5", cut)},
            {"item_id": "as a video", "uri": stored("6", pictures[0]), "kind": "video"},
        ]
    )
    by_id = {row["item_id"]: row for row in rows}
    assert decoded == ["first", "other", "cut", "as a video"]
    assert by_id["twin"]["state"] == "scored" and by_id["twin"]["scores"] is None
    assert by_id["twin"]["sha256"] == by_id["first"]["sha256"]
    assert by_id["cut twin"]["failure_code"] == by_id["cut"]["failure_code"] == "decode.truncated"
    assert by_id["cut"]["sha256"] == sha256(cut), "fetched whole, though not decoded"
    assert by_id["as a video"]["failure_code"] == "decode.unsupported"


def test_a_twin_of_what_the_model_refused_is_refused_too(
    work: Work, stored: Callable, pictures: list[bytes], scoring: ScoreChunk, monkeypatch
) -> None:
    """Only the first of them was looked at, and the model's answer was not finite."""
    weights = next(scoring._scorer.backbone.parameters())
    kept = weights.detach().clone()
    weights.data.fill_(float("nan"))
    try:
        rows = work([{"item_id": k, "uri": stored(k, pictures[0])} for k in ("first", "twin")])
    finally:
        weights.data.copy_(kept)
    assert [row["failure_code"] for row in rows] == ["model.nan"] * 2
    assert [row["state"] for row in rows] == ["failed"] * 2


def test_known_bytes_are_settled_by_their_hash(
    work: Work, stored: Callable, pictures: list[bytes], decode: Decode, monkeypatch
) -> None:
    monkeypatch.setattr(decode._stage, "decode", lambda *_: pytest.fail("it decodes"))
    known = {"change": "changed", "known_sha256": sha256(pictures[0])}
    same, renamed = work(
        [
            {"item_id": "same", "uri": stored("1", pictures[0]), **known},
            {"item_id": "renamed", "uri": stored("2", pictures[0]), "kind": "video", **known},
        ]
    )
    assert (same["state"], same["scores"], same["failure_code"]) == ("scored", None, None)
    assert renamed["failure_code"] == "decode.unsupported", "it is no video by being known"


def test_what_cannot_be_had_again_is_stale(
    work: Work, stored: Callable, pictures: list[bytes]
) -> None:
    old = {"known_sha256": sha256(pictures[0])}
    rows = work(
        [
            {"item_id": "gone", "uri": "/nowhere/1", "change": "changed", **old},
            {"item_id": "still gone", "uri": "/nowhere/1", "change": "retried", **old},
            {"item_id": "never had", "uri": "/nowhere/2", "change": "changed"},
            {"item_id": "new", "uri": "/nowhere/3", **old},
            {"item_id": "bad", "uri": stored("b", b"<html>"), "change": "changed", **old},
            {"item_id": "better", "uri": stored("c", pictures[1]), "change": "changed", **old},
        ]
    )
    states = {row["item_id"]: (row["state"], row["failure_code"]) for row in rows}
    assert states == {
        "gone": ("stale", "fetch.not_found"),
        "still gone": ("stale", "fetch.not_found"),
        "never had": ("failed", "fetch.not_found"),
        "new": ("failed", "fetch.not_found"),
        "bad": ("failed", "decode.unsupported"),
        "better": ("scored", None),
    }
    assert rows[0]["sha256"] == old["known_sha256"], "whose scores stand"
    assert rows[2]["sha256"] is None


def test_rows_that_come_twice_count_once() -> None:
    def part(*positions: int, chunk: int = 0) -> pa.Table:
        made = [
            {"item_id": f"{chunk}-{p}", "chunk": chunk, "position": p, "engine_seconds": 0.5}
            for p in positions
        ]
        return pa.Table.from_pylist(made, schema=TRAVELLING)

    gathering = Gathering({0: 3, 1: 1})
    assert not list(gathering.add(part(2, 0)))
    assert not list(gathering.add(part(2, 0)))
    [(number, rows, seconds)] = gathering.add(pa.concat_tables([part(2), part(1)]))
    assert (number, rows["item_id"].to_pylist(), seconds) == (0, ["0-0", "0-1", "0-2"], 1.5)
    assert not list(gathering.add(part(0, 1, 2))), "what is committed isn't gathered again"
    assert [n for n, _, _ in gathering.add(part(0, chunk=1))] == [1]


def test_pixels_travel_in_bounded_batches(
    stored: Callable, pictures: list[bytes], decode: Decode, monkeypatch
) -> None:
    picture = 96 * 96 * 3
    monkeypatch.setattr(stages, "BATCH_BYTES", 2 * picture)
    monkeypatch.setattr(stages, "AHEAD_BYTES", 2 * stages.TYPICAL_BYTES)
    uris = [stored(str(k), pictures[k]) for k in range(7)]
    uris[3] = "/nowhere"
    table = pa.table({"item_id": [str(k) for k in range(7)], "uri": uris, "kind": ["image"] * 7})
    batches = list(decode(table))
    assert [batch.num_rows for batch in batches] == [2, 3, 2]
    assert pa.concat_tables(batches)["item_id"].to_pylist() == table["item_id"].to_pylist()
    [nothing] = decode(table.slice(0, 0))
    assert nothing.num_rows == 0 and "staged.pixels" in nothing.column_names


def test_another_scorer_than_the_plan_s_is_refused(scorer_folder: str) -> None:
    with pytest.raises(UserError, match=r"the plan was made for 0{12}: put that scorer back"):
        ScoreChunk(str(RUN), "0" * 12, scorer_folder, None, "cpu", 1)


HANGING = """
import sys, threading
sys.path.append(sys.argv[3])
from beholder.media import decoder

healthy = decoder.decode

def hanging(request):
    if request.data.endswith(b"hang"):
        threading.Event().wait()
    return healthy(request)

decoder.decode = hanging
decoder.main(int(sys.argv[1]), float(sys.argv[2]))
"""


def test_hostile_corpus(
    work: Work,
    stored: Callable,
    pictures: list[bytes],
    hostile: list[tuple[str, bytes, str, str | None]],
    small_scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is scored or fails with its code, and good neighbours' scores are as ever."""
    monkeypatch.setattr(pool_module, "BOOT", HANGING)
    hanging = ("hang.jpg", pictures[9] + b"hang", "image", "decode.timeout")
    items, expected = [], []
    for at, (name, data, kind, code) in enumerate([*hostile, hanging]):
        good = pictures[10 + at]
        items.append({"item_id": name, "uri": stored(name, data), "kind": kind})
        items.append({"item_id": f"after {name}", "uri": stored(f"good {at}", good)})
        expected += [code, None]
    limited = Decode(small_scorer.backbone.spec.pixels, Limits(), settle=True, timeout_s=2.0)
    rows = work(items, decode=limited)
    assert {r["item_id"]: r["failure_code"] for r in rows} == dict(
        zip([item["item_id"] for item in items], expected, strict=True)
    )
    alone = small_scorer.score(pictures[10 : 10 + len(items) // 2])
    for row, score in zip(rows[1::2], alone, strict=True):
        probs = {values["task"]: values["probs"] for values in row["scores"]}
        for task, distribution in score.tasks.items():
            assert probs[task] == pytest.approx(distribution.probs.tolist(), abs=1e-6)
    for row in rows:
        assert (row["scores"] is None) == (row["failure_code"] is not None)
        assert row["failure_code"] is None or row["failure_message"]


def test_bad_moments_of_the_store_lose_nothing(
    s3: ObjectStore,
    fault_proxy: type,
    plan: Callable[..., list[Chunk]],
    pictures: list[bytes],
    decode: Decode,
    scoring: ScoreChunk,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three of ten requests of any kind go wrong in one of six ways."""
    layout = Layout(f"s3://{s3.bucket}/bad-moments")
    items = [{"item_id": f"{k}", "uri": f"{layout.root}/{k}.jpg"} for k in range(32)]
    for item, data in zip(items, pictures, strict=False):
        write_bytes(item["uri"], data)
    items.append({"item_id": "missing", "uri": f"{layout.root}/missing.jpg"})
    chunks = plan(layout, items, 17)
    monkeypatch.setattr(storage, "READ_S", 1)  # what hangs is given up sooner
    monkeypatch.setattr(stages, "BATCH_BYTES", 1)  # a commit is of many parts
    gathering = Gathering({chunk.number: chunk.rows for chunk in chunks})
    with fault_proxy(s3.endpoint, share=0.3, hang_s=2.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with Lease(layout.lease(RUN.date)) as lease:
            for chunk in chunks:
                for batch in decode(scoring_pass._read(layout, chunk)[0]):
                    for number, rows, seconds in gathering.add(scoring(batch)):
                        commit(layout, RUN, number, rows, seconds, lease)
            records = committed(layout, RUN, range(3))
        chunks_read = [read_chunk(layout, records[n]) for n in range(2)]
    rows = pa.concat_tables(chunks_read).to_pylist()
    assert [row["item_id"] for row in rows] == [item["item_id"] for item in items]
    assert sum(proxy.spoiled.values()) > 10 and len(proxy.spoiled) >= 5, proxy.spoiled
    transient = {code for code, policy in RETRY.items() if policy.attempts > 1}
    for row in rows[:-1]:
        if row["failure_code"] is not None:  # not likely, but the store's bad luck is allowed
            code = FailureCode(row["failure_code"])
            assert code in transient and row["attempts"] == RETRY[code].attempts
    assert sum(row["state"] == "scored" for row in rows) >= 30
    assert rows[-1]["failure_code"] == "fetch.not_found" and rows[-1]["attempts"] == 1
    etags = [hashlib.md5(data).hexdigest() for data in pictures[:32]]
    seen = [row["etag"] for row in rows[:-1]]
    assert all(found in (None, etag) for found, etag in zip(seen, etags, strict=True))


def test_a_plan_that_was_changed_is_refused(
    tmp_path: Path, plan: Callable[..., list[Chunk]]
) -> None:
    layout = Layout(str(tmp_path))
    [first, _] = plan(layout, [{"item_id": str(k), "uri": "x"} for k in range(5)], 3)
    assert read_planned(layout, first)["item_id"].to_pylist() == ["0", "1", "2"]
    wrong = first._replace(group=1)
    with pytest.raises(UserError, match="row group 1 is not chunk 0 of 3 items"):
        read_planned(layout, wrong)
