"""What checks ask with: a query is sent, the reply is read strictly, and each error becomes a `Failed` that can be shown.

Each reply is held to the rules that every reply must keep: it comes from the address that was queried, has the id of the query, QR and
the opcode, repeats the question section, and is a well-formed message.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from svcdns.conformance.client import Peer, Server, Silence
from svcdns.conformance.cluster_model import Cluster
from svcdns.conformance.lab import Lab
from svcdns.conformance.outcome import Failed, Skipped
from svcdns.conformance.queries import Octets, Opt, Query
from svcdns.conformance.replies import Reply, read_reply
from svcdns.wire import names
from svcdns.wire.codes import QR, RD, Class, Type, rcode_text, type_text
from svcdns.wire.errors import FormError
from svcdns.wire.tcp_framing import framed

T = TypeVar("T")
SAMPLE: Final = 12
"""Objects of a kind that a check tries its rule on; a large cluster is not asked for in full."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A query with its reply. The methods raise Failed."""

    query: Query
    reply: Reply
    server: Server

    def fail(self, expected: str, got: str = "") -> Failed:
        """The failure to raise."""
        return Failed(str(self.query), expected, got or str(self.reply), self.query.dig(self.server.host, self.server.port))

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
        chain = {_text(self.query.name)} | {line.data.lower() for line in self.reply.answer if line.rtype == Type.CNAME}
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
        """Sends an ordinary query. Raises Failed if no proper reply comes."""
        return await self.put(Query(name, rtype, rclass, flags, opts=(opt,) if opt else (), tcp=tcp))

    async def put(self, query: Query) -> Answer:
        """Sends a query as it is. Over UDP, a truncated reply stays one."""
        packet = query.packet(self.ident())
        try:
            if query.tcp:
                (data,), peer = await self.server.tcp([framed(packet)], 1), self.server.address
            else:
                return self.read(query, packet, *await self.udp(query, packet))
        except Silence as silence:
            raise self.failed(query, "a reply", str(silence)) from None
        return self.read(query, packet, data, peer)

    async def udp(self, query: Query, packet: bytes) -> tuple[bytes, Peer]:
        """The octets of the reply to a packet. Raises Failed."""
        try:
            return await self.server.udp(packet)
        except Silence as silence:
            raise self.failed(query, "a reply", str(silence)) from None

    async def octets(self, octets: Octets) -> Reply | None:
        """The reply to a packet that is not a message; None for silence. Raises Failed where it is no message either."""
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

    async def together(self, queries: Sequence[Query]) -> list[Answer]:
        """Asks several queries at the same moment from one UDP socket; the answers in the order of the queries."""
        packets = [query.packet(ident) for query, ident in zip(queries, self.idents(len(queries)), strict=True)]
        try:
            replies = {data[:2]: data for data in await self.server.udp_together(packets)}
        except Silence as silence:
            raise self.failed(queries[0], "a reply to each query", str(silence)) from None
        return [self.read(q, packet, replies[packet[:2]], self.server.address) for q, packet in zip(queries, packets, strict=True)]

    async def pipelined(self, queries: Sequence[Query], chunks: Callable[[bytes], Sequence[bytes]] = lambda s: [s]) -> list[Answer]:
        """Asks several queries on one TCP connection without waiting; the answers in the order of the queries. `chunks` cuts the
        stream up."""
        packets = [query.packet(ident) for query, ident in zip(queries, self.idents(len(queries)), strict=True)]
        parts = chunks(b"".join(map(framed, packets)))
        try:
            replies = {data[:2]: data for data in await self.server.tcp(parts, len(packets), pause=0.002 if len(parts) > 1 else 0)}
        except Silence as silence:
            raise self.failed(queries[0], f"{len(packets)} replies on one connection", str(silence)) from None
        return [
            self.read(q, packet, replies.get(packet[:2]) or next(iter(replies.values())), self.server.address)
            for q, packet in zip(queries, packets, strict=True)
        ]

    async def in_turn(self, queries: Sequence[Query]) -> list[Answer]:
        """Asks several queries on one TCP connection, each after the reply to the previous one."""
        answers = []
        at = queries[0]
        try:
            async with self.server.connection() as talk:
                for at in queries:
                    packet = at.packet(self.ident())
                    await talk.send(framed(packet))
                    answers.append(self.read(at, packet, await talk.receive(), self.server.address))
        except Silence as silence:
            raise self.failed(at, f"{len(queries)} replies on one connection; {len(answers)} came", str(silence)) from None
        return answers

    async def silent(self, query: Query | Octets) -> None:
        """Checks that no reply comes. Raises Failed with the reply."""
        try:
            data, _ = await self.server.udp(query.packet(self.ident()), tries=1, wait=self.server.silence)
        except Silence:
            return
        raise self.failed(query, "silence", _shown(data))

    def read(self, query: Query, packet: bytes, data: bytes, peer: Peer) -> Answer:
        """Reads a reply and holds it to the rules of every reply. Raises Failed."""
        try:
            reply = read_reply(data)
        except FormError as error:
            raise self.failed(query, "a well-formed message", f"{error}: {data[:64].hex()}") from None
        answer = Answer(query, reply, self.server)
        answer.need(
            peer == self.server.address,
            f"a reply from {self.server.address[0]} port {self.server.address[1]}; it came from {peer[0]} port {peer[1]}",
        )
        answer.need(data[:2] == packet[:2], f"the id of the query, {int.from_bytes(packet[:2], 'big')}; the reply has {reply.ident}")
        answer.need(reply.has(QR), "a reply: QR set")
        answer.need(reply.opcode == query.opcode or reply.rcode in (1, 4), f"opcode {query.opcode}")
        if reply.questions or reply.rcode not in (1, 4):
            wanted = (query.section,) * query.repeat
            answer.need(reply.questions == wanted, "the question repeated as it was asked, in the same case")
        return answer

    def failed(self, query: Query | Octets, expected: str, got: str) -> Failed:
        """A failure without a reply."""
        return Failed(str(query), expected, got, query.dig(self.server.host, self.server.port))

    def some(self, things: Iterable[T], missing: str) -> list[T]:
        """A sample of `things`, the same in each run. Raises Skipped with `missing` where there are none."""
        found = list(things)
        if not found:
            raise Skipped(missing)
        return found if len(found) <= SAMPLE else [found[i * len(found) // SAMPLE] for i in range(SAMPLE)]

    def under(self, *labels: str) -> str:
        """A name in the zone."""
        return ".".join((*labels, self.zone))

    def nonexistent_label(self) -> str:
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
