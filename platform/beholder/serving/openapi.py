"""What the OpenAPI schema says beyond what FastAPI finds out: bodies, their limits, and refusals.

The routes read bodies themselves, so that limits hold before anything is buffered and a refusal
has the endpoint's own shape; this tells what they read.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from beholder.serving.rank_requests import RankRequest
from beholder.serving.schemas import Problem, ScoreRequest

Responses = dict[int | str, dict[str, Any]]

DESCRIPTION = """\
Send pictures and short videos to `/v1/score` and get distributions of the opinions that people \
would have of them; send candidates to `/v1/rank` and get their order. Scores are compared only \
within one fingerprint.

A request that is refused as a whole gets one sentence in `error`, the status below, and its \
`request_id`; an item or a candidate that can't be used has a typed failure in its place and \
harms no other. Each answer has the id in `X-Request-ID`, too: your own, if you send one. 429 and \
503 say in `Retry-After` when to come again.
"""

MEANINGS = {
    400: "The request can't be understood, or asks for what isn't there.",
    401: "It came without a valid API key.",
    408: "Its body did not arrive within request_s, or stood still on the way.",
    413: "Its body or the number of things in it is above the limits in /v1/scorers.",
    415: "Its body is of a type that isn't read here.",
    429: "Too much is in flight: it was refused before its body was read, or within it.",
    500: "The endpoint is at fault: its log says more beside the request's id.",
    503: "The endpoint starts, or a replica died with the request and so did its second try.",
    504: "It took longer than request_s: send less at a time.",
}
"""What is told of a refusal."""

_WAIT = {
    "Retry-After": {
        "description": "seconds after which another try is worth it",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    }
}
_CHALLENGE = {
    "WWW-Authenticate": {
        "description": "Bearer, and whether a key came along",
        "required": True,
        "schema": {"type": "string"},
    }
}
_HEADERS: dict[int, dict[str, Any]] = {401: _CHALLENGE, 429: _WAIT, 503: _WAIT}

DOCS_FILES = "/docs/files"
"""Where Swagger UI's own files are: nothing of it is loaded from elsewhere."""

OPEN_PATHS = frozenset(
    {
        "/openapi.json",
        "/docs",
        *(f"{DOCS_FILES}/{name}" for name in ("swagger-ui-bundle.js", "swagger-ui.css")),
        f"{DOCS_FILES}/favicon.png",
    }
)
"""What describes the API and holds no secret; a key is typed into it."""

TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
"""An answer that is no JSON."""

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQCAAAAAA6mKC9AAAAG0lEQVR42mPkYEAFLPzoAoLoAgLDR4DxO5oAALc0Ahp3"
    "QqCzAAAAAElFTkSuQmCC"
)
"""A gradient of 16 x 16 as PNG in base64."""

SCORE_EXAMPLES = {
    "bytes": {
        "summary": "A picture's bytes, all its tasks",
        "value": {"items": [{"data": PICTURE, "id": "gradient.png"}]},
    },
    "uris": {
        "summary": "Objects and pages that the endpoint fetches, one task",
        "value": {
            "items": [
                {"uri": "s3://media/2026/photo.jpg", "id": "photo"},
                {"uri": "https://images.example.com/clip.mp4", "id": "clip"},
            ],
            "tasks": ["quality"],
        },
    },
}

RANK_EXAMPLES = {
    "stored": {
        "summary": "Stored scores by a lower confidence bound, and how likely one is rated above",
        "value": {
            "task": "quality",
            "rule": "lower_bound",
            "confidence": 0.95,
            "candidates": [
                {
                    "id": "a",
                    "fingerprint": "4f1c",
                    "scores": {
                        "support": [1, 2, 3, 4, 5],
                        "probs": [0.05, 0.1, 0.2, 0.4, 0.25],
                        "scale": [1, 5],
                    },
                },
                {
                    "id": "b",
                    "fingerprint": "4f1c",
                    "scores": {"mean": 3.6, "std": 0.3, "scale": [1, 5]},
                },
            ],
            "pairwise": [["a", "b"]],
        },
    },
    "blended": {
        "summary": "Pictures, scored now, by their quality and a relevance of the caller's",
        "value": {
            "task": "quality",
            "rule": "expected_rank",
            "candidates": [
                {"media": {"data": PICTURE, "id": "gradient.png"}, "relevance": 0.2},
                {"media": {"uri": "s3://media/2026/photo.jpg"}, "relevance": 0.9},
            ],
            "blend": {"weight": 0.3},
        },
    },
}


def refusals(*statuses: int) -> Responses:
    """Responses of these statuses, for a route."""
    return {status: _refusal(status) for status in statuses}


def _refusal(status: int) -> dict[str, Any]:
    refusal = {"model": Problem, "description": MEANINGS[status]}
    return refusal | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def score_body(max_items: int) -> dict[str, Any]:
    """Both ways of sending items to score."""
    schema = _schema(ScoreRequest)
    schema["properties"]["items"]["maxItems"] = max_items
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": ["files"],
        "properties": {
            "files": {
                "type": "array",
                "items": file,
                "minItems": 1,
                "maxItems": max_items,
                "description": "encoded pictures and videos, each part with a filename: its name "
                "in the answer",
            },
            "tasks": _unless_null(schema["properties"]["tasks"]),
            "scorer": _unless_null(schema["properties"]["scorer"]),
        },
    }
    return _body(
        {
            "application/json": {"schema": schema, "examples": SCORE_EXAMPLES},
            "multipart/form-data": {"schema": form},
        }
    )


def rank_body(max_candidates: int) -> dict[str, Any]:
    """Candidates to rank."""
    schema = _schema(RankRequest)
    schema["properties"]["candidates"]["maxItems"] = max_candidates
    return _body({"application/json": {"schema": schema, "examples": RANK_EXAMPLES}})


def _unless_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A nullable property as a form has it, where nothing is null."""
    (one,) = (one for one in schema["anyOf"] if one != {"type": "null"})
    return {**one, "description": schema["description"]}


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with its definitions in their places: OpenAPI finds no ``$defs`` there."""
    schema = model.model_json_schema()
    found: dict[str, Any] = _inlined(schema, schema.pop("$defs"))
    return found


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]] | {
            key: value for key, value in node.items() if key != "$ref"
        }
    return {key: _inlined(value, definitions) for key, value in node.items()}
