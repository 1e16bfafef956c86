"""A corpus of URIs that must reach nothing, against a listener that would see if one did."""

import http.client
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from beholder.items import FailureCode, ItemError
from beholder.media import Limits
from beholder.media.remote import RemoteClient, RemoteHost
from beholder.serving.sources import Sources

from .canary import Canary, canary

CORPUS = yaml.safe_load((Path(__file__).parent / "ssrf_corpus.yaml").read_text("utf-8"))
URIS = list(itertools.chain.from_iterable(CORPUS.values()))
NAME = "images.example.com"
REFUSALS = {FailureCode.FETCH_UNSUPPORTED, FailureCode.FETCH_DENIED}


@pytest.fixture(scope="module")
def listener() -> Iterator[Canary]:
    with canary() as one:
        yield one


@pytest.fixture
def quiet(listener: Canary) -> Iterator[Canary]:
    """The listener; fails if the test has made anybody come."""
    before = listener.visits
    yield listener
    visit("127.0.0.1", listener.port)  # who came before has been counted when this is answered
    assert listener.visits == before + 1, "somebody came"


def visit(address: str, port: int) -> None:
    connection = http.client.HTTPConnection(address, port, timeout=5)
    connection.request("GET", "/x")
    assert connection.getresponse().status == 302
    connection.close()


class Resolver:
    """Answers one list of addresses after another, the last for ever; notes who asks."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers)

    def __call__(self, name: str, port: int) -> list[str]:
        self.asked.append((name, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def refused(fetch: Callable[[str, Limits], object], uri: str) -> ItemError:
    with pytest.raises(ItemError) as caught:
        fetch(uri, Limits())
    assert caught.value.failure.code in REFUSALS
    assert caught.value.failure.message.isprintable()
    return caught.value


def test_the_corpus_is_large_and_has_no_twins() -> None:
    assert len(URIS) == len(set(URIS)) > 150


def test_nothing_of_the_corpus_reaches_anything(
    quiet: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{quiet.port}")
    resolve = Resolver(["127.0.0.1"])
    hosts = [RemoteHost(name=NAME), RemoteHost(name="media.internal", private=True)]
    sources = Sources(["media", "shared/public"], RemoteClient(hosts, resolve=resolve))
    for uri in URIS:
        filled = uri.replace("{port}", str(quiet.port))
        error = refused(sources.fetch, filled)
        assert len(error.failure.message) < 500, uri
        assert resolve.asked == [], uri


def test_nothing_is_allowed_by_default(quiet: Canary) -> None:
    resolve = Resolver(["127.0.0.1"])
    sources = Sources([], RemoteClient([], resolve=resolve))
    for uri in ("s3://media/x", f"https://{NAME}/x", *URIS):
        refused(sources.fetch, uri.replace("{port}", str(quiet.port)))
    assert resolve.asked == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "localhost"]
)
def test_the_listener_can_be_reached_by_what_the_corpus_says(
    listener: Canary, address: str
) -> None:
    before = listener.visits
    visit(address, listener.port)
    assert listener.visits == before + 1


LED_ASTRAY = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1"),
    *("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
    *("fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
]


@pytest.mark.parametrize("address", LED_ASTRAY)
@pytest.mark.parametrize("first", [[], ["93.184.215.14"]], ids=["alone", "behind a good one"])
def test_an_allowed_name_may_not_lead_inside(quiet: Canary, address: str, first: list[str]) -> None:
    resolve = Resolver([*first, address])
    host = RemoteHost(name=NAME, port=quiet.port, scheme="http")
    error = refused(RemoteClient([host], resolve=resolve).fetch, f"http://{NAME}:{quiet.port}/x")
    assert error.failure.code is FailureCode.FETCH_DENIED
    assert address not in error.failure.message
    assert resolve.asked == [(NAME, quiet.port)]


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "0.0.0.0", "100.64.0.1"])
def test_not_even_a_private_host_leads_to_metadata(quiet: Canary, address: str) -> None:
    host = RemoteHost(name=NAME, port=quiet.port, scheme="http", private=True)
    client = RemoteClient([host], resolve=Resolver([address]))
    error = refused(client.fetch, f"http://{NAME}:{quiet.port}/x")
    assert "not public" in error.failure.message


def test_a_name_is_resolved_once_and_that_address_is_met(listener: Canary) -> None:
    """Rebinding: the second answer would be the listener, which must see nobody."""
    with canary() as first:
        host = RemoteHost(name=NAME, port=first.port, scheme="http", private=True)
        resolve = Resolver(["127.0.0.1"], ["169.254.169.254"])
        before = listener.visits
        first.redirects_to = listener.port
        error = refused(
            RemoteClient([host], resolve=resolve).fetch, f"http://{NAME}:{first.port}/x"
        )
    assert "redirects" in error.failure.message, "the first address was met"
    assert first.visits == 1 and resolve.asked == [(NAME, first.port)]
    assert listener.visits == before, "and its redirect was not followed"


def test_the_store_is_not_asked_for_what_is_not_allowed(
    listener: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: with an allowed URI it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{listener.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, os.environ.get(name, "none"))
    sources = Sources(["shared/public"], RemoteClient([]))
    before = listener.visits
    refused(sources.fetch, "s3://shared/private/x")
    assert listener.visits == before
    with pytest.raises(ItemError) as caught:
        sources.fetch("s3://shared/public/x", Limits())
    assert listener.visits > before
    assert "127.0.0.1" not in str(caught.value)
