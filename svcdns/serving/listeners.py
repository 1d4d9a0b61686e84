"""The sockets of a worker, and which of them it reads.

The supervisor binds every socket and gives the sockets of all slots to every worker. A worker reads those of its own
slot, and those of a worker that is down. A socket is read only while the live chains have a listener for it. Knows
nothing of queries.

Rules:

1. What is wanted changes in one step. Starting and closing readers follows, one run at a time, so that no server is
   left that nobody closes.
2. At a reload, listeners, tables and negative answers change in one step; connections and sockets stay.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from svcdns.chain.routing import Listener
from svcdns.eventloop.clock import Clock
from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.process.memory_cgroup import MemoryGroup
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.responder import Responder
from svcdns.serving.table_budget import divide, table_budget
from svcdns.serving.transport.tcp import Detached, TcpConnection, TcpConnections
from svcdns.serving.transport.tls import Certificates, Refused, TlsAcceptor
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.telemetry.counters import Counters

log = logging.getLogger("svcdns")
HostPort = tuple[str, int]


class SocketDescription(msgspec.Struct, frozen=True):
    """A listening socket as the supervisor describes it. `host` is empty for a socket of all addresses."""

    id: int
    slot: int
    host: str
    port: int
    proto: str
    family: int
    wildcard: bool


class ResponderKey(NamedTuple):
    """What a responder is for. `family` is 1 for IPv4 and 2 for IPv6."""

    host: str
    port: int
    protocol: str
    family: int


class _Socket:
    """An open socket, and its reader or server while it is read."""

    def __init__(self, description: SocketDescription, sock: socket.socket) -> None:
        self.description, self.sock = description, sock
        self.reader: UdpReader | None = None
        self.server: asyncio.Server | None = None

    @property
    def active(self) -> bool:
        """Whether it is read."""
        return self.reader is not None or self.server is not None

    @property
    def key(self) -> ResponderKey:
        """Its responder's."""
        about = self.description
        return ResponderKey(about.host, about.port, about.proto, 2 if about.family == 6 else 1)


