"""The plugin *dnssec*: which replies are signed, and on which terms they are used again."""

from __future__ import annotations

import time
from typing import Any

import pytest

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins.dnssec import Dnssec, gather, signer
from svcdns.plugins.dnssec.metrics import HITS
from svcdns.plugins.dnssec.signer import DAY
from svcdns.wire import names
from svcdns.wire.codes import AA, CD, RD, Rcode
from tests.support import world
from tests.support.zone_keys import KSK, RSA, ZSK, plugin, validate, with_data

ANSWER = Reply(
    answer=world.records("www.example.org. 60 IN A 10.0.0.1"),
    lifetime=UNTIL_CHANGED,
    dependencies=(("x",),),
    scope=CacheScope.CLIENT_CLASS,
    increments=((5, 1.0),),
)


def query(name: str = "www.example.org.", rtype: str = "A", *, dnssec_ok: bool = True, **fields: Any) -> Query:
    return world.query(name, rtype, edns=world.edns(dnssec_ok=dnssec_ok), server="dns://:53", **fields)


def test_without_the_do_bit_nothing_is_signed() -> None:
    one = plugin(f"key file {ZSK}")
    assert one.handle(query(dnssec_ok=False), world.following(ANSWER)) is ANSWER
    assert one.handle(world.query("www.example.org."), world.following(ANSWER)) is ANSWER


def test_other_zones_and_replies_without_a_message_are_unchanged() -> None:
    one = plugin(f"key file {ZSK}")
    refused = rcode_only(Rcode.REFUSED)
    transfer = Reply(stream=(records for records in [ANSWER.answer]))
    for name, reply in (("www.example.net.", ANSWER), ("www.example.org.", refused), ("example.org.", transfer)):
        assert one.handle(query(name), world.following(reply)) is reply


def test_the_keys_of_a_zone() -> None:
    one = plugin(f"key file {KSK} {ZSK}", zones="example.org sub.example.org")
    found = world.now(one.handle(query("EXAMPLE.org.", "DNSKEY", flags=RD | CD), world.following()))
    assert (found.flags, found.rcode) == (AA | RD | CD, Rcode.NOERROR)
    assert [(record.owner, record.rtype) for record in found.answer] == [
        (names.from_text("example.org."), t) for t in (48, 48, 46)
    ]
    validate(found.answer, KSK)
    found = world.now(one.handle(query("sub.example.org.", "DNSKEY"), world.following()))
    assert names.to_text(found.answer[2].rdata[18:35]) == "sub.example.org."
    plain = world.now(one.handle(query("example.org.", "DNSKEY", dnssec_ok=False), world.following()))
    assert [record.rtype for record in plain.answer] == [48, 48]
    assert one.handle(query("www.example.org.", "DNSKEY", dnssec_ok=False), world.following(ANSWER)) is ANSWER


def test_the_longest_zone_signs() -> None:
    one = plugin(f"key file {ZSK}", zones="example.org sub.example.org")
    answer = Reply(answer=world.records("www.sub.example.org. 60 IN A 10.0.0.1"))
    found = world.now(one.handle(query("www.sub.example.org."), world.following(answer)))
    assert names.to_text(found.answer[1].rdata[18:35]) == "sub.example.org."


def test_the_terms_of_the_signed_reply() -> None:
    """Scope and dependencies stay. The lifetime ends when a signature is renewed."""
    one = plugin(f"key file {ZSK}")
    found = world.now(world.handled(one, query(), world.following(ANSWER)))
    validate(found.answer, ZSK, now=time.time())
    assert (found.dependencies, found.scope) == (ANSWER.dependencies, CacheScope.CLIENT_CLASS)
    assert 6 * DAY - 60 < found.lifetime <= 6 * DAY
    hits = one.environment.counters.cell(HITS, "dns://:53")
    assert found.increments == ((5, 1.0), (hits, 1.0))


def test_metrics() -> None:
    one = plugin(f"key file {ZSK}")
    for _ in range(3):
        one.handle(query(), world.following(ANSWER))
    assert world.counted(one.environment.counters) == {
        ("coredns_dnssec_cache_entries", "dns://:53", "signature"): 1.0,
        ("coredns_dnssec_cache_hits_total", "dns://:53"): 2.0,
        ("coredns_dnssec_cache_misses_total", "dns://:53"): 1.0,
    }


def test_a_deferred_reply_is_signed_when_it_arrives() -> None:
    one, later = plugin(f"key file {ZSK}"), Deferred()
    answer = one.handle(query(), lambda _: later)
    assert answer is later
    found: list[Reply] = []
    later.take(found.append, lambda error: pytest.fail(str(error)))
    later.set(ANSWER)
    validate(found[0].answer, ZSK)


@pytest.mark.asyncio
@pytest.mark.parametrize("deferred", [False, True])
async def test_slow_keys_sign_in_a_thread(*, deferred: bool) -> None:
    one = plugin(f"key file {RSA}")
    later = Deferred()

    def following(_: Query) -> Answer:
        return later if deferred else ANSWER

    answer = world.handled(one, query(), following)
    assert not isinstance(answer, Reply)
    later.set(ANSWER)
    found = await world.soon(answer)
    validate(found.answer, RSA)
    assert found.dependencies == ANSWER.dependencies
    if not deferred:
        assert isinstance(one.handle(query(), following), Reply), "stored signatures need no thread"
    one.stop()


@pytest.mark.asyncio
async def test_too_many_waiting_signatures_fail_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signer, "MAX_WAITING", 0)
    one = plugin(f"key file {RSA}")
    found = await world.soon(one.handle(query(), world.following(ANSWER)))
    assert (found.rcode, found.error) == (Rcode.SERVFAIL, "plugin/dnssec: too many replies wait for their signatures")


def test_names_outside_the_zones_keep_the_fast_path_and_the_cold_path() -> None:
    one = plugin(f"key file {ZSK}")
    fast_path, cold_path = FastPath(), ColdPath()
    cold_path.zones = (names.from_text("example.org."), names.from_text("cluster.local."))
    assert one.join_fast_path(fast_path)
    assert fast_path.zones == (names.from_text("example.org."),)
    assert one.join_cold_path(cold_path)
    assert cold_path.zones == (names.from_text("cluster.local."),)
    assert not plugin(f"key file {ZSK}", zones=". example.org").join_fast_path(FastPath())
    zones = ("example.org.", "org.", "sub.example.org.", "example.net.")
    assert [one.name_independent(names.from_text(zone)) for zone in zones] == [False, False, False, True]


def test_new_data_replace_the_keys() -> None:
    """As after a reload with new key files."""
    options = world.options("dnssec", f"dnssec example.org {{\n key file {ZSK}\n}}")
    calls: dict[str, Any] = {}
    dropped: list[bool] = []
    environment = world.environment(
        on_data=lambda _plugin, key, call: calls.update({key: call}), invalidate_all=lambda: dropped.append(True)
    )
    one = Dnssec(options, environment)
    assert world.now(one.handle(query(), world.following(ANSWER))).answer == ANSWER.answer, "no key has arrived"
    data = gather(options, {})
    calls[ZSK](data[ZSK])
    validate(world.now(one.handle(query(), world.following(ANSWER))).answer, ZSK)
    assert dropped == [True]
    assert one.answers_like(Dnssec(options, with_data(data)))
    assert not one.answers_like(Dnssec(options, with_data({})))
    assert list(one.shrink(0.1)) == []
