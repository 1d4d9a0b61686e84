"""The plugin *whoami* (docs/behaviour/plugins.md#whoami)."""

from __future__ import annotations

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import CacheScope
from svcdns.plugins.whoami import Options, Whoami
from svcdns.wire.codes import Class
from tests.support import world


def test_returns_address_port_and_transport() -> None:
    reply = world.now(
        world.handled(Whoami(Options(), world.environment()), world.query("example.org."), world.following())
    )
    assert world.summary(reply) == [
        "NOERROR",
        "add example.org. 0 IN A 192.0.2.1",
        "add _udp.example.org. 0 IN SRV 0 0 40000 .",
    ]
    assert reply.scope is CacheScope.CLIENT


def test_an_ipv6_client_over_tcp() -> None:
    client = Client("fe80::1%eth0", 5300, "fe80::2", 53, "tcp", 2)
    reply = world.now(
        world.handled(Whoami(Options(), world.environment()), world.query("a.b.", client=client), world.following())
    )
    assert world.summary(reply)[1:] == ["add a.b. 0 IN AAAA fe80::1", "add _tcp.a.b. 0 IN SRV 0 0 5300 ."]


def test_the_records_have_the_class_of_the_query() -> None:
    """CoreDNS returns the same class."""
    query = world.query("a.b.", rclass=Class.CH)
    reply = world.now(world.handled(Whoami(Options(), world.environment()), query, world.following()))
    assert [record.rclass for record in reply.additional] == [Class.CH, Class.CH]


def test_takes_no_arguments() -> None:
    assert world.options("whoami", "whoami") == Options()
    assert world.rejection("whoami", "whoami now").startswith("2:8 Wrong argument count")
