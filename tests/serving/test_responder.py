"""From a packet to its reply, and which replies the answer table stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import msgspec
import pytest

from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins.loadbalance.rotation import Rotation
from svcdns.process.cookie_secrets import private_page
from svcdns.serving.answer_table import NEGATIVE_LIFETIME, AnswerTable
from svcdns.serving.cookies import Cookies
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.metrics_flush import flush
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.wire.codes import AA, RD, Rcode
from svcdns.wire.record import Edns, Record
from tests.support.world import CLIENT, Clock, counted, records

REPLY = Reply(flags=AA | RD, answer=records("a.b. 5 IN A 192.0.2.1"), lifetime=UNTIL_CHANGED, dependencies=(("fact",),))


class World:
    """A responder whose chain returns a reply chosen by the test."""

    def __init__(self, reply: object = REPLY, protocol: str = "udp") -> None:
        self.reply, self.asked = reply, 0
        self.clock, self.counters = Clock(), Counters()
        listener = Listener("", 53)
        listener.routes[b"\1b\0"] = Route(b"\1b\0", "b.", self.chain, counted=True, writer="errors")
        self.table, self.in_flight = AnswerTable(1 << 24, self.clock), InFlight()
        metrics = QueryMetrics(self.counters, listener.server, protocol, 1)
        self.responder = Responder(listener, self.table, metrics, protocol, self.in_flight)
        self.sent: list[bytes] = []

    def chain(self, query: Query) -> Answer:
        """Counts the query, and returns or raises what the test has chosen."""
        self.asked += 1
        assert query.edns is None or all(code != 11 for code, _ in query.edns.options)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply  # type: ignore[return-value]

    def ask(self, name: str = "a.b.", rtype: str = "A", **options: Any) -> bytes:
        """Sends a query. Returns the reply, or empty octets if there is none."""
        packet = dns.message.make_query(name, rtype, **options).to_wire()
        self.responder.answer(packet, CLIENT, self.sent.append, 0.0)
        return self.sent.pop() if self.sent else b""


def rcode(wire: bytes) -> str:
    return dns.rcode.to_text(dns.message.from_wire(wire).rcode())


def test_edns_of_a_reply() -> None:
    """The EDNS size that the chain set limits the reply. Only options that the listener declares as `echoed` are
    copied.
    """
    world = World()

    def chain(query: Query) -> Answer:
        query.edns = Edns(600, options=((65001, b"kept"), (65002, b"dropped")))
        return Reply(answer=records(*(f"a.b. 5 IN A 192.0.2.{n}" for n in range(60))))

    world.responder.listener.routes[b"\1b\0"] = Route(b"\1b\0", "b.", chain)
    world.responder.listener.echoed = frozenset({65001})
    reply = dns.message.from_wire(world.ask(payload=4096))
    assert (reply.payload, [(int(option.otype), option.to_wire()) for option in reply.options]) == (
        1232,
        [(65001, b"kept")],
    )
    assert 500 < len(reply.to_wire()) <= 600


def test_a_reply_is_stored_for_the_second_query() -> None:
    """The entry has the octets of the reply after the message ID."""
    world = World()
    first, second = world.ask(), world.ask()
    assert len(world.table) == 1
    assert first[2:] == second[2:] == next(iter(world.table.current.values())).wires[0]


def test_a_negative_answer_with_an_soa_is_stored_for_a_while() -> None:
    """The serial in the SOA record changes without an invalidation, so the entry expires after `NEGATIVE_LIFETIME`."""
    soa = records("b. 5 IN SOA ns.b. host.b. 1 2 3 4 5")
    for authority, kept in (((), True), (soa, False)):
        world = World(
            Reply(rcode=Rcode.NXDOMAIN, authority=authority, lifetime=UNTIL_CHANGED, dependencies=(("fact",),))
        )
        world.ask(id=1), world.ask(id=1)
        (key,) = world.table.current
        assert world.table.find(key, world.clock() + NEGATIVE_LIFETIME - 1) is not None
        assert (world.table.find(key, world.clock() + NEGATIVE_LIFETIME + 1) is not None) is kept


def test_replies_that_may_not_be_reused_are_not_stored() -> None:
    """A reply may not be reused if it has no lifetime, or is for one client only."""
    for reply in (Reply(), Reply(lifetime=UNTIL_CHANGED, scope=CacheScope.CLIENT), rcode_only(Rcode.SERVFAIL)):
        world = World(reply)
        world.ask()
        world.ask()
        assert len(world.table) == 0


async def test_a_reply_that_came_after_a_change_is_not_stored() -> None:
    """A deferred reply may depend on data that was invalidated since the query."""

    async def later() -> Reply:
        return REPLY

    world = World(later())
    world.table.seen_before(dns.message.make_query("a.b.", "A", id=1).to_wire()[2:])
    world.ask()
    world.table.invalidate([("other",)])
    while world.in_flight:
        await asyncio.sleep(0)
    assert world.sent
    assert len(world.table) == 0


def test_a_query_with_a_deferred_reply_is_in_flight_until_the_reply_is_set() -> None:
    world, later = World(None), Deferred()
    world.reply = later
    assert world.ask() == b""
    assert len(world.in_flight) == 1
    later.set(REPLY)
    assert rcode(world.sent.pop()) == "NOERROR"
    assert len(world.in_flight) == 0


def test_a_chain_that_fails_with_a_deferred_reply(caplog: pytest.LogCaptureFixture) -> None:
    """If the chain raises, the client gets SERVFAIL, and the error is logged."""

    def broken(_: Reply) -> Reply:
        raise ValueError("broken")

    world, later = World(None), Deferred()
    world.reply = later
    world.ask()
    later.then(broken)
    later.set(REPLY)
    assert rcode(world.sent.pop()) == "SERVFAIL"
    assert "ValueError: broken" in caplog.text
    assert len(world.in_flight) == 0


def test_a_failure_tells_clients_with_edns_why() -> None:
    """Clients with EDNS get SERVFAIL with an extended error (RFC 8914), other clients SERVFAIL without
    an OPT record.
    """
    world = World(Reply(rcode=Rcode.SERVFAIL, has_message=False, extended=22))
    reply = dns.message.from_wire(world.ask(use_edns=0, payload=1232))
    assert (reply.rcode(), [(int(option.otype), option.to_wire()) for option in reply.options]) == (
        2,
        [(15, b"\0\x16")],
    )
    assert dns.message.from_wire(world.ask()).edns == -1


def test_refusals_come_before_any_chain() -> None:
    """Queries of another class, or for the zone of no block, are REFUSED."""
    world = World()
    assert rcode(world.ask("a.c.")) == "REFUSED"
    assert rcode(world.ask("a.b.", rdclass="CH")) == "REFUSED"
    assert world.asked == 0
    assert counted(world.counters)["coredns_dns_requests_total", "dns://:53", "dropped", "", "udp", "1", "A"] == 2


def test_other_versions_of_edns() -> None:
    """The client gets BADVERS with version 0. No plugin is called."""
    wire = World().ask(use_edns=1)
    message = dns.message.from_wire(wire)
    assert (message.rcode(), message.edns, message.payload) == (dns.rcode.BADVERS, 0, 1232)
    assert message.ednsflags & dns.flags.DO == 0
    assert dns.message.from_wire(World().ask(use_edns=1, want_dnssec=True)).ednsflags & dns.flags.DO
    assert rcode(World().ask("a.c.", use_edns=1)) == "BADVERS"
    assert rcode(World().ask("a.b.", rdclass="CH", use_edns=1)) == "REFUSED"


def test_a_chain_that_fails() -> None:
    world = World(ValueError("on purpose"))
    assert rcode(world.ask()) == "SERVFAIL"
    assert counted(world.counters)["coredns_panics_total",] == 1


def test_a_dropped_query() -> None:
    assert World(Reply(dropped=True)).ask() == b""


def test_replies_of_an_rcode_alone_have_the_question_and_opt() -> None:
    message = dns.message.from_wire(World(rcode_only(Rcode.REFUSED)).ask(use_edns=0, payload=1400))
    assert (message.question[0].to_text(), message.payload) == ("a.b. IN A", 1232)


def test_load_balanced_replies_are_stored_in_rotations() -> None:
    """A rotation is an encoding of the reply that begins with another address. Five addresses make five rotations."""
    answer = records(*(f"a.b. 5 IN A 192.0.2.{n}" for n in range(5)))
    world = World(Reply(answer=answer, rotate=Rotation, lifetime=UNTIL_CHANGED))
    world.ask()
    world.ask()
    entry = next(iter(world.table.current.values()))
    firsts = {dns.message.from_wire(b"\0\0" + wire).answer[0][0].to_text() for wire in entry.wires}
    heads = [wire.rsplit(b"\xc0\x0c")[1][-4:] for wire in entry.wires]
    assert len(entry.wires) == 5
    assert len(set(heads)) == 5
    assert firsts


def test_hits_are_flushed_into_the_metrics() -> None:
    """After a flush, every reply is counted exactly once. Plugins' counters are included."""
    world = World()
    cell = world.counters.cell(Family("hits_total", MetricKind.COUNTER, "A plugin's."))
    world.reply = Reply(answer=REPLY.answer, lifetime=UNTIL_CHANGED, increments=((cell, 1.0),))
    world.ask()
    world.ask()
    entry = next(iter(world.table.current.values()))
    before = world.counters.values[cell]
    for _ in range(10):
        world.table.use(entry)
    for _ in (*flush(world.responder), *flush(world.responder)):
        pass
    found = counted(world.counters)
    assert found["coredns_dns_requests_total", "dns://:53", "b.", "", "udp", "1", "A"] == 12
    assert found["coredns_dns_responses_total", "dns://:53", "b.", "", "NOERROR", "errors"] == 12
    assert found["coredns_dns_request_size_bytes", "dns://:53", "b.", "", "udp"] == 12
    assert world.counters.values[cell] - before == 10


