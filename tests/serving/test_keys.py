import asyncio
import hashlib
import json
import logging

import pytest
from starlette.types import Message

from beholder.config import ConfigError, load_config, validate_config
from beholder.serving.config import ServeConfig
from beholder.serving.keys import ENVIRONMENT, KeyGate, check_hashes, is_known, known_hashes

KEYS = ["first-key-of-three", "second-key", "third-key"]
HASHES = [hashlib.sha256(key.encode()).hexdigest() for key in KEYS]
# FIPS 180-2, appendix B.1: the digest of "abc".
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def ask(
    *headers: tuple[bytes, bytes], kind: str = "http", path: str = "/"
) -> tuple[int, dict[str, str], bytes]:
    """What the gate answers; 200 is the application behind it. Nothing may read the body."""
    sent: list[Message] = []

    async def application(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(KeyGate(application, HASHES, frozenset({"/open"}))(scope, receive, send))
    found = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


def bearer(key: str, scheme: str = "Bearer") -> tuple[bytes, bytes]:
    return b"authorization", f"{scheme} {key}".encode()


def test_the_hash_is_the_standards() -> None:
    assert is_known(b"abc", [ABC])
    assert not is_known(b"abd", [ABC]) and not is_known(b"abc", [])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_any_known_key_is_let_in(key: str, scheme: str) -> None:
    assert ask(bearer(key, scheme), (b"content-type", b"x"))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer("wrong")],
        [bearer("")],
        [bearer(HASHES[0])],
        [bearer(KEYS[0], "Basic")],
        [bearer(KEYS[0].upper())],
        [bearer(f"{KEYS[0]},{KEYS[1]}")],
        [bearer(KEYS[0]), bearer(KEYS[1])],
        [(b"authorization", KEYS[0].encode())],
        [(b"authorization", b"\xff\xfe\x00")],
        [(b"x-api-key", KEYS[0].encode())],
    ],
)
def test_all_else_is_refused_before_the_body_is_read(headers: list) -> None:
    status, found, body = ask(*headers)
    assert status == 401
    assert found["www-authenticate"].startswith('Bearer realm="beholder"')
    assert ("invalid_token" in found["www-authenticate"]) == any(
        name == b"authorization" for name, _ in headers
    )
    assert "API key" in json.loads(body)["error"]


def test_websockets_are_not_a_way_around() -> None:
    assert ask(kind="websocket")[0] == 401


def test_an_open_path_needs_no_key_and_opens_no_other() -> None:
    assert ask(path="/open")[0] == 200
    for path in ("/open/", "/open/x", "//open", "/OPEN", "/", "/open?", "/v1/../open"):
        assert ask(path=path)[0] == 401, path


def test_every_hash_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping at the first that fits would tell by the time which one it was."""
    compared = []
    monkeypatch.setattr(
        "beholder.serving.keys.hmac.compare_digest", lambda a, b: compared.append(b) or a == b
    )
    assert is_known(KEYS[0].encode(), HASHES)
    assert compared == HASHES


def test_hashes_come_from_the_config_and_the_environment() -> None:
    assert known_hashes([ABC], "") == (ABC,)
    text = f" {HASHES[0]},{HASHES[1]}\n{ABC} "
    assert known_hashes([ABC], text) == (ABC, HASHES[0], HASHES[1])
    with pytest.raises(ConfigError, match=ENVIRONMENT):
        known_hashes([], "a-key")


@pytest.mark.parametrize(
    "wrong", ["my-secret-key", ["my-secret-key"], [ABC, "my-secret-key"], [ABC.upper()], [5], None]
)
def test_what_is_no_hash_is_refused_without_being_repeated(wrong: object) -> None:
    with pytest.raises(ConfigError, match="sha256sum") as caught:
        validate_config(ServeConfig, {"scorer": "x", "key_hashes": wrong}, "serve config")
    assert "my-secret-key" not in str(caught.value)
    with pytest.raises(ConfigError):
        check_hashes(wrong)


def test_nothing_is_open_or_guarded_by_default() -> None:
    config = load_config(ServeConfig, None, ["scorer=x"])
    assert config.key_hashes == config.allowed_buckets == config.allowed_hosts == ()


def test_no_key_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(bearer("wrong-but-private"))
        ask(bearer(KEYS[0]))
    assert "private" not in caplog.text and KEYS[0] not in caplog.text
