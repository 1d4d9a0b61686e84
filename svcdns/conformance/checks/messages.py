"""Checks of messages: IDs, questions, header bits, opcodes, classes, unknown types, and malformed packets.

The queries with unusual header bits and opcodes are those of RFC 8906 §8.1.
"""

from __future__ import annotations

import struct
from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import Check, checker
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.outcome import Severity
from svcdns.conformance.queries import Octets, Opt, Query
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, QR, RD, TC, Class, Opcode, Type, Z

CHECKS: Final[dict[str, Check]] = {}
check = checker("messages", CHECKS)
REQUIRED, RECOMMENDED, INFORMATIONAL = Severity.REQUIRED, Severity.RECOMMENDED, Severity.INFORMATIONAL
UNKNOWN_TYPE: Final = 1000
UNKNOWN_OPCODE: Final = 15


async def _apex(examiner: Examiner, flags: int = 0) -> Answer:
    """Queries the SOA record of the zone with only the header bits in `flags`.

    Raises Failed unless the reply is NOERROR with the SOA record in the answer section.
    """
    answer = await examiner.query(examiner.zone, Type.SOA, flags=flags)
    return answer.rcode(0).require(answer.reply.data(Type.SOA), "the zone's SOA record in the answer")


def _service_name(examiner: Examiner) -> str:
    service = examiner.sample([s for s in examiner.cluster.services if s.cluster_ips], "no Service has a ClusterIP")[0]
    return expected.service_name(service, examiner.zone)


@check("message-id", REQUIRED, "RFC 1035 §4.1.1, RFC 5452 §9.1")
async def message_id(examiner: Examiner) -> None:
    """The reply has the id of its query, for the lowest and the highest id too."""
    for ident in (0, 1, 0x8000, 0xFFFF, examiner.ident()):
        query = Query(examiner.zone, Type.SOA)
        packet = query.packet(ident)
        data, peer = await examiner.udp(query, packet)
        examiner.read(query, packet, data, peer)


@check("question-case", REQUIRED, "RFC 1035 §4.1.2, draft-vixie-dnsext-dns0x20 §2.2")
async def question_case(examiner: Examiner) -> None:
    """The reply repeats the question octet for octet, mixed case included: resolvers compare it to detect forged
    replies.
    """
    for name in (_service_name(examiner), examiner.under(examiner.nonexistent_label(), "svc")):
        mixed = "".join(c.upper() if examiner.random.getrandbits(1) else c for c in name)
        for tcp in (False, True):
            await examiner.query(mixed if mixed != name else name.upper(), tcp=tcp)


@check("source-address", REQUIRED, "RFC 2181 §4")
async def source_address(examiner: Examiner) -> None:
    """The reply comes from the address and port to which the query was sent."""
    await examiner.query(examiner.zone, Type.SOA)


@check("qr-silence", REQUIRED, "RFC 1035 §7.3, RFC 5625 §6.2")
async def qr_silence(examiner: Examiner) -> None:
    """A message with QR set gets no reply: otherwise two servers could answer each other without end."""
    await examiner.expect_no_reply(Query(examiner.zone, Type.SOA, flags=QR | AA))


@check("qdcount-two", REQUIRED, "RFC 9619 §4")
async def qdcount_two(examiner: Examiner) -> None:
    """A query with two questions is malformed: it gets FORMERR."""
    answer = await examiner.send(Query(_service_name(examiner), repeat=2))
    answer.rcode(1).require(not answer.reply.answer, "no answer records")


@check("qdcount-zero", RECOMMENDED, "RFC 9619 §4, RFC 1035 §4.1.1")
async def qdcount_zero(examiner: Examiner) -> None:
    """A query without a question gets an error or an empty reply."""
    answer = await examiner.send(Query(examiner.zone, repeat=0))
    answer.rcode(0, 1, 4, 5).require(not answer.reply.answer, "no answer records")


@check("opcode-unknown", RECOMMENDED, "RFC 8906 §8.1.4")
async def opcode_unknown(examiner: Examiner) -> None:
    """An unknown opcode gets NOTIMP, with the same opcode and empty sections."""
    answer = await examiner.send(Query(examiner.zone, Type.SOA, opcode=UNKNOWN_OPCODE, flags=0, repeat=0))
    answer.rcode(4).require(answer.reply.opcode == UNKNOWN_OPCODE, f"opcode {UNKNOWN_OPCODE}")
    answer.require(not (answer.reply.answer or answer.reply.authority), "empty sections")


@check("opcode-update", RECOMMENDED, "RFC 2136 §2.2, §3.1")
async def opcode_update(examiner: Examiner) -> None:
    """An UPDATE gets an error and no records."""
    answer = await examiner.send(Query(examiner.zone, Type.SOA, opcode=Opcode.UPDATE, flags=0))
    answer.rcode(1, 4, 5, 9).require(not answer.reply.answer, "no records")


@check("type-unknown", RECOMMENDED, "RFC 8906 §8.1.2, RFC 3597 §3")
async def type_unknown(examiner: Examiner) -> None:
    """An unknown type gets NODATA at an existing name, and NXDOMAIN at a nonexistent one."""
    answer = await examiner.query(examiner.zone, UNKNOWN_TYPE, flags=0)
    answer.no_data().require(answer.reply.opt is None, "no OPT record, as none was sent")
    (await examiner.query(_service_name(examiner), UNKNOWN_TYPE)).no_data()
    (await examiner.query(examiner.under(examiner.nonexistent_label()), UNKNOWN_TYPE)).no_name()


