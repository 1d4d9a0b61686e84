"""The plugin *errors* (docs/behaviour/plugins.md#errors)."""

from __future__ import annotations

import logging

import pytest

from svcdns.corefile.regex import compiled
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.errors import Errors, Rule
from svcdns.wire.codes import Rcode
from tests.support import world

TIMED_OUT = rcode_only(Rcode.SERVFAIL, "192.0.2.53:53: i/o timeout")


class Logged:
    """The plugin *errors* with a clock that the test moves, and the lines that the plugin logged."""

    def __init__(self, text: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self.clock = world.Clock()
        self._caplog = caplog
        self.plugin = Errors(
            world.options("errors", text), world.environment(clock=self.clock, log=logging.getLogger("errors-test"))
        )

    def see(self, *replies: Reply) -> None:
        """Passes replies through the plugin *errors*."""
        for reply in replies:
            assert world.now(self.plugin.handle(world.query("example.org."), world.following(reply))) is reply

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Returns level and text of each log line."""
        return [(record.levelname, record.getMessage()) for record in self._caplog.records]


def test_logs_code_name_type_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    """A reply without an error is not logged."""
    logged = Logged("errors", caplog)
    logged.see(TIMED_OUT, rcode_only(Rcode.NXDOMAIN), Reply())
    assert logged.lines == [("ERROR", "2 example.org. A: 192.0.2.53:53: i/o timeout")]


def test_consolidates(caplog: pytest.LogCaptureFixture) -> None:
    """Errors that match are logged as one line with their number, at the end of the period."""
    logged = Logged("errors {\n consolidate 30s timeout$ warning\n}", caplog)
    logged.see(TIMED_OUT, TIMED_OUT, rcode_only(Rcode.SERVFAIL, "refused"))
    assert logged.lines == [("ERROR", "2 example.org. A: refused")]
    logged.clock.turn(29)
    logged.plugin.tick()
    assert len(logged.lines) == 1
    logged.clock.turn(1)
    logged.plugin.tick()
    assert logged.lines[1:] == [("WARNING", "2 errors like 'timeout$' occurred in last 30s")]
    logged.plugin.tick()
    assert len(logged.lines) == 2


def test_shows_the_first_and_the_rest_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """With `show_first`, the first error is logged immediately. When the plugin stops, it logs the number of all
    errors.
    """
    logged = Logged("errors {\n consolidate 1m30s timeout show_first\n}", caplog)
    logged.see(TIMED_OUT, TIMED_OUT, TIMED_OUT)
    assert logged.lines == [("ERROR", "2 example.org. A: 192.0.2.53:53: i/o timeout")]
    logged.plugin.stop()
    assert logged.lines[1:] == [("ERROR", "3 errors like 'timeout' occurred in last 1m30s")]


def test_reads_rules() -> None:
    """A rule may have a level, `show_first`, or both."""
    text = "errors stdout {\n stacktrace\n consolidate 5m a info show_first\n consolidate 500ms b show_first\n}"
    assert world.options("errors", text).rules == (
        Rule(300.0, compiled("a"), logging.INFO, show_first=True),
        Rule(0.5, compiled("b"), show_first=True),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("errors stderr", "2:8 'stderr' is unknown", id="place"),
        pytest.param("errors {\n consolidate 0s x\n}", "3:14 '0s' is not above 0", id="period"),
        pytest.param("errors {\n consolidate 1s (\n}", "3:17 '(' is not a regular expression", id="pattern"),
        pytest.param("errors {\n consolidate 1s x loud\n}", "3:19 'loud' is unknown", id="level"),
        pytest.param(
            "errors {\n consolidate 1s x info y\n}", "3:24 'y' is unknown; show_first was expected", id="show_first"
        ),
        pytest.param("errors\nerrors", "3:1 plugin/errors: this plugin can only be used once", id="twice"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("errors", text).startswith(error)
