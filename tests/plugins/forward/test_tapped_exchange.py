"""The exchanges of *forward* that taps get, from one scripted upstream or several."""

from __future__ import annotations

import dns.message

from svcdns.plugin_api.tap import UpstreamExchange
from svcdns.plugins.forward.handler import Forward
from tests.support.outside import Outside, query, replying
from tests.support.scripted_upstream import ScriptedUpstream, only

A = "www.example.org. 300 IN A 192.0.2.1"


class Tap:
    def __init__(self) -> None:
        self.exchanges: list[UpstreamExchange] = []

    def forwarded(self, exchange: UpstreamExchange) -> None:
        self.exchanges.append(exchange)


async def exchanges(body: str, *upstreams: ScriptedUpstream, packet: bytes = query()) -> list[UpstreamExchange]:
    """Returns the exchanges that a query leads to."""
    tap = Tap()
    with Outside(body, *upstreams) as outside:
        for handler in outside.chains.handlers:
            if isinstance(handler, Forward):
                for rule in handler._rules:
                    rule.tap([tap])
        await outside.ask(packet)
    return tap.exchanges


async def test_packets_and_addresses() -> None:
    """The packets are those on the wire, with the message id of the upstream query."""
    async with ScriptedUpstream(replying(A)) as upstream:
        [found] = await exchanges("cache 30\nforward . {}", upstream)
        [(asked, transport)] = upstream.asked
        assert (found.transport, transport, found.zone) == ("udp", "udp", b"\0")
        assert found.upstream == ("127.0.0.1", upstream.port)
        assert found.local is not None
        assert found.local[0] == "127.0.0.1"
        assert dns.message.from_wire(found.query).id == asked.ident
        assert dns.message.from_wire(found.query).is_response(dns.message.from_wire(found.reply))
        assert found.sent < found.received


async def test_tcp() -> None:
    async with ScriptedUpstream(replying(A)) as upstream:
        [found] = await exchanges("forward example.org {} {{\nforce_tcp\n}}", upstream)
        assert (found.transport, found.zone) == ("tcp", b"\7example\3org\0")
        assert found.local is not None
        assert dns.message.from_wire(found.reply).answer


async def test_an_upstream_that_fails_has_no_reply() -> None:
    """A reply with a code of `failover` is a reply. The next upstream has an exchange of its own."""
    async with ScriptedUpstream(replying(rcode=2)) as one, ScriptedUpstream(replying(A)) as two:
        body = "forward . {} {} {{\nfailover SERVFAIL\npolicy sequential\n}}"
        first, second = await exchanges(body, one, two)
        assert [dns.message.from_wire(found.reply).rcode() for found in (first, second)] == [2, 0]
        assert [found.upstream[1] for found in (first, second)] == [one.port, two.port]
    async with ScriptedUpstream(only("tcp", replying(A))) as gone, ScriptedUpstream(replying(A)) as two:
        await gone.__aexit__()
        first, second = await exchanges("forward . {} {} {{\npolicy sequential\n}}", gone, two)
        assert (first.reply, bool(second.reply)) == (b"", True)
