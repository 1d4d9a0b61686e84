"""The server with the accelerator, asked through a pair of virtual interfaces: replies, packets and counters."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import dns.message
import dns.rdatatype
import pytest

from bench.accelerator_race import why_unavailable
from bench.client import addresses, has_address, make_query
from bench.cluster import Cluster, external_name
from tests.support.accelerated import ADDRESSES, QUIET, Accelerated
from tests.support.raw_packets import Datagram, RawInterface
from tests.support.server import TIMEOUT, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SERVICES: Final = Cluster(300, 12)
HEADLESS, CHANGED, SINGLE, BOTH = 20, 30, 7, 11
"""Services: with 12 endpoints, with endpoints that change, with a cluster IP, with a cluster IP of each family."""
NX: Final = "absent.team-1.svc.cluster.local"
CHANGES: Final = 200
SO_NO_CHECK, UDP_SEGMENT = 11, 103


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accelerated]:
    if reason := why_unavailable():
        pytest.skip(reason)
    with Accelerated(tmp_path_factory.mktemp("accelerated"), SERVICES) as made:
        made.until_up()
        yield made


# -- replies


QUERIES: Final[dict[str, tuple[str, str]]] = {
    "one address": (SERVICES.fqdn(SINGLE), "A"),
    "IPv6 address": (SERVICES.fqdn(BOTH), "AAAA"),
    "many addresses": (SERVICES.fqdn(HEADLESS), "A"),
    "no such type": (SERVICES.fqdn(SINGLE), "AAAA"),
    "no such name": (NX, "A"),
    "outside name": (external_name(3), "A"),
}


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("family", ADDRESSES)
def test_the_kernel_sends_the_same_reply(lab: Accelerated, family: str, kind: str) -> None:
    """The second reply of the worker is the reference. Only TTLs and the order of records differ."""
    packet = make_query(*QUERIES[kind], ident=0x1234)
    _, wanted = (dns.message.from_wire(lab.reply(packet, family)) for _ in range(2))
    lab.warm([packet], [family])
    with lab.only_kernel():
        found = dns.message.from_wire(lab.reply(packet, family))
    assert found.id == 0x1234
    assert found == wanted


def test_ttls_of_an_outside_name_go_down_each_second(lab: Accelerated) -> None:
    """The kernel's TTL lies between the TTLs of the replies over TCP before and after it."""
    packet = make_query(external_name(4))
    lab.warm([packet])

    def ttl(wire: bytes) -> int:
        return int(dns.message.from_wire(wire).answer[0].ttl)

    def over_tcp() -> int:
        with lab.node.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect((ADDRESSES["IPv4"].pod, lab.server.port))
            sock.sendall(struct.pack(">H", len(packet)) + packet)
            return ttl(sock.recv(65535)[2:])

    seen = set()

    def compare() -> bool:
        before = over_tcp()
        with lab.only_kernel():
            kernel = ttl(lab.reply(packet))
        assert before >= kernel >= over_tcp()
        seen.add(kernel)
        return len(seen) == 3

    until("three TTLs", compare)
    assert max(seen) - min(seen) == 2


def test_all_orders_of_the_records_are_sent(lab: Accelerated) -> None:
    packet = lab.packet(HEADLESS)
    lab.warm([packet])
    first = set()
    with lab.only_kernel(), lab.client() as sock:
        for _ in range(300):
            sock.send(packet)
            reply = dns.message.from_wire(sock.recv(4096), one_rr_per_rrset=True)
            first.add(str(reply.answer[0][0]))
    assert first == set(SERVICES.pods(HEADLESS))


# -- packets


@pytest.mark.parametrize("size", [SINGLE, HEADLESS], ids=["small", "large"])
@pytest.mark.parametrize("checksum", ["partial", "full", "none"])
@pytest.mark.parametrize("family", ADDRESSES)
def test_checksums_are_right(lab: Accelerated, family: str, checksum: str, size: int) -> None:
    """A sender on the node leaves the checksum to its interface, or writes it. Over IPv4, it may send none."""
    if checksum == "none" and family == "IPv6":
        return  # RFC 8200 §8.1 forbids it
    packets = [make_query(name, ident=7) for name in (SERVICES.fqdn(size), SERVICES.fqdn(size + 100))]
    lab.warm(packets, [family])
    lab.node.set_offload("veth0", checksum == "partial", "tx")
    raw = RawInterface(lab.node, "veth0")
    try:
        with lab.only_kernel(), lab.client(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, checksum == "none")
            for packet in packets:
                sock.send(packet)
                frame = raw.receive(lab.server.port)
                assert frame.has_right_checksum()
                assert frame.is_partial == (checksum == "partial")
                assert addresses(sock.recv(4096))
    finally:
        raw.close()
        lab.node.set_offload("veth0", True, "tx")


Send = Callable[[socket.socket, bytes], object]


def with_option(level: int, name: int, value: int | bytes) -> Send:
    """Returns a function that sets an option of a socket and sends a packet."""

    def send(sock: socket.socket, packet: bytes) -> None:
        sock.setsockopt(level, name, value)
        sock.send(packet)

    return send


