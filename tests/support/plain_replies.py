"""Encoded replies of upstreams, with the usual compression pointers or with arbitrary octets."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from svcdns.wire import names
from svcdns.wire.codes import QR, RA, RD, Class, Rcode, Type

NAME = names.from_text("www.example.org.")
START = 16 + len(NAME)
"""Where the question section ends."""
OWNER, ZONE, TOP, ROOT = b"\xc0\x0c", b"\xc0\x10", b"\xc0\x18", b"\xc0\x1c"
"""Pointers into the question: to its name, to example.org, org and the root."""
FLAGS = QR | RD | RA
V4 = bytes((192, 0, 2, 1))
V6 = bytes.fromhex("20010db8000000000000000000000001")
NUMBERS = b"".join(number.to_bytes(4, "big") for number in (1, 7200, 3600, 1209600, 60))
SOA_DATA = b"\2ns" + ZONE + b"\4host" + ZONE + NUMBERS


def record(
    owner: bytes, rtype: int, rdata: bytes, *, ttl: int = 60, rclass: int = Class.IN, size: int | None = None
) -> bytes:
    """Returns an encoded record. `size` is a false RDLENGTH."""
    length = len(rdata) if size is None else size
    return owner + b"".join(
        (rtype.to_bytes(2, "big"), rclass.to_bytes(2, "big"), ttl.to_bytes(4, "big"), length.to_bytes(2, "big"), rdata)
    )


def reply(
    *answer: bytes,
    authority: Sequence[bytes] = (),
    additional: Sequence[bytes] = (),
    flags: int = FLAGS,
    rtype: int = Type.A,
    name: bytes = NAME,
) -> bytes:
    """Returns an encoded reply to a question with this name and type."""
    increments = (0x1234, flags, 1, len(answer), len(authority), len(additional))
    question = name + rtype.to_bytes(2, "big") + b"\0\1"
    return b"".join((*[count.to_bytes(2, "big") for count in increments], question, *answer, *authority, *additional))


def address(owner: bytes = OWNER, last: int = 1, ttl: int = 60) -> bytes:
    """Returns an encoded A record."""
    return record(owner, Type.A, V4[:3] + bytes((last,)), ttl=ttl)


def soa(owner: bytes = ZONE, rdata: bytes = SOA_DATA, ttl: int = 60, rclass: int = Class.IN) -> bytes:
    return record(owner, Type.SOA, rdata, ttl=ttl, rclass=rclass)


def opt(rdata: bytes = b"", *, flags: int = 0, owner: bytes = b"\0", size: int | None = None) -> bytes:
    """Returns an encoded OPT record. `flags` is its TTL field."""
    return record(owner, Type.OPT, rdata, ttl=flags, rclass=1232, size=size)


def pointer(at: int) -> bytes:
    """Returns a compression pointer to an offset."""
    return (0xC000 | at).to_bytes(2, "big")


def aliases(*targets: bytes, ttl: int = 60) -> tuple[list[bytes], bytes]:
    """Returns CNAME records that begin at the question's name, and the owner name for later records.

    If a target is not a compression pointer, the next record has a pointer to it as its owner.
    """
    out, owner, at = [], OWNER, START
    for target in targets:
        out.append(record(owner, Type.CNAME, target, ttl=ttl))
        owner = target if target[0] >= 0xC0 else pointer(at + 12)
        at += len(out[-1])
    return out, owner


def aliased(*targets: bytes, count: int = 1, ttl: int = 60) -> bytes:
    """Returns a reply with CNAME records, and `count` addresses for the last target."""
    records, owner = aliases(*targets, ttl=ttl)
    return reply(*records, *[address(owner, number) for number in range(1, count + 1)])


FULL = names.from_text("edge.example.net.")
OPTIONS = b"\0\x0f\0\2\0\3\0\x0a\0\x08" + bytes(8)
"""An extended error, and a cookie."""
NXDOMAIN = FLAGS | Rcode.NXDOMAIN
PLAIN = {
    "one address": reply(address()),
    "one address for ever so long": reply(address(ttl=0x7FFFFFFF)),
    "several, of several TTLs": reply(address(ttl=300), address(last=2, ttl=20), address(last=3, ttl=60)),
    "an IPv6 address": reply(record(OWNER, Type.AAAA, V6), rtype=Type.AAAA),
    "two IPv6 addresses": reply(record(OWNER, Type.AAAA, V6), record(OWNER, Type.AAAA, V6[::-1], ttl=0), rtype=Type.AAAA),
    "an alias": aliased(b"\4edge" + ZONE),
    "an alias in full": aliased(FULL, count=2),
    "an alias to the zone": aliased(ZONE),
    "an alias to the root": aliased(b"\0"),
    "three aliases": aliased(b"\4edge" + ZONE, FULL, b"\1a" + TOP, count=3, ttl=7),
    "no such name": reply(authority=[soa()], flags=NXDOMAIN),
    "nothing of this type": reply(authority=[soa()]),
    "nothing of this type, in IPv6": reply(authority=[soa(ttl=0)], rtype=Type.AAAA),
    "the zone is the name": reply(authority=[soa(OWNER)]),
    "the zone is the root": reply(authority=[soa(ROOT, b"\1a" + FULL + b"\1b" + FULL + NUMBERS)], flags=NXDOMAIN),
    "authoritative, authentic, checked": reply(address(), flags=FLAGS | 0x0430),
    "an OPT behind an address": reply(address(), additional=[opt()]),
    "an OPT behind aliases": reply(*aliases(FULL)[0], address(pointer(START + 12)), additional=[opt(flags=0x8000)]),
    "an OPT with options behind a denial": reply(authority=[soa()], additional=[opt(OPTIONS)], flags=NXDOMAIN),
}  # fmt: skip
"""Replies that are plain, by what they are. What they ask for is in them."""


def rtype_of(packet: bytes) -> int:
    """Returns the query type in a packet's question."""
    return int.from_bytes(packet[START - 4 : START - 2], "big")


def _changed(packet: bytes, changes: list[tuple[int, int]], cut: int, more: bytes) -> bytes:
    """Returns the packet with some changed octets after its question."""
    out = bytearray(packet)
    for place, octet in changes:
        at = 2 + place % (len(out) - 2)
        if not 4 <= at < 6 and not 12 <= at < START:
            out[at] = octet
    out[2] |= QR >> 8
    return bytes(out[: max(START, len(out) - cut)] + more)


_octets = st.one_of(
    st.sampled_from([0, 1, 2, 4, 5, 6, 12, 16, 0x18, 0x1C, 0x21, 0x29, 0x80, 0xC0]), st.integers(0, 255)
)
MUTATIONS = st.builds(
    _changed,
    st.sampled_from(sorted(PLAIN.values())),
    st.lists(st.tuples(st.integers(0, 400), _octets), max_size=4),
    st.one_of(st.just(0), st.integers(0, 40)),
    st.one_of(st.just(b""), st.binary(max_size=12)),
)
"""Replies that are plain, or nearly so, to the question of one of them."""