@pytest.mark.parametrize(
    ("count", "size", "shown"),
    [pytest.param(40, 0, 40, id="40 at 512"), pytest.param(500, 1232, 500, id="500 at 1232")],
)
def test_truncated_replies_show_every_address_in_turn(count: int, size: int, shown: int) -> None:
    """An endpoint that does not fit into one truncated reply is in one of the next replies."""
    answer = records(*[f"a.b. 5 IN A 10.0.{n >> 8}.{n & 255}" for n in range(count)])
    world = World(Reply(answer=answer, rotate=Rotation, lifetime=UNTIL_CHANGED))
    options: dict[str, Any] = {"use_edns": 0, "payload": size} if size else {}
    for _ in range(2):
        assert dns.message.from_wire(world.ask(**options)).flags & dns.flags.TC
    (entry,) = world.table.current.values()
    seen = {
        rdata.to_text()
        for wire in entry.wires
        for rrset in dns.message.from_wire(b"\0\0" + wire).answer
        for rdata in rrset
    }
    assert len(seen) == shown


def test_the_first_answer_after_a_change_is_in_random_order() -> None:
    answer = records(*[f"a.b. 5 IN A 10.0.0.{n}" for n in range(8)])
    world = World(Reply(answer=answer, rotate=Rotation, lifetime=UNTIL_CHANGED, dependencies=(("fact",),)))
    first = set()
    for _ in range(60):
        first.add(dns.message.from_wire(world.ask()).answer[0][0].to_text())
        world.table.invalidate([("fact",)])
    assert len(first) > 5


