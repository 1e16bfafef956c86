"""What a plan must hold, in plain Python, and nights that are drawn for it."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from beholder.catalog.layout import RunId
from beholder.catalog.manifest_files import MANIFEST
from beholder.items import RETRY, FailureCode

Row = dict[str, Any]
RUN = RunId("2026-11-20")
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
LABELS = ("owner", "segment", "created_at")


def said(item_id: str, **fields: Any) -> Row:
    """A manifest's row; ``age`` is in hours."""
    age = fields.pop("age", 0)
    return {
        "item_id": item_id,
        "uri": f"s3://uploads/{item_id}.jpg",
        "kind": "image",
        "owner": None,
        "segment": None,
        "created_at": None if age is None else NOON - timedelta(hours=age),
        "etag": f"etag-{item_id}",
        "size": 100,
    } | fields


def held(row: Row, **fields: Any) -> Row:
    """A scored item's row of the state, when the manifest said ``row``."""
    scored = {
        "sha256": f"sha of {row['item_id']}, {row['etag']}",
        "state": "scored",
        "failure_code": None,
        "failure_message": None,
        "attempts": 1,
        "bytes_read": row["size"],
        "run": "2026-11-19.0",
    }
    return row | scored | fields


def failed(row: Row, code: FailureCode, **fields: Any) -> Row:
    failure = {"state": "failed", "failure_code": str(code), "sha256": None}
    return held(row, **failure | {"attempts": RETRY[code].attempts} | fields)


def change_of(row: Row, old: Row | None, comparable: bool = True) -> str:
    """The change rule in plain words."""
    if old is None:
        return "new"
    unseen = row["etag"] is None and (old["failure_code"] or "").startswith("fetch.")
    if not comparable or (not unseen and (row["etag"] is None or old["etag"] is None)):
        return "changed"
    named = ("uri", "kind", "size") if unseen else ("uri", "kind", "etag", "size")
    if any(row[name] != old[name] for name in named):
        return "changed"
    if old["state"] == "scored":
        return "unchanged"
    if old["failure_code"] is None:
        return "changed"
    policy = RETRY[FailureCode(old["failure_code"])].attempts
    if policy > 1 and old["attempts"] < 5 * policy:
        return "retried"
    return "stale" if old["state"] == "stale" else "unchanged"


def order(row: Row, change: str) -> tuple[Any, ...]:
    created = row["created_at"]
    age = (1, 0.0) if created is None else (0, -created.timestamp())
    return change == "retried", *age, row["item_id"]


def model(manifest: list[Row], state: dict[str, Row], limit: int | None) -> dict[str, Any]:
    """What a plan must hold, all of its tasks the state's."""
    changes = {row["item_id"]: change_of(row, state.get(row["item_id"])) for row in manifest}
    rows = {row["item_id"]: row for row in manifest}
    wanted = [i for i in rows if changes[i] in ("new", "changed", "retried")]
    wanted.sort(key=lambda i: order(rows[i], changes[i]))
    taken = set(wanted[:limit])
    classes = Counter[str]()
    settled: dict[str, Row] = {
        i: old | {"removed": True} for i, old in state.items() if i not in rows
    }
    for item_id, row in rows.items():
        old = state.get(item_id)
        keeps = old is not None and old["state"] in ("scored", "stale")
        if item_id in taken or changes[item_id] in ("unchanged", "stale"):
            classes[changes[item_id]] += 1
        else:
            classes["stale" if keeps else "left_out"] += 1
        if old is None or item_id in taken:
            continue
        labels = {name: row[name] for name in LABELS}
        left = changes[item_id] in ("changed", "retried")
        new = old | labels | ({"state": "stale"} if left and keeps else {}) | {"removed": False}
        if new != old | {"removed": False} and (keeps or not left):
            settled[item_id] = new
    known = {
        i: state[i]["sha256"] for i in taken if i in state and state[i]["kind"] == rows[i]["kind"]
    }
    return {
        "changes": {i: changes[i] for i in taken},
        "known": {i: sha for i, sha in known.items() if sha is not None},
        "classes": classes + Counter(removed=len(state.keys() - rows.keys())),
        "settled": {i: row | {"run": str(RUN)} for i, row in settled.items()},
    }


def mutate(rng: random.Random, manifest: list[Row], fresh: Iterator[int]) -> list[Row]:
    """The next night's manifest."""
    rows = [dict(row) for row in manifest if rng.random() > 0.08]
    for row in rows:
        what = rng.choice(["etag", "uri", "size", "kind", "no etag", "owner", *["none"] * 8])
        if what == "etag":
            row["etag"] = rng.choice(rows)["etag"] if rng.random() < 0.3 else f"etag-{next(fresh)}"
        elif what == "uri":
            row["uri"] += "?"
        elif what == "size":
            row["size"] += 1
        elif what == "kind":
            row["kind"] = "video" if row["kind"] == "image" else "image"
        elif what == "no etag":
            row["etag"] = None
        elif what == "owner":
            row["owner"] = f"user-{next(fresh)}"
    for _ in range(12):
        age = rng.choice([None, rng.randint(0, 9)])
        rows.append(said(f"item-{next(fresh)}", age=age, segment=rng.choice([None, "a", "b"])))
    rng.shuffle(rows)
    return rows


def looked_at(rng: random.Random, row: Row) -> Row:
    """The state's row that a run makes of a planned one."""
    manifest = {name: row[name] for name in MANIFEST.names}
    if rng.random() < 0.6:
        return held(manifest, attempts=row["attempts"] + 1, run=str(RUN))
    code = rng.choice([FailureCode.FETCH_THROTTLED, FailureCode.FETCH_NOT_FOUND])
    attempts = row["attempts"] + RETRY[code].attempts
    kept = {"state": "stale", "sha256": row["known_sha256"]} if row["known_sha256"] else {}
    return failed(manifest, code, attempts=attempts, run=str(RUN), **kept)
