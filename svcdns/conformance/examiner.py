"""The functions with which checks send queries and compare replies.

Replies are parsed strictly. Each reply must obey these general rules:

- The reply comes from the address that was queried, and is a well-formed message.
- The reply has QR set, and the ID and the opcode of the query.
- The reply repeats the question section.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from svcdns.conformance.client import NoReply, Peer, Server
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
"""The largest number of objects of a kind that a check uses, so that a run on a large cluster stays short."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A query and its reply. The methods that compare the reply raise Failed."""

    query: Query
    reply: Reply
    server: Server

    def fail(self, expected: str, got: str = "") -> Failed:
        """Returns a Failed for this reply. Does not raise it."""
        return Failed(
            str(self.query), expected, got or str(self.reply), self.query.dig(self.server.host, self.server.port)
        )

    def require(self, holds: object, expected: str) -> Answer:
        """Returns this object if `holds` is true. Otherwise raises Failed with the text `expected`."""
        if not holds:
            raise self.fail(expected)
        return self

    def rcode(self, *wanted: int) -> Answer:
        """Raises Failed unless the response code is one of `wanted`. Returns this object."""
        return self.require(self.reply.rcode in wanted, f"rcode {' or '.join(map(rcode_text, wanted))}")

    def exactly(self, rtype: int, wanted: Iterable[str]) -> Answer:
        """Raises Failed unless the reply is NOERROR and its records of the type have exactly the RDATA in `wanted`.

        The owner of each record must be the QNAME, or a name in its chain of CNAME records.
        """
        expected = sorted(wanted)
        shown = ", ".join(expected[:8]) + (f" and {len(expected) - 8} more" if len(expected) > 8 else "")
        self.rcode(0).require(
            sorted(set(self.reply.data(rtype))) == expected, f"{type_text(rtype)} records, exactly: {shown or 'none'}"
        )
        return self.require(
            all(self._owned(line.owner) for line in self.reply.answer),
            "every owner name the QNAME or a name of its CNAME chain",
        )

    def no_data(self) -> Answer:
        """Raises Failed unless the reply is NODATA (RFC 2308 §2.2): NOERROR and an empty answer section."""
        return self.rcode(0).require(not self.reply.answer, "NODATA: NOERROR and no answer records")

    def no_name(self) -> Answer:
        """Raises Failed unless the reply is NXDOMAIN (RFC 2308 §2.1) with an empty answer section."""
        return self.rcode(3).require(not self.reply.answer, "NXDOMAIN and no answer records")

    def _owned(self, owner: str) -> bool:
        chain = {_text(self.query.name)} | {line.data.lower() for line in self.reply.answer if line.rtype == Type.CNAME}
        return owner.lower() in chain