def keepalive(wire: bytes) -> list[float | None]:
    """Returns the idle timeouts in a reply's keepalive options, in seconds."""
    options = dns.message.from_wire(wire).options
    return [
        None if len(option.to_wire()) != 2 else int.from_bytes(option.to_wire(), "big") / 10
        for option in options
        if option.otype == 11
    ]


ASKS: dict[str, Any] = {"use_edns": 0, "options": [dns.edns.GenericOption(dns.edns.OptionType(11), b"")]}


def test_keepalive_over_tcp() -> None:
    """A client that sends the keepalive option gets the idle timeout (RFC 7828 §3.2.2). Plugins do not see the option,
    and the option of an upstream is not passed on.
    """
    world = World(protocol="tcp")
    world.reply = Reply(
        flags=AA, answer=REPLY.answer, edns=Edns(1232, options=((11, b"\0\7"), (15, b"\0\3"))), lifetime=UNTIL_CHANGED
    )
    for _ in range(3):
        wire = world.ask(**ASKS)
        assert keepalive(wire) == [10.0]
        assert [option.otype for option in dns.message.from_wire(wire).options] == [15, 11]
    assert keepalive(world.ask(use_edns=0)) == []
    assert keepalive(world.ask(use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType(10), bytes(8))])) == []
    packet = dns.message.make_query("a.b.", "A", **ASKS).to_wire()
    assert keepalive(world.responder.lookup(packet, CLIENT, 0.0)) == [10.0]


