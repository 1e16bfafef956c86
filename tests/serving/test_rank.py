"""``/v1/rank`` over ASGI: against the library's own order, and every way of having no place."""

import asyncio
import base64
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from fastapi import FastAPI
from PIL import Image

from beholder.catalog.head import Head
from beholder.catalog.layout import Layout, RunId
from beholder.catalog.lookup import Found
from beholder.catalog.rank_record import Part, RankedTask, RankRecord
from beholder.catalog.tombstones import bury
from beholder.items import Score
from beholder.media.storage import write_bytes
from beholder.opinions import Scale, ScoreDistribution
from beholder.ranking import QualityFloor, Weighted, rank
from beholder.scoring import Scorer
from beholder.serving.catalog_scores import CatalogScores
from beholder.serving.rank_requests import RankAnswer

Ask = Callable[..., httpx.Response]
Endpoint = Callable[..., FastAPI]
SUPPORT = [1.0, 2.0, 3.0, 4.0, 5.0]


def distribution(probs: Sequence[float]) -> dict[str, Any]:
    return {"support": SUPPORT, "probs": list(probs), "scale": [1, 5]}


def stored(name: str, scores: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": name, "fingerprint": "f", "scores": scores, **fields}


@pytest.fixture(scope="module")
def app(endpoint: Endpoint) -> FastAPI:
    return endpoint(max_items=3, max_candidates=300)


@pytest.fixture
def post(ask: Ask, app: FastAPI) -> Callable[..., httpx.Response]:
    def one(candidates: Any, app: FastAPI = app, **fields: Any) -> httpx.Response:
        body = {"task": "quality", "candidates": candidates, **fields}
        return ask(app, "POST", "/v1/rank", json=body)

    return one


def good(answer: httpx.Response) -> RankAnswer:
    assert answer.status_code == 200, answer.text
    return RankAnswer.model_validate(answer.json(), extra="forbid")


@pytest.fixture(scope="module")
def drawn() -> tuple[list[dict[str, Any]], list[Score]]:
    """Stored candidates, some alike, and the same as scores."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(5), 200)
    probs[50:60] = probs[40]
    scores = [
        Score(str(n), "f", {"quality": ScoreDistribution(np.array(SUPPORT), p, Scale(1, 5))})
        for n, p in enumerate(probs)
    ]
    relevance = rng.integers(0, 9, 200).tolist()
    return [
        stored(str(n), distribution(p), relevance=r)
        for n, (p, r) in enumerate(zip(probs, relevance, strict=True))
    ], scores


@pytest.mark.parametrize("rule", ["mean", "lower_bound", "expected_rank"])
@pytest.mark.parametrize(
    ("sent", "blend"),
    [
        (None, None),
        ({"weight": 0.3}, Weighted(0.3)),
        ({"floor": 3.0}, QualityFloor(3.0)),
        ({"floor": 3.5, "probability": 0.4}, QualityFloor(3.5, 0.4)),
    ],
)
def test_the_order_is_the_librarys(post, drawn, rule: str, sent: Any, blend: Any) -> None:
    candidates, scores = drawn
    relevance = [one["relevance"] for one in candidates]
    if sent is None:
        candidates = [{k: v for k, v in one.items() if k != "relevance"} for one in candidates]
    extra = {"confidence": 0.95} if rule == "lower_bound" else {}
    answer = good(post(candidates, rule=rule, blend=sent, **extra))
    # 1.6449 is the 95% quantile in every table of the Gaussian.
    wanted = rank(scores, "quality", rule, relevance if blend else None, blend, z=1.644853627)
    assert [one.position for one in answer.ranking] == wanted.order.tolist()
    assert [one.value for one in answer.ranking] == pytest.approx(wanted.values.tolist(), abs=1e-8)
    assert [one.rank for one in answer.ranking] == list(range(1, 201))
    assert [one.id for one in answer.ranking] == list(wanted.item_ids)
    assert sum(one.below_floor or False for one in answer.ranking) == wanted.below_floor
    first = answer.ranking[0]
    rating = scores[first.position].tasks["quality"]
    assert (first.mean, first.std) == pytest.approx((float(rating.mean), float(rating.std)))
    assert answer.left_out == [] and answer.fingerprint == "f" and answer.scale == (1, 5)


def test_pairs_are_the_published_ones(post) -> None:
    # DeQA-Score Eq. 6 with means 4 and 3, stds .6 and .8: P = .84134.
    answer = good(
        post(
            [
                stored("a", {"mean": 4, "std": 0.6, "scale": [1, 5]}),
                stored("b", {"mean": 3, "std": 0.8, "scale": [1, 5]}),
                stored("c", distribution([0, 0, 0.5, 0.5, 0])),
                stored("d", distribution([0, 0, 0, 0.5, 0.5])),
                stored("p", {"mean": 3.4, "scale": [1, 5]}),
            ],
            pairwise=[["a", "b"], ["c", "d"], ["d", "c"], ["a", "p"], ["c", "c"]],
        )
    )
    found = [pair.probability for pair in answer.pairwise]
    assert found[0] == pytest.approx(0.84134, abs=5e-6)
    assert found[1:3] == [0.125, 0.875]  # ties of whole levels count half
    assert found[3] is None and "point" in answer.pairwise[3].reason
    assert found[4] == 0.5


def test_ties_keep_the_order_of_the_request(post) -> None:
    same = {"mean": 3, "std": 1, "scale": [1, 5]}
    for names in ("zamb", "bmaz"):
        for rule in ("mean", "lower_bound", "expected_rank"):
            answer = good(post([stored(name, same) for name in names], rule=rule))
            assert "".join(one.id for one in answer.ranking) == names


@pytest.mark.parametrize("rule", ["lower_bound", "expected_rank"])
def test_a_point_has_no_place_where_a_spread_is_needed(post, rule: str) -> None:
    candidates = [
        stored("sure", {"mean": 3, "std": 0, "scale": [1, 5]}),
        stored("point", {"mean": 4, "scale": [1, 5], "clips": [4.0], "mass": None}),
    ]
    assert [one.id for one in good(post(candidates)).ranking] == ["point", "sure"]
    answer = good(post(candidates, rule=rule, pairwise=[["sure", "point"]]))
    assert [one.id for one in answer.ranking] == ["sure"]
    (left,) = answer.left_out
    assert (left.id, left.position, left.code) == ("point", 1, "score.no_spread")
    assert f"'{rule}' needs a spread" in left.reason
    assert "'point' is left out" in answer.pairwise[0].reason


def test_a_floors_probability_needs_distributions(post) -> None:
    candidates = [
        stored("normal", {"mean": 4, "std": 1, "scale": [1, 5]}, relevance=2),
        stored("low", distribution([0.5, 0.5, 0, 0, 0]), relevance=9),
        stored("high", distribution([0, 0, 0, 0.5, 0.5]), relevance=1),
    ]
    answer = good(post(candidates, blend={"floor": 4, "probability": 0.9}))
    assert [(one.id, one.below_floor) for one in answer.ranking] == [("high", False), ("low", True)]
    assert [one.code for one in answer.left_out] == ["score.no_distribution"]


def test_media_are_scored_as_the_other_route_does(
    post, ask: Ask, app: FastAPI, small_scorer: Scorer
) -> None:
    def picture(size: int) -> str:
        file = io.BytesIO()
        Image.linear_gradient("L").resize((size, size)).convert("RGB").save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    media = [{"data": picture(80)}, {"data": "AAAA", "id": "none"}, {"data": picture(120)}]
    scores = ask(app, "POST", "/v1/score", json={"items": media}).json()["items"]
    mine = stored("mine", scores[0]["scores"]["quality"])
    mine["fingerprint"] = small_scorer.fingerprint
    candidates = [{"media": one} for one in media]
    answer = good(post([*candidates, mine], rule="lower_bound"))
    places = {one.id: one for one in answer.ranking}
    assert set(places) == {"item-0", "item-2", "mine"}
    for name, at in (("item-0", 0), ("item-2", 2), ("mine", 0)):
        wanted = scores[at]["scores"]["quality"]
        assert places[name].mean == pytest.approx(wanted["mean"], abs=1e-5)
        assert places[name].value == pytest.approx(wanted["mean"] - wanted["std"], abs=1e-5)
    (left,) = answer.left_out
    assert (left.id, left.position, left.code) == ("none", 1, "decode.unsupported")
    assert answer.fingerprint == small_scorer.fingerprint
    refused = post([{"media": media[0]}], task="taste")
    assert refused.status_code == 400 and "no task 'taste'" in refused.json()["error"]
    refused = post([{"media": {**media[0], "id": str(n)}} for n in range(4)])
    assert refused.status_code == 413 and "4 media" in refused.json()["error"]


def test_a_mean_may_be_rounded(post) -> None:
    answer = good(post([stored("a", {"mean": 5.000001, "std": 0, "scale": [1, 5]})]))
    assert [one.id for one in answer.ranking] == ["a"]


ONE = {"mean": 3, "std": 1, "scale": [1, 5]}


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"candidates": []}, "candidates"),
        ({"candidates": [{}]}, "one of scores, item and media"),
        ({"candidates": [{"item": "a", "media": {"uri": "s3://a/b"}}]}, "one of scores, item"),
        ({"candidates": [{"id": "a", "scores": ONE}]}, "need an id, and the fingerprint"),
        ({"candidates": [{"item": "a", "fingerprint": "f"}]}, "belongs to stored scores"),
        ({"candidates": [stored("a", ONE)] * 2}, "two candidates are called 'a'"),
        ({"candidates": [stored("a", {"scale": [1, 5]})]}, "give support and probs, or mean"),
        ({"candidates": [stored("a", {**ONE, "support": [1, 2]})]}, "support and probs together"),
        ({"candidates": [stored("a", {**ONE, "scale": [5, 1]})]}, "candidate 'a': scale"),
        ({"candidates": [stored("a", {**ONE, "std": -1})]}, "greater than or equal to 0 and is -1"),
        (
            {"candidates": [stored("a", {**ONE, "mean": 5.01})]},
            "candidate 'a': its mean 5.01 lies outside its scale [1, 5]",
        ),
        ({"candidates": [stored("a", {**ONE, "mean": 0.99})]}, "lies outside its scale [1, 5]"),
        (
            {"candidates": [stored("a", {**ONE, "std": 2.1})]},
            "candidate 'a': its std 2.1 is more than half of its scale [1, 5]",
        ),
        ({"candidates": [stored("a", {**ONE, "std": "1"})]}, "valid number"),
        ({"candidates": [stored("a", distribution([0.5] * 5))]}, "'a': probabilities must sum"),
        ({"candidates": [stored("a", distribution([0.5] * 2))]}, "'a': 2 probs for a support of 5"),
        ({"candidates": [stored("a", ONE), {**stored("b", ONE), "fingerprint": "g"}]}, "scorers"),
        (
            {"candidates": [stored("a", ONE), stored("b", {**ONE, "scale": [0, 9]})]},
            "from two scales ([1, 5] and [0, 9])",
        ),
        ({"candidates": [{"item": "x.jpg"}]}, "'x.jpg' is of a catalog and this endpoint has none"),
        ({"candidates": [{"media": {"data": "?"}}]}, "'item-0' is not base64"),
        ({"rule": "median"}, "rule"),
        ({"confidence": 0.9}, "belongs to lower_bound and the rule is mean"),
        ({"rule": "lower_bound", "confidence": 1}, "less than 1"),
        ({"rule": "lower_bound", "confidence": 0.2}, "greater than or equal to 0.5"),
        ({"blend": {"weight": 0.5}}, "candidate 0 has no relevance"),
        ({"candidates": [stored("a", ONE, relevance=1)]}, "relevance is given without blend"),
        (
            {"candidates": [stored("a", ONE, relevance=1)], "blend": {"floor": 9}},
            "quality floor 9 lies outside the scores' scale [1, 5]",
        ),
        (
            {"candidates": [stored("a", ONE, relevance=1)], "blend": {"weight": 2}},
            "less than or equal to 1",
        ),
        ({"pairwise": [["a", "z"]]}, "pairwise names 'z', which is no candidate"),
        ({"task": ""}, "task"),
        ({"tasks": ["quality"]}, "rank: tasks is no field: see /docs"),
    ],
)
def test_a_request_that_is_none_gets_one_sentence(post, fields: dict, sentence: str) -> None:
    answer = post(**{"candidates": [stored("a", ONE)], **fields})
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_a_request_has_limits(post, ask: Ask, app: FastAPI) -> None:
    many = [stored(str(n), ONE) for n in range(301)]
    assert len(good(post(many[:300])).ranking) == 300
    answer = post(many)
    assert answer.status_code == 413 and "at most 300" in answer.json()["error"]
    answer = post(many[:2], pairwise=[["0", "1"]] * 1001)
    assert answer.status_code == 400 and "pairwise" in answer.json()["error"]
    answer = ask(app, "POST", "/v1/rank", content=b"{}", headers={"Content-Type": "text/csv"})
    assert answer.status_code == 415


def test_no_hostile_body_is_the_servers_fault(ask: Ask, app: FastAPI) -> None:
    whole = json.dumps(
        {"task": "quality", "candidates": [stored("a", distribution([1, 0, 0, 0, 0]))]}
    ).encode()
    bodies = [*(whole[:cut] for cut in range(len(whole))), b"[" * 100_000, b"\xff", b"null"]
    for number in (b"1e999", b"NaN", b"-1e308", b"1e308", b"null", b'"x"', b"[]", b"9" * 5000):
        bodies += [whole.replace(b"[1, 0,", b"[" + number + b", 0,")]
        bodies += [whole.replace(b'"scale": [1,', b'"scale": [' + number + b",")]
        bodies += [whole.replace(b'"support": [1.0,', b'"support": [' + number + b",")]
    for body in bodies:
        headers = {"Content-Type": "application/json"}
        answer = ask(app, "POST", "/v1/rank", content=body, headers=headers)
        assert answer.status_code in (200, 400), body[:200]
        assert answer.status_code == 200 or set(answer.json()) == {"error", "request_id"}


def test_the_schema_tells_what_may_be_sent(ask: Ask, app: FastAPI) -> None:
    operation = ask(app, "GET", "/openapi.json").json()["paths"]["/v1/rank"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    candidate = schema["properties"]["candidates"]["items"]
    assert {"item", "media", "scores", "relevance"} <= set(candidate["properties"])
    assert len(candidate["oneOf"]) == 3
    assert "left_out" in operation["description"]


class Ranked:
    """A catalog with a look-up file, without a night."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(str(root))

    def publish(self, run: str, means: dict[str, float | None], ranked: bool = True) -> None:
        head = Head(snapshot=run, reason="published", by="test", at=datetime.now(UTC))
        if ranked:
            self._rank(RunId.parse(run), means)
        write_bytes(self.layout.head, head.encode())

    def _rank(self, run: RunId, means: dict[str, float | None]) -> None:
        import hashlib

        rows = [
            {
                "item_id": name,
                "state": "failed" if mean is None else "scored",
                "failure_code": "fetch.not_found" if mean is None else None,
                "quality.mean": mean,
                "quality.std": None if mean is None else 0.5,
            }
            for name, mean in sorted(means.items())
        ]
        schema = pa.schema(
            [
                *(
                    (name, pa.string())
                    for name in ("item_id", "owner", "segment", "state", "failure_code")
                ),
                ("quality.mean", pa.float64()),
                ("quality.std", pa.float64()),
            ]
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        data = sink.getvalue().to_pybytes()
        uri = self.layout.ranks_file(run, "x", "lookup/0")
        write_bytes(uri, data)
        digest = hashlib.sha256(data).hexdigest()
        part = Part(path=self.layout.relative(uri), rows=len(rows), sha256=digest)
        record = RankRecord(
            snapshot=str(run),
            fingerprint="f",
            made_at=datetime.now(UTC),
            buckets=1,
            items=len(rows),
            z=1.0,
            tasks={"quality": RankedTask(scale=(1, 5), support=None, spread=True, rows=len(rows))},
            lookup={0: part},
            ranks={},
        )
        write_bytes(self.layout.ranks(run), record.encode())


@pytest.fixture
def ranked(tmp_path: Path) -> Ranked:
    found = Ranked(tmp_path)
    found.publish("2026-11-20.0", {"a": 2.0, "b": 4.0, "gone": None})
    return found


def test_items_of_the_catalog_stand_beside_stored_scores(
    post, endpoint: Endpoint, ranked: Ranked
) -> None:
    app = endpoint(catalog=ranked.layout.root)
    candidates = [
        {"item": "a"},
        {"item": "who"},
        {"item": "b", "id": "second"},
        {"item": "gone"},
        stored("mine", {"mean": 3, "std": 2, "scale": [1, 5]}),
    ]
    answer = good(post(candidates, app=app, rule="lower_bound", pairwise=[["second", "a"]]))
    assert [one.id for one in answer.ranking] == ["second", "a", "mine"]
    assert [(one.id, one.code) for one in answer.left_out] == [
        ("who", "item.unknown"),
        ("gone", "fetch.not_found"),
    ]
    assert answer.snapshot == "2026-11-20.0" and answer.fingerprint == "f"
    # Two apart with stds of a half each: Phi(2 / sqrt(0.5)).
    assert answer.pairwise[0].probability == pytest.approx(0.997661, abs=1e-6)
    refused = post([{"item": "a"}], app=app, task="taste")
    assert refused.status_code == 400 and "ask for quality" in refused.json()["error"]
    other = stored("other", {"mean": 3, "std": 2, "scale": [1, 5]})
    refused = post([{"item": "a"}, {**other, "fingerprint": "g"}], app=app)
    assert refused.status_code == 400 and "two scorers (f and g)" in refused.json()["error"]


def test_a_catalog_that_is_not_ranked_or_is_damaged_is_503(
    post, endpoint: Endpoint, ranked: Ranked, tmp_path: Path
) -> None:
    empty = post([{"item": "a"}], app=endpoint(catalog=str(tmp_path / "none")))
    assert empty.status_code == 503 and "no ranked snapshot" in empty.json()["error"]
    next(Path(ranked.layout.root).glob("ranks/*/x/lookup/0")).write_bytes(b"?")
    damaged = post([{"item": "a"}], app=endpoint(catalog=ranked.layout.root))
    assert damaged.status_code == 503 and str(tmp_path) not in damaged.text


def test_a_replica_goes_over_to_a_newer_snapshot_whole(ranked: Ranked) -> None:
    async def told(scores: CatalogScores) -> tuple[str, Found]:
        record, found = await scores.find(["a", "c"], "quality")
        if scores._refreshing is not None:
            await scores._refreshing
        return record.snapshot, found

    async def follow() -> None:
        scores = CatalogScores(ranked.layout.root, refresh_s=1e-9)
        assert (await told(scores))[0] == "2026-11-20.0"
        begun = scores._lookup
        ranked.publish("2026-11-21.0", {"a": 1.0, "c": 3.0}, ranked=False)
        await told(scores)
        assert (await told(scores))[0] == "2026-11-20.0"  # not ranked yet
        ranked.publish("2026-11-21.0", {"a": 1.0, "c": 3.0})
        await told(scores)
        snapshot, found = await told(scores)
        assert snapshot == "2026-11-21.0" and found.mean.tolist() == [1, 3]
        assert scores._lookup.mapped() == [0]  # fetched before it took over
        now = scores._erased
        assert begun.find(["a"], "quality", now).mean.tolist() == [2]  # who has begun ends there
        bury(ranked.layout, [("item", "a")], b"k" * 32)
        await told(scores)
        _, found = await told(scores)
        assert found.reasons == {0: "unknown"} and np.isnan(found.mean[0])  # its files have it yet
        Path(ranked.layout.head).write_bytes(b"?")
        await told(scores)
        assert (await told(scores))[0] == "2026-11-21.0"  # trouble keeps what there is

    asyncio.run(follow())
