"""Erasure from a catalog whose nights are whole, but for the model: what is left of a person."""

import hashlib
import html
import json
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beholder.catalog import erase as erase_module
from beholder.catalog import nightly, removal, state_files, tombstones
from beholder.catalog.config import NightlyConfig
from beholder.catalog.erase import EraseConfig, erase, lift
from beholder.catalog.garbage import GarbageConfig, find_garbage
from beholder.catalog.head import roll_back
from beholder.catalog.history import explain_item
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lease import Lease
from beholder.catalog.ledger import commit
from beholder.catalog.nightly import run_night
from beholder.catalog.plan import read_rows
from beholder.catalog.receipts import KEY, verify
from beholder.catalog.record import CatalogError
from beholder.catalog.snapshot import open_snapshot
from beholder.catalog.tables import CHUNK
from beholder.errors import UserError
from beholder.local_stack import ObjectStore
from beholder.media.storage import exists, list_files, read_bytes, write_bytes
from beholder.scoring import PanelCheck

SECRET = "k" * 40
NIGHTS = ("2026-11-18", "2026-11-19", "2026-11-20")
OUTLINE: Any = SimpleNamespace(
    file=SimpleNamespace(
        fingerprint="feed5eedfeed5eed", tasks={"quality": SimpleNamespace(kinds=("image",))}
    )
)


class Platform:
    """Uploads of some people, and nights over them in which the bytes' hash is the score."""

    def __init__(self, root: str, pictures: list[bytes]) -> None:
        self.root, self.pictures = root, pictures
        self.catalog, self.manifest = f"{root}/catalog", f"{root}/manifest.parquet"
        self.rows: dict[str, dict] = {}

    def put(self, item: str, owner: str | None, picture: int) -> None:
        uri = f"{self.root}/media/of-{item}.jpg"
        write_bytes(uri, self.pictures[picture])
        etag = hashlib.md5(self.pictures[picture], usedforsecurity=False).hexdigest()
        about = {"item_id": item, "uri": uri, "kind": "image", "owner": owner}
        self.rows[item] = about | {"etag": etag, "size": len(self.pictures[picture])}

    def night(self, date: str, **fields: object) -> nightly.Outcome:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(self.rows.values())), sink)
        data = sink.getvalue().to_pybytes()
        if not exists(self.manifest) or read_bytes(self.manifest) != data:
            write_bytes(self.manifest, data)  # else a standing plan is for this file
        accept = dict.fromkeys(("mass", "panel", "drift"), "a test")
        given = {"catalog": self.catalog, "manifest": self.manifest, "scorer": "/none"}
        given |= {"logical_date": date, "buckets": 2, "chunk": 4, "audit": {"accept": accept}}
        return run_night(NightlyConfig.model_validate(given | fields))

    def erase(self, **what: object) -> erase_module.Outcome:
        return erase(EraseConfig.model_validate({"catalog": self.catalog} | what))


def _score(
    config: NightlyConfig, plan: Any, parent: Any, outline: Any, lease: Lease
) -> tuple[dict, Any]:
    layout, run = Layout(config.catalog), RunId.parse(plan.run)
    commits = {}
    for chunk, rows in zip(plan.chunks(), read_rows(layout, plan.files), strict=True):
        made = [_row(row, plan.run) for row in rows.to_pylist()]
        table = pa.Table.from_pylist(made, schema=CHUNK)
        commits[chunk.number] = commit(layout, run, chunk.number, table, 0.1, lease)
    return commits, plan


def _row(row: dict, run: str) -> dict:
    sha256 = hashlib.sha256(read_bytes(row["uri"])).hexdigest()
    p = int(sha256[:4], 16) / 0xFFFF
    score = {"task": "quality", "mean": 1 + 4 * p, "support": [1.0, 5.0], "probs": [1 - p, p]}
    score |= {"scale": [1.0, 5.0], "std": 4 * (p * (1 - p)) ** 0.5, "entropy": 0.5, "mass": 1.0}
    about = {"state": "scored", "attempts": 1, "sha256": sha256, "run": run}
    if "broken" in row["item_id"]:
        said = {"failure_code": "decode.truncated", "failure_message": f"{row['uri']} is cut off"}
        return row | about | said | {"state": "failed"}
    return row | about | {"scores": [score]}


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    same = PanelCheck(True, 1e-7, 1e-4, "0-image, quality", "as it was")
    monkeypatch.setattr(nightly, "_score", _score)
    monkeypatch.setattr(nightly, "connect", lambda: None)
    monkeypatch.setattr(nightly, "_panel", lambda config: same)
    monkeypatch.setattr(nightly, "outline_scorer", lambda scorer: OUTLINE)
    monkeypatch.setenv(KEY, SECRET)


