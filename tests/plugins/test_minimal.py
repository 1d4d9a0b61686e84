"""The plugin *minimal* (docs/behaviour/plugins.md#minimal)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugins.minimal import Minimal, Options
from svcdns.wire.codes import Rcode
from tests.support import world

A = world.records("a. 5 IN A 10.0.0.1")
SOA = world.records("z. 5 IN SOA ns. mail. 1 2 3 4 5")
NS = world.records("z. 5 IN NS ns.z.")


def ask(reply: Reply, rtype: str = "A") -> Reply:
    return world.now(Minimal(Options(), world.environment()).handle(world.query("a.", rtype), world.following(reply)))


def test_removes_sections() -> None:
    """The authority section, the additional section and the OPT record are removed. The reuse terms stay."""
    full = Reply(
        answer=A, authority=NS, additional=A, edns=world.edns(), lifetime=UNTIL_CHANGED, dependencies=(("x",),)
    )
    reply = ask(full)
    assert world.summary(reply) == ["NOERROR", "a. 5 IN A 10.0.0.1"]
    assert (reply.edns, reply.lifetime, reply.dependencies) == (None, UNTIL_CHANGED, (("x",),))


@pytest.mark.parametrize(
    ("reply", "rtype"),
    [
        pytest.param(Reply(Rcode.NXDOMAIN, authority=SOA, additional=A), "A", id="NXDOMAIN"),
        pytest.param(Reply(authority=SOA, additional=A), "A", id="NODATA"),
        pytest.param(Reply(authority=NS, additional=A), "A", id="delegation"),
        pytest.param(Reply(Rcode.REFUSED, additional=A), "A", id="error"),
        pytest.param(Reply(answer=A, additional=A), "AXFR", id="zone transfer"),
        pytest.param(rcode_only(Rcode.SERVFAIL, "broken"), "A", id="nobody wrote"),
        pytest.param(Reply(dropped=True), "A", id="silence"),
    ],
)
def test_unchanged_replies(reply: Reply, rtype: str) -> None:
    """Only complete answers are changed, and no zone transfers."""
    assert ask(reply, rtype) is reply


def test_a_reply_without_message_and_error() -> None:
    """As in CoreDNS, a reply of an rcode only, such as REFUSED for a zone transfer, becomes SERVFAIL."""
    assert ask(rcode_only(Rcode.REFUSED), "AXFR").rcode == Rcode.SERVFAIL


def test_takes_no_arguments() -> None:
    assert world.options("minimal", "minimal") == Options()
    assert world.rejection("minimal", "minimal now").startswith("2:9 Wrong argument count")
    assert world.rejection("minimal", "minimal {\n}").startswith("2:1 'minimal' takes no block")
