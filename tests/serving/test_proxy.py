"""Through Serve's real proxy: a request's id and trace, and what no client of good will sends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import schemathesis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from beholder.scoring import Scorer

from .canary import canary
from .hostile import JSON, bodies
from .test_hostile import SILENT, WRONG, say
from .test_openapi import OPERATIONS, RANK, execute, name_tasks, settings
from .test_ssrf import REFUSALS, URIS

BUCKETS = ["media", "shared/public"]
HOSTS = [{"name": "images.example.com"}, {"name": "media.internal", "private": True}]
"""What the corpus of URIs expects."""


class Collector:
    """Takes spans by OTLP over HTTP.

    Attributes:
        url: its endpoint.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: list[Span] = []
        self._more = threading.Condition()

    def add(self, body: bytes) -> None:
        told = ExportTraceServiceRequest.FromString(body)
        with self._more:
            for resource in told.resource_spans:
                self._spans += [span for scope in resource.scope_spans for span in scope.spans]
            self._more.notify_all()

    def spans(self, trace: str, names: set[str]) -> dict[str, Span]:
        """Of a trace, by name, once those that are named are there."""

        def found() -> dict[str, Span]:
            return {one.name: one for one in self._spans if one.trace_id.hex() == trace}

        with self._more:
            there = self._more.wait_for(lambda: names <= found().keys(), 30)
            assert there, f"{names - found().keys()} did not come, {found().keys()} did"
            return found()

    def trace_of(self, request_id: str) -> str:
        def found() -> set[str]:
            return {
                s.trace_id.hex() for s in self._spans if told(s).get("request_id") == request_id
            }

        with self._more:
            assert self._more.wait_for(found, 30), f"no span of {request_id}"
            (trace,) = found()
            return trace