def settle(platform: Platform) -> Platform:
    """Three nights: ada leaves things in each, and shares one picture with bob."""
    for at in range(14):
        platform.put(f"photo-{at:02d}", ("ada", "bob", "cleo")[at % 3], at)
    platform.put("bobs-copy", "bob", 0)  # the bytes of ada's photo-00
    platform.put("ada-broken", "ada", 20)
    platform.night(NIGHTS[0])
    platform.put("photo-03", "ada", 30)  # other bytes; the old ones' scores are nobody's now
    platform.put("ada-late", "ada", 31)
    platform.night(NIGHTS[1])
    platform.put("photo-06", "bob", 6)  # ada gave it to bob
    del platform.rows["photo-09"]
    platform.night(NIGHTS[2])
    return platform


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes]) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        no_model.__wrapped__(patch)  # type: ignore[attr-defined]
        root = tmp_path_factory.mktemp("platform")
        settle(Platform(str(root), pictures))
    return root


@pytest.fixture
def platform(settled: Path, tmp_path: Path, pictures: list[bytes]) -> Platform:
    """A copy; its media are the original's."""
    shutil.copytree(settled / "catalog", tmp_path / "catalog")
    made = Platform(str(settled), pictures)
    made.catalog, made.manifest = str(tmp_path / "catalog"), str(tmp_path / "manifest.parquet")
    made.rows = {r["item_id"]: r for r in pq.read_table(settled / "manifest.parquet").to_pylist()}
    return made


def everything(catalog: str) -> dict[str, str]:
    """All that objects say, decoded: Parquet's values and its raw bytes, JSON and HTML as text."""
    found = {}
    for uri in list_files(catalog):
        data = read_bytes(uri)
        text = urllib.parse.unquote(html.unescape(data.decode("utf-8", "replace")))
        if uri.endswith(".parquet"):
            text += repr(pq.read_table(pa.BufferReader(data)).to_pylist())
        found[uri.removeprefix(f"{catalog}/")] = text
    return found


def named(catalog: str, *names: str) -> set[tuple[str, str]]:
    return {
        (path, name) for path, text in everything(catalog).items() for name in names if name in text
    }


def seen(catalog: str, snapshot: str | None = None) -> dict[str, float | None]:
    """Mean by item as each kind of reader has it, which agree."""
    opened = open_snapshot(catalog, snapshot)
    rows = {r["item_id"]: r["mean"] for table in opened.rows() for r in table.to_pylist()}
    sql = "select item_id, mean from items left join scores using (sha256)"
    assert dict(opened.connect().sql(sql).fetchall()) == rows
    buckets = range(opened.record.buckets)
    assert {r["item_id"] for b in buckets for r in opened.items(b).to_pylist()} == set(rows)
    return rows


ADAS = {"photo-00", "photo-03", "photo-06", "photo-09", "photo-12", "ada-broken", "ada-late"}


def test_nothing_of_an_owner_is_left(platform: Platform) -> None:
    before = {night: seen(platform.catalog, f"{night}.0") for night in NIGHTS}
    layout, first = Layout(platform.catalog), RunId(NIGHTS[0])
    for uri in (layout.ranks(first), layout.ranks_file(first, "f00", "lookup/00000.arrow")):
        write_bytes(uri, b"ada-late 'ada'")
    assert named(platform.catalog, "of-photo-03.jpg", "'ada'")
    outcome = platform.erase(owners=["ada"])
    assert outcome.waits_for is None
    left = named(platform.catalog, "'ada'", *(f"{i}" for i in ADAS - {"photo-06"}))
    assert left == set()
    for night in NIGHTS:
        hers = ADAS - {"photo-06"} if night == NIGHTS[2] else ADAS
        now = seen(platform.catalog, f"{night}.0")
        assert now == {i: mean for i, mean in before[night].items() if i not in hers}
    assert "bobs-copy" in seen(platform.catalog)  # whose bytes were hers, too
    opened = open_snapshot(platform.catalog)
    hashes = {r["sha256"] for b in range(2) for r in opened.scores(b).to_pylist()}
    rows = [r for b in range(2) for r in opened.items(b).to_pylist()]
    first = open_snapshot(platform.catalog, f"{NIGHTS[0]}.0")
    rows += [r for b in range(2) for r in first.items(b).to_pylist()]
    assert hashes <= {r["sha256"] for r in rows}

    (receipt,) = outcome.receipts.values()
    assert len(receipt.items) == len(ADAS) - 1 and len(receipt.owners) == 1
    assert verify(receipt, "ada-late", SECRET.encode())
    assert not verify(receipt, "ada-late", b"another" * 9)
    assert not verify(receipt, "photo-01", SECRET.encode())
    assert receipt.snapshots == tuple(f"catalog/{n}.0".removeprefix("catalog/") for n in NIGHTS)
    assert SECRET not in "".join(everything(platform.catalog).values())


