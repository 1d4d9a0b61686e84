"""The plugin *transfer*: permitted clients, forms of a transfer, and notifications
(docs/behaviour/plugins.md#transfer).
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import NOT_REUSABLE, Reply, rcode_only
from svcdns.plugin_api.zone_transfer import UnavailableError, ZoneOffer
from svcdns.plugins.transfer import Transfer
from svcdns.plugins.transfer.handler import MAX_TRANSFERS
from svcdns.wire import names
from svcdns.wire.codes import AA, CD, RD, TC, Rcode
from svcdns.wire.message import encode_reply
from svcdns.wire.record import Record
from svcdns.wire.request import Request
from tests.support import world
from tests.support.scripted_upstream import ScriptedUpstream, answer

TCP = Client("192.0.2.1", 40000, "192.0.2.53", 53, "tcp")
UDP = msgspec.structs.replace(TCP, protocol="udp")
SOA, *REST = world.records(
    "example.org. 60 IN SOA ns.example.org. root.example.org. 7 2 3 4 30", "a.example.org. 5 IN A 192.0.2.1"
)
OLD = world.records("example.org. 60 IN SOA ns.example.org. root.example.org. 6 2 3 4 30")[0]
NEXT_PLUGIN = Reply(rcode=Rcode.NXDOMAIN)
REFUSED = rcode_only(Rcode.REFUSED)
SERVFAIL = rcode_only(Rcode.SERVFAIL)


class Source:
    """A plugin that offers the zone example.org, with serial 7, and the differences from serials 5 and 6."""

    name = "source"

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, int]] = []

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Offers the zone example.org, raises an error for broken.example.org, and returns None for all other zones."""
        self.calls.append((zone, serial))
        if zone == names.from_text("broken.example.org."):
            raise UnavailableError("plugin/source: not loaded")
        if zone != names.from_text("example.org."):
            return None
        if serial in (5, 6):
            many = REST * (50 if serial == 5 else 1)
            return ZoneOffer(SOA, iter([(SOA,), (OLD,), (SOA,), many, (SOA,)]), is_incremental=True)
        return ZoneOffer(SOA, None if serial == 7 else iter([(SOA,), REST, (SOA,)]))


class NoSource(Plugin):
    """A plugin without zones."""

    name = "other"


def plugin(text: str = "transfer example.org {\n to *\n}", source: Source | None = None) -> Transfer:
    """Returns the plugin. Its block has a plugin without zones, and a plugin with a zone."""
    peers: tuple[Any, ...] = (NoSource(None, world.environment()), source or Source())
    return Transfer(world.options("transfer", text), world.environment(peers=lambda _: peers))


def ask(handler: Transfer, rtype: str = "AXFR", name: str = "example.org.", **fields: Any) -> Reply:
    """Queries the plugin as a client over TCP, and returns the reply."""
    return world.now(
        handler.handle(world.query(name, rtype, **{"client": TCP, **fields}), world.following(NEXT_PLUGIN))
    )


def sent(reply: Reply) -> list[str]:
    """Returns the records of a streamed reply."""
    assert reply.stream is not None
    return world.shown(record for portion in reply.stream for record in portion)


@pytest.mark.parametrize(
    ("rtype", "serial"),
    [
        pytest.param("AXFR", None, id="AXFR"),
        pytest.param("IXFR", 4, id="IXFR, too old"),
        pytest.param("IXFR", 0, id="IXFR, 0 stands for AXFR"),
    ],
)
def test_a_zone_is_sent_between_its_soas(rtype: str, serial: int | None) -> None:
    """AA is set, RD and CD are copied, and the reply is not reused."""
    source = Source()
    reply = ask(plugin(source=source), rtype, "Example.ORG.", serial=serial, flags=RD | CD)
    assert (reply.rcode, reply.flags, reply.lifetime) == (Rcode.NOERROR, AA | RD | CD, NOT_REUSABLE)
    assert sent(reply) == world.shown((SOA, *REST, SOA))
    assert source.calls == [(names.from_text("example.org."), serial or 0)]


def test_differences_are_sent_if_they_are_known(caplog: pytest.LogCaptureFixture) -> None:
    """IXFR over TCP has the form of RFC 1995 §4."""
    with caplog.at_level(logging.INFO):
        assert sent(ask(plugin(), "IXFR", serial=6)) == world.shown((SOA, OLD, SOA, *REST, SOA))
    assert caplog.messages == ["answered a transfer transfer=differences zone=example.org. serial=7 client=192.0.2.1"]


@pytest.mark.parametrize(
    ("serial", "size", "expected"),
    [
        pytest.param(6, None, (SOA, OLD, SOA, *REST, SOA), id="the differences"),
        pytest.param(5, None, (SOA,), id="differences that are too long: only the SOA record"),
        pytest.param(5, 4096, (SOA,), id="too long for the greatest size"),
        pytest.param(4, None, (SOA,), id="unknown differences"),
    ],
)
def test_ixfr_over_udp(serial: int, size: int | None, expected: tuple[Record, ...]) -> None:
    """A client that gets only a newer SOA record uses TCP (RFC 1995 §2)."""
    edns = None if size is None else world.edns(size)
    reply = ask(plugin(), "IXFR", serial=serial, client=UDP, edns=edns)
    assert (reply.answer, reply.flags, reply.lifetime) == (expected, AA | RD, NOT_REUSABLE)
    name = names.from_text("example.org.")
    request = Request(1, RD, name, 251, 1, name + b"\0\xfb\0\1", edns)
    limit = 512 if size is None else 1232
    assert not encode_reply(request, reply, limit, frozenset(), 1232)[2] & TC >> 8
    assert ask(plugin(), "IXFR", serial=7, client=UDP) == Reply(flags=RD, answer=(SOA,))


