"""The plugin `shed` (docs/plugins/shed.md)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.shed import Options, Shed
from tests.support import world


def test_queries_pass() -> None:
    """The handler changes no query and no reply, and takes part in all fast paths."""
    plugin, reply = Shed(Options(), world.environment()), Reply()
    assert world.now(plugin.handle(world.query("x."), world.following(reply))) is reply
    assert plugin.join_fast_path(FastPath())
    assert plugin.join_cold_path(ColdPath())
    assert plugin.name_independent(b"\0")


def test_it_configures_the_sockets() -> None:
    assert Shed.settings(world.options("shed", "shed")).sheds


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("shed extra", "2:6 Wrong argument count", id="argument"),
        pytest.param("shed {\n depth 10\n}", "3:2 shed takes no options", id="option"),
        pytest.param("shed\nshed", "3:1 ", id="twice"),
    ],
)
def test_rejected_options(text: str, error: str) -> None:
    assert world.rejection("shed", text).startswith(error)


def test_plain_dns_only() -> None:
    """A key of another transport is an error that names the key."""
    found = world.rejection("shed", "shed", zones="example.org tls://.")
    assert found.endswith('only plain DNS server blocks are supported; "tls://.:853" uses transport "tls"')
