"""The endpoint keeps to its own OpenAPI schema, by schemathesis; and the schema is worth reading.

A failure is told with the check that failed and the request as a curl command.
"""

import copy
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.schemas import BaseSchema

from beholder.evaluation import succession
from beholder.serving.openapi import OPEN_PATHS

Endpoint = Callable[..., FastAPI]
KEY = "a-key-for-tests"
HASH = hashlib.sha256(KEY.encode()).hexdigest()

CONFIG: dict[str, Any] = {
    "seed": 1,
    "workers": 1,
    "cache": {"enabled": False},
    "headers": {"Authorization": f"Bearer {KEY}"},
    "generation": {"deterministic": True, "max-examples": 20, "database": "none"},
    "phases": {"stateful": {"enabled": False}},  # no answer says where to go next
    # 413 beside the usual: more items than the limit are too much, not wrong.
    "checks": {"negative_data_rejection": {"expected-statuses": ["400", "405", "413", "415"]}},
}
RANK = {
    "include-name": "POST /v1/rank",
    # Names of candidates, relevance with a blend, probabilities that sum to one: no schema can
    # say these. What must be accepted stands in test_rank.py and in the schema's examples.
    "checks": {"positive_data_acceptance": {"expected-statuses": ["200", "400"]}},
}

Seen = Counter[tuple[str, str, int]]


def tried(app: FastAPI, rank: dict[str, Any]) -> tuple[Seen, list[str]]:
    """What schemathesis tries with an application whose ``/v1/rank`` is configured like this.

    Returns:
        answers by phase, operation and status; what failed.
    """
    name_tasks(app.openapi())
    schema = schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=settings(rank), headers=CONFIG["headers"]
    )
    return execute(schema)


def settings(rank: dict[str, Any], **others: Any) -> SchemathesisConfig:
    # Reading the config takes it apart.
    return SchemathesisConfig.from_dict(copy.deepcopy(CONFIG | {"operations": [rank]} | others))


def execute(schema: BaseSchema) -> tuple[Seen, list[str]]:
    """Runs all phases; see :func:`tried`."""
    seen: Seen = Counter()
    failed = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            for interaction in event.recorder.interactions.values():
                status = interaction.response.status_code if interaction.response else 0
                seen[event.phase.value, event.recorder.label, status] += 1
            for check in (one for checks in event.recorder.checks.values() for one in checks):
                if (info := check.failure_info) is not None:
                    failed.append(f"{check.name}: {info.failure}\n{info.code_sample[:2000]}")
        elif isinstance(event, events.NonFatalError):
            failed.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return seen, failed


