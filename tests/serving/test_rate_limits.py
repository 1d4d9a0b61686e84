"""Rate limits. The same limits apply to replies of the chain, stored replies and shared negative answers."""

from __future__ import annotations

from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.rate_limit import MAX_AMPLIFICATION, Verdict
from svcdns.plugin_api.reply import UNTIL_CHANGED, Increment, Reply, rcode_only
from svcdns.plugins.loadbalance.rotation import Rotation
from svcdns.process.cookie_secrets import private_page
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.cookies import Cookies
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.metrics_flush import flush
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters, Family, MetricKind
from svcdns.wire.codes import AA, RD, Rcode
from svcdns.wire.record import Edns
from tests.support.world import CLIENT, Clock, counted, records

REPLY = Reply(flags=AA | RD, answer=records("a.b. 5 IN A 192.0.2.1"), lifetime=UNTIL_CHANGED)
MANY = Reply(answer=records(*(f"a.b. 5 IN A 192.0.2.{n}" for n in range(25))), rotate=Rotation, lifetime=UNTIL_CHANGED)
NXDOMAIN = Reply(rcode=Rcode.NXDOMAIN, authority=records("b. 5 IN SOA ns.b. h.b. 1 2 3 4 5"), lifetime=UNTIL_CHANGED)
OTHER = Client("198.51.100.7", 5, "192.0.2.53", 53, "udp")
SHORTENED = Family("shortened", MetricKind.COUNTER, "For this test.")


class ScriptedLimiter:
    """A limiter that returns the verdicts of the test, and afterwards SEND."""

    error_account = b"error"

    def __init__(self, counters: Counters) -> None:
        self.verdicts: list[Verdict] = []
        self.debited: list[tuple[str, bytes]] = []
        self.refused, self.broken, self.admitted = False, False, 0
        self._counters = counters

    def covers(self, key: bytes) -> bool:
        """Returns False for names that begin with `free`."""
        return not key.startswith(b"\4free")

    def account(self, query: Query, reply: Reply) -> bytes:
        """Returns the name and the rcode."""
        return query.key + bytes((reply.rcode,))

    def admits(self, address: str) -> bool:
        """Counts the queries. Raises an exception if the test wants that."""
        assert address
        self.admitted += 1
        if self.broken:
            raise ValueError("broken")
        return not self.refused

    def debit(self, address: str, account: bytes) -> Verdict:
        self.debited.append((address, account))
        if self.broken:
            raise ValueError("broken")
        return self.verdicts.pop(0) if self.verdicts else Verdict.SEND

    def count_shortened(self) -> Increment:
        self._counters.count(SHORTENED)
        return self._counters.cell(SHORTENED), 1.0


class World:
    """A responder with a scripted limiter."""

    def __init__(self, reply: Answer = REPLY, protocol: str = "udp", **route: Any) -> None:
        self.reply, self.asked, self.counters = reply, 0, Counters()
        self.limiter = ScriptedLimiter(self.counters)
        self.listener = Listener("", 53, limiter=self.limiter)
        self.listener.routes[b"\1b\0"] = Route(
            b"\1b\0", "b.", self.chain, counted=True, writer="test", limiter=self.limiter, **route
        )
        self.table = AnswerTable(1 << 24, Clock())
        self.cookies = Cookies(private_page())
        metrics = QueryMetrics(self.counters, self.listener.server, protocol, 1)
        self.responder = Responder(self.listener, self.table, metrics, protocol, InFlight(), self.cookies)
        self.from_table = 0

    def chain(self, _query: Query) -> Answer:
        self.asked += 1
        return self.reply

    def serve(self, packet: bytes, client: Client = CLIENT) -> bytes:
        """Returns the reply that a UDP reader would send, or empty octets if there is none."""
        lookup = self.responder.lookup_limited if self.responder.limited else self.responder.lookup
        wire = lookup(packet, client, 0.0)
        if wire is None or wire:
            self.from_table += 1
            return wire or b""
        sent: list[bytes] = []
        self.responder.answer(packet, client, sent.append, 0.0)
        assert len(sent) == 1
        return sent[0]

    def ask(self, name: str = "a.b.", client: Client = CLIENT, **options: Any) -> bytes:
        """Sends a query for a name, and returns the reply."""
        return self.serve(dns.message.make_query(name, "A", **options).to_wire(), client)

    def count(self) -> float:
        """Returns the number of queries in the server's metrics."""
        for _ in flush(self.responder):
            pass
        return sum(value for key, value in counted(self.counters).items() if key[0] == "coredns_dns_requests_total")


def cookie(data: bytes = b"8 octets") -> dict[str, Any]:
    """Returns the options of a query with a cookie."""
    return {"use_edns": 0, "payload": 1232, "options": [dns.edns.GenericOption(dns.edns.OptionType(10), data)]}


def cookie_of(wire: bytes) -> bytes:
    """Returns the cookie in a reply."""
    options = dns.message.from_wire(wire).options
    return next((one.to_wire() or b"" for one in options if one.otype == 10), b"")