def test_keepalive_when_connections_end() -> None:
    """After `announce_end`, each reply has a keepalive timeout of 0, even if it was stored before."""
    world = World(protocol="tcp")
    packet = dns.message.make_query("a.b.", "A", **ASKS).to_wire()
    for _ in range(3):
        world.ask(**ASKS)
    assert world.responder.lookup(packet, CLIENT, 0.0)
    world.responder.announce_end()
    for _ in range(3):
        assert keepalive(world.ask(**ASKS)) == [0.0]
    assert keepalive(world.responder.lookup(packet, CLIENT, 0.0)) == [0.0]


def test_keepalive_over_udp() -> None:
    """The keepalive option is ignored over UDP (RFC 7828 §3.2.1)."""
    world = World()
    packet = dns.message.make_query("a.b.", "A", **ASKS).to_wire()
    for _ in range(3):
        wire = world.ask(**ASKS)
        assert keepalive(wire) == []
        assert dns.message.from_wire(wire).edns == 0
    world.responder.announce_end()
    assert keepalive(world.responder.lookup(packet, CLIENT, 0.0)) == []
    assert world.responder.lookup(packet, CLIENT, 0.0)


COOKIE = bytes(range(8))


def with_cookie(data: bytes = COOKIE, *more: tuple[int, bytes], **options: Any) -> dict[str, Any]:
    """Returns the options of a query with a cookie."""
    made = [dns.edns.GenericOption(dns.edns.OptionType(code), content) for code, content in ((10, data), *more)]
    return {"use_edns": 0, "options": made, **options}


def cookie_of(wire: bytes) -> bytes:
    """Returns the cookie in a reply, or empty octets if there is none."""
    found = [option.to_wire() for option in dns.message.from_wire(wire).options if option.otype == 10]
    return b"".join(found)


def cookie_world(reply: Any = REPLY, protocol: str = "udp") -> World:
    """Returns a responder that makes server cookies."""
    world = World(reply, protocol)
    world.responder.cookies = Cookies(private_page())
    return world


def test_a_client_cookie_gets_a_server_cookie() -> None:
    """Source: RFC 7873 §5.2.3. Clients with and without cookies share the stored reply, which has no cookie. Plugins do
    not see the cookie.
    """
    world = cookie_world()
    world.ask(use_edns=0)
    plain = world.ask(use_edns=0)
    asked = world.asked
    packet = dns.message.make_query("a.b.", "A", **with_cookie()).to_wire()
    wire = world.responder.lookup(packet, CLIENT, 0.0)
    cookie = cookie_of(wire)
    assert (cookie[:8], len(cookie)) == (COOKIE, 24)
    assert world.asked == asked
    assert len(wire) == len(plain) + 28
    other = world.responder.lookup(packet, msgspec.structs.replace(CLIENT, address="192.0.2.77"), 0.0)
    assert cookie_of(other)[:8] == COOKIE
    assert cookie_of(other) != cookie
    assert all(b"\0\x0a\0" not in stored for entry in world.table.current.values() for stored in entry.wires)


