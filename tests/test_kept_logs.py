"""What stays of a local Ray's logs."""

import os
from pathlib import Path

import pytest

from beholder import kept_logs
from beholder.kept_logs import keep_logs, logs_folder


@pytest.fixture
def ray(tmp_path: Path) -> Path:
    """A Ray's folder with three logs, the last of which was written to last."""
    logs = tmp_path / "ray" / "session_1" / "logs"
    (logs / "serve").mkdir(parents=True)
    (tmp_path / "ray" / "session_latest").symlink_to("session_1")
    (tmp_path / "ray" / "start.log").write_text("started")
    (logs / "worker.err").write_text("w" * 90 + "the end")
    (logs / "serve" / "replica.log").write_text("a request")
    (logs / "serve" / "empty.log").touch()
    (logs / "other.log").symlink_to("/etc/hostname")
    for at, one in enumerate(["start.log", "session_1/logs/worker.err"]):
        os.utime(tmp_path / "ray" / one, (at, at))
    return tmp_path / "ray"


def kept(folder: Path) -> dict[str, str]:
    files = [one for one in folder.rglob("*") if one.is_file()]
    return {str(one.relative_to(folder)): one.read_text() for one in files}


def test_the_ends_of_all_logs_take_the_place_of_earlier_ones(
    ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_logs, "LAST_BYTES", 10)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "earlier.log").touch()
    keep_logs(ray, tmp_path / "kept")
    expected = {"start.log": "started", "worker.err": "wwwthe end"}
    assert kept(tmp_path / "kept") == expected | {"serve/replica.log": "a request"}


def test_what_was_written_last_has_room_first(
    ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_logs, "ALL_BYTES", 20)
    keep_logs(ray, tmp_path / "kept")
    assert kept(tmp_path / "kept") == {"serve/replica.log": "a request", "start.log": "started"}


def test_a_ray_that_never_started_leaves_nothing(tmp_path: Path) -> None:
    keep_logs(tmp_path / "none", tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_each_port_has_a_folder_in_the_users_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert logs_folder(8000) == Path("/state/beholder/serve-8000")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert logs_folder(1) == Path.home() / ".local/state/beholder/serve-1"
