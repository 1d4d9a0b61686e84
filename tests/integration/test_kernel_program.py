"""The program of the accelerator in the kernel, asked through a pair of virtual Ethernet interfaces."""

from __future__ import annotations

import os
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from bench import virtual_network
from bench.virtual_network import VirtualNetwork
from svcdns.accelerator import bpf, layout
from svcdns.accelerator.elf import read_program
from svcdns.wire.ttl import ttl_offsets
from tests.support.raw_packets import Datagram, RawInterface
from tests.support.server import TIMEOUT
from tests.support.shared_answers import SharedAnswers

pytestmark = pytest.mark.integration

OBJECT = Path(bpf.__file__).with_name("answers.bpf.o")
ECHO = Path(__file__).parents[2] / "bench" / "echo.bpf.o"
PORT = 53
ADDRESSES = {"IPv4": "10.99.0.2", "IPv6": "fd99::2"}
SMALL, LARGE, CPUS = 4096, 512, os.cpu_count() or 1


@pytest.fixture(scope="module")
def network() -> Iterator[VirtualNetwork]:
    if reason := virtual_network.why_unavailable():
        pytest.skip(reason)
    with VirtualNetwork("pod", "node") as made:
        made.join(
            "pod", "eth0", "node", "veth0",
            left_addresses=["10.99.0.2/24", "fd99::2/64"], right_addresses=["10.99.0.1/24", "fd99::1/64"],
        )  # fmt: skip
        yield made


@pytest.fixture
def answers(network: VirtualNetwork) -> Iterator[SharedAnswers]:
    """The memory of a program that is attached to the interface of the Pod: IPv4 is table 0, IPv6 table 1."""
    shapes = layout.program_shapes(SMALL, LARGE, CPUS)
    maps = {name: bpf.create_map(name, *shapes[name]) for name in shapes}
    program = bpf.load_program(read_program(OBJECT.read_bytes(), "tcx"), maps)
    link = network["pod"].inside(lambda: bpf.attach(program, socket.if_nametoindex("eth0")))
    answers = SharedAnswers(maps, SMALL, LARGE, CPUS)
    for table, address in enumerate(ADDRESSES.values()):
        answers.listen(address, PORT, table)
    yield answers
    answers.close()
    for descriptor in (link, program, *maps.values()):
        os.close(descriptor)


