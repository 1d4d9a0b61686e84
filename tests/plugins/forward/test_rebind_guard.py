"""The rebind guard, which finds aliases into internal zones and private addresses in upstream replies."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from time import process_time

import dns.message
import dns.rrset
import pytest

from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.rebind_guard import RebindGuard, is_private
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.message import parse_message
from svcdns.wire.simple_reply import scan
from tests.support import world
from tests.support.outside import Outside, assert_same, both_ways, query, replying, shape
from tests.support.scripted_upstream import ScriptedUpstream

OWN = tuple(map(names.from_text, ("cluster.local.", "example.com.")))
"""The zones that the server answers itself."""
INSIDE = "www.example.org. 60 IN CNAME web.default.svc.Cluster.local."
BEHIND = "web.default.svc.cluster.local. 60 IN A 203.0.113.1"
PRIVATE = "www.example.org. 60 IN A 10.1.2.3"
ONE_PUBLIC = {4: bytes((203, 10, 10, 10)), 16: ipaddress.ip_address("2001:a::a:a").packed}
PUBLIC = "www.example.org. 60 IN A 203.0.113.1"


class Guarded:
    """The rebind guard of a *forward* rule, for the replies of one upstream."""

    def __init__(self, options: str = "", source: str = ".", zones: str = ".") -> None:
        self._rule = world.options("forward", f"forward {source} 192.0.2.1 {{\n{options}\n}}", zones=zones).rules[0]

    def screened(
        self, answer: Sequence[str], additional: Sequence[str] = (), rtype: str = "A"
    ) -> tuple[list[str], ...]:
        """Returns the remaining answer and additional records of a reply, and what was counted.

        Asserts that a simple reply passes if no record is removed, and that the same is counted then.
        """
        reply = dns.message.make_response(dns.message.make_query(answer[0].split()[0], rtype))
        for section, lines in ((reply.answer, answer), (reply.additional, additional)):
            for line in lines:
                name, ttl, rclass, rdtype, rdata = line.split(maxsplit=4)
                section.append(dns.rrset.from_text(name, int(ttl), rclass, rdtype, rdata))
        message = parse_message(reply.to_wire())
        key, counters = message.name.lower(), Counters()
        removed = self._guard(counters).screen(message, key, "upstream")
        simple = scan(reply.to_wire(), 16 + len(key), message.rtype)
        if simple is not None:
            others = Counters()
            assert self._guard(others).may_pass(simple, key, "upstream") is not removed
            assert removed or world.counted(others) == world.counted(counters)
        counted = [f"{value:g} {' '.join(labels[2:])}" for labels, value in world.counted(counters).items()]
        return world.shown(message.answer), world.shown(message.additional), counted

    def _guard(self, counters: Counters) -> RebindGuard:
        return RebindGuard(self._rule, lambda: OWN, Cells(counters))


@pytest.mark.parametrize(
    ("options", "answer", "counted"),
    [
        pytest.param("", [INSIDE, BEHIND], ["1 alias passed"], id="by default"),
        pytest.param("rebind count", [INSIDE], ["1 alias passed"], id="without an address"),
        pytest.param("", [PRIVATE], [], id="a private address"),
        pytest.param("rebind count private", [PRIVATE, PUBLIC], ["1 address passed"], id="a private address, counted"),
        pytest.param("rebind block", [PRIVATE, PUBLIC], [], id="a private address, if aliases are blocked"),
        pytest.param("rebind block private", [PUBLIC], [], id="a public address"),
        pytest.param("rebind block", ["www.example.org. 60 IN CNAME cluster.local.example.net."], [], id="another zone"),
        pytest.param("rebind block", ["www.example.org. 60 IN CNAME mycluster.local."], [], id="no label boundary"),
        pytest.param("rebind block", ["a.cluster.local. 60 IN CNAME b.cluster.local."], [], id="a name of the zone"),
        pytest.param("rebind block", ["a.cluster.local. 60 IN CNAME b.example.com."], ["1 alias blocked"], id="of another zone"),
        pytest.param("rebind block\nrebind_allow org", [INSIDE, BEHIND], [], id="an allowed name"),
        pytest.param("rebind block private\nrebind_allow a.org example.org", [PRIVATE], [], id="an allowed name with an address"),
    ],
)  # fmt: skip
def test_what_is_counted(options: str, answer: list[str], counted: list[str]) -> None:
    """Aliases into a zone of this server are counted, unless the query name is in the zone or the alias
    is permitted.
    """
    kept, _, found = Guarded(options).screened(answer)
    assert found == counted
    if "blocked" not in "".join(counted):
        assert [line.lower() for line in kept] == [line.lower() for line in answer]


@pytest.mark.parametrize(("source", "zones"), [("example.org", "."), (".", "example.org."), (".", "org.")])
def test_names_of_explicit_zones(source: str, zones: str) -> None:
    """A zone is explicit if FROM or the server block names it. Its aliases may lead into the cluster, and its addresses
    may be private.
    """
    assert Guarded("rebind block private", source, zones).screened([INSIDE]) == ([INSIDE], [], [])
    assert Guarded("rebind block private", source, zones).screened([PRIVATE]) == ([PRIVATE], [], [])


@pytest.mark.parametrize(
    ("rtype", "answer", "additional", "kept", "counted"),
    [
        pytest.param("A", [INSIDE, BEHIND], [], ([], []), ["1 alias blocked"], id="an alias and its address"),
        pytest.param(
            "A",
            ["www.example.org. 60 IN CNAME a.example.net.", "a.example.net. 60 IN CNAME web.cluster.local."],
            [],
            (["www.example.org. 60 IN CNAME a.example.net."], []),
            ["1 alias blocked"],
            id="the second alias",
        ),
        pytest.param(
            "A",
            ["example.org. 60 IN DNAME cluster.local.", "www.example.org. 60 IN CNAME www.cluster.local."],
            [],
            ([], []),
            ["2 alias blocked"],
            id="a DNAME",
        ),
        pytest.param("A", [PRIVATE, PUBLIC], [], ([PUBLIC], []), ["1 address blocked"], id="a private address"),
        pytest.param("AAAA", ["www.example.org. 60 IN AAAA fd00::1"], [], ([], []), ["1 address blocked"], id="IPv6"),
        pytest.param(
            "MX",
            ["www.example.org. 60 IN MX 1 m.example.org."],
            ["m.example.org. 60 IN A 127.0.0.1"],
            (["www.example.org. 60 IN MX 1 m.example.org."], []),
            ["1 address blocked"],
            id="in the additional section",
        ),
    ],
)
def test_what_is_removed(
    rtype: str, answer: list[str], additional: list[str], kept: tuple[list[str], ...], counted: list[str]
) -> None:
    """`rebind block private` removes private addresses, and aliases with all records after them."""
    assert Guarded("rebind block private").screened(answer, additional, rtype) == (*kept, counted)


@pytest.mark.parametrize(
    ("rdata", "counted"),
    [
        pytest.param("0 web.cluster.local.", ["1 alias blocked"], id="an alias"),
        pytest.param("0 web.example.net.", [], id="an alias to the outside"),
        pytest.param("1 web.cluster.local.", [], id="a service"),
        pytest.param("1 . alpn=h2 ipv4hint=203.0.113.1,10.0.0.1", ["1 address blocked"], id="a private hint"),
        pytest.param("1 . port=53 ipv6hint=::1", ["1 address blocked"], id="a private IPv6 hint"),
        pytest.param("1 . port=53 ipv4hint=203.0.113.1", [], id="a public hint"),
    ],
)
def test_service_bindings(rdata: str, counted: list[str]) -> None:
    """An HTTPS record of priority 0 counts as an alias. The hints of other HTTPS records count as addresses."""
    kept, _, found = Guarded("rebind block private").screened([f"www.example.org. 60 IN HTTPS {rdata}"], [], "HTTPS")
    assert (found, len(kept)) == (counted, not counted)


def many_hints(last: str) -> bytes:
    """Returns a reply with a HTTPS record that has 16,000 address hints and 200 other parameters."""
    owner = names.from_text("www.example.org.")
    hints = bytes((203, 0, 113, 1)) * 15_999 + ipaddress.ip_address(last).packed
    parameters = b"\0\4" + len(hints).to_bytes(2, "big") + hints
    parameters += b"".join(number.to_bytes(2, "big") + b"\0\0" for number in range(7, 207))
    rdata = b"\0\1\0" + parameters
    record = b"\xc0\x0c\0\x41\0\1\0\0\0\x3c" + len(rdata).to_bytes(2, "big") + rdata
    return b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + owner + b"\0\x41\0\1" + record


@pytest.mark.parametrize(("last", "removed"), [("203.0.113.2", False), ("10.0.0.1", True)])
def test_many_hints_cost_little(last: str, removed: bool) -> None:
    """A record of 64 KiB with 16,000 address hints takes less than 3 ms of CPU time."""
    rule = world.options("forward", "forward . 192.0.2.1 {\nrebind block private\n}", zones=".").rules[0]
    guard, packet = RebindGuard(rule, lambda: OWN, Cells(Counters())), many_hints(last)
    spent = []
    for _ in range(5):
        message = parse_message(packet)
        began = process_time()
        assert guard.screen(message, message.name.lower(), "upstream") is removed
        spent.append(process_time() - began)
        assert bool(message.answer) is not removed
    assert min(spent) < 0.003


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8",
        "192.168.1.1", "198.18.0.1", "255.255.255.255", "::", "::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1",
        "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::1",
    ],
)  # fmt: skip
def test_private(address: str) -> None:
    """Addresses that are not on the Internet are private (RFC 1918, RFC 4193, RFC 6890), also inside IPv6 addresses."""
    packed = ipaddress.ip_address(address).packed
    assert is_private(packed, len(packed))
    assert is_private(ONE_PUBLIC[len(packed)] * 3 + packed + ONE_PUBLIC[len(packed)], len(packed))


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "9.255.255.255", "172.15.0.1", "172.32.0.1", "192.0.2.1", "192.169.0.1", "203.0.113.1", "2606:4700::1111",
     "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2001:db8::1", "ff02::1"],
)  # fmt: skip
def test_public(address: str) -> None:
    """All other addresses are not private, not even those for documentation."""
    packed = ipaddress.ip_address(address).packed
    assert not is_private(packed, len(packed))
    assert not is_private(packed * 3, len(packed))


BLOCK = "prometheus\nkubernetes cluster.local {{\n}}\ncache 30\nforward . {} {{\nrebind block\n}}"


async def test_blocked_on_the_fast_path_and_in_the_chain() -> None:
    """A blocked alias gives an empty answer. Clients with EDNS get the reason."""
    for packet in (query(), query(use_edns=0)):
        fast, slow = await both_ways(BLOCK, replying(INSIDE, BEHIND), packet)
        assert_same(fast, slow, 0)
        assert [line for line in fast.replies[0] if " CNAME " in line or " IN A 2" in line] == []
        assert ("Blocked" in str(fast.replies[0])) is (packet != query())


async def test_passed_on_the_fast_path_and_in_the_chain() -> None:
    """By default, an alias into the cluster's zone is passed on and counted. Its target is never queried."""
    body = BLOCK.replace("rebind block", "rebind count")
    fast, slow = await both_ways(body, replying(INSIDE, BEHIND), query())
    assert_same(fast, slow, 1)
    (key,) = [key for key in fast.increments if key[0] == "svcdns_forward_rebind_total"]
    assert key[2:] == ("alias", "passed")
    assert [asked[0] for asked in fast.asked] == [names.from_text("www.example.org.")]


async def test_zones_of_other_blocks() -> None:
    """Aliases into zones of *kubernetes* are counted, whatever server block has these zones."""
    body = "cache 30\nforward . {} {{\nrebind block\n}}\n}}\ncluster.local {{\nkubernetes\n"
    async with ScriptedUpstream(replying(INSIDE, BEHIND)) as upstream:
        with Outside(body, upstream) as outside:
            assert not any(" CNAME " in line for line in shape(await outside.ask(query())))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("rebind", "3:1 Wrong argument count or unexpected line ending after 'rebind'"),
        ("rebind maybe", "3:8 'maybe' is unknown; one of count, block, off was expected"),
        ("rebind block public", "3:14 'public' is unknown; one of private was expected"),
        ("rebind block private x", "3:22 Wrong argument count: 'x' behind 'rebind', at most 2 arguments expected"),
        ("rebind_allow", "3:1 Wrong argument count or unexpected line ending after 'rebind_allow'"),
    ],
)
def test_rejected_options(text: str, error: str) -> None:
    assert world.rejection("forward", f"forward . 192.0.2.1 {{\n{text}\n}}") == error