def test_ixfr_of_a_current_zone_is_its_soa() -> None:
    """As in CoreDNS, the answer is one message with the SOA record, and without AA."""
    assert ask(plugin(), "IXFR", serial=7) == Reply(flags=RD, answer=(SOA,))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"rtype": "A"}, NEXT_PLUGIN, id="other types: next plugin"),
        pytest.param({"client": UDP}, REFUSED, id="AXFR over UDP"),
        pytest.param({"client": UDP, "rtype": "IXFR"}, REFUSED, id="IXFR without a serial over UDP"),
        pytest.param(
            {"client": UDP, "rtype": "IXFR", "serial": 6, "name": "example.net."}, REFUSED, id="no rule, over UDP"
        ),
        pytest.param({"client": UDP, "name": "example.net."}, REFUSED, id="over UDP, whatever the zone"),
        pytest.param({"name": "example.net."}, NEXT_PLUGIN, id="zones without a rule: next plugin"),
        pytest.param({"name": "sub.example.org."}, NEXT_PLUGIN, id="unknown zones: next plugin"),
        pytest.param({"rtype": "IXFR"}, SERVFAIL, id="IXFR without a serial"),
        pytest.param(
            {"name": "broken.example.org."},
            rcode_only(Rcode.SERVFAIL, "plugin/source: not loaded"),
            id="a zone that is not loaded",
        ),
    ],
)
def test_queries_without_a_transfer(fields: dict[str, Any], expected: Reply) -> None:
    """The query gets REFUSED or SERVFAIL, or goes to the next plugin."""
    assert ask(plugin(), **fields) == expected


@pytest.mark.parametrize(
    ("to", "client", "allowed"),
    [
        pytest.param("192.0.2.1", "192.0.2.1", True, id="named"),
        pytest.param("192.0.2.1:5353", "192.0.2.1", True, id="named with a port"),
        pytest.param("192.0.2.2 192.0.2.1", "192.0.2.1", True, id="one of several"),
        pytest.param("2001:DB8:0::1", "2001:db8::1", True, id="IPv6 in another spelling"),
        pytest.param("fe80::1%eth0", "fe80::1%eth0", True, id="with a zone id"),
        pytest.param("192.0.2.2", "192.0.2.1", False, id="another client"),
        pytest.param("192.0.2.2 *", "192.0.2.1", True, id="any client"),
    ],
)
def test_clients_of_to_get_the_zone(to: str, client: str, *, allowed: bool) -> None:
    reply = ask(plugin(f"transfer example.org {{\n to {to}\n}}"), client=msgspec.structs.replace(TCP, address=client))
    assert (reply.stream is not None) == allowed
    assert allowed or reply == Reply(rcode=Rcode.REFUSED, flags=RD)


def test_the_longest_zone_decides() -> None:
    rules = "transfer . {\n to *\n}\ntransfer example.org {\n to 192.0.2.9\n}\ntransfer org {\n to *\n}"
    assert ask(plugin(rules)).rcode == Rcode.REFUSED


def test_active_transfers_are_bounded() -> None:
    """A transfer above MAX_TRANSFERS gets SERVFAIL. Transfers that were sent or closed do not count."""
    handler = plugin()
    streams = [ask(handler).stream for _ in range(MAX_TRANSFERS)]
    for stream in streams:
        assert stream is not None
        next(stream)
    assert ask(handler).rcode == Rcode.SERVFAIL
    assert streams[0] is not None
    streams[0].close()
    assert sent(ask(handler))


async def notified(to: str, *, zone: str = "example.org.", source: str = "") -> None:
    """Notifies the addresses, and waits for the end of the notifications."""
    handler = plugin(f"transfer example.org {{\n to {to}\n {source}\n}}")
    handler.notify(names.from_text(zone))
    for task in tuple(handler._tasks):
        await task


async def test_each_address_is_notified() -> None:
    """NOTIFY has the SOA record's question, and AA (RFC 1996 §3). The source address can be configured."""
    async with ScriptedUpstream() as one, ScriptedUpstream() as other:
        await notified(f"* 127.0.0.1:{one.port} 127.0.0.1:{other.port}", source="source 127.0.0.1")
        for upstream in (one, other):
            assert [(m.flags, names.to_text(m.name), m.rtype) for m, _ in upstream.asked] == [
                (4 << 11 | AA, "example.org.", 6)
            ]


async def test_notify_is_tried_three_times(caplog: pytest.LogCaptureFixture) -> None:
    """After three attempts, a warning names the address that did not accept the NOTIFY."""
    async with ScriptedUpstream(answer(rcode=Rcode.REFUSED)) as upstream:
        with caplog.at_level(logging.WARNING):
            await notified(f"127.0.0.1:{upstream.port}")
        assert len(upstream.asked) == 3
        assert caplog.messages == [
            f'a notification was not accepted zone=example.org. error="127.0.0.1:{upstream.port}: REFUSED"'
        ]


async def test_zones_without_a_rule_have_no_notifications() -> None:
    async with ScriptedUpstream() as upstream:
        await notified(f"127.0.0.1:{upstream.port}", zone="example.net.")
        assert upstream.asked == []
