"""Messages in packet captures of both formats."""

from __future__ import annotations

import socket
import struct
from collections import Counter

import pytest

from svcdns.shadow.errors import ShadowError
from svcdns.shadow.packet_capture import is_capture, payloads
from svcdns.shadow.queries import Queries

MESSAGE = bytes.fromhex("1234010000010000000000000161047465737400" + "00010001")


def udp(payload: bytes, port: int = 53) -> bytes:
    return struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload


def ipv4(payload: bytes, protocol: int = 17, fragment: int = 0) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, fragment, 64, protocol, 0)
    return header + socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2") + payload


def ipv6(payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), 17, 64) + bytes(32) + payload


def ethernet(packet: bytes, kind: bytes = b"\x08\x00", tag: bytes = b"") -> bytes:
    return bytes(12) + tag + kind + packet


def pcap(frames: list[bytes], link: int = 1, order: str = "<") -> bytes:
    out = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    return out + b"".join(struct.pack(f"{order}IIII", 0, 0, len(one), len(one)) + one for one in frames)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + size + body + size


def pcapng(frames: list[bytes], link: int = 1, order: str = "<") -> bytes:
    magic = struct.pack(f"{order}I", 0x1A2B3C4D)
    out = block(0x0A0D0D0A, magic + struct.pack(f"{order}HHq", 1, 0, -1), order)
    out += block(1, struct.pack(f"{order}HHI", link, 0, 65535), order)
    out += block(5, bytes(12), order)
    for one in frames:
        out += block(6, struct.pack(f"{order}IIIII", 0, 0, 0, len(one), len(one)) + one, order)
    return out


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pcap([ethernet(ipv4(udp(MESSAGE)))]), id="pcap"),
        pytest.param(pcap([ethernet(ipv4(udp(MESSAGE)))], order=">"), id="pcap in the other byte order"),
        pytest.param(pcap([ethernet(ipv6(udp(MESSAGE)), b"\x86\xdd")]), id="IPv6"),
        pytest.param(pcap([ethernet(ipv4(udp(MESSAGE)), tag=b"\x81\x00\x00\x05")]), id="VLAN"),
        pytest.param(pcap([ipv4(udp(MESSAGE))], link=101), id="raw IP"),
        pytest.param(pcap([bytes(16) + ipv4(udp(MESSAGE))], link=113), id="any interface"),
        pytest.param(pcap([bytes(20) + ipv4(udp(MESSAGE))], link=276), id="any interface, version 2"),
        pytest.param(pcapng([ethernet(ipv4(udp(MESSAGE)))]), id="pcapng"),
        pytest.param(pcapng([ethernet(ipv4(udp(MESSAGE)))], order=">"), id="pcapng in the other byte order"),
    ],
)
def test_the_message_is_found(content: bytes) -> None:
    assert is_capture(content)
    assert list(Queries(content)) == [b"\0\0" + MESSAGE[2:]]


def test_other_packets_are_counted_by_reason() -> None:
    frames = [
        ethernet(ipv4(udp(MESSAGE, 5353))),
        ethernet(ipv4(udp(MESSAGE), protocol=6)),
        ethernet(ipv4(udp(MESSAGE), fragment=0x2000)),
        ethernet(ipv4(udp(MESSAGE))[:-4]),
        ethernet(b"\x05" + bytes(40)),
        ethernet(b""),
    ]
    left_out: Counter[str] = Counter()
    assert list(payloads(pcap(frames), left_out)) == []
    assert left_out == {
        "not to port 53": 1,
        "no UDP packet": 1,
        "a fragment": 1,
        "a packet that was not captured whole": 1,
        "no IP packet": 2,
    }


def test_replies_and_other_opcodes_are_left_out() -> None:
    reply = MESSAGE[:2] + b"\x81" + MESSAGE[3:]
    update = MESSAGE[:2] + b"\x28" + MESSAGE[3:]
    queries = Queries(pcap([ethernet(ipv4(udp(one))) for one in (reply, update, b"short")]))
    assert list(queries) == []
    assert queries.left_out == {"a reply, or no query by its opcode": 2, "shorter than a header": 1}


@pytest.mark.parametrize("content", [pcap([])[:10], b"\x0a\x0d\x0d\x0a" + bytes(20)])
def test_a_file_that_is_cut_in_a_header_is_an_error(content: bytes) -> None:
    with pytest.raises(ShadowError, match="packet capture"):
        list(payloads(content, Counter()))


def test_a_file_that_is_cut_in_a_packet_ends_there() -> None:
    assert list(payloads(pcap([ethernet(ipv4(udp(MESSAGE)))] * 2)[:-8], Counter())) == [MESSAGE]