def encloser(_key: bytes, _rtype: int) -> Encloser:
    """Returns the zone as the closest encloser: no name exists in it."""
    return Encloser(b"\1b\0", "", frozenset(), b"", ())


@pytest.mark.parametrize("warm", [0, 1, 2, 5])
def test_replies_over_the_limit_are_dropped(warm: int, caplog: pytest.LogCaptureFixture) -> None:
    """The limit applies to replies of the chain and of the answer table. Nothing is logged."""
    world = World()
    for _ in range(warm):
        assert dns.message.from_wire(world.ask()).answer
    world.limiter.verdicts = [Verdict.DROP, Verdict.DROP]
    assert [world.ask(), world.ask()] == [b"", b""]
    assert dns.message.from_wire(world.ask()).answer
    assert len(world.limiter.debited) == warm + 3, "each query debits its account once"
    assert world.count() == warm + 1
    assert not caplog.records


@pytest.mark.parametrize("warm", [0, 3])
def test_the_limit_comes_before_the_chain_for_queries(warm: int) -> None:
    """A query that `admits` refuses gets no reply, and reaches no plugin."""
    world = World()
    for _ in range(warm):
        world.ask()
    asked, world.limiter.refused = world.asked, True
    assert world.ask() == b""
    assert world.asked == asked
    assert world.limiter.admitted == warm + 1, "each query is counted once"


@pytest.mark.parametrize("warm", [0, 3])
def test_a_reply_over_the_limit_may_be_sent_truncated(warm: int) -> None:
    """The reply has TC, the rcode, the question and an OPT record, and no other record."""
    world = World(NXDOMAIN)
    for _ in range(warm):
        world.ask(use_edns=0, id=7)
    world.limiter.verdicts = [Verdict.TRUNCATE]
    reply = dns.message.from_wire(world.ask(use_edns=0, id=8))
    assert (reply.id, reply.rcode(), reply.edns) == (8, dns.rcode.NXDOMAIN, 0)
    assert reply.flags & dns.flags.TC
    assert [reply.question[0].to_text(), reply.answer, reply.authority] == ["a.b. IN A", [], []]
    assert world.count() == warm


def test_shared_negative_answers_are_limited() -> None:
    """Each query for a random name debits the account once, although the answer is shared."""
    world = World(NXDOMAIN, closest_encloser=encloser)
    names = [f"{letter}.b." for letter in "cdefgh"]
    for name in names[:4]:
        assert dns.message.from_wire(world.ask(name)).rcode() == dns.rcode.NXDOMAIN
    assert (world.asked, world.from_table) == (1, 3)
    world.limiter.verdicts = [Verdict.DROP, Verdict.TRUNCATE]
    assert world.ask(names[4]) == b""
    assert dns.message.from_wire(world.ask(names[5])).flags & dns.flags.TC
    for name in names[:4]:
        assert dns.message.from_wire(world.ask(name)).rcode() == dns.rcode.NXDOMAIN
    assert len(world.limiter.debited) == 10


def test_errors_before_any_chain_are_limited() -> None:
    """The account of errors is debited for malformed queries, other EDNS versions and refused names."""
    world = World()
    packet = dns.message.make_query("a.b.", "A").to_wire()
    packets = [packet[:5] + b"\2" + packet[6:], packet[:14], dns.message.make_query("a.b.", "A", use_edns=1).to_wire()]
    for one in packets:
        assert world.serve(one)
        world.limiter.verdicts = [Verdict.DROP]
        assert world.serve(one) == b""
    assert {account for _, account in world.limiter.debited} == {b"error"}
    world.limiter.verdicts = [Verdict.DROP]
    assert world.ask("a.elsewhere.") == b""
    assert world.serve(b"\0\1\x81\0" + packet[4:]) == b"", "a packet with QR set gets no reply in any case"
    assert len(world.limiter.debited) == 7


def test_names_outside_the_zones_are_not_limited() -> None:
    world = World(MANY)
    world.limiter.refused = True
    for _ in range(4):
        assert len(world.ask("free.b.")) > 400
    assert world.limiter.debited == []


def test_clients_over_tcp_are_not_limited() -> None:
    world = World(MANY, protocol="tcp")
    world.limiter.refused = True
    assert [len(dns.message.from_wire(world.ask()).answer[0]) for _ in range(3)] == [25] * 3
    assert world.responder.uniform
    assert not World().responder.uniform


def test_clients_with_a_valid_cookie_are_not_limited() -> None:
    world = World(MANY)
    valid = cookie_of(world.ask(**cookie()))
    shared = len(world.limiter.debited)
    world.limiter.refused = True
    for _ in range(4):
        reply = dns.message.from_wire(world.ask(**cookie(valid)))
        assert (len(reply.answer[0]), reply.flags & dns.flags.TC) == (25, 0)
    assert len(world.limiter.debited) == shared
    assert world.ask(client=OTHER, **cookie(valid)) == b""
    world.limiter.refused = False
    for _ in range(4):
        assert dns.message.from_wire(world.ask(client=OTHER, **cookie(valid))).flags & dns.flags.TC
        assert dns.message.from_wire(world.ask(**cookie(valid))).flags & dns.flags.TC == 0


