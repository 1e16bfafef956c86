"""``beholder serve`` as one types it: where its logs are, whether it served or didn't start."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from beholder.scoring import Scorer

from ..conftest import free_port

pytestmark = pytest.mark.e2e


class Command:
    """The command, and the folder that shall keep its logs."""

    def __init__(self, scorer: Path, state: Path) -> None:
        port = free_port()
        beholder = str(Path(sys.executable).with_name("beholder"))
        command = [beholder, "serve", "--scorer", str(scorer), "--port", str(port)]
        self.logs = state / "beholder" / f"serve-{port}"
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"XDG_STATE_HOME": str(state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kept(self) -> list[str]:
        files = [one for one in self.logs.rglob("*") if one.is_file()]
        return [one.read_text("utf-8", "replace") for one in files]


@pytest.fixture
def serve(small_scorer: Scorer, tmp_path: Path) -> Iterator[Callable[[], Command]]:
    small_scorer.save(tmp_path / "scorer")
    started: list[Command] = []

    def start() -> Command:
        started.append(Command(tmp_path / "scorer", tmp_path / "state"))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_its_log_lines_stay_when_it_ends(serve: Callable[[], Command]) -> None:
    command = serve()
    assert command.process.stdout is not None
    url = command.process.stdout.readline().split()[1]
    answer = httpx.get(f"{url}v1/none", headers=[(b"X-Request-ID", b"the\xff one")], timeout=60)
    assert answer.json()["request_id"] == "the one"
    command.process.send_signal(signal.SIGINT)
    _, said = command.process.communicate(timeout=60)
    assert command.process.returncode == 0
    assert f"when it ends, the last of its logs are in {command.logs}" in said.splitlines()
    lines = [line for one in command.kept() for line in one.splitlines()]
    assert any("event=request " in line and 'request_id="the one"' in line for line in lines)


def test_what_does_not_start_leaves_its_logs_where_it_says(
    serve: Callable[[], Command], tmp_path: Path
) -> None:
    weights = tmp_path / "scorer" / "model.safetensors"
    weights.write_bytes(b"no weights")  # which engines alone look at
    command = serve()
    _, said = command.process.communicate(timeout=300)
    assert command.process.returncode == 2, said
    *_, last = said.splitlines()
    assert last.startswith(f"error: the endpoint did not start, {command.logs} says why: ")
    assert any("ScorerError" in one and weights.name in one for one in command.kept())