def test_reports_lose_the_pictures_of_an_item(platform: Platform) -> None:
    layout = Layout(platform.catalog)
    folder = layout.run(RunId(NIGHTS[0]))
    before = read_bytes(f"{folder}/report.html").decode()
    item = json.loads(read_bytes(f"{folder}/report.json"))["worst"]["quality"][0]["item_id"]
    assert before.count('class="item"') == 12
    platform.erase(items=[item])
    after = read_bytes(f"{folder}/report.html").decode()
    assert before.count(f'data-item="{item}"') - after.count(f'data-item="{item}"') > 0
    assert 0 < 12 - after.count('class="item"') == 12 - after.count("data:image/jpeg")
    assert item not in after
    said = json.loads(read_bytes(f"{folder}/report.json"))
    assert item not in json.dumps(said) and said["worst"]["quality"]
    assert named(platform.catalog, item) == set()


def test_an_erased_item_stays_out_and_the_night_adds_up(platform: Platform) -> None:
    platform.erase(items=["photo-01"])
    platform.put("new-one", "cleo", 40)
    outcome = platform.night("2026-11-21")
    assert outcome.name == "published"
    assert (outcome.record.counts["erased"], outcome.record.counts["new"]) == (1, 1)
    assert "photo-01" not in seen(platform.catalog) and "new-one" in seen(platform.catalog)
    platform.put("of-her", "ada", 41)
    platform.erase(owners=["ada"])
    assert platform.night("2026-11-22").record.counts["erased"] == 7  # of which one was never in
    assert named(platform.catalog, "of-her", "photo-01") == set()
    find_garbage(GarbageConfig(catalog=platform.catalog))  # misses no file


def test_a_rollback_resurrects_nothing(platform: Platform) -> None:
    platform.erase(items=["photo-01"])
    roll_back(Layout(platform.catalog), f"{NIGHTS[0]}.0", "me")
    assert "photo-01" not in seen(platform.catalog)
    assert "photo-01" not in platform.night("2026-11-21").record.encode().decode()
    assert "photo-01" not in seen(platform.catalog)


