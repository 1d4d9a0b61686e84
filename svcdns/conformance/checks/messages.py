"""Messages: ids, questions, header bits, opcodes, classes, unknown types, and packets that are not messages.

The header and opcode queries are those of RFC 8906 §8.1.
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
    """RFC 8906 asks for the SOA of the zone, with RD clear and nothing else set."""
    answer = await examiner.ask(examiner.zone, Type.SOA, flags=flags)
    return answer.rcode(0).need(answer.reply.data(Type.SOA), "the zone's SOA record in the answer")


def _service_name(examiner: Examiner) -> str:
    service = examiner.some([s for s in examiner.cluster.services if s.cluster_ips], "no Service has a ClusterIP")[0]
    return expected.service_name(service, examiner.zone)


@check("message-id", REQUIRED, "RFC 1035 §4.1.1, RFC 5452 §9.1")
async def message_id(examiner: Examiner) -> None:
    """The reply has the id of the query, the lowest and the highest id too."""
    for ident in (0, 1, 0x8000, 0xFFFF, examiner.ident()):
        query = Query(examiner.zone, Type.SOA)
        packet = query.packet(ident)
        data, peer = await examiner.udp(query, packet)
        examiner.read(query, packet, data, peer)


@check("question-case", REQUIRED, "RFC 1035 §4.1.2, draft-vixie-dnsext-dns0x20 §2.2")
async def question_case(examiner: Examiner) -> None:
    """The question comes back octet for octet, in mixed case too: resolvers compare it against forged replies."""
    for name in (_service_name(examiner), examiner.under(examiner.nonexistent_label(), "svc")):
        mixed = "".join(c.upper() if examiner.random.getrandbits(1) else c for c in name)
        for tcp in (False, True):
            await examiner.ask(mixed if mixed != name else name.upper(), tcp=tcp)


@check("source-address", REQUIRED, "RFC 2181 §4")
async def source_address(examiner: Examiner) -> None:
    """The reply comes from the address and port that were asked."""
    await examiner.ask(examiner.zone, Type.SOA)


@check("qr-silence", REQUIRED, "RFC 1035 §7.3, RFC 5625 §6.2")
async def qr_silence(examiner: Examiner) -> None:
    """A message that is itself a reply gets none: two servers could otherwise answer each other for ever."""
    await examiner.silent(Query(examiner.zone, Type.SOA, flags=QR | AA))


@check("qdcount-two", REQUIRED, "RFC 9619 §4")
async def qdcount_two(examiner: Examiner) -> None:
    """A query with two questions is malformed: FORMERR."""
    answer = await examiner.put(Query(_service_name(examiner), repeat=2))
    answer.rcode(1).need(not answer.reply.answer, "no answer records")


@check("qdcount-zero", RECOMMENDED, "RFC 9619 §4, RFC 1035 §4.1.1")
async def qdcount_zero(examiner: Examiner) -> None:
    """A query without a question is answered with an error or an empty reply."""
    answer = await examiner.put(Query(examiner.zone, repeat=0))
    answer.rcode(0, 1, 4, 5).need(not answer.reply.answer, "no answer records")


@check("opcode-unknown", RECOMMENDED, "RFC 8906 §8.1.4")
async def opcode_unknown(examiner: Examiner) -> None:
    """An opcode that is unknown is NOTIMP, with the opcode kept and empty sections."""
    answer = await examiner.put(Query(examiner.zone, Type.SOA, opcode=UNKNOWN_OPCODE, flags=0, repeat=0))
    answer.rcode(4).need(answer.reply.opcode == UNKNOWN_OPCODE, f"opcode {UNKNOWN_OPCODE}")
    answer.need(not (answer.reply.answer or answer.reply.authority), "empty sections")


@check("opcode-update", RECOMMENDED, "RFC 2136 §2.2, §3.1")
async def opcode_update(examiner: Examiner) -> None:
    """An UPDATE is refused in some way; it changes nothing and gets no records."""
    answer = await examiner.put(Query(examiner.zone, Type.SOA, opcode=Opcode.UPDATE, flags=0))
    answer.rcode(1, 4, 5, 9).need(not answer.reply.answer, "no records")


@check("type-unknown", RECOMMENDED, "RFC 8906 §8.1.2, RFC 3597 §3")
async def type_unknown(examiner: Examiner) -> None:
    """A type that is unknown is NODATA at a name that exists, and NXDOMAIN at one that does not."""
    answer = await examiner.ask(examiner.zone, UNKNOWN_TYPE, flags=0)
    answer.no_data().need(answer.reply.opt is None, "no OPT record, as none was sent")
    (await examiner.ask(_service_name(examiner), UNKNOWN_TYPE)).no_data()
    (await examiner.ask(examiner.under(examiner.nonexistent_label()), UNKNOWN_TYPE)).no_name()


@check("header-z", RECOMMENDED, "RFC 8906 §8.1.3.1, RFC 1035 §4.1.1")
async def header_z(examiner: Examiner) -> None:
    """The reserved header bit in a query is ignored and not given back."""
    answer = await _apex(examiner, Z)
    answer.need(not answer.reply.has(Z), "the reserved bit clear")


@check("header-ad", RECOMMENDED, "RFC 8906 §8.1.3.2, RFC 6840 §5.8")
async def header_ad(examiner: Examiner) -> None:
    """AD in a query is answered, with AD clear: nothing here is validated."""
    answer = await _apex(examiner, AD)
    answer.need(not answer.reply.has(AD), "AD clear")


@check("header-cd", RECOMMENDED, "RFC 8906 §8.1.3.4, RFC 4035 §3.2.2")
async def header_cd(examiner: Examiner) -> None:
    """CD in a query does not disturb the answer."""
    answer = await _apex(examiner, CD)
    answer.need(not answer.reply.has(AD), "AD clear")


@check("header-rd", REQUIRED, "RFC 8906 §8.1.3.3, RFC 1035 §4.1.1")
async def header_rd(examiner: Examiner) -> None:
    """RD is copied into the reply, set and clear, and either way the zone is answered."""
    for flags in (RD, 0):
        answer = await _apex(examiner, flags)
        answer.need(answer.reply.flags & RD == flags, f"RD {'set' if flags else 'clear'}, as in the query")


@check("header-aa-tc", RECOMMENDED, "RFC 1035 §4.1.1")
async def header_aa_tc(examiner: Examiner) -> None:
    """AA and TC mean nothing in a query: they are ignored, and TC does not come back on a whole answer."""
    answer = await _apex(examiner, AA | TC | RD)
    answer.need(not answer.reply.has(TC), "TC clear")


@check("class", RECOMMENDED, "RFC 1035 §3.2.4, §4.3.1; RFC 6895 §3.2")
async def other_class(examiner: Examiner) -> None:
    """A class other than IN does not get the data of IN."""
    for rclass in (Class.CH, Class.HS, 4096):
        answer = await examiner.ask(_service_name(examiner), rclass=rclass)
        answer.need(not answer.reply.answer, "no records: they are of class IN")


@check("axfr-udp", RECOMMENDED, "RFC 5936 §4.2")
async def axfr_udp(examiner: Examiner) -> None:
    """A zone transfer asked for over UDP gets no transfer."""
    answer = await examiner.ask(examiner.zone, Type.AXFR)
    answer.need(len(answer.reply.answer) <= 1, "an error, or at most the SOA record")


@check("axfr-open", INFORMATIONAL, "RFC 5936 §6")
async def axfr_open(examiner: Examiner) -> None:
    """A zone transfer is not open to everybody."""
    answer = await examiner.ask(examiner.zone, Type.AXFR, tcp=True)
    answer.need(answer.reply.rcode != 0 or not answer.reply.answer, "no transfer")


@check("any", INFORMATIONAL, "RFC 8482 §4")
async def any_type(examiner: Examiner) -> None:
    """ANY is answered, with a reply that fits."""
    (await examiner.ask(_service_name(examiner), Type.ANY, opt=Opt())).rcode(0, 4, 5)


@check("garbage", REQUIRED, "RFC 1035 §7.3, RFC 8906 §3")
async def garbage(examiner: Examiner) -> None:
    """Packets that are not messages do no harm: a reply, if any, is a message, and the server goes on answering."""
    for octets in bad_packets(examiner.zone):
        await examiner.octets(octets)
    await examiner.ask(examiner.zone, Type.SOA)


@check("malformed", RECOMMENDED, "RFC 1035 §4.1.1, §7.3")
async def malformed(examiner: Examiner) -> None:
    """Packets that are not messages are answered with FORMERR, or not at all; never as if they were understood."""
    for octets in bad_packets(examiner.zone):
        found = await examiner.octets(octets)
        if found is not None and (found.rcode not in (1, 4) or found.answer):
            raise examiner.failed(octets, "FORMERR or silence", str(found))


def bad_packets(zone: str) -> list[Octets]:
    """Packets that are cut off, point to themselves, or say more than they hold."""
    header = struct.Struct("!HHHHHH").pack
    name = names.from_text(zone)
    whole = header(0x1234, RD, 1, 0, 0, 0) + name + struct.pack("!HH", Type.A, Class.IN)
    return [
        Octets("nothing", b""),
        Octets("five octets", whole[:5]),
        Octets("a header whose question is missing", whole[:12]),
        Octets("a question cut off in its name", whole[:16]),
        Octets("a question without type", whole[:-3]),
        Octets("a name that points to itself", whole[:12] + b"\xc0\x0c" + struct.pack("!HH", Type.A, Class.IN)),
        Octets("a label of a retired type", whole[:12] + b"\x41" + whole[13:]),
        Octets("a name of more than 255 octets", whole[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0" + struct.pack("!HH", Type.A, Class.IN)),
        Octets("an OPT record that is said to be there but is not", header(0x1234, RD, 1, 0, 0, 1) + whole[12:]),
        Octets(
            "an OPT record with an option cut off",
            header(0x1234, RD, 1, 0, 0, 1) + whole[12:] + Opt(options=((10, b"12345678"),)).wire()[:-4],
        ),
    ]
