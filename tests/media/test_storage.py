import socket
import time
from pathlib import Path

import pytest

from beholder.media import storage
from beholder.media.storage import StorageError


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "scorer"
    (root / "deep/er").mkdir(parents=True)
    (root / "config.json").write_bytes(b"{}")
    (root / "deep/er/with space.bin").write_bytes(b"\0" * 9)
    return root


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_round_trip(scheme: str, tmp_path: Path) -> None:
    uri = f"{scheme}{tmp_path}/new/folder/x.bin"
    assert not storage.exists(uri)
    storage.write_bytes(uri, b"one")
    storage.write_bytes(uri, b"two")
    assert storage.exists(uri) and storage.read_bytes(uri) == b"two"
    assert storage.list_files(f"{scheme}{tmp_path}/new") == [f"{tmp_path}/new/folder/x.bin"]


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    uris = [f"file://{tmp_path}/{name}" for name in ("a", "b", "c")]
    for uri in uris[1:]:
        storage.write_bytes(uri, b"x")
    storage.remove_files(uris[:2])
    assert tree(tmp_path) == {"c": b"x"}


def test_trees(folder: Path, tmp_path: Path) -> None:
    storage.copy_tree(folder, f"file://{tmp_path}/store/a")
    back = storage.fetch_tree(f"file://{tmp_path}/store/a/", tmp_path / "back")
    assert tree(back) == tree(folder)


def test_an_interrupted_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "x")
    storage.write_bytes(uri, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        storage.write_bytes(uri, b"new")
    assert tree(tmp_path) == {"x": b"old"}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    with pytest.raises(StorageError, match=f"{missing} does not exist: check the path"):
        storage.read_bytes(missing)
    with pytest.raises(StorageError, match=f"{missing} holds no files"):
        storage.fetch_tree(missing, tmp_path / "back")
    with pytest.raises(StorageError, match=f"{missing} is no folder"):
        storage.copy_tree(missing, str(tmp_path / "there"))
    assert storage.list_files(missing) == []


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("ftp://host/x", "'ftp' is no storage"),
        ("s3://", "names no bucket"),
        ("s3:///k", "no bucket"),
    ],
)
def test_uris_that_cannot_work(uri: str, text: str) -> None:
    with pytest.raises(StorageError, match=text):
        storage.read_bytes(uri)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDSECRETNAME")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "verysecretkey")
    return monkeypatch


def test_a_closed_port_fails_within_seconds(keys: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
    keys.setenv("AWS_ENDPOINT_URL", endpoint)
    begin = time.monotonic()
    with pytest.raises(StorageError, match=f"s3://b/k: {endpoint} can't be reached") as caught:
        storage.read_bytes("s3://b/k")
    assert time.monotonic() - begin < 10
    assert "SECRET" not in str(caught.value) and "verysecret" not in str(caught.value)


def test_a_silent_server_fails_within_seconds(keys: pytest.MonkeyPatch) -> None:
    keys.setattr(storage, "READ_S", 0.3)
    keys.setattr(storage, "ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # It takes connections, no more.
        keys.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(StorageError, match="gives no answer in time"):
            storage.read_bytes("s3://b/k")
    assert time.monotonic() - begin < 10


def test_an_endpoint_that_is_no_url(keys: pytest.MonkeyPatch) -> None:
    keys.setenv("AWS_ENDPOINT_URL", "localhost")
    with pytest.raises(StorageError, match="localhost"):
        storage.read_bytes("s3://b/k")
