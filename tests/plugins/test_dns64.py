"""The plugin *dns64* (docs/behaviour/plugins.md#dns64, RFC 6147)."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins.dns64 import Dns64, embedded, gather
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import AA, RA, RD, TC, Rcode, Type
from tests.support import world

SOA = world.records("example.org. 60 IN SOA ns. root. 1 2 3 4 90")
NODATA = Reply(flags=AA, authority=SOA, lifetime=30.0, dependencies=(("first",),))
A = Reply(
    flags=AA | RA,
    answer=world.records(
        "a.example.org. 600 IN CNAME b.example.org.",
        "b.example.org. 300 IN A 192.0.2.33",
        "b.example.org. 5 IN A 10.0.0.1",
    ),
    lifetime=UNTIL_CHANGED,
    dependencies=(("second",),),
)
OVER_IPV4 = Client("192.0.2.1", 40000, "192.0.2.53", 53, "udp")
OVER_IPV6 = Client("2001:db8::1", 40000, "2001:db8::53", 53, "udp", 2)


class Translating:
    """The plugin *dns64*, with prepared replies to the AAAA query and to the A query."""

    def __init__(self, text: str = "dns64", first: Reply = NODATA, second: Reply = A) -> None:
        """Creates the plugin from the directive `text`."""
        self.counters, self.asked = Counters(), list[tuple[str, int]]()
        self.first, self.second = first, second
        self.plugin = Dns64(world.options("dns64", text), world.environment(counters=self.counters))

    def _server(self, query: Query) -> Answer:
        self.asked.append((query.name.decode(), query.rtype))
        return self.second

    def ask(self, rtype: str = "AAAA", client: Client = OVER_IPV6, **fields: Any) -> Reply:
        query = world.query("A.Example.org.", rtype, ask=self._server, client=client, server="dns://:53", **fields)
        return world.now(world.handled(self.plugin, query, world.following(self.first)))


def test_maps_the_addresses() -> None:
    """A records become AAAA records. The TTL of the SOA record limits their TTLs. Other records stay."""
    translating = Translating()
    reply = translating.ask()
    assert world.summary(reply) == [
        "NOERROR",
        "a.example.org. 600 IN CNAME b.example.org.",
        "b.example.org. 60 IN AAAA 64:ff9b::c000:221",
        "b.example.org. 5 IN AAAA 64:ff9b::a00:1",
    ]
    assert reply.flags == RD
    assert translating.asked == [("\1a\7example\3org\0", Type.A)]
    assert (reply.lifetime, set(reply.dependencies)) == (30.0, {("first",), ("second",)})
    counted = ("coredns_dns64_requests_translated_total", "dns://:53")
    assert world.counted(translating.counters) == {counted: 1}
    assert [amount for _, amount in reply.increments] == [1.0]


def test_ttls_that_count_down_end_the_reply() -> None:
    """Each TTL is the smaller of two TTLs. One of them goes down, so the reply expires at the next second."""
    second = Reply(answer=A.answer, lifetime=30.0, next_second=0.5)
    reply = Translating(second=second).ask()
    assert (reply.lifetime, reply.next_second) == (0.5, UNTIL_CHANGED)


def test_600_seconds_without_a_soa() -> None:
    """Without an SOA record, translated records have a TTL of at most 600 seconds."""
    second = Reply(answer=world.records("a. 900 IN A 10.0.0.1"))
    assert Translating(first=Reply(), second=second).ask().answer[0].ttl == 600


@pytest.mark.parametrize(
    ("text", "first", "fields", "translated"),
    [
        pytest.param("dns64", NODATA, {"rtype": "A"}, False, id="another type"),
        pytest.param("dns64", NODATA, {"rclass": 3}, False, id="another class"),
        pytest.param("dns64", NODATA, {"client": OVER_IPV4}, False, id="over IPv4"),
        pytest.param("dns64 {\n allow_ipv4\n}", NODATA, {"client": OVER_IPV4}, True, id="allow_ipv4"),
        pytest.param(
            "dns64 64:ff9b::/96 {\n allow_ipv4\n}", NODATA, {"client": OVER_IPV4}, False, id="behind a prefix"
        ),
        pytest.param("dns64", Reply(rcode=Rcode.NXDOMAIN, authority=SOA), {}, False, id="NXDOMAIN"),
        pytest.param("dns64", Reply(rcode=Rcode.SERVFAIL), {}, True, id="an error of somebody else"),
        pytest.param("dns64", rcode_only(Rcode.SERVFAIL), {}, False, id="an error of our own"),
        pytest.param("dns64", Reply(answer=world.records("a. 5 IN AAAA ::1")), {}, False, id="has an address"),
        pytest.param(
            "dns64 {\n translate_all\n}", Reply(answer=world.records("a. 5 IN AAAA ::1")), {}, True, id="translate_all"
        ),
        pytest.param("dns64", Reply(answer=A.answer[:1]), {}, True, id="an alias alone"),
    ],
)
def test_translates(text: str, first: Reply, fields: dict[str, Any], translated: bool) -> None:
    """*dns64* translates AAAA queries of class IN over IPv6, if the reply has no address and is not NXDOMAIN."""
    translating = Translating(text, first)
    translating.ask(**fields)
    assert bool(translating.asked) is translated


def test_an_error_of_the_second_query_is_an_empty_answer() -> None:
    """The second query is the A query. The reply keeps its TC flag."""
    reply = Translating(second=Reply(rcode=Rcode.SERVFAIL, flags=TC)).ask()
    assert (reply.rcode, reply.answer, reply.flags) == (Rcode.NOERROR, (), RD | TC)


def test_the_scope() -> None:
    """Replies to AAAA queries are for a client class, unless all clients get the same reply."""
    plugin = Translating().plugin
    assert [plugin.client_class(address) for address in ("10.0.0.1", "2001:db8::1", "192.0.2.1")] == ["4", "6", "4"]
    assert Translating().ask().scope is CacheScope.CLIENT_CLASS
    assert Translating().ask(client=OVER_IPV4).scope is CacheScope.CLIENT_CLASS
    assert Translating().ask(rtype="A").scope is CacheScope.SHARED
    assert Translating("dns64 {\n allow_ipv4\n}").ask().scope is CacheScope.SHARED


async def test_deferred_replies() -> None:
    """The reply to the AAAA query, or to the A query, may be deferred."""

    async def soon(reply: Reply) -> Reply:
        return reply

    plugin = Translating().plugin
    query = world.query("a.", "AAAA", ask=lambda _: soon(A), client=OVER_IPV6)
    reply = await world.soon(world.handled(plugin, query, lambda _: soon(NODATA)))
    assert [record.rtype for record in reply.answer] == [Type.CNAME, Type.AAAA, Type.AAAA]


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        pytest.param("2001:db8::/32", "2001:db8:c000:221::", id="32"),
        pytest.param("2001:db8:100::/40", "2001:db8:1c0:2:21::", id="40"),
        pytest.param("2001:db8:122::/48", "2001:db8:122:c000:2:2100::", id="48"),
        pytest.param("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::", id="56"),
        pytest.param("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0", id="64"),
        pytest.param("2001:db8:122:344::/96", "2001:db8:122:344::c000:221", id="96"),
    ],
)
def test_the_examples_of_rfc_6052(prefix: str, address: str) -> None:
    """The examples are in RFC 6052 §2.4."""
    options = world.options("dns64", f"dns64 {prefix}")
    assert options == world.options("dns64", f"dns64 {{\n prefix {prefix}\n}}")
    assert ipaddress.ip_address(embedded(options.prefix, bytes((192, 0, 2, 33)))) == ipaddress.ip_address(address)


def test_options_after_a_prefix(caplog: pytest.LogCaptureFixture) -> None:
    """As in CoreDNS, other options before a second `prefix` have no effect. A line is logged."""
    options = world.options("dns64", "dns64 64:ff9b:1::/96 {\n translate_all\n prefix 64:ff9b:2::/96\n}")
    assert (options.translate_all, options.prefix[:6]) == (False, bytes.fromhex("0064ff9b0002"))
    assert gather(options, {}) == {}
    assert "option=translate_all position=Corefile:3" in caplog.text


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("dns64 a b", "2:9 Wrong argument count", id="too many"),
        pytest.param("dns64 10.0.0.0/8", "2:7 '10.0.0.0/8' is not a prefix; an IPv6 prefix of 32", id="IPv4"),
        pytest.param("dns64 64:ff9b::", "2:7 '64:ff9b::' is not a prefix", id="no length"),
        pytest.param("dns64 {\n prefix 64:ff9b::/97\n}", "3:9 '64:ff9b::/97' is not a prefix", id="length"),
        pytest.param("dns64 {\n prefix\n}", "3:2 Wrong argument count", id="no prefix"),
        pytest.param("dns64 {\n translate\n}", "3:2 unknown property 'translate'", id="unknown"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("dns64", text).startswith(error)