def test_options_of_one_hop_are_not_for_plugins() -> None:
    """COOKIE, TCP keepalive and PADDING are only for this server. Plugins and upstreams do not get these options."""
    world = cookie_world(protocol="tcp")
    seen: list[Edns | None] = []
    chain = world.chain

    def recorded(query: Query) -> Answer:
        seen.append(query.edns)
        return chain(query)

    world.responder.listener.routes[b"\1b\0"] = Route(b"\1b\0", "b.", recorded, counted=True, writer="errors")
    world.ask(**with_cookie(COOKIE, (11, b""), (12, bytes(4)), (65001, b"x")))
    assert [edns.options for edns in seen if edns is not None] == [((65001, b"x"),)]


def test_a_request_for_a_server_cookie() -> None:
    world = cookie_world()
    query = dns.message.make_query("a.b.", "A", **with_cookie())
    query.question = []
    world.responder.answer(query.to_wire(), CLIENT, world.sent.append, 0.0)
    assert cookie_of(world.sent[0])[:8] == COOKIE
    assert len(cookie_of(world.sent[0])) == 24
    assert world.asked == 0


def test_replies_to_clients_with_cookies_are_stored_without_them() -> None:
    """The second query with a cookie stores the reply for all clients."""
    world = cookie_world()
    for number in range(2):
        assert cookie_of(world.ask(**with_cookie(bytes([number]) * 8)))[:8] == bytes([number]) * 8
    assert len(world.table) == 1
    packet = dns.message.make_query("a.b.", "A", use_edns=0).to_wire()
    assert world.responder.lookup(packet, CLIENT, 0.0)


@pytest.mark.parametrize("cookie", [COOKIE, COOKIE + bytes(16), COOKIE + b"\1\0\0\0" + bytes(12)])
def test_an_invalid_server_cookie_is_replaced(cookie: bytes) -> None:
    """The client is answered, and gets a valid server cookie (RFC 7873 §5.2.4)."""
    seen: list[bool] = []

    def chain(query: Query) -> Answer:
        seen.append(query.has_valid_cookie)
        return REPLY

    world = cookie_world()
    world.responder.listener.routes[b"\1b\0"] = Route(b"\1b\0", "b.", chain)
    wire = world.ask(**with_cookie(cookie))
    assert rcode(wire) == "NOERROR"
    again = world.ask(**with_cookie(cookie_of(wire)))
    assert cookie_of(again) == cookie_of(wire)
    assert seen == [False, True]


def test_a_reply_with_a_cookie_stays_within_the_clients_size() -> None:
    """If there is no room for the cookie, the reply is truncated."""
    answer = records(*[f"a.b. 5 IN A 192.0.2.{n}" for n in range(29)])
    world = cookie_world(Reply(answer=answer, lifetime=UNTIL_CHANGED))
    world.ask(**with_cookie(payload=512))
    for wire in (
        world.ask(**with_cookie(payload=512)),
        world.responder.lookup(dns.message.make_query("a.b.", "A", **with_cookie(payload=512)).to_wire(), CLIENT, 0.0),
    ):
        message = dns.message.from_wire(wire)
        assert message.flags & dns.flags.TC
        assert len(cookie_of(wire)) == 24
        assert len(wire) <= 512
    assert not dns.message.from_wire(world.ask(use_edns=0, payload=512)).flags & dns.flags.TC


