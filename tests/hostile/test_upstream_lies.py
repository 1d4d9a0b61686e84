"""Wrong replies of an upstream ("lies"): what the client gets, what is cached, and what is counted.

Each lie is sent over UDP and over TCP, to a query on the fast path and to a query through the plugin chain. The effects
must be the same in all four cases. The query is for the A records of www.example.org, without EDNS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import dns.message
import dns.rdatatype
import dns.rrset
import pytest

from svcdns.upstream.udp import MAX_DROPPED
from tests.support.outside import Outside, query
from tests.support.scripted_upstream import ScriptedUpstream
from tests.support.upstream_lies import ADDRESS, DROPPED, PASSED, STRIPPED, TC_FLAG, TRUE, Stripped, numbered

UDP = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_fails 0\n}}"
TCP = "prometheus\nerrors\ncache 30\nforward . {} {{\nmax_fails 0\nforce_tcp\n}}"
every_transport = pytest.mark.parametrize("body", [pytest.param(UDP, id="udp"), pytest.param(TCP, id="tcp")])
MAX_ATTEMPTS = {UDP: 2, TCP: 1}
"""The most queries to an upstream that only lies: one for each transport."""


class Effects(NamedTuple):
    """The effects of a lie: the reply to the client, the cached replies, and the counters."""

    rcode: int
    answer: list[str]
    authority: list[str]
    additional: list[str]
    flags: int
    entries: list[tuple[int, int, int, int]]
    """Of each cache entry: the response code and the lengths of its sections."""
    asked: int
    counted: dict[tuple[str, ...], float]


def texts(section: Sequence[dns.rrset.RRset]) -> list[str]:
    """Returns records as text, without TTL and class."""
    return [
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}" for rrset in section for rdata in rrset
    ]


async def seen(body: str, packets: Sequence[bytes], *, fast: bool, rtype: str = "A") -> Effects:
    """Sends a query whose upstream replies with `packets`, and returns the effects. The clock moves until the client
    has its reply.
    """
    async with ScriptedUpstream(
        lambda asked, _: [numbered(packet, asked.id.to_bytes(2, "big")) for packet in packets]
    ) as upstream:
        with Outside(body, upstream, fast=fast) as outside:
            outside.send(query(rtype=rtype))
            for _ in range(100):
                try:
                    wire = outside.client.recv(65535)
                    break
                except BlockingIOError:
                    await outside.turn(0.0)
            else:
                pytest.fail("the client got no reply")
            found = dns.message.from_wire(wire, one_rr_per_rrset=True)
            entries = [
                (entry.rcode, len(entry.answer), len(entry.authority), len(entry.additional))
                for _, entry, *_ in outside.entries().values()
            ]
            counted = {
                (key[0].removeprefix("svcdns_forward_"), *key[2:]): sum(cells)
                for key, cells in outside.increments().items()
                if key[0].startswith("svcdns_forward")
            }
            sections = texts(found.answer), texts(found.authority), texts(found.additional)
            return Effects(found.rcode(), *sections, int(found.flags), entries, len(upstream.asked), counted)


async def both(body: str, *packets: bytes) -> Effects:
    """Returns the effects of the packets. They must be the same on the fast path and through the plugin chain."""
    fast = await seen(body, packets, fast=True)
    assert fast == await seen(body, packets, fast=False)
    return fast


@every_transport
@pytest.mark.parametrize(("packet", "reason"), [pytest.param(*row, id=name) for name, row in DROPPED.items()])
async def test_the_right_reply_after_a_lie_is_used(packet: bytes, reason: str, body: str) -> None:
    found = await both(body, packet, TRUE)
    assert (found.rcode, found.answer, found.authority, found.additional) == (0, [ADDRESS], [], [])
    assert found.entries == [(0, 1, 0, 0)]
    assert found.asked == 1
    assert found.counted == {("foreign_replies_total", reason): 1}


@every_transport
@pytest.mark.parametrize(("packet", "reason"), [pytest.param(*row, id=name) for name, row in DROPPED.items()])
async def test_a_lie_without_a_right_reply_is_servfail(packet: bytes, reason: str, body: str) -> None:
    found = await both(body, packet)
    assert (found.rcode, found.answer, found.authority, found.additional) == (2, [], [], [])
    assert found.entries == []
    assert found.asked == MAX_ATTEMPTS[body]
    assert found.counted == {("foreign_replies_total", reason): MAX_ATTEMPTS[body]}


@every_transport
async def test_a_flood_of_lies(body: str) -> None:
    """After MAX_DROPPED lies, the server reads no further packets from the port or connection."""
    found = await both(body, *[b"\0\0" + TRUE[2:]] * (MAX_DROPPED + 9))
    assert (found.rcode, found.entries, found.asked) == (2, [], MAX_ATTEMPTS[body])
    assert found.counted == {("foreign_replies_total", "id"): MAX_ATTEMPTS[body] * MAX_DROPPED}


@every_transport
@pytest.mark.parametrize("lie", [pytest.param(row, id=name) for name, row in STRIPPED.items()])
async def test_unrelated_records_are_removed_and_counted(lie: Stripped, body: str) -> None:
    found = await both(body, lie.packet)
    assert (found.rcode, found.answer, found.authority, found.additional) == (
        lie.rcode,
        list(lie.answer),
        list(lie.authority),
        list(lie.additional),
    )
    assert found.asked == 1
    sizes = (lie.rcode, len(lie.answer), len(lie.authority), len(lie.additional))
    assert found.entries == ([sizes] if lie.cached else [])
    reasons = {key[1]: value for key, value in found.counted.items() if key[0] == "stripped_records_total"}
    others = reasons.pop("authority", 0) + reasons.pop("additional", 0)
    expected = {"owner": lie.owner, "class": lie.rclass, "denial": lie.denial}
    assert (reasons, others) == ({name: count for name, count in expected.items() if count}, lie.others)


@every_transport
@pytest.mark.parametrize(
    ("packet", "rcode", "answer", "cut", "counted"), [pytest.param(*row, id=name) for name, row in PASSED.items()]
)
async def test_unusual_replies_that_belong_to_the_query_are_used(
    packet: bytes, rcode: int, answer: list[str], cut: int, counted: dict[tuple[str, ...], float], body: str
) -> None:
    found = await both(body, packet)
    assert (found.rcode, found.answer, found.flags & TC_FLAG, found.counted) == (rcode, answer, cut, counted)
    assert found.asked == 1
