"""Log lines (docs/behaviour/server.md#log-lines)."""

from __future__ import annotations

import logging
import os

import pytest

from svcdns.telemetry.logging import LINE_OCTETS, LineFormatter, LineWriter, plugin_logger


@pytest.mark.parametrize(
    ("name", "level", "line"),
    [
        pytest.param("svcdns", logging.INFO, "[INFO] text", id="own"),
        pytest.param("svcdns.plugin.reload", logging.WARNING, "[WARNING] plugin/reload: text", id="plugin"),
        pytest.param("svcdns", logging.CRITICAL, "[FATAL] text", id="fatal"),
    ],
)
def test_lines(name: str, level: int, line: str) -> None:
    """A log line has the level, the plugin if there is one, and the text."""
    assert LineFormatter().format(logging.LogRecord(name, level, "", 0, "te%s", ("xt",), None)) == line


def test_lines_are_written_in_one_piece_up_to_the_limit() -> None:
    """A line that is too long is cut off, so that it is written at once and does not mix with other processes'
    lines.
    """
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
    """Log lines are written together, and none is lost or split between two writes."""
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
    """A plugin's logger is a child of the server's logger, so that one handler writes all lines."""
    assert plugin_logger("x").name == "svcdns.plugin.x"
