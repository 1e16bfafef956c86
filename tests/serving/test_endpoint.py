"""The endpoint's application over ASGI, with real decoders and a real scorer."""

import base64
import hashlib
import io
import json
import logging
import random
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


def test_a_videos_duration_is_limited(ask: Ask, endpoint: Endpoint) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    items = [{"data": encoded(file.getvalue())}]
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
    answer = send(endpoint(max_body_bytes=len(picture)), 1)
    assert answer.status_code == 413 and "larger than" in answer.json()["error"]


def test_keys_guard_every_path(ask: Ask, endpoint: Endpoint, picture: bytes) -> None:
    app = endpoint(key_hashes=[HASH])
    for method, path in (("POST", "/v1/score"), ("GET", "/v1/scorers"), ("GET", "/openapi.json")):
        answer = ask(app, method, path)
        assert answer.status_code == 401 and set(answer.json()) == {"error"}
    headers = {"Authorization": f"Bearer {KEY}"}
    assert codes(post(ask, app, [{"data": encoded(picture)}], headers=headers)) == [None]
    schema = ask(app, "GET", "/openapi.json", headers=headers).json()
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
    ],
)
def test_a_config_that_allows_nothing_sensible_is_refused(
    endpoint: Endpoint, field: str, value: object, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        endpoint(**{field: value})


def hostile_bodies() -> list[tuple[str, bytes]]:
    """Content types and bodies that no client of good will sends."""
    good = json.dumps({"items": [{"data": "AAAA"}]}).encode()
    texts = [
        *(b"", b"null", b"[]", b"{", b"}", b"{}", b"0", b'""', b"NaN", b"\x00", b"\xff\xfe"),
        *(good[:cut] for cut in range(1, len(good))),
        *(good + extra for extra in (b"x", good, b"\x00", b"]" * 100)),
        *(b"[" * depth for depth in (10, 1000, 100_000)),
        *(b'{"items":' * depth for depth in (10, 10_000)),
        b'{"items": [{"data": "\\ud800"}]}',
        b'{"items": [{"data": "AAAA", "id": "\\ud800"}]}',
        b'{"items": [{"data": "AAAA", "id": "\\u0000\\u202e"}]}',
        b'{"items": [{"uri": "s3://\\ud800"}]}',
        b'{"items": [{"uri": "s3://\\u0000/\\u0000"}]}',
        b'{"items": [{"uri": "' + b"s3://a/" * 10_000 + b'"}]}',
        b'{"items": [{"uri": "https://' + b"a." * 50_000 + b'"}]}',
        b'{"items": [{"uri": "https://a/' + b"%" * 100_000 + b'"}]}',
        b'{"items": [{"data": 1e999}]}',
        b'{"items": [{"data": ' + b"9" * 100_000 + b"}]}",
        b'{"items": [{"\\ud800": 1}]}',
        b'{"items": [{"data": "AAAA", "data": "AAAA"}]}',
        b'{"items": {"0": {"data": "AAAA"}}}',
        b'{"items": [{"data": "AAAA"}], "tasks": "quality"}',
        b'{"items": [{"data": "AAAA"}], "tasks": [null]}',
        b'{"items": [{"data": "AAAA"}], "tasks": ["\\u0000"]}',
        b'{"items": [{"data": "AAAA"}], "tasks": ' + json.dumps(["x"] * 10_000).encode() + b"}",
        b'{"items": [{"data": "' + b"A" * 9999 + b'"}]}',
        '{"items": [{"data": "ＡＡＡＡ"}]}'.encode(),
        '{"items": [{"data": "AAAA"}]}'.encode("utf-16"),
    ]
    bodies = [("application/json", text) for text in texts]
    bodies += [(f"application/json; charset={c}", good) for c in ("utf-7", "x", "\xff", "")]
    part = b'Content-Disposition: form-data; name="files"; filename="x"\r\n\r\nx\r\n'
    whole = b"--B\r\n" + part + b"--B--\r\n"
    forms = [whole[:cut] for cut in range(len(whole))]
    forms += [b"--B\r\n" * 1000, b"--B--", b"--B\r\n\r\n\r\n--B--\r\n", (b"--B\r\n" + part) * 200]
    forms += [whole.replace(b"files", name) for name in (b"tasks", b"", b"\xff", b"x" * 10_000)]
    forms += [
        whole.replace(b'"x"', f'"{name}"'.encode()) for name in ("", "../../x", "ü", "\ud7ff")
    ]
    forms += [whole.replace(b'; filename="x"', b""), whole.replace(b"form-data", b"x")]
    forms += [whole.replace(b"\r\n\r\nx", b"\r\nX-Y: " + b"z" * 20_000 + b"\r\n\r\nx")]
    bodies += [("multipart/form-data; boundary=B", form) for form in forms]
    for kind in ("", "; boundary=", "; boundary=C", "; boundary=B; charset=utf-7"):
        bodies.append((f"multipart/form-data{kind}", whole.replace(b'"x"', b'"+2AA-"')))
        task = whole.replace(b'files"; filename="x"', b'tasks"').replace(b"x\r\n--", b"+2AA-\r\n--")
        bodies.append((f"multipart/form-data{kind}", whole[:-7] + task))
    chance = random.Random(7)
    for kind, sound in (("application/json", good), ("multipart/form-data; boundary=B", whole)):
        for _ in range(50):
            broken = bytearray(sound)
            for _ in range(3):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            bodies.append((kind, bytes(broken)))
    bodies += [(kind, good) for kind in ("", "text/html", "application/JSON", ";", "multipart/x")]
    return bodies


def test_no_hostile_body_is_the_servers_fault(ask: Ask, endpoint: Endpoint) -> None:
    app = endpoint(max_items=8)
    bodies = hostile_bodies()
    assert len(bodies) > 200
    for kind, body in bodies:
        headers = {"Content-Type": kind.encode("latin-1")}
        answer = ask(app, "POST", "/v1/score", content=body, headers=headers)
        assert answer.status_code in (200, 400, 413, 415), (kind, body[:80])
        assert set(answer.json()) in ({"items"}, {"error"})


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
    assert set(answer.json()) == {"error"}
