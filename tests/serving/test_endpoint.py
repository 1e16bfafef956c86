"""The endpoint's application over ASGI, with real decoders and a real scorer."""

import base64
import hashlib
import io
import logging
from collections.abc import Callable
from typing import Any

import av
import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from beholder.config import ConfigError
from beholder.local_stack import ObjectStore
from beholder.media.storage import write_bytes
from beholder.scoring import Scorer

Ask = Callable[..., httpx.Response]
Endpoint = Callable[..., FastAPI]
KEY = "a-key-for-tests"
HASH = hashlib.sha256(KEY.encode()).hexdigest()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((80, 60)).save(file, "PNG")
    return file.getvalue()


def post(ask: Ask, app: FastAPI, items: list[dict[str, Any]], **request: Any) -> httpx.Response:
    return ask(app, "POST", "/v1/score", json={"items": items}, **request)


def codes(answer: httpx.Response) -> list[str | None]:
    assert answer.status_code == 200, answer.text
    return [item.get("failure", {}).get("code") for item in answer.json()["items"]]


def test_uris_stand_beside_bytes_and_are_scored_alike(
    s3: ObjectStore,
    ask: Ask,
    endpoint: Endpoint,
    picture: bytes,
    small_scorer: Scorer,
) -> None:
    folder = f"{s3.bucket}/shown"
    for key in ("shown/a b#1.png", "hidden/c.png"):
        write_bytes(f"s3://{s3.bucket}/{key}", picture)
    app = endpoint(allowed_buckets=[folder])
    items = [
        {"id": "bytes", "data": encoded(picture)},
        {"id": "object", "uri": f"s3://{folder}/a b#1.png"},
        {"id": "hidden", "uri": f"s3://{s3.bucket}/hidden/c.png"},
        {"id": "missing", "uri": f"s3://{folder}/none.png"},
        {"id": "file", "uri": "file:///etc/hostname"},
        {"id": "path", "uri": "/etc/hostname"},
        {"id": "inside", "uri": "http://169.254.169.254/latest/meta-data/"},
        {"id": "outside", "uri": "https://example.com/a.png"},
        {"id": "again", "data": encoded(picture)},
    ]
    answer = post(ask, app, items)
    assert codes(answer) == [
        *(None, None, "fetch.denied", "fetch.not_found"),
        *("fetch.unsupported", "fetch.unsupported", "fetch.unsupported", "fetch.denied", None),
    ]
    answered = answer.json()["items"]
    assert [item["item_id"] for item in answered] == [item["id"] for item in items]
    (expected,) = small_scorer.score([picture])
    for item in (answered[0], answered[1], answered[8]):
        for task, distribution in expected.tasks.items():
            probs = item["scores"][task]["probs"]
            assert probs == pytest.approx(distribution.probs.tolist(), abs=1e-5)
    assert s3.environment()["AWS_ENDPOINT_URL"] not in answer.text


def test_limits_of_the_config_reach_each_item(ask: Ask, endpoint: Endpoint, picture: bytes) -> None:
    items = [{"data": encoded(picture)}]
    assert codes(post(ask, endpoint(max_pixels=80 * 60), items)) == [None]
    assert codes(post(ask, endpoint(max_pixels=80 * 60 - 1), items)) == ["limit.pixels"]
    assert codes(post(ask, endpoint(max_bytes=len(picture)), items)) == [None]
    assert codes(post(ask, endpoint(max_bytes=len(picture) - 1), items)) == ["limit.bytes"]


