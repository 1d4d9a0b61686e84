"""The cost of the longest and most expensive replies of an upstream, in executed lines of Python.

The number of lines does not depend on the machine.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import pytest

from svcdns.upstream.query import Dropped, UpstreamQuery
from svcdns.upstream.relevance import remove_unrelated_records
from svcdns.wire.codes import Class, Type
from svcdns.wire.message import Message

MOST_LINES: Final = 300_000
"""The lines that reading a reply may run. A line takes about 15 ns, so this is less than 5 ms."""
MAX_PACKET: Final = 65000
SHORT: Final = b"\1q\0"
LONG: Final = b"\1a" * 120 + b"\1b\1c\0"
TO_QUESTION: Final = b"\xc0\x0c"
TO_LAST_LABEL: Final = struct.pack("!H", 0xC000 + 12 + len(LONG) - 3)
SOA: Final = (TO_LAST_LABEL, Type.SOA, bytes(22))


def record(owner: bytes, rtype: int, rdata: bytes) -> bytes:
    return owner + struct.pack("!HHIH", rtype, Class.IN, 5, len(rdata)) + rdata


def numbered(number: int) -> bytes:
    """Returns a name of one label that contains the number."""
    return b"\4%04d\0" % number


class Packet:
    """A reply under construction. `size` is its present length."""

    def __init__(self, name: bytes, rtype: int = Type.A) -> None:
        """Begins a reply to a query for a name. The reply has no records yet."""
        self.name, self.rtype = name, rtype
        self.question = name + struct.pack("!HH", rtype, Class.IN)
        self.size = 12 + len(self.question)
        self._sections: tuple[list[bytes], ...] = ([], [], [])

    def add(self, section: int, *fields: tuple[bytes, int, bytes]) -> Packet:
        """Appends records to a section (0, 1 or 2). Each record has an owner, a type and RDATA."""
        for one in fields:
            encoded = record(*one)
            self._sections[section].append(encoded)
            self.size += len(encoded)
        return self

    def fill(self, section: int, make: Callable[[int], tuple[bytes, int, bytes]]) -> Packet:
        """Appends as many records as fit. `make` gets the number of the record."""
        number = 0
        while self.size + len(record(*make(number))) <= MAX_PACKET:
            self.add(section, make(number))
            number += 1
        return self

    def octets(self) -> bytes:
        counts = map(len, self._sections)
        records = b"".join(one for section in self._sections for one in section)
        return struct.pack("!6H", 1, 0x8180, 1, *counts) + self.question + records


def chain_of_pointers(number: int) -> tuple[bytes, bytes]:
    """Returns RDATA that contains a name and a chain of pointers to this name, and a pointer to the end
    of the chain.
    """
    at = 12 + len(SHORT) + 4 + 12
    targets = [at, *range(at + 3, at + 1 + 2 * number, 2)]
    rdata = b"\1x\0" + b"".join(struct.pack("!H", 0xC000 | target) for target in targets)
    return rdata, rdata[-2:]


def costly() -> Iterator[Any]:
    """Yields the replies, each with True if it is dropped."""
    signature = b"\0\1" + bytes(16) + b"\0s"
    chain, end = chain_of_pointers(31)
    to_owner = struct.pack("!H", 0xC000 | 12 + len(SHORT) + 4)
    yield pytest.param(Packet(SHORT).fill(0, lambda _: (TO_QUESTION, Type.A, bytes(4))), False, id="addresses")
    yield pytest.param(Packet(SHORT).fill(0, lambda _: (b"\0", 65280, b"")), False, id="the shortest records")
    yield pytest.param(
        Packet(SHORT).add(0, (TO_QUESTION, 65280, chain)).fill(0, lambda _: (end, 65280, b"")),
        False,
        id="owners with 32 pointers",
    )
    yield pytest.param(
        Packet(SHORT).add(0, (TO_QUESTION, 65280, chain)).fill(1, lambda _: (end, Type.SOA, end + end + bytes(20))),
        False,
        id="SOA with 96 pointers",
    )
    yield pytest.param(
        Packet(SHORT).fill(0, lambda _: (b"\1a" * 127 + b"\0", 65280, b"")), False, id="names of 127 labels"
    )
    yield pytest.param(
        Packet(SHORT)
        .add(0, (b"\1a" * 127 + b"\0", 65280, b""))
        .fill(0, lambda number: (struct.pack("!H", struct.unpack("!H", to_owner)[0] + 2 * (number % 126)), 65280, b"")),
        True,
        id="pointers to 127 offsets",
    )
    yield pytest.param(
        Packet(LONG).fill(0, lambda number: (b"\1x" + TO_QUESTION, 65280, b"")), True, id="pointers to a long name"
    )
    yield pytest.param(
        Packet(SHORT).fill(0, lambda _: (TO_QUESTION, Type.TXT, bytes(16000))), False, id="16,000 empty strings"
    )
    yield pytest.param(Packet(SHORT).fill(0, lambda _: (TO_QUESTION, Type.CNAME, TO_QUESTION)), False, id="CNAME")
    yield pytest.param(
        Packet(SHORT, Type.MX).fill(0, lambda _: (TO_QUESTION, Type.MX, b"\0\1\1x" + TO_QUESTION)), False, id="MX"
    )
    yield pytest.param(
        Packet(SHORT).fill(2, lambda _: (TO_QUESTION, Type.SRV, bytes(6) + TO_QUESTION)), False, id="additional SRV"
    )
    yield pytest.param(
        Packet(numbered(0)).fill(0, lambda number: (numbered(number), Type.CNAME, numbered(number + 1))),
        False,
        id="a chain of CNAME",
    )
    yield pytest.param(
        Packet(b"\1a" * 120 + numbered(0)).fill(0, lambda one: (numbered(one), Type.DNAME, numbered(one + 1))),
        False,
        id="a chain of DNAME",
    )
    yield pytest.param(
        Packet(LONG).fill(1, lambda _: (TO_LAST_LABEL, Type.NS, b"\0")), False, id="NS above a long name"
    )
    yield pytest.param(Packet(LONG).fill(1, lambda _: SOA), False, id="SOA above a long name")
    yield pytest.param(
        Packet(LONG).add(1, SOA).fill(1, lambda _: (TO_LAST_LABEL, Type.NSEC, b"\0\0\1\x40")), False, id="proofs"
    )
    yield pytest.param(
        Packet(LONG).add(1, SOA).fill(1, lambda _: (TO_LAST_LABEL, Type.RRSIG, signature)), False, id="signatures"
    )
    yield pytest.param(
        Packet(LONG)
        .add(1, *[(TO_LAST_LABEL, Type.NS, TO_QUESTION)] * 400)
        .fill(2, lambda _: (TO_QUESTION, 1, bytes(4))),
        False,
        id="400 targets of 122 labels",
    )


def lines_run(call: Callable[[], object]) -> int:
    """Returns the number of lines of Python that a call executes."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize(("made", "dropped"), list(costly()))
def test_a_reply_of_64_kib_is_read_in_a_bounded_number_of_lines(made: Packet, dropped: bool) -> None:
    """Reading the reply and removing unrelated records takes time in proportion to the reply's length."""
    query, packet = UpstreamQuery(made.name, made.rtype, Class.IN, 0), made.octets()
    found: list[object] = []

    def read() -> None:
        received = query.read(1, packet)
        found.append(received)
        if isinstance(received, Message):
            remove_unrelated_records(received, made.name)

    assert lines_run(read) <= MOST_LINES
    assert (found == [Dropped.MALFORMED]) is dropped
