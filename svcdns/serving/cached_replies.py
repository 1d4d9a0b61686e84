"""Replies from the plugin *cache* without the plugin chain, for simple queries (`fast_path`).

The replies are those that the chain would send. The answer table stores them by the rules of `PendingReply`.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from svcdns.chain.routing import Route
from svcdns.plugin_api.fast_path import CachedReply, Key
from svcdns.serving.answer_table import NEGATIVE_LIFETIME, Countdown, Details, Entry
from svcdns.serving.responder import Responder
from svcdns.wire.codes import AA, AD, QR, RA, RD
from svcdns.wire.message import MIN_UDP, udp_limit
from svcdns.wire.record import Edns
from svcdns.wire.simple_reply import scan, with_ttl

_FIRST: Final = (QR | AA | RD) >> 8
_PASSED: Final = RA | 15
"""Mask for the second octet of flags: a client gets RA and the response code as the upstream set them."""


def cached_reply(
    packet: bytes,
    key: Key,
    edns: Edns | None,
    end: int,
    responder: Responder,
    route: Route,
    found: CachedReply,
    started: float,
    *,
    authentic: bool,
) -> bytes:
    """Returns the reply of the block's cache, counts it, and stores it if the query came before.

    `found` is the reply of the cache, and `end` the offset after the question section of `packet`. If `authentic` is
    true, the reply may have the AD bit. Returns empty octets if the plugin chain must answer. Call it only for a route
    without observers and taps.
    """
    fast_path = route.fast_path
    assert fast_path is not None
    stored = found.packet
    if stored[12:end] != packet[12:end]:
        return b""
    simple = scan(stored, end, key[1])
    if simple is None or (fast_path.shuffles and simple.end - simple.addresses > simple.size > 0):
        return b""
    octets = len(packet) + simple.end - end
    if octets > MIN_UDP and octets > udp_limit(edns):
        return b""
    opt = packet[end:]
    if opt:
        opt = opt[:3] + route.udp_size.to_bytes(2, "big") + opt[5:]
    second = stored[3] & (_PASSED | AD if authentic else _PASSED)
    head = bytes((_FIRST, second)) + b"\0\1" + stored[6:10]
    wire = head + packet[10:end] + with_ttl(simple, found.ttl) + opt
    metrics, increments = responder.metrics, found.increments
    if route.counted:
        own = metrics.increments_of(route, key[1], simple.rcode, route.writer, dnssec_ok=key[3])
        increments = own + metrics.sizes(route, len(packet), len(wire) + 2) + increments
        metrics.observe_duration(route, perf_counter() - started)
    metrics.add(increments)
    table = responder.table
    if table.seen_before(packet[2:]):
        now = table.now()
        ends, details = now + found.lifetime, None
        if simple.is_denial:
            ends = min(ends, table.deadline(NEGATIVE_LIFETIME))
        if found.next_second < found.lifetime:
            details = Details(countdown=Countdown((tuple([at - 2 for at in simple.ttls]),), ends))
            ends = now + found.next_second
        hit_counter = metrics.hit_counter(increments, route)
        table.put(Entry(packet[2:], wire, ends, (), hit_counter, details))
    return packet[:2] + wire
