"""A load generator that sends queries at a fixed rate, over UDP and persistent TCP connections, and checks every
response.

A query is lost if no response arrives within TIMEOUT seconds, or if its connection ends before. A response is wrong if
it was not valid at any moment that `bench.endpoint_history` allows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from bench.client import addresses, make_query
from bench.cluster import EXTERNAL_NAMES, Cluster, cluster_ips, external_address, external_name, headless
from bench.endpoint_history import EndpointHistory, packed

TIMEOUT = 5.0
SOCKETS = 16
"""UDP sockets, each with its own source port."""
EXAMPLES = 5
"""Wrong responses that are reported."""
_NXDOMAIN = 3


@dataclass(frozen=True)
class Query:
    """A query without its message id.

    `accepts(rcode, addresses, sent, received)` returns True if a response is correct. `sent` and `received` are times
    in seconds on the monotonic clock.
    """

    name: str
    packet: bytes
    accepts: Callable[[int, frozenset[bytes], float, float], bool]


@dataclass
class TransportCounts:
    """The numbers of queries, answers, losses and wrong responses over UDP or over TCP.

    `slowest` is the longest time until a response, in seconds.
    """

    sent: int = 0
    answered: int = 0
    lost: int = 0
    wrong: int = 0
    closed: int = 0
    """Connections that the server closed."""
    cut: int = 0
    """Queries lost with these connections; `lost` includes them."""
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)


def queries(cluster: Cluster, history: EndpointHistory, moving: list[int], count: int, seed: int = 7) -> list[Query]:
    """Returns `count` queries: 50 % for the Services `moving`, 25 % for any Service, and the rest for other names.

    One half of the other names are nonexistent, and one half are external.
    """
    rng = random.Random(seed)
    made = []
    for index in range(count):
        kind = index % 8
        if kind < 4:
            made.append(_moving(cluster, history, rng.choice(moving)))
        elif kind < 6:
            number = rng.randrange(cluster.services)
            made.append(
                _moving(cluster, history, number)
                if headless(number)
                else _steady(cluster.fqdn(number), cluster_ips(number)[0])
            )
        elif kind == 6:
            made.append(
                _nonexistent(
                    f"no-{rng.randrange(1000)}.{cluster.fqdn(rng.randrange(cluster.services)).partition('.')[2]}"
                )
            )
        else:
            number = rng.randrange(EXTERNAL_NAMES)
            made.append(_steady(external_name(number), external_address(number)))
    return made


def _moving(cluster: Cluster, history: EndpointHistory, number: int) -> Query:
    def accepts(rcode: int, found: frozenset[bytes], sent: float, received: float) -> bool:
        return rcode == 0 and history.accepts(number, found, sent, received)

    return Query(cluster.fqdn(number), make_query(cluster.fqdn(number)), accepts)


def _steady(name: str, address: str) -> Query:
    wanted = packed([address])
    return Query(name, make_query(name), lambda rcode, found, _sent, _received: rcode == 0 and found == wanted)


def _nonexistent(name: str) -> Query:
    return Query(name, make_query(name), lambda rcode, found, _sent, _received: rcode == _NXDOMAIN and not found)


class Checker:
    """Sends queries until `stop` is called, and checks the responses.

    `udp` and `tcp` have the counts of each transport.
    """

    def __init__(self, port: int, queries: list[Query], *, udp_rate: float, tcp_rate: float, connections: int) -> None:
        """`udp_rate` and `tcp_rate` are the queries a second of all sockets together.

        `connections` TCP connections stay open.
        """
        self.port, self.queries = port, queries
        self.udp, self.tcp = TransportCounts(), TransportCounts()
        self._rates = {"udp": udp_rate, "tcp": tcp_rate}
        self._connections = connections
        self._next = 0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Sends queries. After a call of `stop`, waits for the outstanding responses, and returns."""
        loop = asyncio.get_running_loop()
        clients: list[_Datagrams] = []
        for _ in range(SOCKETS):
            _, client = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), remote_addr=("127.0.0.1", self.port)
            )
            clients.append(client)
        streams = [_Stream(self) for _ in range(self._connections)]
        everyone: list[_Datagrams | _Stream] = [*clients, *streams]
        try:
            await asyncio.gather(*(stream.connect() for stream in streams))
            await asyncio.gather(
                self._generate(self._rates["udp"], clients), self._generate(self._rates["tcp"], streams)
            )
            async with asyncio.timeout(TIMEOUT + 1):
                while any(one.pending for one in everyone):
                    await asyncio.sleep(0.05)
        finally:
            for one in everyone:
                one.close()
            await asyncio.sleep(0)  # one turn of the event loop, in which the sockets close

    def stop(self) -> None:
        """Stops sending queries."""
        self._stopping.set()

    async def _generate(self, rate: float, clients: list[_Datagrams] | list[_Stream]) -> None:
        loop = asyncio.get_running_loop()
        begin, number = loop.time(), 0
        while rate and not self._stopping.is_set():
            client = clients[number % len(clients)]
            await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
            number += 1
            self._next = (self._next + 1) % len(self.queries)
            client.send(self.queries[self._next])

    def check(self, counts: TransportCounts, query: Query, reply: bytes, sent: float, received: float) -> None:
        """Counts a response. If `query.accepts` returns False, also counts it as wrong."""
        counts.answered += 1
        counts.slowest = max(counts.slowest, received - sent)
        try:
            rcode, found = reply[3] & 15, addresses(reply)
        except (IndexError, ValueError):
            rcode, found = -1, frozenset()
        if not query.accepts(rcode, found, sent, received):
            counts.wrong += 1
            if len(counts.examples) < EXAMPLES:
                counts.examples.append(
                    f"{query.name}: rcode {rcode}, {sorted(one.hex() for one in found)} at {received:.3f}"
                )


