"""The ring of samples of queries."""

from __future__ import annotations

import pytest

from svcdns.process.sample_memory import private_ring
from svcdns.telemetry.query_samples import CAPACITY, KEY_SIZE, UNKNOWN, Ring, Sample


def test_samples_are_read_in_their_order() -> None:
    ring = Ring(private_ring())
    for number, client in enumerate((b"\x0a\0\0\1", bytes(15) + b"\1")):
        assert ring.write(5.0 + number, 1.5, 3, client, b"key%d" % number, is_local=number > 0) == number
    assert list(ring.samples()) == [
        Sample(5.0, 1.5, 3, "10.0.0.1", b"key0", 4, is_local=False),
        Sample(6.0, 1.5, 3, "::1", b"key1", 4, is_local=True),
    ]
    assert [sample.key for sample in ring.samples(1)] == [b"key1"]
    assert ring.written == 2


def test_a_long_query_is_cut_off() -> None:
    ring = Ring(private_ring())
    ring.write(0.0, 1.0, 0, b"", bytes(KEY_SIZE))
    ring.write(0.0, 1.0, 0, b"", bytes(KEY_SIZE + 1))
    assert [(len(one.key), one.is_whole) for one in ring.samples()] == [(KEY_SIZE, True), (KEY_SIZE, False)]


def test_the_rcode_comes_later() -> None:
    ring = Ring(private_ring())
    first = ring.write(0.0, 1.0, UNKNOWN, b"", b"a")
    ring.write(0.0, 1.0, UNKNOWN, b"", b"b")
    ring.set_rcode(first, 2)
    assert [one.rcode for one in ring.samples()] == [2, UNKNOWN]


def test_the_newest_samples_replace_the_oldest() -> None:
    """A reader leaves out the sample that the worker may be replacing."""
    ring = Ring(private_ring())
    for number in range(CAPACITY + 10):
        ring.write(float(number), 1.0, UNKNOWN, b"", b"x")
    ring.set_rcode(9, 5)
    found = [one.at for one in ring.samples()]
    assert found == [float(number) for number in range(11, CAPACITY + 10)]
    assert all(one.rcode == UNKNOWN for one in ring.samples())
    assert list(ring.samples(CAPACITY + 10)) == []


def test_another_process_continues_the_ring() -> None:
    memory = private_ring()
    Ring(memory).write(0.0, 1.0, 0, b"", b"a")
    other = Ring(memory)
    other.counted = 1
    assert other.write(0.0, 1.0, 0, b"", b"b") == 1
    assert [one.key for one in Ring(memory).samples(Ring(memory).counted)] == [b"b"]


@pytest.mark.parametrize("size", [0, 5])
def test_a_sample_without_a_client(size: int) -> None:
    ring = Ring(private_ring())
    ring.write(0.0, 1.0, 0, bytes(size), b"a")
    assert [one.client for one in ring.samples()] == [""]