@dataclass(slots=True)
class Examiner:
    """The data of a run that a check needs.

    `zone` is the server's zone, absolute and in lower case. `cluster` is the model of the cluster.
    """

    server: Server
    zone: str
    cluster: Cluster
    random: random.Random
    lab: Lab | None = None
    """The namespace in which checks may change objects, or None if the run may not write."""

    async def query(
        self,
        name: str,
        rtype: int = Type.A,
        *,
        tcp: bool = False,
        opt: Opt | None = None,
        flags: int = RD,
        rclass: int = Class.IN,
    ) -> Answer:
        """Sends a query with one question. Raises Failed if no valid reply arrives."""
        return await self.send(Query(name, rtype, rclass, flags, opts=(opt,) if opt else (), tcp=tcp))

    async def send(self, query: Query) -> Answer:
        """Sends the query unchanged. A truncated reply is not repeated over TCP."""
        packet = query.packet(self.ident())
        try:
            if query.tcp:
                (data,), peer = await self.server.tcp([framed(packet)], 1), self.server.address
            else:
                return self.read(query, packet, *await self.udp(query, packet))
        except NoReply as no_reply:
            raise self.failed(query, "a reply", str(no_reply)) from None
        return self.read(query, packet, data, peer)

    async def udp(self, query: Query, packet: bytes) -> tuple[bytes, Peer]:
        """Sends a packet over UDP. Returns the reply and its sender. Raises Failed if no reply arrives."""
        try:
            return await self.server.udp(packet)
        except NoReply as no_reply:
            raise self.failed(query, "a reply", str(no_reply)) from None

    async def octets(self, octets: Octets) -> Reply | None:
        """Sends a packet that is not a valid message. Returns the reply, or None if no reply arrives.

        Raises Failed if the reply is malformed.
        """
        try:
            data, _ = await self.server.udp(octets.packet(self.ident()), tries=1, wait=self.server.no_reply_timeout)
            return read_reply(data)
        except NoReply:
            return None
        except FormError as error:
            raise self.failed(octets, "no reply, or a well-formed message", str(error)) from None

    async def whole(self, name: str, rtype: int = Type.A) -> Answer:
        """Queries like a stub resolver: over UDP with EDNS, and again over TCP if the reply is truncated."""
        answer = await self.query(name, rtype, opt=Opt())
        return answer if not answer.reply.has(0x0200) else await self.query(name, rtype, tcp=True)

    async def together(self, queries: Sequence[Query]) -> list[Answer]:
        """Sends several queries from one UDP socket without waiting.

        Returns the answers in the order of the queries.
        """
        packets = [query.packet(ident) for query, ident in zip(queries, self.idents(len(queries)), strict=True)]
        try:
            replies = {data[:2]: data for data in await self.server.udp_together(packets)}
        except NoReply as no_reply:
            raise self.failed(queries[0], "a reply to each query", str(no_reply)) from None
        return [
            self.read(q, packet, replies[packet[:2]], self.server.address)
            for q, packet in zip(queries, packets, strict=True)
        ]

    async def pipelined(
        self, queries: Sequence[Query], chunks: Callable[[bytes], Sequence[bytes]] = lambda s: [s]
    ) -> list[Answer]:
        """Sends several queries on one TCP connection without waiting for replies.

        Returns the answers in the order of the queries. `chunks` divides the octets of all queries into the pieces to
        send.
        """
        packets = [query.packet(ident) for query, ident in zip(queries, self.idents(len(queries)), strict=True)]
        parts = chunks(b"".join(map(framed, packets)))
        try:
            replies = {
                data[:2]: data
                for data in await self.server.tcp(parts, len(packets), pause=0.002 if len(parts) > 1 else 0)
            }
        except NoReply as no_reply:
            raise self.failed(queries[0], f"{len(packets)} replies on one connection", str(no_reply)) from None
        return [
            self.read(q, packet, replies.get(packet[:2]) or next(iter(replies.values())), self.server.address)
            for q, packet in zip(queries, packets, strict=True)
        ]

    async def in_turn(self, queries: Sequence[Query]) -> list[Answer]:
        """Sends several queries on one TCP connection, each after the reply to the previous query."""
        answers = []
        at = queries[0]
        try:
            async with self.server.connection() as connection:
                for at in queries:
                    packet = at.packet(self.ident())
                    await connection.send(framed(packet))
                    answers.append(self.read(at, packet, await connection.receive(), self.server.address))
        except NoReply as no_reply:
            raise self.failed(
                at, f"{len(queries)} replies on one connection; {len(answers)} came", str(no_reply)
            ) from None
        return answers

    async def expect_no_reply(self, query: Query | Octets) -> None:
        """Sends a query or a packet. Raises Failed if a reply arrives."""
        try:
            data, _ = await self.server.udp(query.packet(self.ident()), tries=1, wait=self.server.no_reply_timeout)
        except NoReply:
            return
        raise self.failed(query, "no reply", _shown(data))

    def read(self, query: Query, packet: bytes, data: bytes, peer: Peer) -> Answer:
        """Parses a reply and checks the general rules. Raises Failed.

        `packet` is the query as it was sent, `data` is the reply, and `peer` is the sender of the reply.
        """
        try:
            reply = read_reply(data)
        except FormError as error:
            raise self.failed(query, "a well-formed message", f"{error}: {data[:64].hex()}") from None
        answer = Answer(query, reply, self.server)
        answer.require(
            peer == self.server.address,
            f"a reply from {self.server.address[0]} port {self.server.address[1]}; it came from {peer[0]} port {peer[1]}",
        )
        answer.require(
            data[:2] == packet[:2],
            f"the id of the query, {int.from_bytes(packet[:2], 'big')}; the reply has {reply.ident}",
        )
        answer.require(reply.has(QR), "a reply: QR set")
        answer.require(reply.opcode == query.opcode or reply.rcode in (1, 4), f"opcode {query.opcode}")
        if reply.questions or reply.rcode not in (1, 4):
            wanted = (query.section,) * query.repeat
            answer.require(reply.questions == wanted, "the question section of the query, in the same case")
        return answer

    def failed(self, query: Query | Octets, expected: str, got: str) -> Failed:
        """Returns a Failed for a query that has no parsed reply. Does not raise it."""
        return Failed(str(query), expected, got, query.dig(self.server.host, self.server.port))

    def sample(self, things: Iterable[T], missing: str) -> list[T]:
        """Returns a sample of `things`, which is the same in each run.

        If `things` is empty, raises Skipped with the text `missing`.
        """
        found = list(things)
        if not found:
            raise Skipped(missing)
        return found if len(found) <= SAMPLE else [found[i * len(found) // SAMPLE] for i in range(SAMPLE)]

    def under(self, *labels: str) -> str:
        """Returns the name that consists of these labels and the zone."""
        return ".".join((*labels, self.zone))

    def nonexistent_label(self) -> str:
        """Returns a random label that no name in the cluster has."""
        return f"absent-{self.random.getrandbits(40):010x}"

    def ident(self) -> int:
        """Returns a random message ID (RFC 5452 §9.2)."""
        return self.random.getrandbits(16)

    def idents(self, count: int) -> list[int]:
        """Returns `count` different random message IDs."""
        return self.random.sample(range(65536), count)


def _text(name: str) -> str:
    return names.to_text(names.from_text(name)).lower()


def _shown(data: bytes) -> str:
    try:
        return str(read_reply(data))
    except FormError:
        return data[:64].hex()