@check("header-z", RECOMMENDED, "RFC 8906 §8.1.3.1, RFC 1035 §4.1.1")
async def header_z(examiner: Examiner) -> None:
    """The reserved header bit in a query is ignored, and clear in the reply."""
    answer = await _apex(examiner, Z)
    answer.require(not answer.reply.has(Z), "the reserved bit clear")


@check("header-ad", RECOMMENDED, "RFC 8906 §8.1.3.2, RFC 6840 §5.8")
async def header_ad(examiner: Examiner) -> None:
    """A query with AD is answered with AD clear: this zone is not signed."""
    answer = await _apex(examiner, AD)
    answer.require(not answer.reply.has(AD), "AD clear")


@check("header-cd", RECOMMENDED, "RFC 8906 §8.1.3.4, RFC 4035 §3.2.2")
async def header_cd(examiner: Examiner) -> None:
    """CD in a query does not change the answer."""
    answer = await _apex(examiner, CD)
    answer.require(not answer.reply.has(AD), "AD clear")


@check("header-rd", REQUIRED, "RFC 8906 §8.1.3.3, RFC 1035 §4.1.1")
async def header_rd(examiner: Examiner) -> None:
    """RD is copied into the reply. Queries for names in the zone are answered whether RD is set or clear."""
    for flags in (RD, 0):
        answer = await _apex(examiner, flags)
        answer.require(answer.reply.flags & RD == flags, f"RD {'set' if flags else 'clear'}, as in the query")


@check("header-aa-tc", RECOMMENDED, "RFC 1035 §4.1.1")
async def header_aa_tc(examiner: Examiner) -> None:
    """AA and TC in a query are ignored, and TC is clear in an answer that is not truncated."""
    answer = await _apex(examiner, AA | TC | RD)
    answer.require(not answer.reply.has(TC), "TC clear")


@check("class", RECOMMENDED, "RFC 1035 §3.2.4, §4.3.1; RFC 6895 §3.2")
async def other_class(examiner: Examiner) -> None:
    """A query of a class other than IN is not answered with records of class IN."""
    for rclass in (Class.CH, Class.HS, 4096):
        answer = await examiner.query(_service_name(examiner), rclass=rclass)
        answer.require(not answer.reply.answer, "no records: they are of class IN")


@check("axfr-udp", RECOMMENDED, "RFC 5936 §4.2")
async def axfr_udp(examiner: Examiner) -> None:
    """A zone transfer over UDP is not answered with a transfer."""
    answer = await examiner.query(examiner.zone, Type.AXFR)
    answer.require(len(answer.reply.answer) <= 1, "an error, or at most the SOA record")


@check("axfr-open", INFORMATIONAL, "RFC 5936 §6")
async def axfr_open(examiner: Examiner) -> None:
    """A zone transfer is refused to an ordinary client."""
    answer = await examiner.query(examiner.zone, Type.AXFR, tcp=True)
    answer.require(answer.reply.rcode != 0 or not answer.reply.answer, "no transfer")


@check("any", INFORMATIONAL, "RFC 8482 §4")
async def any_type(examiner: Examiner) -> None:
    """ANY gets a response with NOERROR, NOTIMP or REFUSED."""
    (await examiner.query(_service_name(examiner), Type.ANY, opt=Opt())).rcode(0, 4, 5)


@check("garbage", REQUIRED, "RFC 1035 §7.3, RFC 8906 §3")
async def garbage(examiner: Examiner) -> None:
    """Packets that are not messages get no reply or a well-formed one, and the server continues to answer."""
    for octets in bad_packets(examiner.zone):
        await examiner.octets(octets)
    await examiner.query(examiner.zone, Type.SOA)


@check("malformed", RECOMMENDED, "RFC 1035 §4.1.1, §7.3")
async def malformed(examiner: Examiner) -> None:
    """A packet that is not a DNS message gets no reply, or FORMERR without answer records."""
    for octets in bad_packets(examiner.zone):
        found = await examiner.octets(octets)
        if found is not None and (found.rcode not in (1, 4) or found.answer):
            raise examiner.failed(octets, "FORMERR or no reply", str(found))


def bad_packets(zone: str) -> list[Octets]:
    """Returns packets that are truncated, have a pointer loop, or have wrong counts in the header."""
    header = struct.Struct("!HHHHHH").pack
    name = names.from_text(zone)
    whole = header(0x1234, RD, 1, 0, 0, 0) + name + struct.pack("!HH", Type.A, Class.IN)
    return [
        Octets("nothing", b""),
        Octets("five octets", whole[:5]),
        Octets("a header whose question is missing", whole[:12]),
        Octets("a question truncated in its name", whole[:16]),
        Octets("a question without type", whole[:-3]),
        Octets("a name that points to itself", whole[:12] + b"\xc0\x0c" + struct.pack("!HH", Type.A, Class.IN)),
        Octets("a label of a retired type", whole[:12] + b"\x41" + whole[13:]),
        Octets(
            "a name of more than 255 octets",
            whole[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0" + struct.pack("!HH", Type.A, Class.IN),
        ),
        Octets("ARCOUNT 1 without a record", header(0x1234, RD, 1, 0, 0, 1) + whole[12:]),
        Octets(
            "an OPT record with a truncated option",
            Query(zone, opts=(Opt(options=((10, b"12345678"),)),)).packet(0x1234)[:-4],
        ),
    ]