class _Pending:
    """The outstanding queries of one socket, by message id."""

    def __init__(self, checker: Checker, counts: TransportCounts) -> None:
        self.checker, self.counts = checker, counts
        self.pending: dict[int, tuple[Query, float, asyncio.TimerHandle]] = {}
        self._ident = 0

    def add(self, query: Query) -> bytes:
        """Stores a query as outstanding, and returns its packet with a new message id."""
        loop = asyncio.get_running_loop()
        self._ident = (self._ident + 1) & 0xFFFF
        self.pending[self._ident] = query, loop.time(), loop.call_later(TIMEOUT, self._lost, self._ident)
        self.counts.sent += 1
        return self._ident.to_bytes(2, "big") + query.packet[2:]

    def receive(self, reply: bytes) -> None:
        """Checks a response. If no outstanding query has its message id, counts it as wrong."""
        found = self.pending.pop(int.from_bytes(reply[:2], "big"), None)
        if found is None:
            self.counts.wrong += 1
            return
        query, sent, timer = found
        timer.cancel()
        self.checker.check(self.counts, query, reply, sent, asyncio.get_running_loop().time())

    def connection_ended(self) -> None:
        """Counts all outstanding queries as lost."""
        self.counts.cut += len(self.pending)
        for ident in list(self.pending):
            self._lost(ident)

    def _lost(self, ident: int) -> None:
        _, _, timer = self.pending.pop(ident)
        timer.cancel()
        self.counts.lost += 1


class _Datagrams(asyncio.DatagramProtocol):
    """A client with one UDP socket."""

    def __init__(self, checker: Checker) -> None:
        self._pending = _Pending(checker, checker.udp)

    @property
    def pending(self) -> bool:
        return bool(self._pending.pending)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.DatagramTransport", transport
        )  # the class of CPython 3.11 does not declare this type

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        self._pending.receive(data)

    def send(self, query: Query) -> None:
        self._transport.sendto(self._pending.add(query))

    def close(self) -> None:
        self._transport.close()


class _Stream(asyncio.Protocol):
    """A client with one TCP connection, which it opens again when the server closes it."""

    def __init__(self, checker: Checker) -> None:
        self._checker, self._counts = checker, checker.tcp
        self._pending = _Pending(checker, checker.tcp)
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._over = False

    @property
    def pending(self) -> bool:
        return bool(self._pending.pending)

    async def connect(self) -> None:
        """Opens the connection, and tries again while the server refuses it."""
        while not self._over:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._checker.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._transport, self._buffer = None, b""
        self._pending.connection_ended()
        if not self._over:
            self._counts.closed += 1
            self._again = asyncio.ensure_future(self.connect())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= 2 + (size := int.from_bytes(self._buffer[:2], "big")):
            reply, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            self._pending.receive(reply)

    def send(self, query: Query) -> None:
        """Sends a query if the connection is open. Otherwise does nothing, and counts nothing."""
        if self._transport is not None and not self._transport.is_closing():
            wire = self._pending.add(query)
            self._transport.write(len(wire).to_bytes(2, "big") + wire)

    def close(self) -> None:
        self._over = True
        if self._transport is not None:
            self._transport.abort()