def client(network: VirtualNetwork, family: str) -> socket.socket:
    sock = network["node"].socket(socket.AF_INET6 if family == "IPv6" else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    sock.connect((ADDRESSES[family], PORT))
    return sock


def entries(count: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Random keys and replies, of all lengths that are possible. Some octets after the header are the same in both."""
    chance = random.Random(seed)
    for number in range(count):
        length = chance.randint(15, layout.KEY_MAX)
        limit = layout.LARGE if number % 8 == 0 else layout.SMALL
        key, same = chance.randbytes(length), chance.randint(layout.NAME_AT, length)
        tail = chance.randint(length + 1 - same + layout.TAIL_MIN, limit)
        yield key, chance.randbytes(layout.NAME_AT) + key[layout.NAME_AT : same] + chance.randbytes(tail)


@pytest.fixture(params=[True, False], ids=["partial checksums", "full checksums"])
def _offload(network: VirtualNetwork, request: pytest.FixtureRequest) -> None:
    """With the offload, a sender leaves the checksum to the interface."""
    network["node"].set_offload("veth0", request.param, "tx")


@pytest.mark.usefixtures("_offload")
@pytest.mark.parametrize("family", ADDRESSES)
def test_replies_are_octet_for_octet_those_in_the_memory(
    network: VirtualNetwork, answers: SharedAnswers, family: str
) -> None:
    table = list(ADDRESSES).index(family)
    stored = [pair for pair in entries(1500, table) if answers.put(pair[0], [pair[1]], table) >= 0]
    assert len(stored) > 1490
    with client(network, family) as sock:
        for number, (key, reply) in enumerate(stored):
            sock.send(number.to_bytes(2) + key)
            assert sock.recv(4096) == number.to_bytes(2) + reply
    assert (answers.hits(0), answers.count("octets")) == (len(stored), sum(len(reply) + 2 for _, reply in stored))
    assert sum(answers.uses()) == len(stored)


@pytest.mark.usefixtures("_offload")
@pytest.mark.parametrize("family", ADDRESSES)
@pytest.mark.parametrize("shift", [0, 1], ids=["even offsets", "odd offsets"])
def test_ttls_go_down_each_second(network: VirtualNetwork, answers: SharedAnswers, family: str, shift: int) -> None:
    """The reply is that of `wire.ttl`, and its checksum is right: a socket drops a datagram with a wrong one."""
    name = b"\x03web" + bytes([7 + shift]) + b"example"[: 7 + shift].ljust(7 + shift, b"s") + b"\0"
    question = name + b"\0\1\0\1"
    ttls = (300, 70000, 2, 5)
    records = b"".join(b"\xc0\x0c\0\1\0\1" + ttl.to_bytes(4) + b"\0\4\x0a\0\0" + bytes([ttl & 255]) for ttl in ttls)
    key = b"\1\0\0\1\0\0\0\0\0\0" + question
    reply = b"\x81\x80\0\1\0\4\0\0\0\0" + question + records
    at = [offset - 2 for offset in ttl_offsets(b"ab" + reply)]
    assert [offset % 2 for offset in at] == [1 - shift] * 4
    begun = time.monotonic_ns()
    answers.put(key, [reply], list(ADDRESSES).index(family), first_step=begun - 2_500_000_000, ttl_at=at)
    with client(network, family) as sock:
        sock.send(b"ab" + key)
        received = sock.recv(4096)
    steps = 3 + (time.monotonic_ns() - begun) // 10**9
    seen = [int.from_bytes(received[offset + 2 : offset + 6]) for offset in at]
    assert seen in [[max(0, ttl - lower) for ttl in ttls] for lower in range(3, steps + 1)]
    kept = bytearray(received)
    for offset, ttl in zip(at, ttls, strict=True):
        kept[offset + 2 : offset + 6] = ttl.to_bytes(4)
    assert bytes(kept) == b"ab" + reply


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_rotations_take_turns(network: VirtualNetwork, answers: SharedAnswers, large: bool) -> None:
    key, other = b"k" * 40, b"o" * 40
    length = 400 if large else 100
    answers.put(other, [b"-" * length], 0)
    replies = [bytes([number]) * (length + number) for number in range(layout.ROTATIONS)]
    answers.put(key, replies, 0, hit_counter=5)
    seen = Counter[bytes]()
    with client(network, "IPv4") as sock:
        for _ in range(1000):
            sock.send(b"ab" + key)
            seen[sock.recv(4096)[2:]] += 1
    assert set(seen) == set(replies)
    assert max(seen.values()) < 100
    assert (answers.hits(5), answers.hits(0)) == (1000, 0)
    assert answers.uses()[(SMALL if large else 0) + 1] == 1000


def name_octets(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


@pytest.mark.usefixtures("_offload")
@pytest.mark.parametrize("family", ADDRESSES)
@pytest.mark.parametrize("opt", [b"", OPT], ids=["no EDNS", "EDNS"])
@pytest.mark.parametrize("left", ["www.odd", "www.even"])
def test_names_below_a_nonexistent_label_share_a_reply(
    network: VirtualNetwork, answers: SharedAnswers, family: str, opt: bytes, left: str
) -> None:
    rest = "com.default.svc.cluster.local"
    header = b"\1\0\0\1\0\0\0\0\0" + bytes([bool(opt)])
    reply_header = b"\x85\x03\0\1\0\0\0\1\0" + bytes([bool(opt)])
    tail = b"\xc0\x1b" + random.Random(left).randbytes(70)
    query_end = b"\0\x1c\0\1"

    def key(name: str) -> bytes:
        return header + name_octets(name) + query_end + opt

    def reply(name: str) -> bytes:
        return reply_header + name_octets(name) + query_end + tail

    first = f"{left}.{rest}"
    table = list(ADDRESSES).index(family)
    word_at = answers.put_denial(key(first), 11 + len(left), reply(first), table)
    size = len(left)
    names = [f"{'x' * size}.{rest}", f"a.{'B' * (size - 2)}.{rest}", f"a.{'n' * (size - 4)}.c.{rest}", first]
    with client(network, family) as sock:
        for name in names:
            sock.send(b"id" + key(name))
            assert sock.recv(4096) == b"id" + reply(name)
        assert answers.hits(0) == len(names)
    assert answers.count("octets") == sum(len(reply(name)) + 2 for name in names)
    if family == "IPv6":
        return
    other = ["x" * (size + 1), "x" * (size - 1), f"ns.dns.{'x' * (size - 7)}" if size > 7 else "NS.dns"]
    unknown = [key(f"{name}.{rest}") for name in other]
    unknown += [key(f"{left}.{rest.replace('com', 'org')}"), key(f"{left}.{rest.upper()}"), key(f"{left}.com")]
    malformed = bytearray(key(first))
    malformed[10] = 60
    with Listener(network) as listener, client(network, family) as sock:
        for octets in (*unknown, bytes(malformed), key(first)[:-1] + b"\3"):
            sock.send(b"id" + octets)
            assert listener.receive() == b"id" + octets
        answers.remove(word_at)
        sock.send(b"id" + key(first))
        assert listener.receive() == b"id" + key(first)
    assert answers.hits(0) == len(names)


class Listener:
    """A socket in the Pod, which gets what the program passes on."""

    def __init__(self, network: VirtualNetwork, port: int = PORT) -> None:
        self.socket = network["pod"].socket()
        self.socket.settimeout(TIMEOUT)
        self.socket.bind((ADDRESSES["IPv4"], port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def receive(self) -> bytes:
        """Returns the next payload."""
        return self.socket.recv(4096)


def test_entries_that_are_no_longer_valid(network: VirtualNetwork, answers: SharedAnswers) -> None:
    """Each is passed on and counted. An entry of another table is unknown."""
    now = time.monotonic_ns()
    answers.put(b"a" * 20, [b"r" * 40], 0, until=now)
    answers.put(b"b" * 20, [b"r" * 40], 1)
    removed = answers.put(b"c" * 20, [b"r" * 40], 0)
    answers.remove(removed)
    answers.put(b"d" * 20, [b"r" * 40], 0, until=now + 10**12)
    with Listener(network) as listener, client(network, "IPv4") as sock:
        for letter in (b"a", b"b", b"c", b"x", b"xxxxxx", b"d"):
            sock.send(b"id" + letter * 20)
            if letter != b"d":
                assert listener.receive() == b"id" + letter * 20
        assert sock.recv(100) == b"id" + b"r" * 40
        assert (answers.count("expired"), answers.count("unknown"), answers.count("stale")) == (1, 4, 0)
        answers.end()
        sock.send(b"id" + b"d" * 20)
        assert listener.receive() == b"id" + b"d" * 20
    assert (answers.count("stale"), answers.hits(0)) == (1, 1)


def test_a_slot_that_is_being_written_is_passed_on(network: VirtualNetwork, answers: SharedAnswers) -> None:
    answers.put(b"a" * 20, [b"r" * 40], 0)
    answers.memory["small"][0] |= 1
    with Listener(network) as listener, client(network, "IPv4") as sock:
        sock.send(b"id" + b"a" * 20)
        assert listener.receive() == b"id" + b"a" * 20
    assert answers.count("unknown") == 1


def datagram(network: VirtualNetwork, source: str = "10.99.0.1", target: str = "10.99.0.2") -> Datagram:
    macs = network["node"].mac("veth0"), network["pod"].mac("eth0")
    return Datagram(source, target, 4053, PORT, b"id" + b"a" * 20, *macs)


PASSED_ON: dict[str, dict[str, Any]] = {
    "options": {"options": b"\x94\x04\0\0"},
    "another port": {"target_port": PORT + 1},
    "QR set": {"payload": b"id\x81" + b"a" * 19},
    "one octet more": {"payload": b"id" + b"a" * 21},
    "one octet less": {"payload": b"id" + b"a" * 19},
    "shorter than a query": {"payload": b"id"},
    "longer than a key": {"payload": b"id" + b"a" * 97},
}
DROPPED: dict[str, dict[str, Any]] = {
    "first fragment": {"fragment": 0x2000},
    "last fragment": {"fragment": 0x0002},
    "VLAN": {"vlan": 5},
    "another MAC address": {"target_mac": b"\2\0\0\0\0\1"},
    "length of UDP too large": {"length_error": 4},
    "length of UDP too small": {"length_error": -4},
    "multicast source": {"source": "224.0.0.1"},
    "loopback source": {"source": "127.0.0.1"},
    "its own address as source": {"source": "10.99.0.2"},
    "another address": {"target": "10.99.0.77"},
}


def test_odd_packets_are_not_answered(network: VirtualNetwork, answers: SharedAnswers) -> None:
    """They go on to the network stack, which passes some of them to the socket and drops the others."""
    answers.put(b"a" * 20, [b"r" * 40], 0)
    raw = RawInterface(network["node"], "veth0")
    with Listener(network) as listener, Listener(network, PORT + 1) as other, client(network, "IPv4"):
        for change in PASSED_ON.values():
            sent = replace(datagram(network), **change)
            raw.send(sent)
            assert (other if "target_port" in change else listener).receive() == sent.payload
        for change in DROPPED.values():
            raw.send(replace(datagram(network), **change))
        raw.send(replace(datagram(network), payload=b"end"))
        assert not list(iter(listener.receive, b"end"))
    assert answers.hits(0) == 0
    with network["node"].socket() as sock:
        sock.settimeout(TIMEOUT)
        sock.bind(("10.99.0.1", 4053))
        for change in ({}, {"padding": 9}, {"checksum_error": None}):
            raw.send(replace(datagram(network), **change))
            assert sock.recv(100) == b"id" + b"r" * 40
    raw.close()
    assert answers.hits(0) == 3


@pytest.mark.usefixtures("_offload")
@pytest.mark.parametrize("family", ADDRESSES)
def test_the_program_of_the_bench_sends_packets_back(network: VirtualNetwork, family: str) -> None:
    shapes = layout.program_shapes(SMALL, LARGE, CPUS)
    maps = {name: bpf.create_map(name, *shapes[name]) for name in shapes}
    program = bpf.load_program(read_program(ECHO.read_bytes(), "tcx"), maps)
    link = network["pod"].inside(lambda: bpf.attach(program, socket.if_nametoindex("eth0")))
    memory = SharedAnswers(maps, SMALL, LARGE, CPUS)
    memory.listen(ADDRESSES[family], PORT, 0)
    with client(network, family) as sock:
        for payload in (b"", b"x", bytes(500)):
            sock.send(payload)
            assert sock.recv(4096) == payload
    memory.close()
    for descriptor in (link, program, *maps.values()):
        os.close(descriptor)


def test_several_datagrams_in_one_packet_are_passed_on(network: VirtualNetwork, answers: SharedAnswers) -> None:
    """A sender with UDP_SEGMENT gives the interface several datagrams at once."""
    answers.put(b"a" * 20, [b"r" * 40], 0)
    payload = b"id" + b"a" * 20
    network["node"].set_offload("veth0", True, "tx")
    with Listener(network) as listener, client(network, "IPv4") as sock:
        sock.setsockopt(socket.IPPROTO_UDP, 103, len(payload))
        sock.send(payload * 3)
        assert [listener.receive() for _ in range(3)] == [payload] * 3
    assert answers.hits(0) == 0
