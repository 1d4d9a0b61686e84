"""Sends a recorded query to a server, and converts the reply to the form of the recorded answers.

Packets are built by hand, so that unusual headers are possible. dnspython parses the replies, so that svcdns's own
parser does not judge svcdns.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from tests.conformance.coredns.recorded import NO_REPLY, Answer, Query

TIMEOUT = 2.0
NO_REPLY_TIMEOUT = 0.4
"""Seconds to wait if no reply is expected."""
OPTIONS = {
    "nsid": (3, b""),
    "cookie": (10, bytes(range(1, 9))),
    "padding": (12, bytes(8)),
    "unknown": (65001, b"abc"),
}
FLAGS = ("QR", "AA", "TC", "RD", "RA", "AD", "CD")
SECTIONS = ("an", "ns", "ar")


def send_query(
    port: int,
    query: Query,
    transport: str,
    ident: int,
    *,
    no_reply_expected: bool = False,
    server: str = "127.0.0.1",
    client: str = "127.0.0.1",
) -> Answer:
    """Sends a query from the address `client` to the address `server`. Returns the reply, or NO_REPLY.

    On loopback, a query may have a source address of its own.
    """
    wire = packet(query, ident)
    timeout = NO_REPLY_TIMEOUT if no_reply_expected else TIMEOUT
    source, target = (query.source if query.source and client == "127.0.0.1" else client, 0), (server, port)
    try:
        if transport == "udp":
            reply = _over_udp(wire, target, source, timeout)
        elif query.type in ("AXFR", "IXFR"):
            return _transfer(wire, target, source, query)
        else:
            with _connected(target, source) as stream:
                _send(stream, wire)
                reply = _receive(stream)
    except (TimeoutError, ConnectionError):
        return dict(NO_REPLY)
    return answer(reply, query)


def packet(query: Query, ident: int) -> bytes:
    """Returns the message of a query."""
    flags = dns.opcode.from_text(query.opcode) << 11
    flags |= 0x8000 * query.qr | 0x0100 * query.rd | 0x0020 * query.ad | 0x0010 * query.cd
    names = [] if query.extra == "none" else [query.name, *filter(None, [query.extra])]
    kind = struct.pack("!HH", dns.rdatatype.from_text(query.type), dns.rdataclass.from_text(query.klass))
    body = b"".join((dns.name.from_text(name).to_wire() or b"") + kind for name in names)
    if query.size:
        code, data = OPTIONS.get(query.option, (0, b""))
        option = struct.pack("!HH", code, len(data)) + data if query.option else b""
        body += (
            b"\0" + struct.pack("!HHIH", 41, query.size, query.version << 16 | 0x8000 * query.do, len(option)) + option
        )
    return struct.pack("!HHHHHH", ident, flags, len(names), 0, 0, bool(query.size)) + body


def answer(wire: bytes, query: Query) -> Answer:
    """Converts a reply to the form of the recorded answers."""
    word = struct.unpack("!H", wire[2:4])[0]
    out: Answer = {
        "rcode": dns.rcode.to_text(word & 15),
        "flags": [name for name in FLAGS if word & dns.flags.Flag[name]],
    }
    opcode = dns.opcode.to_text(dns.opcode.Opcode(word >> 11 & 15))
    if opcode != "QUERY":
        out["opcode"] = opcode
    if len(wire) == 12:
        return out | {"header_only": True}
    try:
        message = dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=True)
    except dns.exception.DNSException as error:
        return out | {"undecodable": type(error).__name__}
    question_section = [one.to_text() for one in message.question]
    if question_section != _expected_question(query):
        out["question"] = question_section
    for key, section in zip(SECTIONS, (message.answer, message.authority, message.additional), strict=True):
        if section:
            out[key] = sorted(map(_record, section))
    if any(rrset.rdtype == dns.rdatatype.CNAME for rrset in message.answer):
        out["order"] = _order(message.answer)
    if message.edns >= 0:
        out["edns"] = _edns(message, query)
        out["rcode"] = dns.rcode.to_text(message.rcode())
    return out


def _expected_question(query: Query) -> list[str]:
    names = [query.name, query.extra]
    return [
        f"{dns.name.from_text(name).to_text()} {query.klass} {query.type}" for name in names if name not in ("", "none")
    ]


def _record(rrset: Any) -> str:
    """Returns `owner ttl class type rdata`. A placeholder replaces the serial in the SOA record of a cluster zone."""
    rdata = rrset[0].to_text() if rrset else ""
    if rrset.rdtype == dns.rdatatype.SOA and rdata.lower().startswith(("ns.dns.", "ns1.dns.")):
        server, rname, _, numbers = rdata.split(" ", 3)
        rdata = f"{server} {rname} SERIAL {numbers}"
    kind = f"{dns.rdataclass.to_text(rrset.rdclass)} {dns.rdatatype.to_text(rrset.rdtype)}"
    return f"{rrset.name.to_text()} {rrset.ttl} {kind} {rdata}".rstrip()


def _order(section: list[Any]) -> list[str]:
    """Returns the types of a section in order. Adjacent records of a type are one item, except CNAME records."""
    out: list[str] = []
    for rrset in section:
        kind = dns.rdatatype.to_text(rrset.rdtype)
        item = f"CNAME {rrset.name.to_text()}" if kind == "CNAME" else kind
        if out[-1:] != [item]:
            out.append(item)
    return out


def _edns(message: dns.message.Message, query: Query) -> Any:
    found = {
        "size": message.payload,
        "do": bool(message.ednsflags & dns.flags.DO),
        "version": message.edns,
        "options": sorted([int(option.otype), (option.to_wire() or b"").hex()] for option in message.options),
    }
    mirrored = {"size": query.size, "do": query.do, "version": 0, "options": []}
    return "echo" if found == mirrored else found


def _over_udp(wire: bytes, target: tuple[str, int], source: tuple[str, int], timeout: float) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.bind(source)
        sock.connect(target)
        sock.send(wire)
        while True:
            reply = sock.recv(65535)
            if reply[:2] == wire[:2]:
                return reply


def _connected(target: tuple[str, int], source: tuple[str, int]) -> socket.socket:
    stream = socket.create_connection(target, TIMEOUT, source)
    # Close with a reset: thousands of short connections would otherwise exhaust the ports (TIME-WAIT).
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return stream


def _send(stream: socket.socket, wire: bytes) -> None:
    stream.sendall(struct.pack("!H", len(wire)) + wire)


def _receive(stream: socket.socket) -> bytes:
    (size,) = struct.unpack("!H", _exactly(stream, 2))
    return _exactly(stream, size)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise ConnectionError("closed in the middle of a message")
        data += piece
    return data


def _transfer(wire: bytes, target: tuple[str, int], source: tuple[str, int], query: Query) -> Answer:
    """Returns all records of a zone transfer up to its last SOA record. A refusal is returned as an ordinary answer."""
    records: list[str] = []
    with _connected(target, source) as stream:
        _send(stream, wire)
        while True:
            reply = _receive(stream)
            head = answer(reply, query)
            if head["rcode"] != "NOERROR" or "header_only" in head or "undecodable" in head:
                return head
            section = dns.message.from_wire(reply, one_rr_per_rrset=True).answer
            records += map(_record, section)
            if not section or (len(records) > 1 and records[0] == records[-1]):
                ends = [record.split()[3] for record in (*records[:1], *records[-1:])]
                return {"rcode": "NOERROR", "flags": head["flags"], "transfer": sorted(records), "ends": ends}