def video(frames: int, rate: int) -> bytes:
    """That gets brighter."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for at in range(frames):
            picture = Image.new("RGB", (64, 48), (at * 255 // frames, 99, at * 99 // frames))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_a_long_video_has_a_score_a_clip(
    ask: Ask, endpoint: Endpoint, small_scorer: Scorer
) -> None:
    data = video(40, rate=1)
    (expected,) = (score.as_dict() for score in small_scorer.score([data]))
    (told,) = post(ask, endpoint(), [{"data": encoded(data)}]).json()["items"]
    assert list(told["scores"]) == ["quality"]  # the other task is of pictures
    quality, wanted = told["scores"]["quality"], expected["scores"]["quality"]
    assert len(quality["clips"]) == 2 and len(set(quality["clips"])) == 2
    assert quality["clips"] == pytest.approx(wanted["clips"], abs=1e-5)
    assert quality["probs"] == pytest.approx(wanted["probs"], abs=1e-5)
    assert told["coverage"] == expected["coverage"] == 1


def test_a_videos_duration_is_limited(ask: Ask, endpoint: Endpoint) -> None:
    items = [{"data": encoded(video(30, rate=10))}]
    assert codes(post(ask, endpoint(max_seconds=4), items)) == [None]
    assert codes(post(ask, endpoint(max_seconds=2), items)) == ["limit.duration"]


@pytest.mark.parametrize("way", ["json", "multipart"])
def test_items_and_bytes_of_a_request_are_limited(
    ask: Ask, endpoint: Endpoint, picture: bytes, way: str
) -> None:
    def send(app: FastAPI, count: int) -> httpx.Response:
        if way == "json":
            return post(ask, app, [{"data": encoded(picture)}] * count)
        return ask(app, "POST", "/v1/score", files=[("files", ("x", picture))] * count)

    assert codes(send(endpoint(max_items=2), 2)) == [None, None]
    answer = send(endpoint(max_items=2), 3)
    assert answer.status_code == 413 and "at most 2" in answer.json()["error"]
    answer = send(endpoint(max_items=2), 40)  # more than the form is read to the end for
    assert answer.status_code == 413 and "at most 2" in answer.json()["error"]
    answer = send(endpoint(max_body_bytes=len(picture)), 1)
    assert answer.status_code == 413 and "larger than" in answer.json()["error"]


def test_keys_guard_every_path(ask: Ask, endpoint: Endpoint, picture: bytes) -> None:
    app = endpoint(key_hashes=[HASH])
    for method, path in (("POST", "/v1/score"), ("GET", "/v1/scorers"), ("GET", "/metrics")):
        answer = ask(app, method, path)
        assert answer.status_code == 401 and set(answer.json()) == {"error", "request_id"}
    headers = {"Authorization": f"Bearer {KEY}"}
    assert codes(post(ask, app, [{"data": encoded(picture)}], headers=headers)) == [None]
    schema = ask(app, "GET", "/openapi.json").json()  # needs none: the key is typed into /docs
    operation = schema["paths"]["/v1/score"]["post"]
    (used,) = operation["security"][0]
    assert schema["components"]["securitySchemes"][used]["scheme"] == "bearer"
    assert "401" in operation["responses"]


def test_a_refused_key_costs_no_body(ask: Ask, endpoint: Endpoint) -> None:
    """401 stands before 413: who may not come in is not read at all."""
    app = endpoint(key_hashes=[HASH], max_body_bytes=1)
    assert ask(app, "POST", "/v1/score", content=b"xx").status_code == 401


def test_the_start_says_whether_keys_are_asked_for(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("beholder"), "propagate", True)
    with caplog.at_level(logging.INFO, "beholder"):
        endpoint()
        endpoint(key_hashes=[HASH])
    assert [record.getMessage() for record in caplog.records] == ["api_keys.off", "api_keys.on"]
    assert HASH not in caplog.text


def test_the_schema_shows_both_sources_of_an_item(ask: Ask, endpoint: Endpoint) -> None:
    schema = ask(endpoint(), "GET", "/openapi.json").json()
    operation = schema["paths"]["/v1/score"]["post"]
    item = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["items"]
    assert item["items"]["oneOf"] == [{"required": ["data"]}, {"required": ["uri"]}]
    assert set(item["items"]["properties"]) == {"data", "uri", "id"}
    assert "security" not in operation and "401" not in operation["responses"]


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({}, "either data or uri"),
        ({"data": "AAAA", "uri": "s3://a/b"}, "either data or uri"),
        ({"uri": 5}, "string"),
        ({"uri": None}, "string"),
        ({"data": "???"}, "not base64"),
        ({"url": "s3://a/b"}, "url"),
    ],
)
def test_an_item_that_is_none_refuses_the_request(
    ask: Ask, endpoint: Endpoint, item: dict[str, Any], sentence: str
) -> None:
    answer = post(ask, endpoint(), [item])
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("allowed_hosts", [{"name": "127.0.0.1"}], "DNS name"),
        ("allowed_hosts", [{"name": "a.com", "scheme": "ftp"}], "scheme"),
        ("allowed_hosts", [{"name": "a.com", "portt": 1}], "portt"),
        ("allowed_buckets", ["s3://media"], "allowed_buckets"),
        ("allowed_buckets", ["media/"], "allowed_buckets"),
        ("max_pixels", 200_000_000, "max_pixels"),
        (
            "timeout_s",
            60,
            r"an item may take 90 s, 3 times fetch_s \(10\) and timeout_s \(60\), and",
        ),
        ("fetch_s", 20, r"only request_s \(60\), .*: give request_s more, or the two less"),
    ],
)
def test_a_config_that_allows_nothing_sensible_is_refused(
    endpoint: Endpoint, field: str, value: object, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        endpoint(**{field: value})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/v1/score", 405), ("PUT", "/v1/score", 405), ("POST", "/v1/scorers", 405)),
        *(
            ("GET", "/page/", 404),
            ("POST", "/", 405),
            ("GET", "/v1/score/../../etc/passwd", 404),
            ("GET", "/%00", 404),
        ),
    ],
)
def test_other_paths_and_methods_have_the_error_shape(
    ask: Ask, endpoint: Endpoint, method: str, path: str, status: int
) -> None:
    answer = ask(endpoint(), method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request_id"}
