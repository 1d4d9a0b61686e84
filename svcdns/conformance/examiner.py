"""What checks ask with: a question goes out, the reply is read strictly, and every way of being wrong becomes a `Failed` that can be shown.

What holds for every reply is looked at on each: it comes from the address that was asked, carries the id of the question, has QR and the
opcode, repeats the question, and is a well-formed message. So those rules hold on all paths, and the checks of their own only name them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from svcdns.conformance.client import Peer, Server, Silence, framed
from svcdns.conformance.cluster_model import Cluster
from svcdns.conformance.lab import Lab
from svcdns.conformance.outcome import Failed, Skipped
from svcdns.conformance.questions import Octets, Opt, Question
from svcdns.conformance.replies import Reply, read_reply
from svcdns.wire import names
from svcdns.wire.codes import QR, RD, Class, Type, rcode_text, type_text
from svcdns.wire.errors import FormError

T = TypeVar("T")
SAMPLE: Final = 12
"""Objects of a kind that a check tries its rule on; a large cluster is not asked for in full."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question with its reply. The methods raise Failed."""

    question: Question
    reply: Reply
    server: Server

    def fail(self, expected: str, got: str = "") -> Failed:
        """The failure to raise."""
        return Failed(str(self.question), expected, got or str(self.reply), self.question.dig(self.server.host, self.server.port))

    def need(self, holds: object, expected: str) -> Answer:
        """Itself if `holds`."""
        if not holds:
            raise self.fail(expected)
        return self

    def rcode(self, *wanted: int) -> Answer:
        """The response code is one of these."""
        return self.need(self.reply.rcode in wanted, f"rcode {' or '.join(map(rcode_text, wanted))}")

    def exactly(self, rtype: int, wanted: Iterable[str]) -> Answer:
        """NOERROR, and the answer has these RDATA of the type, and each owner is the name asked or the end of a CNAME chain."""
        expected = sorted(wanted)
        shown = ", ".join(expected[:8]) + (f" and {len(expected) - 8} more" if len(expected) > 8 else "")
        self.rcode(0).need(sorted(set(self.reply.data(rtype))) == expected, f"{type_text(rtype)} records, exactly: {shown or 'none'}")
        return self.need(all(self._owned(line.owner) for line in self.reply.answer), "every record of the answer at the name asked")

    def no_data(self) -> Answer:
        """The name is there, but nothing of this type (RFC 2308 §2.2)."""
        return self.rcode(0).need(not self.reply.answer, "NODATA: NOERROR and no answer records")

    def no_name(self) -> Answer:
        """The name is not there (RFC 2308 §2.1)."""
        return self.rcode(3).need(not self.reply.answer, "NXDOMAIN and no answer records")

    def _owned(self, owner: str) -> bool:
        chain = {_text(self.question.name)} | {line.data.lower() for line in self.reply.answer if line.rtype == Type.CNAME}
        return owner.lower() in chain


