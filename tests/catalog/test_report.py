"""A night's page, its JSON and its metrics, from hand-made data."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from beholder.catalog.checks import Audit, Check, Example
from beholder.catalog.drift import ALL, BINS, Histogram, compare
from beholder.catalog.layout import Layout
from beholder.catalog.ledger import Commit
from beholder.catalog.record import Record
from beholder.catalog.report import Night, make_report, metrics, summarise, write_report
from beholder.catalog.thumbnails import thumbnail

SEGMENTS = ("day", "night", "food & drink", "<b>bold</b>")


def example(number: int, mean: float, uri: str, kind: str = "image") -> Example:
    probs = np.exp(-((np.arange(1, 6) - mean) ** 2))
    probs = probs / probs.sum()
    support = (1.0, 2.0, 3.0, 4.0, 5.0)
    return Example(f"item-{number}", uri, kind, "quality", mean, 0.5, support, tuple(probs))


def histograms(seed: int, shift: float = 0.0) -> dict:
    rng = np.random.default_rng(seed)
    found = {}
    for task in ("aesthetics", "quality"):
        total = np.zeros(BINS, int)
        for at, segment in enumerate(SEGMENTS):
            moved = shift if segment == "night" else 0
            scores = rng.normal(3.1 + moved, 0.6, 4000 // (at + 1)).clip(1, 5)
            counts = np.histogram(scores, np.linspace(1, 5, BINS + 1))[0]
            total += counts
            found[task, segment] = Histogram((1.0, 5.0), tuple(counts.tolist()))
        found[task, ALL] = Histogram((1.0, 5.0), tuple(total.tolist()))
    return found


def a_night(outcome: str = "refused", uris: tuple[str, ...] = ()) -> Night:
    before, tonight = histograms(0), histograms(1, shift=0.8)
    uris = uris or tuple(f"s3://media/{n}.jpg" for n in range(12))
    worst = [example(n, 1.2 + n / 10, uris[n]) for n in range(6)]
    best = [example(11 - n, 4.8 - n / 10, uris[11 - n]) for n in range(5)]
    best.append(example(6, 4.2, uris[6], kind="video"))
    audit = Audit(
        checks=(
            Check("complete", True, 0.0, 0.0, "every item is accounted for"),
            Check("sums", False, 2.0, 0.0, "two don't", ("9f <i> quality", "ab quality")),
            Check("mass", False, 0.41, 0.5, "it fell", ("quality: 0.41",), "a new prompt"),
        ),
        items={"scored": 990_312, "failed": 1200, "stale": 88, "left_out": 400},
        settled={"new": {"scored": 9000, "failed": 150}, "changed": {"scored": 700, "stale": 20}},
        failures={"fetch.not_found": 30, "decode.truncated": 140},
        histograms=tonight,
        before=before,
        drift=tuple(compare(tonight, before, 500)),
        mass={"quality": 0.41, "aesthetics": 0.97},
        worst={"quality": worst},
        best={"quality": best},
        seconds=12.0,
    )
    record = Record(
        id="2026-11-20.0",
        parent="2026-11-19.0",
        created_at=datetime(2026, 11, 20, 3, 12, tzinfo=UTC),
        buckets=4,
        scorer="s3://scorers/one",
        fingerprint="feed5eedfeed5eed",
        tasks={"image": ("quality", "aesthetics")},
        manifest={"uri": "s3://lists/all", "version": "77ab"},
        config={},
    )
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.gamma(2, 3, 40)) + 1.79e9
    commits = [
        Commit(n, record.id, 1, f"{n}", 247, "00", 240, 5, 2, 4.5, float(when))
        for n, when in enumerate(at)
    ]
    plan = {"unchanged": 980_000, "new": 9150, "changed": 720, "retried": 0, "left_out": 400}
    seconds = {"plan": 42.0, "score": 260.0, "prepare": 8.0, "audit": 12.0, "publish": 0.2}
    planned_at = datetime.fromtimestamp(1.79e9, UTC)
    return Night(record, audit, outcome, planned_at, plan, commits, seconds, cost=3.456)


class Outside(HTMLParser):
    """Collects what a page would load, and checks that tags are closed."""

    VOID = ("meta", "img", "br", "line", "rect", "polyline", "polygon")

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "action", "xlink:href"):
                self.loaded.append(value)
            if name == "href":
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def read(page: str) -> Outside:
    parser = Outside()
    parser.feed(page)
    assert not parser.open
    return parser


def jpeg(_: Example) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(sink, "JPEG")
    return sink.getvalue()


def test_the_page_is_whole_and_loads_nothing() -> None:
    page = make_report(a_night(), jpeg).html
    parser = read(page)
    assert len(parser.loaded) == 12
    assert all(address.startswith("data:image/jpeg;base64,") for address in parser.loaded)
    assert not {"script", "link", "iframe", "object"} & set(parser.seen)
    assert "url(" not in page
    assert "@import" not in page
    assert parser.seen.count("i") < 200  # an id's <i> and a segment's <b> are text


def test_the_page_says_what_happened() -> None:
    page = make_report(a_night(), jpeg).html
    text = re.sub(r"<[^>]+>", " ", page)
    assert "Refused by sums: readers see the night before, 2026-11-19.0." in text
    assert "992,000" in text  # items in the manifest
    assert "9f &lt;i&gt; quality" in text
    assert "Accepted: a new prompt" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "decode.truncated" in text
    assert "Published: readers see this night." in make_report(a_night("published"), jpeg).html


def test_thumbnails_fail_quietly_and_only_known_schemes_are_linked() -> None:
    uris = ("javascript:alert(1)", 's3://media/a "quoted".jpg', *["s3://media/x.jpg"] * 10)
    page = make_report(a_night(uris=uris), lambda _: None).html
    parser = read(page)
    assert parser.loaded == []
    assert page.count("no picture") == 11
    assert page.count('<div class="none">video') == 1
    assert not any(link.startswith("javascript") for link in parser.links)
    assert "s3://media/a%20%22quoted%22.jpg" in parser.links


def test_a_page_asks_for_twelve_pictures_however_many_tasks() -> None:
    night = a_night()
    tasks = ("a", "b", "c", "d", "e")
    many = replace(
        night.audit,
        worst=dict.fromkeys(tasks, night.audit.worst["quality"]),
        best=dict.fromkeys(tasks, night.audit.best["quality"]),
    )
    asked: list[Example] = []
    make_report(replace(night, audit=many), lambda one: asked.append(one))
    assert 0 < len(asked) <= 12


def test_a_night_without_work_has_a_page(tmp_path: Path) -> None:
    night = a_night("published")
    nothing = {"histograms": {}, "drift": (), "mass": {}, "worst": {}, "best": {}}
    quiet = replace(night.audit, settled={}, failures={}, **nothing)
    report = make_report(replace(night, audit=quiet, commits=[], seconds={}, cost=None))
    read(report.html)
    assert "Nothing was scored." in report.html
    assert report.summary["items_per_second"] is None


def test_thumbnails_of_real_pictures(photos: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(photos["coffee"])
    small = thumbnail(example(0, 3, str(path)))
    assert small is not None
    with Image.open(io.BytesIO(small)) as picture:
        assert max(picture.size) == 220
    path.write_bytes(b"no picture any more")
    assert thumbnail(example(0, 3, str(path))) is None
    assert thumbnail(example(0, 3, str(tmp_path / "gone.jpg"))) is None
    assert thumbnail(example(0, 3, str(path), kind="video")) is None


def test_the_summary_counts_what_the_commits_say() -> None:
    summary = summarise(a_night())
    assert summary["looked_at"] == 40 * 247
    assert summary["known"] == 80
    assert summary["items_per_second"] == pytest.approx(40 * 247 / 260, abs=1e-3)
    assert summary["refused_by"] == ["sums"]
    assert list(summary["failures"]) == ["decode.truncated", "fetch.not_found"]
    json.dumps(summary, allow_nan=False)


def test_the_curve_begins_with_scoring_and_not_with_the_first_commit() -> None:
    """An hour until the first chunk of ten is an hour of nothing."""
    night = a_night()
    commits = [replace(c, at=1.79e9 + 3600 + 400 * n) for n, c in enumerate(night.commits[:10])]
    page = make_report(replace(night, commits=commits), jpeg).html
    [figure] = [f for f in page.split("<figure") if "Items committed over time" in f]
    [line] = re.findall(r'<polyline points="([^"]+)"', figure)
    heights = [float(place.split(",")[1]) for place in line.split(" ")]
    assert len(heights) == 10
    assert heights[0] == heights[1] == heights[3] == 150.0  # nothing yet
    assert heights[-1] < 150
    assert "2.0 h" in figure
    behind = replace(night, planned_at=datetime.fromtimestamp(1.8e9, UTC))
    assert "Items committed over time" in make_report(behind, jpeg).html


def test_metrics_are_prometheus_text() -> None:
    text = metrics(summarise(a_night()))
    found = {
        (
            sample.name.removeprefix("beholder_catalog_"),
            *sorted(sample.labels.values()),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["items", "scored"] == 990_312
    assert found["check_ok", "sums"] == 0
    assert found["check_ok", "complete"] == 1
    assert found["check_accepted", "mass"] == 1
    assert found["failures", "decode.truncated"] == 140
    assert found["outcome", "refused"] == 1
    assert found["outcome", "published"] == 0
    assert found["stage_seconds", "score"] == 260
    assert found["cost",] == 3.456
    assert found["snapshot_info", "2026-11-20.0", "feed5eedfeed5eed"] == 1
    assert found["drift_psi", "night", "quality"] > 0.25


def test_it_is_written_beside_the_run(tmp_path: Path) -> None:
    report = make_report(a_night(), jpeg)
    uri = write_report(Layout(str(tmp_path)), report)
    folder = tmp_path / "runs" / "2026-11-20.0"
    assert Path(uri) == folder / "report.html"
    assert Path(uri).read_text("utf-8") == report.html
    assert json.loads((folder / "report.json").read_text()) == json.loads(
        json.dumps(report.summary)
    )
    assert (folder / "metrics.prom").read_text() == report.metrics


def test_what_a_record_keeps_is_the_audit() -> None:
    audit = a_night().audit
    kept = json.loads(json.dumps(audit.as_record())), json.loads(json.dumps(audit.drift_record()))
    assert Audit.from_records(*kept, audit.before) == audit