def in_fragments(sock: socket.socket, packet: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
    sock.send(packet + bytes(3000))


def in_segments(sock: socket.socket, packet: bytes) -> None:
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, len(packet))
    sock.send(packet * 3)


def changed(change: Callable[[bytes], bytes]) -> Send:
    return lambda sock, packet: sock.send(change(packet))


ODD: Final[dict[str, tuple[str, Send, bool, int]]] = {
    "plain": ("IPv4", changed(bytes), True, 1),
    "plain over IPv6": ("IPv6", changed(bytes), True, 1),
    "TTL 1": ("IPv4", with_option(socket.IPPROTO_IP, socket.IP_TTL, 1), True, 1),
    "DSCP": ("IPv4", with_option(socket.IPPROTO_IP, socket.IP_TOS, 0xB8), True, 1),
    "IP option": ("IPv4", with_option(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x94\x04\0\0"), False, 1),
    "hop-by-hop option": ("IPv6", with_option(socket.IPPROTO_IPV6, 54, b"\0\0\1\4\0\0\0\0"), False, 1),
    "destination option": ("IPv6", with_option(socket.IPPROTO_IPV6, 59, b"\0\0\1\4\0\0\0\0"), False, 1),
    "three queries in one packet": ("IPv4", in_segments, False, 3),
    "fragments": ("IPv4", in_fragments, False, 1),
    "one octet more": ("IPv4", changed(lambda packet: packet + b"\0"), False, 1),
    "one octet less": ("IPv4", changed(lambda packet: packet[:-1]), False, 1),
    "another type": ("IPv4", changed(lambda packet: packet[:-4] + b"\0\x10\0\1"), False, 1),
    "upper case": ("IPv4", changed(lambda packet: packet[:12] + packet[12:].upper()), False, 1),
    "RD clear": ("IPv4", changed(lambda packet: packet[:2] + b"\0" + packet[3:]), False, 1),
    "QR set": ("IPv4", changed(lambda packet: packet[:2] + b"\x81" + packet[3:]), False, 0),
    "header only": ("IPv4", changed(lambda packet: packet[:12]), False, 1),
    "eleven octets": ("IPv4", changed(lambda packet: packet[:11]), False, 0),
    "nothing": ("IPv4", changed(lambda _: b""), False, 0),
}
"""Packets: family, how the packet is sent, whether the kernel answers, and the number of replies in all."""


@pytest.mark.parametrize("kind", ODD)
def test_odd_packets_are_passed_on(lab: Accelerated, kind: str) -> None:
    """The worker answers what the kernel does not answer."""
    family, send, kernel, count = ODD[kind]
    packet = lab.packet(SINGLE)
    lab.warm([packet])
    for answered, context in ((kernel, lab.only_kernel()), (count > 0, nullcontext())):
        with context, lab.client(family) as sock:
            sock.settimeout(TIMEOUT if answered else QUIET)
            send(sock, packet)
            replies = list(received(sock, count if answered else 1))
            assert len(replies) == (0 if not answered else count)
            assert all(reply[:2] == packet[:2] for reply in replies)


def received(sock: socket.socket, count: int) -> Iterator[bytes]:
    for _ in range(count):
        try:
            yield sock.recv(65535)
        except TimeoutError:
            return


RAW: Final[dict[str, tuple[dict[str, Any], bool]]] = {
    "right": ({}, True),
    "no checksum": ({"checksum_error": None}, True),
    "padded frame": ({"padding": 9}, True),
    "wrong checksum": ({"checksum_error": 0x1234}, False),
    "UDP length too small": ({"length_error": -1}, False),
    "UDP length too large": ({"length_error": 1}, False),
    "another hardware address": ({"target_mac": b"\2\0\0\0\0\1"}, False),
    "broadcast": ({"target_mac": b"\xff" * 6}, False),
    "VLAN tag": ({"vlan": 5}, False),
    "another address": ({"target": "10.99.0.77"}, False),
    "another port": ({"target_port": 5}, False),
    "first fragment": ({"fragment": 0x2000}, False),
    "last fragment": ({"fragment": 0x0010}, False),
    "router alert": ({"options": b"\x94\x04\0\0"}, False),
    "from loopback": ({"source": "127.0.0.1"}, False),
    "from multicast": ({"source": "224.0.0.1"}, False),
    "from no address": ({"source": "0.0.0.0"}, False),
    "from the Pod itself": ({"source": "10.99.0.2"}, False),
    "from port 0": ({"source_port": 0}, False),
}
"""Frames: what differs from a right frame, and whether the kernel's reply is valid."""


@pytest.mark.parametrize("kind", RAW)
def test_raw_frames(lab: Accelerated, kind: str) -> None:
    """A query with a wrong checksum may get a reply, whose checksum is then wrong, so that no client accepts it."""
    difference, valid = RAW[kind]
    packet = lab.packet(SINGLE)
    lab.warm([packet])
    raw = RawInterface(lab.node, "veth0", TIMEOUT if valid else QUIET)
    right = Datagram(
        "10.99.0.1", "10.99.0.2", 4000, lab.server.port, packet, lab.node.mac("veth0"), lab.pod.mac("eth0")
    )
    sent = replace(right, **difference)
    try:
        with lab.only_kernel():
            raw.send(sent)
            try:
                frame = raw.receive(lab.server.port)
            except TimeoutError:
                assert not valid
            else:
                assert frame.has_right_checksum() == valid
                assert (len(frame.octets) > 60, kind in {*RAW} - {"from loopback"}) == (True, True)
    finally:
        raw.close()


def test_ipv6_without_a_checksum_is_not_answered(lab: Accelerated) -> None:
    """RFC 8200 §8.1: a receiver discards such packets."""
    packet = lab.packet(SINGLE)
    lab.warm([packet])
    raw = RawInterface(lab.node, "veth0", QUIET)
    macs = (lab.node.mac("veth0"), lab.pod.mac("eth0"))
    raw.send(Datagram("fd99::1", "fd99::2", 4000, lab.server.port, packet, *macs, checksum_error=None))
    with pytest.raises(TimeoutError):
        raw.receive(lab.server.port)
    raw.close()


# -- counters


def settled(lab: Accelerated, *names: str) -> dict[str, float]:
    """Returns metrics when workers have written everything that happened before the call."""
    begun = time.monotonic()
    until("the counters", lambda: time.monotonic() > begun + 2.2)
    return {name: lab.metric(name) for name in names}


COUNTED: Final = (
    "coredns_dns_requests_total",
    "coredns_dns_responses_total",
    "coredns_dns_request_duration_seconds_count",
    "coredns_dns_response_size_bytes_count",
)


def test_each_query_counts_once(lab: Accelerated) -> None:
    packets = [lab.packet(number, rtype) for number in range(100, 200) for rtype in ("A", "AAAA")]
    lab.warm(packets, ["IPv4"])
    kernel, size = "svcdns_accelerator_replies_total", "coredns_dns_response_size_bytes_sum"
    before = settled(lab, *COUNTED, kernel, size)
    sizes = 0
    with lab.client() as sock:
        for packet in packets * 10:
            sock.send(packet)
            sizes += len(sock.recv(4096))
    for name, count in (dict.fromkeys((*COUNTED, kernel), 2000) | {size: sizes}).items():
        lab.until_metric(name, before[name] + count)


CLIENT: Final = """
import json, socket, sys, time
address, port, packet, over = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), sys.argv[4]
import os
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
for sock in socks:
    sock.connect((address, port)); sock.settimeout(1.0)
sent = lost = 0; runs = []
print("ready", flush=True)
while not os.path.exists(over):
    sock = socks[sent & 3]; ident = (sent & 0xFFFF).to_bytes(2, "big"); begun = time.monotonic(); sent += 1
    sock.send(ident + packet[2:])
    try:
        while (reply := sock.recv(4096))[:2] != ident: pass
    except TimeoutError:
        lost += 1; continue
    moved = max((reply[at + 12: at + 16] for at in range(12, len(reply)) if reply[at: at + 4] == bytes((192, 12, 0, 1))), default=b"")
    if not runs or runs[-1][0] != moved.hex(): runs.append([moved.hex(), begun, 1])
    else: runs[-1][2] += 1
print(json.dumps({"sent": sent, "lost": lost, "runs": runs}))
"""


def test_no_reply_is_older_than_a_change(lab: Accelerated, tmp_path: Path) -> None:
    """The address of an endpoint changes under load. A client that has seen an address sees no earlier one again."""
    packet = lab.packet(CHANGED)
    lab.warm([packet], ["IPv4"])
    names = ("coredns_dns_requests_total", "svcdns_accelerator_replies_total", "svcdns_accelerator_dropped_total")
    before = settled(lab, *names)
    over = tmp_path / "over"
    words = [sys.executable, "-c", CLIENT, ADDRESSES["IPv4"].pod, str(lab.server.port), packet.hex(), str(over)]
    with subprocess.Popen(lab.node.command(*words), stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        changes = []
        for _ in range(CHANGES):
            changes.append(lab.server.api.request(f"change {CHANGED}")[0])
            due = time.monotonic() + 0.02
            until("the next change", lambda: time.monotonic() > due)  # noqa: B023
        probes = []

        def last_address() -> bool:
            probes.append(lab.reply(packet))
            return has_address(probes[-1], changes[-1])

        until("the last address", last_address)
        over.touch()
        result = json.loads(client.communicate()[0])
    lab.until_metric(names[0], before[names[0]] + result["sent"] - result["lost"] + len(probes))
    replies, dropped = (lab.metric(name) - before[name] for name in names[1:])
    seen = [run[0] for run in result["runs"]]
    assert len(seen) == len(set(seen)) > CHANGES / 4
    assert set(seen) <= {"", *(socket.inet_aton(address).hex() for address in changes)} | {seen[0]}
    assert result["lost"] == dropped
    assert replies > result["sent"] / 2
