"""One of several writers wins, on a real S3 and on a disk."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beholder.local_stack import ObjectStore
from beholder.media import conditional
from beholder.media.conditional import WriteConflictError, create, read_version, replace
from beholder.media.storage import StorageError, list_files, read_bytes, write_bytes


@pytest.fixture(params=["s3", "disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path)
    store: ObjectStore = request.getfixturevalue("s3")
    return f"s3://{store.bucket}/conditional/{tmp_path.name}"


def test_an_object_is_created_once(folder: str) -> None:
    uri = f"{folder}/record.json"
    version = create(uri, b"mine")
    assert read_version(uri) == (b"mine", version)
    with pytest.raises(WriteConflictError, match=r"record\.json is not a new object any more"):
        create(uri, b"yours")
    assert read_bytes(uri) == b"mine"


def test_only_the_version_that_was_read_is_replaced(folder: str) -> None:
    uri = f"{folder}/head"
    first = create(uri, b"1")
    second = replace(uri, b"2", first)
    with pytest.raises(WriteConflictError, match="another writer was first"):
        replace(uri, b"3", first)
    assert read_version(uri) == (b"2", second)
    assert replace(uri, b"3", second) not in (first, second)


def test_what_is_not_there_is_not_replaced(folder: str) -> None:
    with pytest.raises(WriteConflictError):
        replace(f"{folder}/nothing", b"1", '"0000"')
    with pytest.raises(StorageError, match="nothing does not exist"):
        read_version(f"{folder}/nothing")


@pytest.mark.parametrize("step", ["create", "replace"])
def test_of_many_at_once_one_wins(folder: str, step: str) -> None:
    uri = f"{folder}/raced"
    version = create(uri, b"start") if step == "replace" else ""

    def write(number: int) -> bool:
        data = f"writer {number}".encode()
        try:
            _ = create(uri, data) if step == "create" else replace(uri, data, version)
        except WriteConflictError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert won.count(True) == 1
    assert read_bytes(uri) == f"writer {won.index(True)}".encode()
    assert [name for name in list_files(folder) if name.endswith(".part")] == []


@pytest.mark.parametrize("write", [create, lambda uri, data: replace(uri, data, '"0"')])
def test_a_lost_answer_is_no_conflict(
    s3: ObjectStore, write: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store took our bytes, its answer got lost, and the repeated request is refused."""
    uri = f"s3://{s3.bucket}/conditional/lost"
    whole = conditional._put

    def lossy(fs: Any, path: str, data: bytes, version: str | None) -> str | None:
        write_bytes(uri, data)
        return whole(fs, path, data, version)

    monkeypatch.setattr(conditional, "_put", lossy)
    version = write(uri, b"ours, run 7")
    assert read_version(uri) == (b"ours, run 7", version)
