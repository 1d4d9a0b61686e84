"""The options of *timeouts*."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugins.timeouts import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "timeouts"),
    [
        pytest.param("timeouts {\n read 1\n}", Timeouts(read=1.0), id="a bare number is seconds"),
        pytest.param("timeouts {\n write 1m30s\n idle 24h\n}", Timeouts(write=90.0, idle=86400.0), id="durations"),
        pytest.param("timeouts {\n maxtcpqueries 5\n}", Timeouts(queries=5), id="queries"),
        pytest.param("timeouts {\n maxtcpqueries -1\n}", Timeouts(queries=-1), id="no limit"),
        pytest.param("timeouts {\n read 5s\n}\ntimeouts {\n idle 5s\n}", Timeouts(idle=5.0), id="the last one counts"),
    ],
)
def test_reads(text: str, timeouts: Timeouts) -> None:
    """Options that are not given keep their defaults."""
    assert world.options("timeouts", text) == Options(timeouts)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("timeouts", "2:1 timeouts: at least one of read, write, idle, maxtcpqueries", id="nothing"),
        pytest.param("timeouts {\n}", "2:1 timeouts: at least one of", id="nothing in braces"),
        pytest.param("timeouts 5s {\n read 1\n}", "2:10 Wrong argument count", id="argument"),
        pytest.param("timeouts {\n read 0\n}", "3:7 '0' is out of range; 1s to 24h", id="too short"),
        pytest.param("timeouts {\n idle 25h\n}", "3:7 '25h' is out of range", id="too long"),
        pytest.param("timeouts {\n read soon\n}", "3:7 'soon' is not a duration", id="word"),
        pytest.param("timeouts {\n maxtcpqueries 0\n}", "3:16 0 is out of range", id="no query"),
        pytest.param("timeouts {\n reed 5s\n}", "3:2 unknown property 'reed' (did you mean 'read'?)", id="unknown"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("timeouts", text).startswith(error)
