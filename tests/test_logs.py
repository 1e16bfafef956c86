import io
import logging

import pytest

from beholder import logs
from beholder.logs import KeyValueFormatter, Progress, event, progress, setup_logging


def test_lines_are_key_value() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(KeyValueFormatter())
    logger = logging.getLogger("beholder.test_lines")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    event(logger, "epoch.end", step=12, loss=0.123456789, uri="s3://b/k", note='two "words"')
    line = stream.getvalue().strip()
    assert line.startswith("time=2")
    assert line.endswith(
        "level=info logger=beholder.test_lines event=epoch.end "
        'step=12 loss=0.123457 uri=s3://b/k note="two \\"words\\""'
    )


def test_setting_up_twice_logs_once() -> None:
    logger = logging.getLogger("beholder")
    before = list(logger.handlers), logger.level, logger.propagate
    try:
        setup_logging()
        setup_logging()
        ours = [h for h in logger.handlers if isinstance(h.formatter, KeyValueFormatter)]
        assert len(ours) == 1
    finally:
        logger.handlers, logger.level, logger.propagate = before


def test_without_a_terminal_there_is_a_line_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 4))  # every look at the clock finds it 4 s later
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(now)))
    stream = io.StringIO()
    assert list(progress(range(8), 8, "scoring", stream)) == list(range(8))
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) < 8
    assert lines[0].startswith("scoring 3/8 (38%), ")
    assert " s left" in lines[0]
    assert lines[-1].startswith("scoring 8/8 (100%)")


def test_what_is_quick_is_silent() -> None:
    stream = io.StringIO()
    with Progress(3, "scoring", stream) as counter:
        counter.advance(3)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    assert list(progress([1, 2], 2, "scoring", stream)) == [1, 2]
    assert "scoring" in stream.getvalue()
    assert "2/2" in stream.getvalue()
