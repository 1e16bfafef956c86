import hashlib
import os
from pathlib import Path

import pytest

from beholder.items import FailureCode, ItemError
from beholder.media import Limits
from beholder.media.fetch import fetch


def failure_of(source: str | Path | bytes, limits: Limits, etag: str | None = None) -> ItemError:
    with pytest.raises(ItemError) as caught:
        fetch(source, limits, etag)
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a name #1 50% off?.jpg"
    path.write_bytes(b"hello")
    return path


def test_all_spellings_give_the_same(file: Path, limits: Limits) -> None:
    for source in (
        b"hello",
        str(file),
        file,
        file.as_uri(),
        "file://localhost" + file.as_uri()[7:],
    ):
        found = fetch(source, limits)
        assert found.data == b"hello"
        assert found.sha256 == hashlib.sha256(b"hello").hexdigest()
        assert found.etag is None


def test_relative_paths(file: Path, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert fetch(file.name, limits).data == b"hello"


def test_missing_names_the_path(tmp_path: Path, limits: Limits) -> None:
    error = failure_of(tmp_path / "none.jpg", limits)
    assert error.failure.code is FailureCode.FETCH_NOT_FOUND
    assert "none.jpg" in error.failure.message
    below_a_file = failure_of(Path(__file__) / "none.jpg", limits)
    assert below_a_file.failure.code is FailureCode.FETCH_NOT_FOUND


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/x.jpg",
        "https://example.com/x.jpg",
        "simplecache::s3://bucket/x.jpg",
        "zip://x.jpg::file:///a.zip",
        "gs://bucket/x.jpg",
        "s3://",
        "s3://bucket",
    ],
)
def test_nothing_else_is_opened(uri: str, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    error = failure_of(uri, limits)
    assert error.failure.code is FailureCode.FETCH_UNSUPPORTED
    assert uri in error.failure.message


@pytest.mark.parametrize("path", ["/dev/zero", "/tmp"])
def test_devices_and_folders_are_no_files(path: str, limits: Limits) -> None:
    assert failure_of(path, limits).failure.code is FailureCode.FETCH_UNSUPPORTED


def test_bytes_above_the_limit_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 2**40)  # More than any memory holds.
    assert failure_of(path, Limits()).failure.code is FailureCode.LIMIT_BYTES
    assert failure_of(b"12345", Limits(max_bytes=4)).failure.code is FailureCode.LIMIT_BYTES
    assert fetch(b"1234", Limits(max_bytes=4)).data == b"1234"


def test_etags_are_compared(file: Path, limits: Limits) -> None:
    etag = hashlib.md5(b"hello").hexdigest()
    assert fetch(file, limits, etag).data == b"hello"
    assert fetch(b"hello", limits, f'"{etag}"').data == b"hello"
    file.write_bytes(b"jello")
    error = failure_of(file, limits, etag)
    assert error.failure.code is FailureCode.FETCH_CHANGED
    assert etag in error.failure.message and error.failure.bytes_read == 5
