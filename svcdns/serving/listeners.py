"""The sockets a worker holds, and which of them it reads.

The supervisor binds every socket and hands all slots' sockets to every worker; a worker reads its own slot's, and those of a worker that
is down. A socket is read only while the live chains have a listener for it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from svcdns.chain.routing import Listener
from svcdns.eventloop.clock import Clock
from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.process.memory_cgroup import MemoryGroup
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import Accounts
from svcdns.serving.responder import Responder
from svcdns.serving.table_budget import table_budget
from svcdns.serving.transport.tcp import Parted, TcpConnection, TcpConnections
from svcdns.serving.transport.tls import Certificates, Greeter
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.telemetry.counters import Counters

_SHARES: Final = {"udp": 3, "tcp": 1}
"""How the tables in use divide a worker's budget: most questions come over UDP."""
_IDLE: Final = 8
"""All idle tables together have this part of the budget, to begin with."""

log = logging.getLogger("svcdns")
Where = tuple[str, int]


class Described(msgspec.Struct, frozen=True):
    """A listening socket as the supervisor describes it. `host` is empty for a socket of all addresses."""

    id: int
    slot: int
    host: str
    port: int
    proto: str
    family: int
    wildcard: bool


class _Held:
    """A socket in hand, and what reads it."""

    def __init__(self, described: Described, sock: socket.socket) -> None:
        self.described, self.sock = described, sock
        self.reader: UdpReader | None = None
        self.server: asyncio.Server | None = None


