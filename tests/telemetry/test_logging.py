"""Log lines (docs/behaviour/server.md#log-lines)."""

from __future__ import annotations

import logging
import os
import re

import pytest

from svcdns.telemetry.logging import (
    LIMIT,
    LIMIT_INTERVAL,
    LINE_OCTETS,
    LineFormatter,
    LineLimit,
    LineWriter,
    RepeatedWarnings,
    plugin_logger,
)
from tests.support import world


@pytest.mark.parametrize(
    ("name", "level", "line"),
    [
        pytest.param("svcdns", logging.INFO, "[INFO] text", id="own"),
        pytest.param("svcdns.plugin.reload", logging.WARNING, "[WARNING] plugin/reload: text", id="plugin"),
        pytest.param("svcdns", logging.CRITICAL, "[FATAL] text", id="fatal"),
    ],
)
def test_the_parts_of_a_line(name: str, level: int, line: str) -> None:
    assert LineFormatter().format(logging.LogRecord(name, level, "", 0, "te%s", ("xt",), None)) == line


def test_lines_are_written_in_one_piece_up_to_the_limit() -> None:
    """A longer line is cut off. Otherwise it could mix with lines of other processes."""
    read, write = os.pipe()
    writer = LineWriter(write)
    writer.setFormatter(LineFormatter())
    logger = logging.Logger("svcdns")
    logger.addHandler(writer)
    logger.error("x" * 10_000)
    writer.close()
    assert len(data := os.read(read, 20_000)) == LINE_OCTETS
    assert data.endswith(b" ...\n")
    os.close(read)
    os.close(write)


def test_lines_are_collected_for_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is lost, or divided between two writes."""
    written: list[bytes] = []
    monkeypatch.setattr("svcdns.telemetry.logging.os.write", lambda _fd, data: written.append(data) or len(data))
    writer = LineWriter()
    writer.setFormatter(LineFormatter())
    logger = logging.Logger("svcdns")
    logger.addHandler(writer)
    for number in range(2_000):
        logger.error("line %d", number)
    writer.close()
    assert b"".join(written) == b"".join(b"[ERROR] line %d\n" % number for number in range(2_000))
    assert all(data.endswith(b"\n") and len(data) <= LINE_OCTETS for data in written)
    assert len(written) < 500


def test_a_slow_reader_does_not_block() -> None:
    """Log lines that do not fit into the pipe are dropped and counted."""
    read, write = os.pipe()
    writer = LineWriter(write, lines=4)
    logger = logging.Logger("svcdns")
    logger.addHandler(writer)
    for _ in range(200):
        logger.error("y" * 3000)
    assert writer.dropped > 0
    os.close(read)
    writer.close()
    os.close(write)


def test_plugin_loggers_are_children_of_the_server_logger() -> None:
    """A single handler can then write the lines of all loggers."""
    assert plugin_logger("x").name == "svcdns.plugin.x"


def formatted(level: int) -> str:
    """Returns the text of a log record with an exception. The server's logger has the level `level`."""
    root = logging.getLogger("svcdns")
    before = root.level
    root.setLevel(level)
    fields: dict[str, str] = {}
    try:
        fields["name"]
    except KeyError as error:
        record = logging.LogRecord("svcdns", logging.ERROR, "", 0, "broken", (), (KeyError, error, error.__traceback__))
    try:
        return LineFormatter().format(record)
    finally:
        root.setLevel(before)


def test_an_exception_is_described_in_one_line() -> None:
    """The line has type, text and place. It has a traceback only if the level is DEBUG."""
    line = formatted(logging.INFO)
    assert line.startswith("[ERROR] broken error=\"KeyError: 'name'\" at=")
    assert re.search(r"test_logging\.py:\d+$", line)
    assert formatted(logging.DEBUG) == f"{line} traceback={line.partition(' at=')[2]}"


def test_lines_of_one_kind_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    """At most LIMIT lines are written in LIMIT_INTERVAL. The last line says how long further lines are left out."""
    clock, log = world.Clock(), plugin_logger("acl")
    limit = LineLimit(clock)
    clock.turn(20)
    for number in range(LIMIT + 5):
        limit.log(log, logging.ERROR, "query %d", number)
    assert [record.getMessage() for record in caplog.records] == [
        *(f"query {number}" for number in range(LIMIT - 1)),
        f"query {LIMIT - 1} (further lines like this one are left out for 40 s)",
    ]
    clock.turn(LIMIT_INTERVAL - 20)
    limit.log(log, logging.ERROR, "again")
    assert caplog.records[-1].getMessage() == "again"


class Lines(logging.Handler):
    """A handler that keeps the texts of all records."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the text of a record."""
        self.texts.append(record.getMessage())


def test_warnings_about_the_same_content_are_written_once() -> None:
    """Lines of other levels, of other content, and outside of the reading are always written."""
    handler, repeated, log = Lines(), RepeatedWarnings(), plugin_logger("tls")
    logger = logging.getLogger("svcdns")
    logger.addHandler(handler)
    try:
        for content in ("one", "one", "two", "one", None, None):
            with repeated.reading(content):
                log.warning("about %s", content)
                log.error("error")
            log.warning("outside")
    finally:
        logger.removeHandler(handler)
    written = [text for text in handler.texts if text.startswith("about")]
    assert written == ["about one", "about two", "about None", "about None"]
    assert (handler.texts.count("error"), handler.texts.count("outside")) == (6, 6)
