"""Against a real S3 server with keys."""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beholder.items import Failure, FailureCode, Item, ItemError
from beholder.media import Limits, PixelSpec, Stage, Staged, storage
from beholder.media.fetch import fetch
from beholder.media.storage import StorageError


@pytest.fixture
def folder(s3: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder of the test's own."""
    yield f"s3://{s3.bucket}/{request.node.name.replace('[', '-').replace(']', '')}"


def failure_of(uri: str, limits: Limits, etag: str | None = None) -> ItemError:
    with pytest.raises(ItemError) as caught:
        fetch(uri, limits, etag)
    return caught.value


def without_keys(text: str, s3: Any) -> bool:
    return s3.access_key not in text and s3.secret_key not in text


def test_round_trip_with_odd_names(folder: str) -> None:
    for name in ("a.bin", "with space #1 100%?.bin", "deep/er/ü.bin"):
        uri = f"{folder}/{name}"
        assert not storage.exists(uri)
        storage.write_bytes(uri, name.encode())
        assert storage.exists(uri) and storage.read_bytes(uri) == name.encode()
    assert storage.exists(folder)
    assert storage.list_files(folder) == sorted(
        f"{folder}/{name}" for name in ("a.bin", "with space #1 100%?.bin", "deep/er/ü.bin")
    )


def test_listings_are_never_stale(folder: str) -> None:
    assert storage.list_files(folder) == []
    for count in range(1, 4):
        storage.write_bytes(f"{folder}/{count}", b"x")
        assert len(storage.list_files(folder)) == count


def test_trees(folder: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "a.json").write_bytes(b"{}")
    (source / "deep/b.bin").write_bytes(bytes(range(256)) * 1000)
    storage.copy_tree(source, f"{folder}/tree/")
    back = storage.fetch_tree(f"{folder}/tree", tmp_path / "back")
    for name in ("a.json", "deep/b.bin"):
        assert (back / name).read_bytes() == (source / name).read_bytes()
    with pytest.raises(StorageError, match="holds no files"):
        storage.fetch_tree(f"{folder}/tre", tmp_path / "none")


def test_a_missing_object(folder: str, limits: Limits) -> None:
    with pytest.raises(StorageError, match=f"{folder}/none does not exist at http"):
        storage.read_bytes(f"{folder}/none")
    assert failure_of(f"{folder}/none", limits).failure.code is FailureCode.FETCH_NOT_FOUND


@pytest.mark.parametrize("call", [storage.read_bytes, storage.exists, storage.list_files])
def test_a_missing_bucket_is_named(s3: Any, call: Callable[[str], Any]) -> None:
    with pytest.raises(
        StorageError, match=r"bucket 'no-such-bucket' does not exist at http.*create"
    ):
        call("s3://no-such-bucket/key")


def test_fetching_from_a_missing_bucket(s3: Any, limits: Limits) -> None:
    error = failure_of("s3://no-such-bucket/key", limits)
    assert error.failure.code is FailureCode.FETCH_NOT_FOUND
    assert "bucket 'no-such-bucket'" in error.failure.message


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
@pytest.mark.parametrize("call", ["read", "write", "exists", "list", "fetch"])
def test_wrong_keys(
    s3: Any, folder: str, name: str, call: str, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{folder}/x"
    storage.write_bytes(uri, b"x")
    monkeypatch.setenv(name, "AKIAWRONGWRONGWRONG")
    if call == "fetch":
        error = failure_of(uri, limits)
        assert error.failure.code is FailureCode.FETCH_DENIED
        message = error.failure.message
    else:
        calls: dict[str, Callable[[], Any]] = {
            "read": lambda: storage.read_bytes(uri),
            "write": lambda: storage.write_bytes(uri, b"y"),
            "exists": lambda: storage.exists(uri),
            "list": lambda: storage.list_files(uri),
        }
        with pytest.raises(StorageError) as caught:
            calls[call]()
        message = str(caught.value)
    assert uri in message and "denies access" in message and "AWS_SECRET_ACCESS_KEY" in message
    assert without_keys(message, s3) and "WRONGWRONG" not in message


def test_the_etag_that_was_asked_for(folder: str, limits: Limits) -> None:
    uri = f"{folder}/x"
    storage.write_bytes(uri, b"first")
    first = fetch(uri, limits)
    assert first.etag == hashlib.md5(b"first").hexdigest()
    assert fetch(uri, limits, first.etag) == first
    assert fetch(uri, limits, f'"{first.etag}"') == first
    storage.write_bytes(uri, b"second")
    error = failure_of(uri, limits, first.etag)
    assert error.failure.code is FailureCode.FETCH_CHANGED and uri in error.failure.message


def test_large_objects_are_refused_unread(folder: str) -> None:
    uri = f"{folder}/large"
    storage.write_bytes(uri, bytes(5_000_000))
    error = failure_of(uri, Limits(max_bytes=4_999_999))
    assert error.failure.code is FailureCode.LIMIT_BYTES
    assert "5000000 bytes" in error.failure.message
    assert len(fetch(uri, Limits(max_bytes=5_000_000)).data) == 5_000_000


def test_threads_share_a_client(folder: str, limits: Limits) -> None:
    for k in range(8):
        storage.write_bytes(f"{folder}/{k}", bytes([k]) * 100_000)

    def work(k: int) -> tuple[int, bytes]:
        fs, _ = storage.open_filesystem(folder)
        return id(fs), fetch(f"{folder}/{k % 8}", limits).data[:1]

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(work, range(64)))
    assert [data for _, data in found] == [bytes([k % 8]) for k in range(64)]
    assert len({client for client, _ in found}) == 1


def _read_in_child(uri: str, answers: Any) -> None:
    answers.put((os.getpid(), storage.read_bytes(uri)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_child_processes_have_their_own_client(folder: str, method: str) -> None:
    uri = f"{folder}/x"
    storage.write_bytes(uri, b"content")
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    children = [context.Process(target=_read_in_child, args=(uri, answers)) for _ in range(2)]
    for child in children:
        child.start()
    found = [answers.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    assert {data for _, data in found} == {b"content"}
    assert storage.read_bytes(uri) == b"content"


def test_items_are_staged_from_s3(
    folder: str, photo: Image.Image, encode: Callable[..., bytes], spec: PixelSpec, limits: Limits
) -> None:
    data = encode(photo, "PNG")
    storage.write_bytes(f"{folder}/a.png", data)
    stage = Stage(spec, limits)
    there, missing = stage.many(
        [Item("a", f"{folder}/a.png"), Item("b", f"{folder}/b.png")], threads=2
    )
    here = stage.stage(Item("a", data))
    assert isinstance(there, Staged) and isinstance(here, Staged)
    assert (there.clips[0] == here.clips[0]).all() and there.sha256 == here.sha256
    assert isinstance(missing, Failure) and missing.code is FailureCode.FETCH_NOT_FOUND