def test_short_replies_are_shared_with_clients_with_a_cookie() -> None:
    """A reply that is short enough for every client is stored once."""
    world = World()
    valid = cookie_of(world.ask(**cookie()))
    for _ in range(3):
        world.ask(**cookie(valid))
    asked = world.asked
    assert dns.message.from_wire(world.ask(client=OTHER, use_edns=0, payload=1232)).answer
    assert (world.asked, len(world.table)) == (asked, 1)
    world.limiter.verdicts = [Verdict.DROP]
    assert world.ask(client=OTHER, use_edns=0, payload=1232) == b""


@pytest.mark.parametrize("warm", [0, 3])
def test_a_client_with_a_client_cookie_gets_badcookie(warm: int) -> None:
    world = World()
    for _ in range(warm):
        world.ask(**cookie())
    world.limiter.verdicts = [Verdict.TRUNCATE]
    wire = world.ask(**cookie())
    reply = dns.message.from_wire(wire)
    assert (reply.rcode(), reply.flags & dns.flags.TC, reply.answer) == (dns.rcode.BADCOOKIE, 0, [])
    world.limiter.refused = True
    assert dns.message.from_wire(world.ask(**cookie(cookie_of(wire)))).answer


@pytest.mark.parametrize("warm", [0, 1, 2, 4])
def test_no_reply_is_longer_than_three_times_the_query(warm: int) -> None:
    """A longer reply is truncated with TC, and counted, whatever the order of its records is."""
    world, packet = World(MANY), dns.message.make_query("a.b.", "A", use_edns=0, payload=4096).to_wire()
    for _ in range(warm + 1):
        wire = world.serve(packet)
        assert len(wire) <= MAX_AMPLIFICATION * len(packet)
        assert dns.message.from_wire(wire).flags & dns.flags.TC
        assert dns.message.from_wire(wire).answer
    for _ in flush(world.responder):
        pass
    assert counted(world.counters)["shortened",] == warm + 1


def test_a_reply_with_long_options_is_truncated() -> None:
    """If the OPT record makes the reply too long, the options are left out."""
    world = World(Reply(answer=REPLY.answer, edns=Edns(0, options=((3, bytes(500)),)), lifetime=UNTIL_CHANGED))
    packet = dns.message.make_query("a.b.", "A", use_edns=0).to_wire()
    for _ in range(4):
        wire = world.serve(packet)
        assert len(wire) <= MAX_AMPLIFICATION * len(packet)
        assert dns.message.from_wire(wire).flags & dns.flags.TC


def test_the_length_of_a_reply_with_a_cookie() -> None:
    query = dns.message.make_query(
        "a.b.", "A", use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(8))]
    )
    for tail in (b"", b"\0"):
        world, packet = World(MANY), query.to_wire() + tail
        for _ in range(4):
            assert len(world.serve(packet)) <= MAX_AMPLIFICATION * len(packet)


@given(
    st.binary(max_size=80) | st.builds(
        lambda name, options, size, tail: dns.message.make_query(
            name, "A", use_edns=0, payload=size,
            options=[dns.edns.GenericOption(dns.edns.OptionType(code), data) for code, data in options],
        ).to_wire() + tail,
        st.sampled_from(["a.b.", "free.b.", "b.", ".", "x.y."]),
        st.lists(st.tuples(st.sampled_from([3, 8, 10, 11, 12, 15, 65001]), st.binary(max_size=40)), max_size=3),
        st.integers(0, 65535),
        st.binary(max_size=3),
    ),
    st.sampled_from([REPLY, MANY, NXDOMAIN, rcode_only(Rcode.SERVFAIL)]),
    st.lists(st.sampled_from(list(Verdict)), min_size=4, max_size=4),
)  # fmt: skip
def test_the_length_of_replies_to_any_packet(packet: bytes, reply: Reply, verdicts: list[Verdict]) -> None:
    """Without a valid cookie, a client gets at most three times the octets that it sent."""
    world = World(reply)
    world.listener.echoed = frozenset({65001})
    for verdict in verdicts:
        world.limiter.verdicts = [verdict]
        wire = world.serve(packet)
        if b"\4free" not in packet:
            assert len(wire) <= MAX_AMPLIFICATION * len(packet)


@pytest.mark.parametrize("warm", [0, 3])
def test_a_limiter_that_fails(warm: int, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for _ in range(warm):
        world.ask()
    world.limiter.broken = True
    assert dns.message.from_wire(world.ask()).answer
    assert "ValueError: broken" in caplog.text
    assert counted(world.counters)["coredns_panics_total",] == 2
