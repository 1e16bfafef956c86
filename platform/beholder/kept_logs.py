"""What is left of a local Ray's logs when its folder goes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

LAST_BYTES = 5 * 2**20
"""Of the end of each log."""
ALL_BYTES = 50 * 2**20
ROTATION = {"RAY_ROTATION_MAX_BYTES": str(LAST_BYTES), "RAY_ROTATION_BACKUP_COUNT": "1"}
"""Environment of a Ray whose logs are kept: without it those of its workers grow for ever."""


def logs_folder(port: int) -> Path:
    """Where the logs of the last endpoint on a port of this machine are kept, for its user."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "beholder" / f"serve-{port}"


def keep_logs(ray: Path, kept: Path) -> None:
    """Copies the ends of a Ray's logs, in place of what was kept before.

    No more than :data:`LAST_BYTES` of each and :data:`ALL_BYTES` in all are kept, of those that
    were written to last.

    Args:
        ray: its temporary folder.
        kept: a folder of this alone; what is in it goes.
    """
    shutil.rmtree(kept, ignore_errors=True)
    room = ALL_BYTES
    for name, log in sorted(_logs(ray), key=lambda one: -one[1].stat().st_mtime):
        with log.open("rb") as file:
            size = min(LAST_BYTES, file.seek(0, os.SEEK_END))
            if 0 < size <= room:
                room -= size
                file.seek(-size, os.SEEK_END)
                (kept / name).parent.mkdir(parents=True, exist_ok=True)
                (kept / name).write_bytes(file.read(size))


def _logs(ray: Path) -> Iterator[tuple[Path, Path]]:
    """Each log's name and where it is: that of the start, and those of the session's processes."""
    found = ray / "session_latest" / "logs"
    for root, log in [(ray, ray / "start.log"), *((found, one) for one in found.rglob("*"))]:
        if log.is_file() and not log.is_symlink():
            yield log.relative_to(root), log
