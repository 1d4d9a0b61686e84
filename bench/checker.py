"""An asker that holds every answer to the truth: questions leave at even times over UDP and over TCP connections that are kept.

It knows nothing of the server but its port. A question without an answer within PATIENCE, or whose connection ends before its answer, is
lost; an answer that was not the truth of a moment that counts (`bench.truth`) is wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from bench.asking import addresses, packet
from bench.cluster import OUTSIDE, Cluster, cluster_ips, headless, outside, outside_address
from bench.truth import Truth, packed

PATIENCE = 5.0
SOCKETS = 16
"""UDP sockets, and with them source ports."""
EXAMPLES = 5
"""Wrong answers that are told."""
_NXDOMAIN = 3


@dataclass(frozen=True)
class Question:
    """A question without its id, and the name it asks for; `right` judges rcode, addresses, when it left and when its answer came."""

    name: str
    packet: bytes
    right: Callable[[int, frozenset[bytes], float, float], bool]


@dataclass
class Increment:
    """What came of the questions of one transport; `slowest` in seconds."""

    asked: int = 0
    answered: int = 0
    lost: int = 0
    wrong: int = 0
    closed: int = 0
    """Connections that the server ended."""
    cut: int = 0
    """Questions lost with these, among the lost."""
    slowest: float = 0.0
    examples: list[str] = field(default_factory=list)


def questions(cluster: Cluster, truth: Truth, moving: list[int], count: int, seed: int = 7) -> list[Question]:
    """Half of them for the Services that move, the others for any Service, for names that are not there, and for outside names."""
    chosen = random.Random(seed)
    made = []
    for place in range(count):
        kind = place % 8
        if kind < 4:
            made.append(_moving(cluster, truth, chosen.choice(moving)))
        elif kind < 6:
            number = chosen.randrange(cluster.services)
            made.append(_moving(cluster, truth, number) if headless(number) else _steady(cluster.fqdn(number), cluster_ips(number)[0]))
        elif kind == 6:
            made.append(_absent(f"no-{chosen.randrange(1000)}.{cluster.fqdn(chosen.randrange(cluster.services)).partition('.')[2]}"))
        else:
            number = chosen.randrange(OUTSIDE)
            made.append(_steady(outside(number), outside_address(number)))
    return made


def _moving(cluster: Cluster, truth: Truth, number: int) -> Question:
    def right(rcode: int, found: frozenset[bytes], sent: float, came: float) -> bool:
        return rcode == 0 and truth.right(number, found, sent, came)

    return Question(cluster.fqdn(number), packet(cluster.fqdn(number)), right)


def _steady(name: str, address: str) -> Question:
    wanted = packed([address])
    return Question(name, packet(name), lambda rcode, found, _sent, _came: rcode == 0 and found == wanted)


def _absent(name: str) -> Question:
    return Question(name, packet(name), lambda rcode, found, _sent, _came: rcode == _NXDOMAIN and not found)


class Checker:
    """Asks until it is told to stop. `udp` and `tcp` count."""

    def __init__(self, port: int, asked: list[Question], *, udp_rate: float, tcp_rate: float, connections: int) -> None:
        """Rates are questions a second in all; `connections` are kept open."""
        self.port, self.questions = port, asked
        self.udp, self.tcp = Increment(), Increment()
        self._rates = {"udp": udp_rate, "tcp": tcp_rate}
        self._connections = connections
        self._next = 0
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Asks, and after the stop waits for the answers that are still to come."""
        loop = asyncio.get_running_loop()
        clients: list[_Datagrams] = []
        for _ in range(SOCKETS):
            _, client = await loop.create_datagram_endpoint(lambda: _Datagrams(self), remote_addr=("127.0.0.1", self.port))
            clients.append(client)
        streams = [_Stream(self) for _ in range(self._connections)]
        everyone: list[_Datagrams | _Stream] = [*clients, *streams]
        try:
            await asyncio.gather(*(stream.connect() for stream in streams))
            await asyncio.gather(self._ask(self._rates["udp"], clients), self._ask(self._rates["tcp"], streams))
            async with asyncio.timeout(PATIENCE + 1):
                while any(one.waiting for one in everyone):
                    await asyncio.sleep(0.05)
        finally:
            for one in everyone:
                one.close()
            await asyncio.sleep(0)  # in which the sockets close

    def stop(self) -> None:
        """Asks no more."""
        self._stopping.set()

    async def _ask(self, rate: float, clients: list[_Datagrams] | list[_Stream]) -> None:
        loop = asyncio.get_running_loop()
        begin, number = loop.time(), 0
        while rate and not self._stopping.is_set():
            client = clients[number % len(clients)]
            await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
            number += 1
            self._next = (self._next + 1) % len(self.questions)
            client.ask(self.questions[self._next])

    def judge(self, count: Increment, question: Question, reply: bytes, sent: float, came: float) -> None:
        """Takes an answer."""
        count.answered += 1
        count.slowest = max(count.slowest, came - sent)
        try:
            rcode, found = reply[3] & 15, addresses(reply)
        except (IndexError, ValueError):
            rcode, found = -1, frozenset()
        if not question.right(rcode, found, sent, came):
            count.wrong += 1
            if len(count.examples) < EXAMPLES:
                count.examples.append(f"{question.name}: rcode {rcode}, {sorted(one.hex() for one in found)} at {came:.3f}")