@dataclass(slots=True)
class Examiner:
    """What a check gets: the server, its zone (absolute, in lower case) and the cluster it should be answering for."""

    server: Server
    zone: str
    cluster: Cluster
    random: random.Random
    lab: Lab | None = None
    """Where changes may be made, if anywhere."""

    async def ask(
        self, name: str, rtype: int = Type.A, *, tcp: bool = False, opt: Opt | None = None, flags: int = RD, rclass: int = Class.IN
    ) -> Answer:
        """Asks an ordinary question. Raises Failed where no proper reply comes."""
        return await self.put(Question(name, rtype, rclass, flags, opts=(opt,) if opt else (), tcp=tcp))

    async def put(self, question: Question) -> Answer:
        """Asks a question as it is. Over UDP, a truncated reply stays one."""
        packet = question.packet(self.ident())
        try:
            if question.tcp:
                (data,), peer = await self.server.tcp([framed(packet)], 1), self.server.address
            else:
                return self.read(question, packet, *await self.udp(question, packet))
        except Silence as silence:
            raise self.failed(question, "a reply", str(silence)) from None
        return self.read(question, packet, data, peer)

    async def udp(self, question: Question, packet: bytes) -> tuple[bytes, Peer]:
        """What comes back for a packet, unread. Raises Failed."""
        try:
            return await self.server.udp(packet)
        except Silence as silence:
            raise self.failed(question, "a reply", str(silence)) from None

    async def octets(self, octets: Octets) -> Reply | None:
        """What comes back for a packet that is no message; None for silence. Raises Failed where it is no message either."""
        try:
            data, _ = await self.server.udp(octets.packet(self.ident()), tries=1, wait=self.server.silence)
            return read_reply(data)
        except Silence:
            return None
        except FormError as error:
            raise self.failed(octets, "silence or a well-formed message", str(error)) from None

    async def whole(self, name: str, rtype: int = Type.A) -> Answer:
        """Asks as a stub resolver does: over UDP with EDNS, and again over TCP if the reply is truncated."""
        answer = await self.ask(name, rtype, opt=Opt())
        return answer if not answer.reply.has(0x0200) else await self.ask(name, rtype, tcp=True)

    async def together(self, questions: Sequence[Question]) -> list[Answer]:
        """Asks several questions at the same moment from one UDP socket; the answers in the order of the questions."""
        packets = [question.packet(ident) for question, ident in zip(questions, self.idents(len(questions)), strict=True)]
        try:
            replies = {data[:2]: data for data in await self.server.udp_together(packets)}
        except Silence as silence:
            raise self.failed(questions[0], "a reply to each question", str(silence)) from None
        return [self.read(q, packet, replies[packet[:2]], self.server.address) for q, packet in zip(questions, packets, strict=True)]

    async def pipelined(self, questions: Sequence[Question], chunks: Callable[[bytes], Sequence[bytes]] = lambda s: [s]) -> list[Answer]:
        """Asks several questions on one TCP connection without waiting; the answers in the order of the questions. `chunks` cuts the
        stream up."""
        packets = [question.packet(ident) for question, ident in zip(questions, self.idents(len(questions)), strict=True)]
        parts = chunks(b"".join(map(framed, packets)))
        try:
            replies = {data[:2]: data for data in await self.server.tcp(parts, len(packets), pause=0.002 if len(parts) > 1 else 0)}
        except Silence as silence:
            raise self.failed(questions[0], f"{len(packets)} replies on one connection", str(silence)) from None
        return [
            self.read(q, packet, replies.get(packet[:2]) or next(iter(replies.values())), self.server.address)
            for q, packet in zip(questions, packets, strict=True)
        ]

    async def in_turn(self, questions: Sequence[Question]) -> list[Answer]:
        """Asks several questions on one TCP connection, each after the reply to the one before."""
        answers = []
        at = questions[0]
        try:
            async with self.server.connection() as talk:
                for at in questions:
                    packet = at.packet(self.ident())
                    await talk.send(framed(packet))
                    answers.append(self.read(at, packet, await talk.receive(), self.server.address))
        except Silence as silence:
            raise self.failed(at, f"{len(questions)} replies on one connection; {len(answers)} came", str(silence)) from None
        return answers

    async def silent(self, question: Question | Octets) -> None:
        """Nothing comes back. Raises Failed with what came."""
        try:
            data, _ = await self.server.udp(question.packet(self.ident()), tries=1, wait=self.server.silence)
        except Silence:
            return
        raise self.failed(question, "silence", _shown(data))

    def read(self, question: Question, packet: bytes, data: bytes, peer: Peer) -> Answer:
        """The reply, after what holds for every reply. Raises Failed."""
        try:
            reply = read_reply(data)
        except FormError as error:
            raise self.failed(question, "a well-formed message", f"{error}: {data[:64].hex()}") from None
        answer = Answer(question, reply, self.server)
        answer.need(
            peer == self.server.address,
            f"a reply from {self.server.address[0]} port {self.server.address[1]}; it came from {peer[0]} port {peer[1]}",
        )
        answer.need(data[:2] == packet[:2], f"the id of the question, {int.from_bytes(packet[:2], 'big')}; the reply has {reply.ident}")
        answer.need(reply.has(QR), "a reply: QR set")
        answer.need(reply.opcode == question.opcode or reply.rcode in (1, 4), f"opcode {question.opcode}")
        if reply.questions or reply.rcode not in (1, 4):
            wanted = (question.section,) * question.repeat
            answer.need(reply.questions == wanted, "the question repeated as it was asked, in the same case")
        return answer

    def failed(self, question: Question | Octets, expected: str, got: str) -> Failed:
        """A failure that rests on no reply."""
        return Failed(str(question), expected, got, question.dig(self.server.host, self.server.port))

    def some(self, things: Iterable[T], missing: str) -> list[T]:
        """A sample of `things`, the same in each run. Raises Skipped with `missing` where there are none."""
        found = list(things)
        if not found:
            raise Skipped(missing)
        return found if len(found) <= SAMPLE else [found[i * len(found) // SAMPLE] for i in range(SAMPLE)]

    def under(self, *labels: str) -> str:
        """A name in the zone."""
        return ".".join((*labels, self.zone))

    def absent_label(self) -> str:
        """A label that nothing in a cluster has."""
        return f"absent-{self.random.getrandbits(40):010x}"

    def ident(self) -> int:
        """A message id (RFC 5452 §9.2)."""
        return self.random.getrandbits(16)

    def idents(self, count: int) -> list[int]:
        """Message ids that differ from each other."""
        return self.random.sample(range(65536), count)


def _text(name: str) -> str:
    return names.to_text(names.from_text(name)).lower()


def _shown(data: bytes) -> str:
    try:
        return str(read_reply(data))
    except FormError:
        return data[:64].hex()