class Listeners:
    """A worker's sockets, their responders and their readers."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        """Nothing is read until sockets, slots and listeners are known."""
        self._counters, self._clock = counters, clock
        self._sockets: dict[int, _Socket] = {}
        self._slots: frozenset[int] = frozenset()
        self._listeners: dict[HostPort, Listener] = {}
        self._responders: dict[ResponderKey, Responder] = {}
        self._limit = MemoryGroup().limit()
        self._share = 1.0
        self._reconciling = asyncio.Lock()
        self.in_flight = InFlight()
        self.connections = TcpConnections()
        self.certificates = Certificates(counters, self.drain)
        self._tls_acceptor = TlsAcceptor(counters, self.connections)
        self.readers: list[UdpReader] = []

    @property
    def tables(self) -> list[AnswerTable]:
        """Every answer table."""
        return [responder.table for responder in self._responders.values()]

    @property
    def responders(self) -> list[Responder]:
        """Every responder."""
        return list(self._responders.values())

    @property
    def reading(self) -> bool:
        """Whether there are sockets to read, and every one of them is read."""
        wanted = [one for one in self._sockets.values() if self._wanted(one)]
        return bool(wanted) and all(one.active for one in wanted)

    async def sockets(self, add: list[tuple[SocketDescription, int]], remove: list[int]) -> None:
        """Takes over sockets by their descriptors, and closes the sockets with the ids in `remove`."""
        for number in remove:
            one = self._sockets.pop(number, None)
            if one is not None:
                self._stop(one)
                one.sock.close()
        for description, fd in add:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self._sockets[description.id] = _Socket(description, sock)
        await self._reconcile()

    async def read(self, slots: frozenset[int]) -> None:
        """Reads the sockets of these slots from now on, and no others."""
        self._slots = slots
        await self._reconcile()

    async def swap(self, listeners: dict[HostPort, Listener]) -> None:
        """Serves with other chains; sockets and connections stay. A listener whose transport changes is a new one."""
        self._listeners = listeners
        for key, responder in tuple(self._responders.items()):
            listener = listeners.get((key.host, key.port))
            if listener is None or listener.transport != responder.listener.transport:
                self._remove_responder(key)
            else:
                responder.serve(listener)
        self.certificates.keep({listener.security for listener in listeners.values()})
        await self._reconcile()

    async def stop(self) -> None:
        """Reads no socket any more; the packets in the sockets' buffers are answered."""
        self.drain(until_empty=True)
        self._slots = frozenset()
        await self._reconcile()

    async def adopt(self, detached: Detached) -> None:
        """Takes over a connection of another worker; if its listener is gone, the connection is closed."""
        sock = socket.socket(fileno=detached.fd)
        if (detached.host, detached.port) not in self._listeners:
            sock.close()
            return
        sock.setblocking(False)
        responder = self._responder(ResponderKey(detached.host, detached.port, "tcp", 2 if detached.family == 6 else 1))
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: TcpConnection(responder, self.connections, responder.listener.timeouts, detached), sock
            )
        except OSError:
            sock.close()

    def drain(self, *, until_empty: bool = False) -> None:
        """Answers packets that wait in the UDP sockets: a batch of each socket, or all."""
        for reader in self.readers:
            reader.drain()
            while until_empty and reader.has_packet():
                reader.drain()

    # -- budgets

    @property
    def budget(self) -> int:
        """Octets that this worker's tables may take at present; its caches may take as much again."""
        workers = 1 + max((one.description.slot for one in self._sockets.values()), default=0)
        return int(table_budget(self._limit, workers) * self._share)

    def divide(self) -> None:
        """Gives each table in use its share of the budget, which holds for all of them together; once a second."""
        for table, budget in self._budgets():
            table.allow(budget)

    def allow(self, share: float) -> Iterator[None]:
        """Gives the tables this part of their usual budget; entries over it are freed a few at each step."""
        self._share = share
        self.divide()
        return self.purge()

    def purge(self) -> Iterator[None]:
        """Frees what the tables have retired, a little at each step."""
        for table in self.tables:
            yield from table.purge()

    def _budgets(self) -> list[tuple[AnswerTable, int]]:
        tables = self.tables
        return list(
            zip(
                tables,
                divide(self.budget, [key.protocol for key in self._responders], list(map(bool, tables))),
                strict=True,
            )
        )

    # -- readers and servers

    def _wanted(self, one: _Socket) -> bool:
        about = one.description
        listener = self._listeners.get((about.host, about.port))
        return (
            self._sockets.get(about.id) is one
            and listener is not None
            and about.slot in self._slots
            and (about.proto == "tcp" or listener.transport == "dns")
        )

    async def _reconcile(self) -> None:
        """Has exactly the wanted sockets read. Runs wait for each other; what is wanted may change meanwhile."""
        async with self._reconciling:
            for one in tuple(self._sockets.values()):
                if one.active and not self._wanted(one):
                    self._stop(one)
                elif self._wanted(one) and not one.active:
                    await self._start(one)
            self._note_readers()
        self.divide()

    async def _start(self, one: _Socket) -> None:
        loop = asyncio.get_running_loop()
        if one.description.proto == "udp":
            responder = self._responder(one.key)
            errors = SocketErrors(self._counters, responder.listener.server, self._clock)
            one.reader = UdpReader(one.sock, responder, errors, wildcard=one.description.wildcard)
            add_drain(loop, one.sock, one.reader.drain)
            return
        server = await loop.create_server(lambda: self._accept(one), sock=one.sock.dup(), backlog=1024)
        if self._wanted(one):
            one.server = server
        else:
            server.close()

    def _accept(self, one: _Socket) -> asyncio.BaseProtocol:
        listener = self._listeners.get((one.description.host, one.description.port))
        if listener is None:
            return Refused()
        responder = self._responder(one.key)
        if listener.transport == "tls":
            return self._tls_acceptor.accept(responder, self.certificates.context(listener.security))
        return TcpConnection(responder, self.connections, listener.timeouts)

    def _stop(self, one: _Socket) -> None:
        if one.reader is not None:
            remove_drain(asyncio.get_running_loop(), one.sock)
            one.reader.finish()
            one.reader = None
            self._note_readers()
        if one.server is not None:
            one.server.close()
            one.server = None

    def _note_readers(self) -> None:
        self.readers = [one.reader for one in self._sockets.values() if one.reader is not None]

    def _responder(self, key: ResponderKey) -> Responder:
        responder = self._responders.get(key)
        if responder is None:
            listener = self._listeners[key.host, key.port]
            table = AnswerTable(0, self._clock)
            table.on_full = self.divide
            metrics = QueryMetrics(self._counters, listener.server, key.protocol, key.family)
            responder = self._responders[key] = Responder(listener, table, metrics, key.protocol, self.in_flight)
        return responder

    def _remove_responder(self, key: ResponderKey) -> None:
        """Removes a responder, and closes its connections and readers."""
        responder = self._responders.pop(key)
        for one in self._sockets.values():
            if one.reader is not None and one.reader.responder is responder:
                self._stop(one)
        for connection in tuple(self.connections.open):
            if connection.responder is responder:
                connection.finish()

    def dropped_packets(self) -> list[tuple[str, str, int, int]]:
        """For each UDP socket that is read: server label, address, slot, packets that the kernel dropped."""
        out = []
        for one in self._sockets.values():
            if one.reader is not None:
                local: Any = one.reader.local
                label = one.reader.responder.listener.server
                out.append((label, f"{local[0]}:{local[1]}", one.description.slot, one.reader.drops()))
        return out
