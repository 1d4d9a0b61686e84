"""Calling hooks. An exception is counted and logged with the plugin's name, and has no other effect."""

from __future__ import annotations

import logging

import pytest

from svcdns.plugin_api.hooks import PANICS, HookCaller
from svcdns.plugin_api.reuse import OUTSIDE, blame, no_reply, running
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import LIMIT
from tests.support import world


def failing(value: int) -> int:
    """A hook that raises KeyError."""
    raise KeyError(value)


def test_a_hook_that_raises_gives_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets the default value."""
    counters = Counters()
    hooks = HookCaller(counters)
    with caplog.at_level(logging.ERROR):
        assert hooks.call("tenant", 7, failing, 1) == 7
        assert hooks.wrapped("tenant", 8, failing)(2) == 8
    assert world.counted(counters) == {(PANICS.name,): 2.0}
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        ("svcdns.plugin.tenant", 'Recovered from a failure where="its hook failing"')
    ] * 2
    assert caplog.records[0].exc_info is not None
    assert running.current is OUTSIDE


def test_a_hook_that_does_not_raise_gives_its_result() -> None:
    counters = Counters()
    assert HookCaller(counters).call("tenant", None, str.upper, "a") == "A"
    assert world.counted(counters) == {}


@pytest.mark.parametrize(("plugin", "logger"), [("tenant", "svcdns.plugin.tenant"), ("", "svcdns")])
def test_a_failure_of_handle_is_logged_for_the_plugin_that_its_exception_names(
    plugin: str, logger: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the exception names several plugins, the first is used."""
    error = ValueError("x")
    blame(error, plugin)
    if plugin:
        blame(error, "another")
    with caplog.at_level(logging.ERROR):
        HookCaller(Counters()).failed(error, "the chain of dns://:53")
    assert [(r.name, r.getMessage()) for r in caplog.records] == [
        (logger, 'Recovered from a failure where="the chain of dns://:53"')
    ]


def test_a_breach_of_the_contract_is_logged_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The text of a ContractError names the plugin and says what to correct."""
    counters = Counters()
    with caplog.at_level(logging.ERROR):
        HookCaller(counters).failed(no_reply("tenant", None), "the chain of dns://:53")
    assert world.counted(counters) == {(PANICS.name,): 1.0}
    assert [(r.name, r.getMessage(), r.exc_info) for r in caplog.records] == [
        (
            "svcdns",
            'Recovered from a failure where="the chain of dns://:53" error="plugin/tenant: handle, or a function passed '
            "to 'then', returned None; a Reply was expected: is a 'return' missing?\"",
            None,
        )
    ]


def test_the_logged_failures_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    hooks = HookCaller(counters)
    for plugin in ("tenant", "another"):
        for _ in range(LIMIT + 5):
            hooks.failed(ValueError("x"), "the chain of dns://:53", plugin)
    assert [record.name for record in caplog.records] == [
        *["svcdns.plugin.tenant"] * LIMIT,
        *["svcdns.plugin.another"] * LIMIT,
    ]
    assert world.counted(counters) == {(PANICS.name,): 2.0 * (LIMIT + 5)}
