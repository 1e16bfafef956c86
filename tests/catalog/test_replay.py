"""Which items a replay looks at, and what it knows of them."""

import pyarrow as pa
import pytest

from beholder.catalog.replay import REPLAYED, replay_rows
from beholder.catalog.tables import ITEM_FIELDS
from beholder.errors import UserError

ITEMS = [
    {"item_id": "good", "state": "scored", "sha256": "g"},
    {"item_id": "cut", "state": "failed", "failure_code": "decode.truncated", "attempts": 1},
    {"item_id": "denied", "state": "failed", "failure_code": "fetch.denied", "attempts": 1},
    {"item_id": "moved", "state": "stale", "failure_code": "fetch.changed", "sha256": "m"},
    {"item_id": "slow", "state": "stale", "failure_code": "fetch.timeout", "sha256": "s"},
    {"item_id": "left out", "state": "stale", "sha256": "l"},
]


@pytest.fixture
def buckets() -> list[pa.Table]:
    told = {"uri": "s3://bucket/x", "kind": "image", "etag": "e", "size": 5}
    rows = [told | item for item in ITEMS]
    schema = pa.schema(ITEM_FIELDS)
    return [pa.Table.from_pylist(rows[at::2], schema=schema) for at in range(2)]


def replayed(*arguments: object) -> dict[str, dict]:
    tables = list(replay_rows(*arguments))
    assert all(table.schema.equals(REPLAYED) for table in tables)
    return {row["item_id"]: row for table in tables for row in table.to_pylist()}


def test_all_that_failed_whatever_their_policies(buckets: list[pa.Table]) -> None:
    rows = replayed(buckets)
    assert set(rows) == {"cut", "denied", "moved", "slow"}
    assert {row["change"] for row in rows.values()} == {"retried"}
    assert {name: row["known_sha256"] for name, row in rows.items()} == {
        "cut": None,
        "denied": None,
        "moved": "m",
        "slow": "s",
    }
    assert (rows["cut"]["attempts"], rows["cut"]["etag"], rows["cut"]["size"]) == (1, "e", 5)
    assert (rows["moved"]["etag"], rows["moved"]["size"]) == (None, None), "whatever is there now"


def test_some_by_code_and_by_id(buckets: list[pa.Table]) -> None:
    assert set(replayed(buckets, ["fetch.denied", "fetch.timeout"])) == {"denied", "slow"}
    assert set(replayed(buckets, [], ["cut"])) == {"cut"}


@pytest.mark.parametrize(
    ("codes", "ids", "sentence"),
    [
        (["fetch.forbidden"], [], r"'fetch.forbidden' is no failure's code: use one of .*denied"),
        (["model.nan"], [], "no item of this snapshot failed with model.nan"),
        ([], ["cut", "good", "nobody"], "2 of the items .* as 'good'"),
        (["fetch.denied"], ["cut"], "1 of the items .* as 'cut'"),
    ],
)
def test_nothing_to_replay_is_said(
    buckets: list[pa.Table], codes: list[str], ids: list[str], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        replayed(buckets, codes, ids)