def test_a_night_at_work_publishes_it_to_nobody(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while chunks are scored: tombstones hold at once, the removal waits."""
    said = []

    def during(*given: Any) -> Any:
        said.append(platform.erase(items=["fresh", "photo-02"], owners=["newcomer"]).waits_for)
        return _score(*given)

    platform.put("fresh", "bob", 42)
    platform.put("theirs", "newcomer", 43)
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "_score", during)
        outcome = platform.night("2026-11-21")
    assert outcome.name == "published" and "holds" in said[0]
    assert not {"fresh", "photo-02", "theirs"} & seen(platform.catalog).keys()
    report = read_bytes(f"{Layout(platform.catalog).run(RunId('2026-11-21'))}/report.json")
    assert b"fresh" not in report
    assert named(platform.catalog, "fresh")  # nobody has removed it yet
    (receipt,) = platform.erase().receipts.values()
    assert len(receipt.items) == 3
    assert named(platform.catalog, "fresh", "photo-02", "theirs", "newcomer") == set()
    assert platform.night("2026-11-22").record.counts["erased"] == 3


def test_a_run_that_was_begun_goes_on_before_it_is_removed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    platform.put("fresh", "bob", 42)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(nightly, "prepare", stop)
        platform.night("2026-11-21")
    waits = platform.erase(items=["fresh", "photo-01"]).waits_for
    assert waits is not None and "run 2026-11-21.0" in waits
    outcome = platform.night("2026-11-21")
    assert (outcome.name, outcome.record.counts["new"]) == ("published", 1)
    assert not {"fresh", "photo-01"} & seen(platform.catalog).keys()
    assert platform.erase().waits_for is None
    assert named(platform.catalog, "fresh", "photo-01") == set()


def test_a_run_that_can_not_end_any_more_leaves_its_reports(platform: Platform) -> None:
    """The audit refused it, and another night was published since."""
    platform.put("fresh", "bob", 42)
    strict = {"audit": {"accept": {"panel": "a test"}, "min_mass": 1.0, "psi": 1e-9}}
    platform.put("ada-broken", "ada", 44)
    strict["audit"] |= {"failed_minimum": 1, "max_failed": 0.0}
    assert platform.night("2026-11-21", **strict).name == "refused"
    assert "2026-11-21.0" in (platform.erase(items=["fresh"]).waits_for or "")
    del platform.rows["fresh"]
    assert platform.night("2026-11-22").name == "published"
    assert platform.erase().waits_for is None
    assert named(platform.catalog, "fresh") == set()
    left = {uri.rpartition("/")[2] for uri in list_files(f"{platform.catalog}/runs/2026-11-21.0")}
    assert left == {"report.html", "report.json", "metrics.prom"}


def test_two_erasures_at_once_both_count(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second sets its tombstones between the first's reading of the index and its writing."""
    stored, other = tombstones.store_file, []

    def interrupted(*given: Any, **how: Any) -> Any:
        if not other:
            other.append("second")
            platform.erase(items=["photo-02"])
        return stored(*given, **how)

    monkeypatch.setattr(tombstones, "store_file", interrupted)
    platform.erase(items=["photo-01"])
    assert not {"photo-01", "photo-02"} & seen(platform.catalog).keys()
    assert named(platform.catalog, "photo-01", "photo-02") == set()
    with Lease(Layout(platform.catalog).erasing):
        waits = platform.erase(items=["photo-04"]).waits_for
    assert waits is not None and "another erasure" in waits
    assert "photo-04" not in seen(platform.catalog)


class Stop(BaseException):
    """A machine that dies."""


def _dies(patch: pytest.MonkeyPatch, after: int) -> None:
    """Lets the write number ``after`` be the last one."""
    writes = [0]

    def wrapped(call: Callable) -> Callable:
        def counted(*given: Any, **how: Any) -> Any:
            writes[0] += 1
            if writes[0] > after:
                raise Stop
            return call(*given, **how)

        return counted

    local = type(fsspec.filesystem("file"))
    for room, name in (
        *((state_files, "write_bytes"), (removal, "write_bytes"), (removal, "replace")),
        *((erase_module, "create"), (tombstones, "create"), (tombstones, "replace")),
        *((local, "rm"), (local, "rm_file")),
    ):
        patch.setattr(room, name, wrapped(getattr(room, name)))


def test_it_may_die_at_any_write(
    tmp_path: Path, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nights in one bucket; after each death readers see whole snapshots, and the next call
    leaves nothing.
    """
    platform = Platform(str(tmp_path), pictures)
    for at, item in enumerate(("of-ada-1", "his", "item-lost", "theirs")):
        platform.put(item, {"of-ada-1": "ada"}.get(item, "bob"), at)
    platform.night(NIGHTS[0], buckets=1)
    platform.put("of-ada-2", "ada", 5)
    platform.put("of-ada-1", "ada", 6)
    platform.night(NIGHTS[1], buckets=1)
    whole = tmp_path / "whole"
    shutil.copytree(platform.catalog, whole)
    before = {night: seen(str(whole), f"{night}.0") for night in NIGHTS[:2]}
    demand: dict[str, Any] = {"items": ["item-lost"], "owners": ["ada"]}
    for after in range(100):
        shutil.rmtree(platform.catalog)
        shutil.copytree(whole, platform.catalog)
        with monkeypatch.context() as patch:
            _dies(patch, after)
            try:
                platform.erase(**demand)
                break
            except Stop:
                pass
        for night in NIGHTS[:2]:
            now = seen(platform.catalog, f"{night}.0")
            assert now.keys() >= {"his", "theirs"}
            assert all(now[item] == before[night][item] for item in now)
        platform.erase(**demand)
        assert named(platform.catalog, "'ada'", "of-ada-1", "of-ada-2", "item-lost") == set(), after
        assert seen(platform.catalog).keys() == {"his", "theirs"}
    assert after > 15
    assert platform.erase(**demand).receipts == {}  # nothing is left to do


def test_explain_says_it_to_whoever_has_the_key(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.erase(items=["photo-01"], owners=["ada"])
    for item in ("photo-01", "photo-03"):
        with pytest.raises(CatalogError, match=f"'{item}' was erased at 2"):
            explain_item(platform.catalog, item)
    monkeypatch.setenv(KEY, "another" * 9)
    with pytest.raises(CatalogError, match="check its id"):
        explain_item(platform.catalog, "photo-01")
    monkeypatch.delenv(KEY)
    with pytest.raises(CatalogError, match="check its id"):
        explain_item(platform.catalog, "photo-01")
    assert explain_item(platform.catalog, "photo-06").item is not None


def test_an_operator_may_lift_it(platform: Platform) -> None:
    erasure = platform.erase(items=["photo-01"]).erasure
    platform.night("2026-11-21")
    lift(EraseConfig(catalog=platform.catalog, lift=erasure))
    assert platform.night("2026-11-22").record.counts["new"] == 1
    assert "photo-01" in seen(platform.catalog)
    again = platform.erase(items=["photo-01"])
    assert again.erasure not in (None, erasure)
    assert named(platform.catalog, "photo-01") == set()


def test_a_reader_that_opened_it_before_goes_on(platform: Platform) -> None:
    opened = open_snapshot(platform.catalog, f"{NIGHTS[1]}.0")
    opened.items(0)  # so that it knows of no erasure
    platform.erase(owners=["ada"])
    rows = {r["item_id"] for table in opened.rows() for r in table.to_pylist()}
    assert rows == seen(platform.catalog, f"{NIGHTS[1]}.0").keys()


def test_a_shadow_is_covered(platform: Platform) -> None:
    shadow = f"{platform.catalog}/shadows/feed5eedfeed5eed"
    filling = Platform(platform.root, platform.pictures)
    filling.catalog, filling.manifest, filling.rows = shadow, platform.manifest, platform.rows
    filling.night("2026-11-20")
    assert "photo-01" in seen(shadow)
    with pytest.raises(CatalogError, match=f"erase from {platform.catalog}"):
        filling.erase(items=["photo-01"])
    (receipt,) = platform.erase(items=["photo-01"]).receipts.values()
    assert "shadows/feed5eedfeed5eed/2026-11-20.0" in receipt.snapshots
    assert "photo-01" not in seen(shadow) and named(platform.catalog, "photo-01") == set()
    assert filling.night("2026-11-21").record.counts["erased"] == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"items": ["a"], "lift": "x"}, "lift it alone"),
        ({"items": [""]}, "an empty name"),
    ],
)
def test_what_can_not_be_meant(platform: Platform, how: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        platform.erase(**how)


def test_the_door(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="which can't be read"):
        platform.erase(file=str(tmp_path / "names.txt"))
    (tmp_path / "names.txt").write_text("photo-01\n\nphoto-02\n")
    assert (
        len(next(iter(platform.erase(file=str(tmp_path / "names.txt")).receipts.values())).items)
        == 2
    )
    with pytest.raises(CatalogError, match="no published snapshot"):
        erase(EraseConfig(catalog=str(tmp_path / "none"), items=("a",)))
    with pytest.raises(CatalogError, match="no erasure 'x'"):
        lift(EraseConfig(catalog=platform.catalog, lift="x"))
    monkeypatch.setenv(KEY, "s3cret" * 5)
    with pytest.raises(UserError, match="has 30 bytes: set it to at least 32") as caught:
        platform.erase(items=["a"])
    assert "s3cret" not in str(caught.value)
    monkeypatch.delenv(KEY)
    with pytest.raises(UserError, match=f"{KEY} is not set"):
        platform.erase(items=["a"])


def test_the_job(platform: Platform, project: Path) -> None:
    words = [f"catalog={platform.catalog}", "items=[photo-00,photo-01,photo-x]", "owners=[ada]"]
    platform.erase(items=["photo-00"])
    done = subprocess.run(
        [sys.executable, str(project / "jobs/erase.py"), *(w for x in words for w in ("--set", x))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "is removed, receipt at" in done.stdout and "photo" not in done.stdout
    assert "2 of the items that were named, number 1, 3, were not in" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert "photo-01" not in seen(platform.catalog)


def test_on_s3(s3: ObjectStore, pictures: list[bytes], tmp_path: Path) -> None:
    platform = settle(Platform(f"s3://{s3.bucket}/erase/{tmp_path.name}", pictures))
    before = seen(platform.catalog, f"{NIGHTS[0]}.0")
    outcome = platform.erase(owners=["ada"], items=["photo-01"])
    assert outcome.waits_for is None
    gone = (ADAS - {"photo-06"}) | {"photo-01"}
    assert named(platform.catalog, "'ada'", *gone) == set()
    now = seen(platform.catalog, f"{NIGHTS[0]}.0")
    assert now == {i: mean for i, mean in before.items() if i not in {*gone, "photo-06"}}
    assert platform.night("2026-11-21").name == "published"
