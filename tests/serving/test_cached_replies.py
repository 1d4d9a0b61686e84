"""Replies of *cache* on the fast path, which are made and stored as in the plugin chain."""

from __future__ import annotations

from typing import Any

import dns.flags
import pytest

from svcdns.serving.fast_path import FinishedReply, try_fast_path
from tests.support.outside import NAME, PLAIN, Outside, query, replying, shape
from tests.support.scripted_upstream import Respond, ScriptedUpstream

ADDRESS = replying(f"{NAME} 20 IN A 192.0.2.1", flags=dns.flags.AD)
ADDRESSES = replying(*[f"{NAME} 300 IN A 192.0.2.{number}" for number in (1, 2)])
ALIAS = replying(f"{NAME} 20 IN CNAME a.org.", "a.org. 15 IN A 192.0.2.1")
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
SIGNED = replying(
    f"{NAME} 9 IN A 192.0.2.1", f"{NAME} 9 IN RRSIG A 8 3 9 20300101000000 20200101000000 1 example.org. AAAA"
)
DENIAL = replying(authority=[SOA], rcode=3)
KEPT = PLAIN.replace("cache 30", "cache 30 {{\nkeepttl\n}}")
FETCHED = PLAIN.replace("cache 30", "cache 30 {{\nprefetch 1 1h 10%\n}}")
STALE = PLAIN.replace("cache 30", "cache 30 {{\nserve_stale 1h immediate\n}}")
LOGGED = "log\n" + PLAIN
HOSTS = "hosts {{\n192.0.2.1 a.example.org\nfallthrough\n}}\n" + PLAIN


def stored(outside: Outside) -> dict[bytes, Any]:
    """Returns the entries of the answer table."""
    return {
        key: (entry.wires, entry.deadline, entry.dependencies, entry.hit_counter.increments,
              entry.details and entry.details.countdown
              and (entry.details.countdown.offsets, entry.details.countdown.ends))
        for key, entry in outside.table.current.items()
    }  # fmt: skip


async def effects(body: str, upstream: ScriptedUpstream, packets: list[bytes], *, fast: bool) -> list[Any]:
    """Returns the reply to each packet and the stored replies afterwards, and last the counters."""
    out: list[Any] = []
    with Outside(body, upstream, fast=fast) as outside:
        for packet in packets:
            out.append((shape(await outside.ask(packet)), stored(outside)))
            outside.clock.turn(1.75)
        out.append(outside.increments())
    return out


@pytest.mark.parametrize(
    ("body", "respond", "made"),
    [
        pytest.param(PLAIN, ADDRESS, True, id="an address"),
        pytest.param(PLAIN.replace("prometheus", ""), ADDRESS, True, id="without metrics"),
        pytest.param(PLAIN, ADDRESSES, True, id="two addresses"),
        pytest.param("loadbalance\n" + PLAIN, ADDRESS, True, id="an address, loadbalance"),
        pytest.param("loadbalance\n" + PLAIN, ALIAS, True, id="an alias, loadbalance"),
        pytest.param("loadbalance\n" + PLAIN, ADDRESSES, False, id="two addresses, loadbalance"),
        pytest.param(PLAIN, ALIAS, True, id="an alias"),
        pytest.param(PLAIN, DENIAL, True, id="a denial"),
        pytest.param(PLAIN, replying(authority=[SOA]), True, id="no data"),
        pytest.param(KEPT, ADDRESS, True, id="TTLs that stay"),
        pytest.param(KEPT, DENIAL, True, id="TTLs of a denial that stay"),
        pytest.param(STALE, ADDRESS, True, id="stale entries are kept"),
        pytest.param("bufsize 512\n" + PLAIN, ADDRESS, True, id="bufsize"),
        pytest.param(FETCHED, ADDRESS, False, id="prefetch"),
        pytest.param(LOGGED, ADDRESS, False, id="log"),
        pytest.param(HOSTS, ADDRESS, False, id="hosts"),
        pytest.param(PLAIN, SIGNED, False, id="no simple reply"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"flags": dns.flags.AD}, id="AD"),
        pytest.param({"use_edns": 0}, id="EDNS"),
        pytest.param({"want_dnssec": True, "payload": 4096}, id="DO"),
    ],
)
async def test_the_second_query(body: str, respond: Respond, options: dict[str, Any], *, made: bool) -> None:
    """The reply, the stored reply and the counters are the same as without the fast path."""
    packets = [query(**options)] * 2
    shuffled = "loadbalance" in body and respond is ADDRESSES
    async with ScriptedUpstream(respond) as upstream:
        fast = await effects(body, upstream, packets, fast=True)
        slow = await effects(body, upstream, packets, fast=False)
        if not shuffled:
            assert fast == slow
        with Outside(body, upstream) as outside:
            await outside.ask(packets[0])
            assert (type(try_fast_path(packets[1], outside.responder, 0.0)) is FinishedReply) is made


async def test_an_expired_entry() -> None:
    """The name is forwarded again on the fast path, unless the cache keeps expired entries."""
    packets = [query()] * 20
    async with ScriptedUpstream(ADDRESS) as upstream:
        for body in (PLAIN, KEPT, FETCHED, STALE, LOGGED, HOSTS):
            fast, slow = [await effects(body, upstream, packets, fast=fast) for fast in (True, False)]
            assert fast == slow, body
        with Outside(PLAIN, upstream) as outside:
            for packet in packets:
                await outside.ask(packet)
                outside.clock.turn(1.75)
            assert outside.on_fast_path == 2


async def test_other_spellings() -> None:
    """A query with another letter case than the stored reply goes through the chain."""
    packets = [query(), query("WWW.example.org."), query("WWW.example.org."), query()]
    async with ScriptedUpstream(ADDRESS) as upstream:
        fast, slow = [await effects(PLAIN, upstream, packets, fast=fast) for fast in (True, False)]
        assert fast == slow
