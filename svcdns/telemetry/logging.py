"""Writes log lines in CoreDNS's form (docs/behaviour/server.md#log-lines), in a separate thread.

In `[INFO] plugin/reload: text`, the prefix is the name of the logger `svcdns.plugin.<name>`. Rules:

1. A slow reader of the log never blocks a process. Lines that do not fit into the queue are dropped and counted.
2. Each write has complete lines and at most PIPE_BUF octets, so that lines of different processes do not mix.
3. Each event has one line.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from svcdns.log_line import LogLine, printable
from svcdns.telemetry.counters import Counters, Family, MetricKind

QUEUE_LINES: Final = 8192
LIMIT: Final = 20
"""The most lines of one kind that a LineLimit writes in LIMIT_INTERVAL."""
LIMIT_INTERVAL: Final = 60.0
"""In seconds."""
LINE_OCTETS: Final = 4096
WRITE_INTERVAL: Final = 0.01
"""Seconds between two writes; lines are collected meanwhile."""
KNOWN_CONTENTS: Final = 4
"""The most contents whose WARNING lines a `RepeatedWarnings` remembers."""
ROOT: Final = "svcdns"
PLUGIN_PREFIX: Final = "svcdns.plugin."
_root: Final = logging.getLogger(ROOT)

DROPPED: Final = Family(
    "svcdns_log_lines_dropped_total",
    MetricKind.COUNTER,
    "Log lines dropped because the reader of the log was too slow.",
)


class LineFormatter(logging.Formatter):
    """Formats a record as `[LEVEL] text`, with `plugin/<name>: ` before the text of a plugin's loggers."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the log line of a record.

        An exception is described in the fields of the same line. With the level DEBUG, a field has the traceback.
        """
        text = printable(record.getMessage())
        if record.name.startswith(PLUGIN_PREFIX):
            text = f"plugin/{record.name.removeprefix(PLUGIN_PREFIX)}: {text}"
        level = "FATAL" if record.levelno >= logging.CRITICAL else record.levelname
        if record.exc_info and record.exc_info[1] is not None:
            has_traceback = logging.getLogger(ROOT).isEnabledFor(logging.DEBUG)
            text = LogLine(text, **_described(record.exc_info[1], has_traceback=has_traceback))
        return f"[{level}] {text}"


def _described(error: BaseException, *, has_traceback: bool) -> dict[str, object]:
    """Returns the fields for an exception: its type and text, and the file and line where it was raised.

    With `has_traceback`, the third field has all frames; the last frame raised the exception.
    """
    frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return {"error": text, "at": frames[-1] if frames else None, "traceback": frames if has_traceback else None}


class LineLimit:
    """Limits the number of log lines of one kind."""

    __slots__ = ("_clock", "_lines", "_since")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns the time in seconds."""
        self._clock, self._since, self._lines = clock, clock(), 0

    def log(
        self, log: logging.Logger, level: int, text: str, *arguments: object, error: BaseException | None = None
    ) -> None:
        """Writes a line, with an exception if there is one. Writes at most LIMIT lines in LIMIT_INTERVAL.

        The last of them states that further lines are left out.
        """
        now = self._clock()
        if now - self._since >= LIMIT_INTERVAL:
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines < LIMIT:
            log.log(level, text, *arguments, exc_info=error)
        elif self._lines == LIMIT:
            left = self._since + LIMIT_INTERVAL - now
            if isinstance(text, LogLine):
                text = LogLine(text.text, **text.fields, further_lines_left_out_seconds=round(left))
            else:
                text = f"{text} (further lines like this one are left out for {left:.0f} s)"
            log.log(level, text, *arguments, exc_info=error)