@pytest.mark.parametrize(
    ("transport", "padded"),
    [pytest.param("dns", False, id="TCP"), pytest.param("tls", True, id="TLS")],
)
def test_padding(transport: str, padded: bool) -> None:
    """A padded query over TLS gets a reply whose length is a multiple of 468 octets (RFC 8467 §4.1)."""
    world = cookie_world(protocol="tcp")
    world.responder.listener.transport = transport
    options = with_cookie(COOKIE, (12, bytes(50)))
    packet = dns.message.make_query("a.b.", "A", **options).to_wire()
    wires = [world.ask(**options), world.ask(**options), world.responder.lookup(packet, CLIENT, 0.0)]
    for wire in wires:
        codes = [int(option.otype) for option in dns.message.from_wire(wire).options]
        assert codes == ([10, 12] if padded else [10])
        assert (len(wire) % 468 == 0) is padded


def test_octets_after_a_query_are_ignored_and_counted() -> None:
    """The reply is not stored, because each such packet may be different."""
    world = World()
    for _ in range(3):
        world.responder.answer(
            dns.message.make_query("a.b.", "A").to_wire() + b"more", CLIENT, world.sent.append, world.clock()
        )
        assert rcode(world.sent[-1]) == "NOERROR"
    assert len(world.table) == 0
    assert counted(world.counters)["svcdns_malformed_queries_total", "dns://:53", "udp", "trailing"] == 3


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        pytest.param(b"\0", "short", id="short"),
        pytest.param(b"\0\0\x80" + bytes(9), "response", id="response"),
        pytest.param(b"\0\0\x20" + bytes(9), "opcode", id="NOTIFY"),
    ],
)
def test_malformed_queries_are_counted_by_reason(packet: bytes, reason: str) -> None:
    world = World()
    world.responder.answer(packet, CLIENT, world.sent.append, world.clock())
    assert world.asked == 0
    assert counted(world.counters)["svcdns_malformed_queries_total", "dns://:53", "udp", reason] == 1


def test_records_of_another_class_are_refused() -> None:
    """A query of class CH never gets a record of class IN, whatever the chain answers."""
    world = World()
    route = world.responder.listener.routes[b"\1b\0"]
    world.responder.listener.any_class = True
    world.responder.listener.routes[b"\1b\0"] = replace(route, any_class=True)
    assert rcode(world.ask("a.b.", rdclass="CH")) == "REFUSED"
    assert world.asked == 1
    world.reply = Reply(answer=(Record(b"\1a\1b\0", 16, 0, b"\1x", 3),))
    assert rcode(world.ask("a.b.", rdclass="CH")) == "NOERROR"


def test_notify() -> None:
    """A NOTIFY message that a plugin accepts gets a reply with AA (RFC 1996 §4.7). Any other gets NOTIMP."""
    world, asked = World(), []

    def notified(zone: bytes, address: str) -> bool:
        asked.append((zone, address))
        return zone == b"\1a\1b\0"

    def ask(name: str, opcode: str = "NOTIFY") -> dns.message.Message:
        message = dns.message.make_query(name, "SOA", flags=0)
        message.set_opcode(dns.opcode.from_text(opcode))
        world.responder.answer(message.to_wire(), CLIENT, world.sent.append, 0.0)
        return dns.message.from_wire(world.sent.pop())

    assert ask("a.b.").rcode() == dns.rcode.NOTIMP
    world.responder.listener.notified = (notified,)
    reply = ask("A.b.")
    assert (reply.rcode(), reply.opcode(), bool(reply.flags & dns.flags.AA)) == (0, dns.opcode.NOTIFY, True)
    assert reply.question[0].name.to_text() == "A.b."
    assert asked == [(b"\1a\1b\0", CLIENT.address)]
    assert ask("c.b.").rcode() == dns.rcode.NOTIMP
    assert ask("a.b.", "UPDATE").rcode() == dns.rcode.NOTIMP
    world.responder.answer(b"\0\1\x20\0\0\1\0\0\0\0\0\0\1a", CLIENT, world.sent.append, 0.0)
    assert rcode(world.sent.pop()) == "NOTIMP"