def name_tasks(schema: dict[str, Any]) -> None:
    """Adds the scorer's names, which a schema that is made before it is loaded can't have."""
    content = schema["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    for sent in content.values():
        tasks, scorer = (sent["schema"]["properties"][name] for name in ("tasks", "scorer"))
        tasks.get("anyOf", [tasks])[0]["items"]["enum"] = ["quality", "aesthetics"]
        scorer.get("anyOf", [scorer])[0]["enum"] = [""]


OPERATIONS = {
    *("POST /v1/score", "POST /v1/rank", "GET /v1/scorers", "GET /v1/candidate"),
    *("GET /v1/ready", "GET /metrics"),
}


def test_every_operation_keeps_to_the_schema(endpoint: Endpoint) -> None:
    app = endpoint(max_items=3, max_candidates=50, candidate={"scorer": "none"})
    seen, failed = tried(app, RANK)
    assert not failed, "\n\n".join(failed)
    accepted = {
        phase: {name for p, name, status in seen if (p, status) == (phase, 200)}
        for phase in ("coverage", "fuzzing")
    }
    assert accepted["coverage"] == OPERATIONS
    # Hypothesis also draws constants of whatever modules are imported by now, seed or not, so that
    # a long session fuzzes with others; with some, none of the bodies for ranking is whole.
    assert accepted["fuzzing"] | {"POST /v1/rank"} == OPERATIONS
    assert seen["fuzzing", "POST /v1/rank", 200] + seen["fuzzing", "POST /v1/rank", 400] >= 20
    posts = ("POST /v1/score", "POST /v1/rank")
    assert all(seen["examples", name, 200] == 2 for name in posts), "each example is scored"
    for name in posts:  # so that a generator that has nothing to say does not pass
        assert seen["coverage", name, 400] > 20 and seen["coverage", name, 415]


def test_and_so_it_does_with_keys(endpoint: Endpoint) -> None:
    app = endpoint(max_items=3, candidate={"scorer": "none"}, key_hashes=[HASH])
    keyless = RANK | {"phases": {name: {"enabled": False} for name in ("coverage", "fuzzing")}}
    seen, failed = tried(app, keyless)
    assert not failed, "\n\n".join(failed)
    refused = {name for _, name, status in seen if status == 401}
    assert refused == OPERATIONS - {"GET /v1/ready"}
    assert {name for _, name, status in seen if status == 200} == OPERATIONS


# --- worth reading ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(endpoint: Endpoint) -> dict[str, Any]:
    told: dict[str, Any] = endpoint(
        max_items=3, max_candidates=50, candidate={"scorer": "none"}, key_hashes=[HASH]
    ).openapi()
    return told


def operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in schema["paths"].values():
        yield from methods.values()


def properties(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property below a schema, by its path; what only narrows one is left out."""
    if isinstance(node, list):
        for number, one in enumerate(node):
            yield from properties(one, f"{path}.{number}")
    elif isinstance(node, dict):
        if node.get("type") == "object":
            for name, one in node.get("properties", {}).items():
                yield f"{path}.{name}", one
        for name, one in node.items():
            yield from properties(one, f"{path}.{name}")


def test_everything_that_is_sent_or_answered_is_explained(schema: dict[str, Any]) -> None:
    assert "fingerprint" in schema["info"]["description"]
    for operation in operations(schema):
        assert operation["summary"] and len(operation["description"]) > 50
        for status, answer in operation["responses"].items():
            assert answer["description"], status
    schemas = schema["components"]["schemas"]
    told = dict(properties(schema["paths"])) | dict(properties(schemas))
    assert len(told) > 50
    # The evaluation's own dataclasses tell of their fields in their docstrings.
    whole = {name for name in schemas if hasattr(succession, name)}
    silent = [path for path, one in told.items() if "description" not in one]
    assert [path for path in silent if path.split(".")[1] not in whole] == []


def test_refusals_say_when_to_come_again(schema: dict[str, Any]) -> None:
    for operation in operations(schema):
        for status in {"429", "503"} & operation["responses"].keys():
            headers = operation["responses"][status]["headers"]
            assert headers["Retry-After"]["required"], "a client has something to wait for"
        assert {"429", "500"} <= operation["responses"].keys()


def test_the_limits_of_the_config_are_in_the_schema_and_told(
    schema: dict[str, Any], endpoint: Endpoint, ask: Callable[..., httpx.Response]
) -> None:
    limits = ask(endpoint(max_candidates=50), "GET", "/v1/scorers").json()["limits"]
    assert limits["max_candidates"] == 50
    sent = schema["paths"]["/v1/score"]["post"]["requestBody"]["content"]
    assert sent["application/json"]["schema"]["properties"]["items"]["maxItems"] == 3
    assert sent["multipart/form-data"]["schema"]["properties"]["files"]["maxItems"] == 3
    sent = schema["paths"]["/v1/rank"]["post"]["requestBody"]["content"]
    assert sent["application/json"]["schema"]["properties"]["candidates"]["maxItems"] == 50


def test_the_docs_load_nothing_from_elsewhere_and_ask_for_no_key(
    ask: Callable[..., httpx.Response], endpoint: Endpoint
) -> None:
    app = endpoint(key_hashes=[HASH])
    page = ask(app, "GET", "/docs")
    loaded = re.findall(r'(?:src|href|url)(?:=|: )["\']([^"\']+)["\']', page.text)
    assert page.status_code == 200 and set(loaded) == OPEN_PATHS - {"/docs"}
    assert not re.search(r"(https?:)?//[\w.-]+\.\w", page.text)
    for path in loaded:
        assert ask(app, "GET", path).status_code == 200, path
