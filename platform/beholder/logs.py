"""Structured log lines, and progress as a bar in a terminal or a line an interval elsewhere."""

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

T = TypeVar("T")
LINE_INTERVAL_S = 10.0
"""Seconds between two progress lines where there is no terminal."""


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    plain = text and not any(c.isspace() or c in '"=' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


class KeyValueFormatter(logging.Formatter):
    """One record as ``time=... level=... logger=... event=... key=value ...`` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; an exception's traceback follows it."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        line = " ".join(f"{key}={_value(value)}" for key, value in fields.items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def setup_logging() -> None:
    """Sends the records of ``beholder`` loggers to stderr, from level info on.

    Calling it again changes nothing, and other libraries' loggers keep their own handlers.
    """
    logger = logging.getLogger("beholder")
    if any(isinstance(handler.formatter, KeyValueFormatter) for handler in logger.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(KeyValueFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def event(logger: logging.Logger, name: str, **fields: Any) -> None:
    """Logs one event with its fields, at level info: ``event(log, "epoch.end", loss=0.3)``."""
    logger.info(name, extra={"fields": fields})


class Progress:
    """Progress of something that is counted: a context with :meth:`advance`.

    Args:
        total: how many there are; None where nobody knows.
        label: what is being done, as ``"scoring"``.
        stream: where it shows, by default stderr.
    """

    def __init__(self, total: int | None, label: str, stream: TextIO | None = None) -> None:
        self.total, self.label, self.done = total, label, 0
        self._stream = stream or sys.stderr
        self._bar: RichProgress | None = None
        if self._stream.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(file=self._stream),
            )

    def __enter__(self) -> "Progress":
        self._start = self._last = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(self.label, total=self.total)
            self._bar.start()
        return self

    def advance(self, by: int = 1) -> None:
        """Counts ``by`` more."""
        self.done += by
        if self._bar is not None:
            self._bar.advance(self._task, by)
        elif time.monotonic() - self._last >= LINE_INTERVAL_S:
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        spent = self._last - self._start
        text = f"{self.label} {self.done}"
        if self.total:
            text += f"/{self.total} ({100 * self.done / self.total:.0f}%)"
        text += f", {spent:.0f} s"
        if self.total and 0 < self.done < self.total:
            text += f", about {spent * (self.total - self.done) / self.done:.0f} s left"
        print(text, file=self._stream, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._last > self._start:
            # What was quick enough never to show a line needs no last one either.
            self._line()


def progress(
    things: Iterable[T], total: int | None, label: str, stream: TextIO | None = None
) -> Iterator[T]:
    """The same things, counted as they pass. Arguments as :class:`Progress` takes them."""
    with Progress(total, label, stream) as counter:
        for thing in things:
            yield thing
            counter.advance()
