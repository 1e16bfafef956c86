"""The command line on real photographs."""

import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from beholder.cli import app
from beholder.errors import UserError
from beholder.readouts import RegressionReadout
from beholder.scoring import Scorer


@pytest.fixture
def arguments(small_scorer: Scorer, photos: dict[str, bytes], tmp_path: Path) -> list[str]:
    small_scorer.save(tmp_path / "scorer")
    for name, data in photos.items():
        (tmp_path / name).write_bytes(data)
    return ["score", "--scorer", str(tmp_path / "scorer"), *(str(tmp_path / n) for n in photos)]


def test_the_table_shows_every_photo_and_task(
    arguments: list[str], photos: dict[str, bytes]
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for name in photos:
        assert name in result.stdout.replace("\n", "")
    assert result.stdout.count("quality") >= len(photos)
    assert "excellent" in result.stdout


def test_a_score_without_a_spread_says_so(
    small_scorer: Scorer, photos: dict[str, bytes], tmp_path: Path
) -> None:
    backbone, readout = small_scorer.backbone, RegressionReadout()
    head = readout.head(backbone.spec.hidden_size)
    scorer = Scorer(backbone, readout, small_scorer.tasks, "unanswered", head=head)
    scorer.save(tmp_path / "scorer")
    (tmp_path / "coffee").write_bytes(photos["coffee"])
    arguments = ["score", "--scorer", str(tmp_path / "scorer"), str(tmp_path / "coffee")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "0 worst to 1 best" in result.stdout
    assert result.stdout.count("none") == len(scorer.tasks)
    result = CliRunner().invoke(app, [*arguments, "--json"])
    (line,) = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert line["scores"]["quality"]["std"] is None


def test_json_is_what_the_scorer_says(arguments: list[str], small_scorer: Scorer) -> None:
    result = CliRunner().invoke(app, [*arguments, "--json", "--task", "quality"])
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    expected = small_scorer.score(arguments[3:], ["quality"])
    assert [line["item_id"] for line in lines] == arguments[3:]
    for line, score in zip(lines, expected, strict=True):
        assert set(line["scores"]) == {"quality"}
        mean = float(score.tasks["quality"].mean)
        assert line["scores"]["quality"]["mean"] == pytest.approx(mean, abs=1e-6)


def test_names_are_shown_as_they_are(arguments: list[str], tmp_path: Path) -> None:
    odd = ["[/red]", "[bold]x.jpg"]
    result = CliRunner().invoke(app, [*arguments[:3], *odd])
    assert result.exit_code == 1
    for name in odd:
        assert name in result.stdout


def test_what_cannot_be_served_is_said_before_anything_starts(
    small_scorer: Scorer, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["serve", "--scorer", str(tmp_path / "none")])
    assert isinstance(result.exception, UserError)
    assert str(tmp_path / "none") in str(result.exception)
    small_scorer.save(tmp_path / "scorer")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["serve", "--scorer", str(tmp_path / "scorer"), "--port", port]
        result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UserError)
    assert f"port {port} for the endpoint is taken" in str(result.exception)