def told(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture(scope="module")
def url(
    serve_run: Callable, small_scorer: Scorer, collector: Collector, tmp_path_factory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("scorer")
    small_scorer.save(folder)
    tracing = {
        "RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH": "beholder.serving.tracing:otlp",
        "RAY_SERVE_TRACING_SAMPLING_RATIO": "1.0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    limits = {"max_items": 8, "request_s": 10, "timeout_s": 3, "fetch_s": 2, "stall_s": 1}
    places = {"allowed_buckets": BUCKETS, "allowed_hosts": HOSTS}
    with serve_run({"scorer": str(folder), **limits, **places}, controller=tracing) as here:
        yield here


# --- ids and traces -----------------------------------------------------------------------------

STAGES = {
    "proxy_http_request Ingress POST /v1/score",
    "replica_handle_request Ingress __call__",
    "replica_handle_request Preprocess stage",
    "replica_handle_request Engine score",
}


@pytest.mark.parametrize("sent", [None, ("ab" * 16, "cd" * 8)], ids=["made", "the client's"])
def test_a_request_is_one_trace_with_its_id(
    url: str, collector: Collector, photos: dict[str, bytes], sent: tuple[str, str] | None
) -> None:
    name = f"traced {sent}"[:64]
    headers = {"X-Request-ID": name}
    if sent:
        headers["traceparent"] = f"00-{sent[0]}-{sent[1]}-01"
    files = [("files", ("coffee", photos["coffee"]))]
    assert httpx.post(f"{url}/v1/score", files=files, headers=headers, timeout=60).is_success
    trace = collector.trace_of(name)
    spans = collector.spans(trace, STAGES)
    assert {told(spans[stage])["request_id"] for stage in STAGES} == {name}
    roots = {s.parent_span_id.hex() for s in spans.values()} - {
        s.span_id.hex() for s in spans.values()
    }
    assert roots == {sent[1] if sent else ""}
    if sent:
        assert trace == sent[0]


def test_answer_and_header_agree_on_an_id_whatever_was_sent(url: str) -> None:
    sent = {
        b"abc": "abc",
        b"x" * 65: "x" * 64,
        "prüfung-é".encode(): "prfung-",
        "prüfung-é".encode("latin-1"): "prfung-",
        b"a\xff\xfeb": "ab",
        b"\xff\xfe": None,
        b"": None,
    }
    for value, expected in sent.items():
        answer = httpx.get(f"{url}/v1/none", headers=[(b"X-Request-ID", value)], timeout=60)
        assert answer.status_code == 404, (value, answer.text)
        (echoed,) = answer.headers.get_list("X-Request-ID")
        assert echoed == answer.json()["request_id"]
        assert echoed == expected or (expected is None and len(echoed) == 32)


def test_of_two_ids_the_first_counts(url: str) -> None:
    headers = [("X-Request-ID", "one"), ("X-Request-ID", "two")]
    answer = httpx.get(f"{url}/v1/none", headers=headers, timeout=60)
    assert answer.headers.get_list("X-Request-ID") == ["one"] == [answer.json()["request_id"]]


@pytest.mark.parametrize(
    "name",
    [
        *("serve_multiplexed_model_id", "Serve-Multiplexed-Model-Id", "X-Session-ID"),
        *("X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled", "traceparent"),
    ],
)
@pytest.mark.parametrize("value", [b"\xff\xfe", b"0.000001", b"?1"])
def test_what_only_serve_may_say_to_itself_is_not_heard(url: str, name: str, value: bytes) -> None:
    answer = httpx.get(f"{url}/v1/scorers", headers=[(name.encode(), value)], timeout=60)
    assert answer.status_code == 200, answer.text


# --- hostile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/score", "/v1/rank"])
def test_no_hostile_body_is_the_servers_or_the_proxys_fault(url: str, path: str) -> None:
    for body in bodies():
        head = f"POST {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n".encode()
        head += b"Content-Type: " + body.content_type.encode("latin-1") + b"\r\n"
        if body.encoding:
            head += f"Content-Encoding: {body.encoding}\r\n".encode()
        head += f"Content-Length: {len(body.content)}\r\n\r\n".encode()
        said = say(url, head + body.content, close=False)
        status = said.partition(b"\r\n")[0].split()[1]
        assert status in (b"200", b"400", b"413", b"415"), (said[:300], body.content[:80])
        assert b"X-Request-ID" in said or b"x-request-id" in said, "it is the endpoint's answer"


@pytest.mark.parametrize("words", SILENT.values(), ids=SILENT.keys())
def test_who_says_no_more_is_told_so(url: str, words: bytes) -> None:
    begun = time.monotonic()
    said = say(url, words, close=False)
    assert b" 408 " in said and b"no byte of the body came for 1 s" in said
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("words", [*SILENT.values(), *WRONG.values()], ids=[*SILENT, *WRONG])
def test_what_is_no_request_is_no_fault_of_the_proxy(url: str, words: bytes) -> None:
    begun = time.monotonic()
    said = say(url, words, close=True)
    assert time.monotonic() - begun < 10
    for line in said.splitlines():
        assert not (line.startswith(b"HTTP/1") and b" 5" in line[:13]), said[:300]
        assert not (line.startswith(b"HTTP/1") and b" 200" in line[:13]), said[:300]


def test_nothing_of_the_ssrf_corpus_reaches_anything(url: str) -> None:
    with canary() as listener:
        for some in (URIS[at : at + 8] for at in range(0, len(URIS), 8)):
            items = [{"uri": uri.replace("{port}", str(listener.port))} for uri in some]
            answer = httpx.post(f"{url}/v1/score", json={"items": items}, timeout=60)
            assert answer.status_code == 200, answer.text
            codes = [one["failure"]["code"] for one in answer.json()["items"]]
            assert set(codes) <= REFUSALS, dict(zip(some, codes, strict=True))
        assert listener.visits == 0


def test_it_keeps_to_its_schema_behind_the_proxy(url: str) -> None:
    told = httpx.get(f"{url}/openapi.json", timeout=60).json()
    name_tasks(told)
    few = {"deterministic": True, "max-examples": 5, "database": "none"}
    config = settings(RANK, generation=few, **{"base-url": url})
    seen, failed = execute(schemathesis.openapi.from_dict(told, config=config))
    assert not failed, "\n\n".join(failed)
    answered = {name for phase, name, status in seen if (phase, status) == ("coverage", 200)}
    assert answered == OPERATIONS - {"GET /v1/candidate"}


def test_and_the_next_one_is_served(url: str) -> None:
    body = b'{"items": [{"data": "AAAA"}]}'
    answer = httpx.post(f"{url}/v1/score", content=body, headers={"Content-Type": JSON})
    assert answer.status_code == 200, answer.text