class LineWriter(logging.Handler):
    """Passes lines to a thread, which writes them to a file descriptor."""

    def __init__(self, fd: int = 1, lines: int = QUEUE_LINES) -> None:
        """Writes to the descriptor `fd`. At most `lines` lines wait in the queue."""
        super().__init__()
        self.dropped = 0
        """The number of lines that were dropped."""
        self._fd, self._limit = fd, lines
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._waiting = self._closing = False
        """True if the thread waits for a line. True if the thread ends after the last line."""
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queues the line of a record, or drops it if the queue is full."""
        self.queue_line(self.format(record))

    def queue_line(self, text: str) -> None:
        """Queues a line, or drops it if the queue is full."""
        line = text.encode(errors="replace")
        if b"\n" in line:
            line = line.replace(b"\n", b"\\n")
        if len(line) >= LINE_OCTETS:
            line = line[: LINE_OCTETS - 5] + b" ..."
        if len(self._lines) >= self._limit:
            self.dropped += 1
            return
        self._lines.append(line + b"\n")
        if self._waiting:
            self._waiting = False
            self._wake.set()

    def close(self) -> None:
        """Waits until the queued lines are written, for about two seconds at most."""
        self._closing = True
        self._wake.set()
        self._thread.join(2)
        super().close()

    def _write(self) -> None:
        while True:
            while self._lines:
                lines = self._collect()
                try:
                    os.write(self._fd, b"".join(lines))
                except BlockingIOError:
                    self.dropped += len(lines)
                except OSError:
                    return
            if self._closing:
                return
            time.sleep(WRITE_INTERVAL)
            self._wake.clear()
            self._waiting = True
            if not self._lines and not self._closing:  # looked at after `_waiting` is set: no line is overlooked
                self._wake.wait()
            self._waiting = False

    def _collect(self) -> list[bytes]:
        """Takes as many lines out of the queue as fit into one write. Call it only if the queue is not empty."""
        lines = [self._lines.popleft()]
        size = len(lines[0])
        while self._lines and size + len(self._lines[0]) <= LINE_OCTETS:
            lines.append(self._lines.popleft())
            size += len(lines[-1])
        return lines


class RepeatedWarnings(logging.Filter):
    """Drops WARNING lines that were written already when the same content was read before."""

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[object, set[str]] = {}
        self._texts: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns False for a WARNING line that was written before for the same content."""
        if record.levelno != logging.WARNING:
            return True
        text = f"{record.name} {record.getMessage()}"
        is_new = text not in self._texts
        self._texts.add(text)
        return is_new

    @contextmanager
    def reading(self, content: object) -> Iterator[None]:
        """A context manager in which a file with `content` is read; a digest of the content will do.

        If `content` is None, no line is dropped.
        """
        if content is None or (content not in self._written and len(self._written) >= KNOWN_CONTENTS):
            self._written.clear()
        self._texts = self._written.setdefault(content, set())
        handlers = tuple(logging.getLogger(ROOT).handlers)
        for handler in handlers:
            handler.addFilter(self)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(self)


def set_up() -> LineWriter:
    """Sends all records of the logger `svcdns`, from level INFO up, to standard output."""
    writer = LineWriter()
    writer.setFormatter(LineFormatter())
    logger = logging.getLogger(ROOT)
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(writer)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return writer


def write_info(text: str) -> None:
    """Writes a line of level INFO, as the logger `svcdns` does.

    If the lines go only to a `LineWriter`, a call takes a quarter of the time of a logger's call.
    """
    handlers = _root.handlers
    if len(handlers) == 1 and not _root.propagate and not _root.filters:
        [writer] = handlers
        if type(writer) is LineWriter and not writer.filters and type(writer.formatter) is LineFormatter:
            if _root.isEnabledFor(logging.INFO):
                writer.queue_line(f"[INFO] {text}")
            return
    _root.info("%s", text)


def write_line(text: str) -> None:
    """Writes a line as it is, without a level before it. Without a `LineWriter`, the logger `svcdns` gets the line."""
    writers = [handler for handler in _root.handlers if isinstance(handler, LineWriter)]
    for writer in writers:
        writer.queue_line(text)
    if not writers:
        _root.info("%s", text)


class DroppedLines:
    """The metric of log lines that this process has dropped."""

    def __init__(self, counters: Counters) -> None:
        """The first call of `flush` also counts lines that were dropped before this object was made."""
        self._counters, self._cell = counters, counters.cell(DROPPED)
        self._seen = 0

    def flush(self) -> None:
        """Increases the metric by the number of lines that were dropped since the previous call of this method."""
        dropped = sum(
            handler.dropped for handler in logging.getLogger(ROOT).handlers if isinstance(handler, LineWriter)
        )
        self._counters.add(self._cell, dropped - self._seen)
        self._seen = dropped


def plugin_logger(name: str) -> logging.Logger:
    """Returns the logger of a plugin."""
    return logging.getLogger(PLUGIN_PREFIX + name)