class _Waiting:
    """Questions of one socket that wait for their answers, by id."""

    def __init__(self, checker: Checker, count: Increment) -> None:
        self.checker, self.count = checker, count
        self.waiting: dict[int, tuple[Question, float, asyncio.TimerHandle]] = {}
        self._ident = 0

    def note(self, question: Question) -> bytes:
        """The packet to send."""
        loop = asyncio.get_running_loop()
        self._ident = (self._ident + 1) & 0xFFFF
        self.waiting[self._ident] = question, loop.time(), loop.call_later(PATIENCE, self._lost, self._ident)
        self.count.asked += 1
        return self._ident.to_bytes(2, "big") + question.packet[2:]

    def take(self, reply: bytes) -> None:
        """A reply; one that nobody waits for is wrong."""
        found = self.waiting.pop(int.from_bytes(reply[:2], "big"), None)
        if found is None:
            self.count.wrong += 1
            return
        question, sent, timer = found
        timer.cancel()
        self.checker.judge(self.count, question, reply, sent, asyncio.get_running_loop().time())

    def lose_all(self) -> None:
        """No answer can come any more."""
        self.count.cut += len(self.waiting)
        for ident in list(self.waiting):
            self._lost(ident)

    def _lost(self, ident: int) -> None:
        _, _, timer = self.waiting.pop(ident)
        timer.cancel()
        self.count.lost += 1


class _Datagrams(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, checker: Checker) -> None:
        self._held = _Waiting(checker, checker.udp)

    @property
    def waiting(self) -> bool:
        return bool(self._held.waiting)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # Python 3.11 does not say so of its own class

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the protocol's signature
        self._held.take(data)

    def ask(self, question: Question) -> None:
        self._transport.sendto(self._held.note(question))

    def close(self) -> None:
        self._transport.close()


class _Stream(asyncio.Protocol):
    """One TCP connection, opened anew when the server ends it."""

    def __init__(self, checker: Checker) -> None:
        self._checker, self._count = checker, checker.tcp
        self._held = _Waiting(checker, checker.tcp)
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._over = False

    @property
    def waiting(self) -> bool:
        return bool(self._held.waiting)

    async def connect(self) -> None:
        """Opens the connection; tries again while the server refuses it."""
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
        self._held.lose_all()
        if not self._over:
            self._count.closed += 1
            self._again = asyncio.ensure_future(self.connect())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= 2 + (size := int.from_bytes(self._buffer[:2], "big")):
            reply, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            self._held.take(reply)

    def ask(self, question: Question) -> None:
        """Asks where the connection is open; one that is being opened asks nothing."""
        if self._transport is not None and not self._transport.is_closing():
            wire = self._held.note(question)
            self._transport.write(len(wire).to_bytes(2, "big") + wire)

    def close(self) -> None:
        self._over = True
        if self._transport is not None:
            self._transport.abort()