class Listening:
    """A worker's sockets, their desks and their readers."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        """Nothing is read until sockets, slots and listeners are known."""
        self._counters, self._clock = counters, clock
        self._held: dict[int, _Held] = {}
        self._slots: frozenset[int] = frozenset()
        self._listeners: dict[Where, Listener] = {}
        self._responders: dict[tuple[str, int, str, int], Responder] = {}
        self._tables: dict[tuple[str, int, str, int], AnswerTable] = {}
        self._limit = MemoryGroup().limit()
        self._share = 1.0
        self.in_flight = InFlight()
        self.connections = TcpConnections()
        self.certificates = Certificates(counters, self.drain)
        self._greeter = Greeter(counters, self.connections)
        self.readers: list[UdpReader] = []

    @property
    def tables(self) -> list[AnswerTable]:
        """Every answer table."""
        return list(self._tables.values())

    @property
    def responders(self) -> list[Responder]:
        """Every desk."""
        return list(self._responders.values())

    @property
    def reading(self) -> bool:
        """Whether every socket of the slots to read that has a listener is read, and there is one."""
        wanted = [held for held in self._held.values() if self._wanted(held)]
        return bool(wanted) and all(held.reader or held.server for held in wanted)

    async def sockets(self, add: list[tuple[Described, int]], remove: list[int]) -> None:
        """Takes sockets over by their descriptors, and closes those that are not wanted any more."""
        for number in remove:
            held = self._held.pop(number, None)
            if held is not None:
                self._stop(held)
                held.sock.close()
        for described, fd in add:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self._held[described.id] = _Held(described, sock)
        await self._reconcile()

    async def read(self, slots: frozenset[int]) -> None:
        """Reads the sockets of these slots from now on, and no others."""
        self._slots = slots
        await self._reconcile()

    async def swap(self, listeners: dict[Where, Listener]) -> None:
        """Serves with other chains: the same sockets, connections and tables, the latter emptied in the same step.

        A listener of another transport than before is a new one.
        """
        self._listeners = listeners
        for key, responder in tuple(self._responders.items()):
            listener = listeners.get(key[:2])
            if listener is not None and listener.transport != responder.listener.transport:
                self._leave(key)
            elif listener is not None:
                responder.listener = listener
        self.certificates.keep({listener.security for listener in listeners.values()})
        for table in self._tables.values():
            table.clear()
        await self._reconcile()

    async def stop(self) -> None:
        """Reads no socket any more; what is in the sockets' buffers has been answered."""
        self.drain(until_empty=True)
        self._slots = frozenset()
        await self._reconcile()

    async def adopt(self, parted: Parted) -> None:
        """Takes a connection over from another worker; one of a listener that there is no more is closed."""
        sock = socket.socket(fileno=parted.fd)
        if (parted.host, parted.port) not in self._listeners:
            sock.close()
            return
        sock.setblocking(False)
        responder = self._responder(parted.host, parted.port, "tcp", parted.family)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: TcpConnection(responder, self.connections, responder.listener.timeouts, parted), sock
            )
        except OSError:
            sock.close()

    def drain(self, *, until_empty: bool = False) -> None:
        """Answers what waits in the UDP sockets: a batch of each, or everything."""
        for reader in self.readers:
            reader.drain()
            while until_empty and reader.waiting():
                reader.drain()

    def _leave(self, key: tuple[str, int, str, int]) -> None:
        """Ends a desk, and the connections and readers that it has."""
        responder = self._responders.pop(key)
        del self._tables[key]
        for held in self._held.values():
            if (held.described.host, held.described.port, held.described.proto) == key[:3]:
                self._stop(held)
        for connection in tuple(self.connections.open):
            if connection.responder is responder:
                connection.finish()

    def _wanted(self, held: _Held) -> bool:
        about = held.described
        listener = self._listeners.get((about.host, about.port))
        return listener is not None and about.slot in self._slots and (about.proto == "tcp" or listener.transport == "dns")

    async def _reconcile(self) -> None:
        for held in self._held.values():
            active = held.reader is not None or held.server is not None
            if self._wanted(held) and not active:
                await self._start(held)
            elif active and not self._wanted(held):
                self._stop(held)
        self.readers = [held.reader for held in self._held.values() if held.reader is not None]
        self.divide()

    def divide(self) -> None:
        """Gives every table in use its share of the budget, which all tables of all workers together keep to; once a second."""
        for table, budget in self._budgets():
            table.allow(budget)

    def allow(self, share: float) -> Iterator[None]:
        """Gives the tables another part of what they may usually have; what is over it goes bit by bit, as the iterator is asked on."""
        self._share = share
        for table, budget in self._budgets():
            yield from table.shrink(budget)

    @property
    def budget(self) -> int:
        """Octets that this worker's tables may take at present; its caches may take as much again."""
        workers = 1 + max((held.described.slot for held in self._held.values()), default=0)
        return int(table_budget(self._limit, workers) * self._share)

    def _budgets(self) -> list[tuple[AnswerTable, int]]:
        budget = self.budget
        idle = budget // _IDLE // max(1, len(self._tables))
        shares = {key: _SHARES[key[2]] for key, table in self._tables.items() if len(table)}
        rest = budget - idle * (len(self._tables) - len(shares))
        whole = sum(shares.values())
        return [(table, rest * shares[key] // whole if key in shares else idle) for key, table in self._tables.items()]

    async def _start(self, held: _Held) -> None:
        about = held.described
        responder = self._responder(about.host, about.port, about.proto, about.family)
        loop = asyncio.get_running_loop()
        if held.described.proto == "udp":
            errors = SocketErrors(self._counters, responder.listener.server, self._clock)
            held.reader = UdpReader(held.sock, responder, errors, wildcard=held.described.wildcard)
            add_drain(loop, held.sock, held.reader.drain)
        else:
            held.server = await loop.create_server(lambda: self._accept(responder), sock=held.sock.dup(), backlog=1024)

    def _accept(self, responder: Responder) -> asyncio.BaseProtocol:
        listener = responder.listener
        if listener.transport == "tls":
            return self._greeter.accept(responder, self.certificates.context(listener.security))
        return TcpConnection(responder, self.connections, listener.timeouts)

    def _stop(self, held: _Held) -> None:
        if held.reader is not None:
            remove_drain(asyncio.get_running_loop(), held.sock)
            held.reader.finish()
            held.reader = None
        if held.server is not None:
            held.server.close()
            held.server = None

    def _responder(self, host: str, port: int, proto: str, ip: int) -> Responder:
        listener = self._listeners[host, port]
        family = 2 if ip == 6 else 1
        key = (host, port, proto, family)
        responder = self._responders.get(key)
        if responder is None:
            table = self._tables[key] = AnswerTable(0, self._clock)
            table.pressed = self.divide
            accounts = Accounts(self._counters, listener.server, proto, family)
            responder = self._responders[key] = Responder(listener, table, accounts, self._clock, proto, self.in_flight)
        return responder

    def drop_counts(self) -> list[tuple[str, str, int, int]]:
        """For each UDP socket of the slots that are read: server label, address, slot, packets the kernel dropped."""
        out = []
        for held in self._held.values():
            if held.reader is not None:
                local: Any = held.reader.local
                out.append((held.reader.responder.listener.server, f"{local[0]}:{local[1]}", held.described.slot, held.reader.drops()))
        return out
