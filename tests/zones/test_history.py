"""The history of a zone (RFC 1995)."""

from __future__ import annotations

from itertools import chain
from random import Random

import pytest

from svcdns.wire import names
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import TransferReader
from svcdns.zones import history
from svcdns.zones.content import decode, portions
from svcdns.zones.differences import applied
from svcdns.zones.history import encode_version, since
from svcdns.zones.zone import Zone
from tests.support import world

ZONE = names.from_text("example.org.")


def soa(serial: int) -> Record:
    """Returns the SOA record of a version."""
    return world.records(f"example.org. 60 IN SOA ns.example.org. root.example.org. {serial} 2 3 4 5")[0]


def version(previous: bytes, serial: int, *lines: str) -> bytes:
    """Returns a version of the zone with these records."""
    return encode_version(previous, soa(serial), world.records(*lines), 0)


def shown(payload: bytes) -> list[str]:
    """Returns the records that a server with this content transfers, sorted."""
    records = Zone(ZONE, payload).offer(0).records
    assert records is not None
    return sorted(set(world.shown(chain.from_iterable(records))))


def after(payload: bytes, serial: int, known: bytes) -> list[str]:
    """Returns the records after an incremental transfer from the version `known`, sorted."""
    offer = Zone(ZONE, payload).offer(serial)
    assert offer.is_incremental
    assert offer.records is not None
    transfer = TransferReader(ZONE, serial).read(tuple(chain.from_iterable(offer.records)))
    assert transfer is not None
    old = decode(known)
    new_soa, records = applied(old.soa, chain.from_iterable(portions(old)), transfer.differences)
    return sorted(world.shown([new_soa, *records]))


def test_random_changes_lead_to_the_present_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """From each version of the history, the differences lead to exactly the records of the present version."""
    monkeypatch.setattr(history, "LEAST", 1 << 20)
    random, payload, versions = Random(4), b"", dict[int, bytes]()
    for serial in range(1, 40):
        texts = {
            f"{random.choice('abcdef')}.example.org. {random.choice((5, 60))} IN A 10.0.0.{random.randrange(4)}"
            for _ in range(9)
        }
        payload = versions[serial] = version(payload, serial, *sorted(texts))
        for known in random.sample(sorted(versions), 1):
            if known != serial:
                served = [line for line in shown(versions[known]) if "SOA" not in line]
                assert after(payload, known, version(b"", known, *served)) == shown(payload)


def test_the_history_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LEAST", 1000)
    payload = b""
    for serial in range(1, 100):
        payload = version(payload, serial, f"a.example.org. 60 IN A 10.0.0.{serial}")
    found = decode(payload).history
    assert 2 < len(found) < 10
    assert sum(map(len, found)) <= 1000
    assert since(found, 1) is None
    assert since(found, 98) is not None
    assert not Zone(ZONE, payload).offer(1).is_incremental


@pytest.mark.parametrize(
    ("serial", "address", "steps"),
    [
        pytest.param(3, "10.0.0.3", 2, id="a new version"),
        pytest.param(2, "10.0.0.2", 1, id="the same version"),
        pytest.param(2, "10.0.0.9", 0, id="other content with the same serial"),
        pytest.param(1, "10.0.0.1", 0, id="an older serial"),
    ],
)
def test_a_serial_stands_for_one_version(serial: int, address: str, steps: int) -> None:
    payload = version(b"", 1, "a.example.org. 60 IN A 10.0.0.1")
    payload = version(payload, 2, "a.example.org. 60 IN A 10.0.0.2")
    assert len(decode(version(payload, serial, f"a.example.org. 60 IN A {address}")).history) == steps
