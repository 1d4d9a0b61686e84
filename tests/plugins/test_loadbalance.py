"""The plugin `loadbalance` (spec C-loadbalance)."""

from __future__ import annotations

import pytest

from svcdns.plugins.loadbalance import LoadBalance, Options
from svcdns.wire.codes import Rcode
from svcdns.wire.reply import Reply
from tests.support import world

MIXED = world.records(
    "b. 5 IN MX 10 m1.", "c. 5 IN A 10.0.0.1", "c. 5 IN A 10.0.0.2", "a. 5 IN CNAME c.", 'c. 5 IN TXT "x"', "b. 5 IN MX 20 m2."
)  # fmt: skip


def ask(reply: Reply, rtype: str = "A") -> Reply:
    """What the plugin makes of a reply."""
    return world.now(LoadBalance(Options(), world.environment()).handle(world.query("a.", rtype), world.following(reply)))


def test_puts_kinds_into_order_and_marks() -> None:
    """Aliases, others, addresses, mail exchanges; what order the addresses come in is the table's business."""
    reply = ask(Reply(answer=MIXED))
    kinds = [line.split()[3] for line in world.shown(reply.answer)]
    assert kinds == ["CNAME", "TXT", "A", "A", "MX", "MX"]
    assert reply.rotate


@pytest.mark.parametrize(
    ("reply", "rtype"),
    [
        pytest.param(Reply(answer=MIXED[1:2]), "A", id="one record"),
        pytest.param(Reply(rcode=Rcode.NXDOMAIN, answer=MIXED), "A", id="not NOERROR"),
        pytest.param(Reply(answer=MIXED), "AXFR", id="zone transfer"),
    ],
)
def test_leaves_alone(reply: Reply, rtype: str) -> None:
    """The reply comes back as it was."""
    assert ask(reply, rtype) is reply


def test_options() -> None:
    """Round robin alone is built; the rest says so."""
    assert world.options("loadbalance", "loadbalance") == world.options("loadbalance", "loadbalance round_robin") == Options()
    assert world.rejection("loadbalance", "loadbalance weighted w").startswith("2:13 policy 'weighted' is not built yet")
    assert world.rejection("loadbalance", "loadbalance {\n prefer 10.0.0.0/8\n}").startswith("3:2 option 'prefer' is not built yet")
    assert world.rejection("loadbalance", "loadbalance random").startswith("2:13 'random' is unknown")
