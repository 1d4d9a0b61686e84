"""The plugin *nsid*."""

from __future__ import annotations

import socket

import pytest

from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.nsid import Nsid, Options
from svcdns.wire.codes import Rcode
from svcdns.wire.record import Edns
from tests.support import world

ASKS = world.edns(options=((3, b""),))


def ask(reply: Reply, edns: Edns | None = ASKS) -> Reply:
    return world.now(
        Nsid(Options("one two"), world.environment()).handle(world.query("a.", edns=edns), world.following(reply))
    )


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(None, Edns(options=((3, b"one two"),)), id="a new OPT"),
        pytest.param(Edns(512, options=((10, b"c"),)), Edns(512, options=((10, b"c"), (3, b"one two"))), id="added"),
        pytest.param(
            Edns(512, options=((3, b"other"),)), Edns(512, options=((3, b"one two"),)), id="in the place of another's"
        ),
    ],
)
def test_adds_the_identifier(made: Edns | None, expected: Edns) -> None:
    """If the reply has no OPT record, one is added."""
    assert ask(Reply(edns=made)).edns == expected


@pytest.mark.parametrize(
    ("reply", "edns"),
    [
        pytest.param(Reply(), None, id="no EDNS"),
        pytest.param(Reply(), world.edns(options=((10, b"c"),)), id="another option"),
        pytest.param(rcode_only(Rcode.SERVFAIL), ASKS, id="nobody wrote"),
        pytest.param(Reply(dropped=True), ASKS, id="silence"),
    ],
)
def test_unchanged_replies(reply: Reply, edns: Edns | None) -> None:
    """The query does not ask for NSID."""
    assert ask(reply, edns) is reply


def test_options() -> None:
    """The words are joined by a space. The default is the host name."""
    assert world.options("nsid", "nsid a  b") == Options("a b")
    assert world.options("nsid", "nsid") == Options()
    own = world.now(Nsid(Options(), world.environment()).handle(world.query("a.", edns=ASKS), world.following(Reply())))
    assert own.edns is not None
    assert own.edns.options == ((3, socket.gethostname().encode()),)
    assert "once per Server Block" in world.rejection("nsid", "nsid a\nnsid b")
