"""Signatures are made once, stored within a bound, and renewed before they expire."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.dnssec.keys import load_key
from svcdns.plugins.dnssec.signer import DAY, Overloaded, Signer
from svcdns.wire import names
from svcdns.wire.record import Record
from tests.support import world
from tests.support.zone_keys import ED25519, KSK, RSA, ZSK, validate

ZONE = names.from_text("example.org.")
TIME = 1_700_000_000.0


def signer(*keys: str, capacity: int = 10, clock: world.Clock | None = None) -> Signer:
    return Signer([load_key(key) for key in keys], capacity, clock or world.Clock(TIME))


def rrset(number: int = 1, rtype: str = "A") -> tuple[Record, ...]:
    return world.records(
        f"www.example.org. 60 IN {rtype} {f'10.0.0.{number}' if rtype == 'A' else 'mail.example.org.'}"
    )


def test_signatures_are_valid_and_stored() -> None:
    one = signer(ED25519)
    first, second, third = one.batch(), one.batch(), one.batch()
    made = first.sign(rrset(), ZONE, 60)
    validate((*rrset(), *made), ED25519, now=TIME)
    assert second.sign(rrset(), ZONE, 30) == [Record(made[0].owner, 46, 30, made[0].rdata)]
    assert third.sign(rrset(2), ZONE, 60)[0].rdata != made[0].rdata
    assert [(batch.hits, batch.misses) for batch in (first, second, third)] == [(0, 1), (1, 0), (0, 1)]
    assert len(one) == 2


def test_neither_order_nor_letters_matter() -> None:
    one, both = signer(ZSK), (*rrset(1), *rrset(2))
    made = one.batch().sign(both, ZONE, 60)
    other = [Record(names.from_text("WWW.example.org."), record.rtype, 60, record.rdata) for record in both[::-1]]
    batch = one.batch()
    assert [record.rdata for record in batch.sign(other, ZONE, 60)] == [record.rdata for record in made]
    assert batch.hits == 1


def test_signatures_are_renewed_two_days_before_they_expire() -> None:
    clock = world.Clock(TIME)
    one = signer(ED25519, clock=clock)
    made = one.batch().sign(rrset(), ZONE, 60)
    clock.turn(6 * DAY)
    batch = one.batch()
    assert batch.sign(rrset(), ZONE, 60) == made
    assert batch.renewal == clock.now
    clock.turn(1)
    batch = one.batch()
    renewed = batch.sign(rrset(), ZONE, 60)
    assert renewed != made
    assert batch.renewal - clock.now == 6 * DAY
    validate((*rrset(), *renewed), ED25519, now=clock.now + 8 * DAY - 1)
    validate((*rrset(), *renewed), ED25519, now=clock.now - 10799)


def test_the_store_is_bounded_and_shrinks() -> None:
    one = signer(ZSK, capacity=4)
    for number in range(6):
        one.batch().sign(rrset(number), ZONE, 60)
    assert len(one) == 4
    batch = one.batch()
    batch.sign(rrset(2), ZONE, 60)
    batch.sign(rrset(1), ZONE, 60)
    assert (batch.hits, batch.misses) == (1, 1)
    list(one.shrink(0.5))
    assert len(one) == 2
    batch = one.batch()
    batch.sign(rrset(2), ZONE, 60)
    assert batch.hits == 1, "used last, so kept"
    one.batch().sign(rrset(9), ZONE, 60)
    assert len(one) == 2
    list(one.shrink(1))
    one.batch().sign(rrset(10), ZONE, 60)
    assert len(one) == 3


def test_split_keys() -> None:
    """With both kinds of keys, a KSK signs the keys, and a ZSK everything else. Otherwise, every key signs."""
    keys = tuple(Record(ZONE, 48, 3600, load_key(key).rdata) for key in (KSK, ZSK))
    batch = signer(KSK, ZSK).batch()
    assert [tag(record) for record in batch.sign(keys, ZONE, 3600)] == [41819]
    assert [tag(record) for record in batch.sign(rrset(), ZONE, 60)] == [37031]
    batch = signer(ZSK, ED25519).batch()
    assert [tag(record) for record in batch.sign(keys, ZONE, 3600)] == [37031, 16348]
    assert [tag(record) for record in batch.sign(rrset(), ZONE, 60)] == [37031, 16348]


def tag(record: Record) -> int:
    return int.from_bytes(record.rdata[16:18], "big")


def test_without_keys_nothing_is_signed_or_stored() -> None:
    one = signer()
    assert one.batch().sign(rrset(), ZONE, 60) == []
    assert len(one) == 0


@pytest.mark.asyncio
async def test_slow_signatures_are_made_in_a_thread_once() -> None:
    one = signer(RSA)
    batches = [one.batch(), one.batch()]
    assert [batch.sign(rrset(), ZONE, 60) for batch in batches] == [[], []]
    assert not batches[0].is_complete
    await asyncio.gather(*(batch.complete() for batch in batches))
    found = [batch.sign(rrset(), ZONE, 60) for batch in batches]
    assert found[0] == found[1]
    validate((*rrset(), *found[0]), RSA, now=TIME)
    assert [(batch.hits, batch.misses) for batch in batches] == [(0, 1), (0, 1)]
    batch = one.batch()
    assert batch.sign(rrset(), ZONE, 60) == found[0]
    assert batch.is_complete
    one.stop()


@pytest.mark.asyncio
async def test_too_many_waiting_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting replies get their signatures, and the others can try again."""
    monkeypatch.setattr("svcdns.plugins.dnssec.signer.MAX_WAITING", 2)
    one = signer(RSA)
    batches = [one.batch() for _ in range(3)]
    for number, batch in enumerate(batches):
        batch.sign(rrset(number), ZONE, 60)
    *waiting, late = batches
    tasks = [asyncio.ensure_future(batch.complete()) for batch in waiting]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await late.complete()
    await asyncio.gather(*tasks)
    await late.complete()
    assert all(batch.sign(rrset(number), ZONE, 60) for number, batch in enumerate(batches))
    one.stop()
