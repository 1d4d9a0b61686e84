"""The listening sockets of a worker, and which of them the worker reads.

The supervisor binds every socket, and gives every worker the sockets of all workers. Each worker has a number, its
slot. A worker reads the sockets of its own slot, and those of workers that are down.

Rules:

1. `_reconcile` starts and stops the readers and acceptors.
2. A reload replaces listeners, answer tables and negative answers in one step. Connections and sockets stay open.
3. At a stop, the worker reads each socket until the kernel refuses new clients of this socket.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from svcdns.chain.build import ListenerKey
from svcdns.chain.kept_routes import NONE_KEPT, KeptRoutes
from svcdns.chain.routing import Listener
from svcdns.corefile.transports import ENCRYPTED, PROTOCOLS
from svcdns.eventloop.clock import Clock
from svcdns.eventloop.loop import add_drain, remove_drain
from svcdns.eventloop.stream import SocketTransport
from svcdns.plugin_api.query import Client
from svcdns.process.memory_cgroup import MemoryGroup
from svcdns.process.sample_memory import private_ring
from svcdns.process.shared_memory import ENCRYPTED_SLOT
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.cookies import Cookies
from svcdns.serving.in_flight import InFlight
from svcdns.serving.listening_sockets import ListeningSocket, Place, ResponderKey, SocketDescription
from svcdns.serving.metrics import SHED, QueryMetrics, ShedReason
from svcdns.serving.responder import Responder
from svcdns.serving.table_budget import divide, table_budget
from svcdns.serving.transport.acceptor import BACKLOG, Acceptor
from svcdns.serving.transport.certificates import Certificates
from svcdns.serving.transport.connections import Detached, TcpConnections
from svcdns.serving.transport.proxied import HeaderReader
from svcdns.serving.transport.refusal import refuse_connections, refuse_datagrams
from svcdns.serving.transport.tcp import TcpConnection
from svcdns.serving.transport.tls import TlsAcceptor
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.telemetry.counters import Counters

if TYPE_CHECKING:
    from svcdns.serving.encrypted_listeners import EncryptedListeners
    from svcdns.serving.transport.sampled import Sampler
    from svcdns.telemetry.query_samples import Ring

log = logging.getLogger("svcdns")


def _reader_type(listener: Listener) -> type[UdpReader]:
    if listener.records_traffic and listener.proxy is None:
        from svcdns.serving.transport.sampled import SampledReader, SampledSheddingReader

        return SampledSheddingReader if listener.sheds else SampledReader
    if not listener.sheds:
        return UdpReader
    from svcdns.serving.transport.shedding import SheddingReader  # only listeners with *shed* pay for it

    return SheddingReader


class Listeners:
    """The sockets of a worker, their readers, and the responders that answer their queries."""

    def __init__(
        self, counters: Counters, clock: Clock, cookies: Cookies, samples: Callable[[], memoryview] = private_ring
    ) -> None:
        """Reads no socket until `sockets`, `read` and `swap` have been called.

        `samples` returns the memory for samples of queries. The first listener with *traffic* calls `samples`.
        """
        self._samples = samples
        self.sampler: Sampler | None = None
        """Chooses the queries that are sampled; None if no listener has *traffic*."""
        self._counters, self._clock, self._cookies = counters, clock, cookies
        self._sockets: dict[int, ListeningSocket] = {}
        self._slots: frozenset[int] = frozenset()
        self.has_read = False
        """True after `read` was called with a slot."""
        self._listeners: dict[Place, Listener] = {}
        self._encrypted: EncryptedListeners | None = None
        self._holds_datagrams = False
        self._responders: dict[ResponderKey, Responder] = {}
        self._limit = MemoryGroup().limit()
        self._share = 1.0
        self._closing_soon = False
        self.in_flight = InFlight()
        self.connections = TcpConnections(poll_sockets=self.drain)
        self.certificates = Certificates(counters, self.drain)
        self._tls_acceptor = TlsAcceptor(counters, self.connections)
        self.readers: list[UdpReader] = []

    @property
    def tables(self) -> list[AnswerTable]:
        """Returns the answer tables of all listeners."""
        return [responder.table for responder in self._responders.values()]

    @property
    def responders(self) -> list[Responder]:
        """Returns all responders of this worker: one for each listener, protocol and address family."""
        return list(self._responders.values())

    @property
    def keyed_responders(self) -> dict[ResponderKey, Responder]:
        """Returns the responders by listener, protocol and address family."""
        return dict(self._responders)

    def responder_of(self, key: ResponderKey) -> Responder | None:
        """Returns the responder with this key, and makes it if necessary. Returns None if there is no such listener.

        Returns None for a listener of an encrypted transport.
        """
        listener = self._listeners.get((key.host, key.port, key.protocol))
        if listener is None or listener.transport != "dns":
            return None
        if key not in self._responders:
            self._responder(key)
            self.divide()
        return self._responders[key]

    @property
    def sampled_responders(self) -> list[Responder]:
        """Returns the responders of the UDP sockets whose queries are sampled."""
        keys = dict.fromkeys(one.key for one in self._sockets.values() if one.description.proto == "udp")
        found = [self.responder_of(key) for key in keys]
        return [one for one in found if one is not None and one.listener.records_traffic]

    @property
    def datagram_sockets(self) -> list[ListeningSocket]:
        """Returns the UDP sockets, including the sockets that other workers read."""
        return [one for one in self._sockets.values() if one.description.proto == "udp"]

    @cached_property
    def ring(self) -> Ring:
        """Returns the ring with the samples of this worker, and of the worker that had its region before."""
        from svcdns.telemetry.query_samples import Ring

        return Ring(self._samples())

    @property
    def reading(self) -> bool:
        """Returns True if the worker reads all sockets that it must read.

        If the Corefile has encrypted transports only, the other workers have no listeners and no sockets.
        """
        wanted = [one for one in self._sockets.values() if self._wanted(one)]
        return (
            all(one.active for one in wanted)
            if wanted
            else bool(self._slots and not self._listeners and not self._sockets)
        )

    def sockets(self, add: list[tuple[SocketDescription, int]], remove: list[int]) -> None:
        """Adds sockets, each with its file descriptor, and closes the sockets whose ids are in `remove`."""
        for number in remove:
            one = self._sockets.pop(number, None)
            if one is not None:
                self._stop(one)
                one.sock.close()
        for description, fd in add:
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            self._sockets[description.id] = ListeningSocket(description, sock)
        self._reconcile()

    def read(self, slots: frozenset[int]) -> None:
        """Reads only the sockets of the workers with the numbers `slots`, from this call on."""
        self._slots = slots
        self.has_read = self.has_read or bool(slots)
        self._reconcile()

    def swap(self, listeners: Mapping[Any, Listener], kept: Mapping[ListenerKey, KeptRoutes] | None = None) -> None:
        """Replaces the listeners and their plugin chains. Sockets and connections stay open.

        If the transport of a listener changes, its responder is replaced. `kept` has the routes whose stored replies
        stay, by listener. All other stored replies are dropped.
        """
        self._listeners = {
            (one.host, one.port, protocol): one for one in listeners.values() for protocol in PROTOCOLS[one.transport]
        }
        for key, responder in tuple(self._responders.items()):
            listener = self._listeners.get((key.host, key.port, key.protocol))
            if listener is None or listener.transport != responder.listener.transport:
                self._remove_responder(key)
            else:
                responder.serve(listener, (kept or {}).get((key.host, key.port, listener.transport), NONE_KEPT))
                self._stop_other_readers(responder)
        self.certificates.keep({listener.security for listener in listeners.values()})
        self._reconcile()

    def announce_end(self) -> None:
        """Asks clients that send the EDNS option TCP keepalive (RFC 7828) to close their connections, from this
        call on.
        """
        self._closing_soon = True
        for responder in self._responders.values():
            responder.announce_end()

    async def refuse_connections(self) -> None:
        """Accepts the connections that wait in the sockets.

        Then the kernel refuses new connections. UDP is read as before.
        """
        accepting = [one for one in self._sockets.values() if one.acceptor is not None]
        for _ in range(BACKLOG):
            if not sum(one.acceptor.accept() for one in accepting if one.acceptor is not None):
                break
            await asyncio.sleep(0)
        for one in accepting:
            refuse_connections(one.sock)
            self._stop(one)

    def refuse_datagrams(self) -> None:
        """Makes the kernel refuse new datagrams, or give them to another server that has bound the same addresses.

        Datagrams that already wait in the sockets are still read.
        """
        for reader in self.readers:
            refuse_datagrams(reader.sock)

    def stop(self) -> None:
        """Stops reading: the kernel refuses new datagrams, and the datagrams that wait in the sockets are answered."""
        self.refuse_datagrams()
        self.drain(until_empty=True)
        self._slots = frozenset()
        self._reconcile()

    async def adopt(self, detached: Detached) -> None:
        """Takes over a connection of another worker. Closes the connection if this worker has no listener for it."""
        sock = socket.socket(fileno=detached.fd)
        if (detached.host, detached.port, "tcp") not in self._listeners:
            sock.close()
            return
        sock.setblocking(False)
        responder = self._responder(ResponderKey(detached.host, detached.port, "tcp", 2 if detached.family == 6 else 1))
        timeouts = responder.listener.timeouts
        connection = TcpConnection(responder, self.connections, timeouts, detached)
        SocketTransport(asyncio.get_running_loop(), sock, connection)

    def drain(self, *, until_empty: bool = False) -> None:
        """Answers one batch of packets of each UDP socket, or all waiting packets if `until_empty` is true."""
        for reader in self.readers:
            reader.drain()
            while until_empty and reader.has_packet():
                reader.drain()

    # -- budgets

    @property
    def budget(self) -> int:
        """Returns the octets that the answer tables of this worker may use now.

        The caches of plugins may use the same amount in addition.
        """
        slots = {one.description.slot for one in self._sockets.values()}
        workers = 2 if ENCRYPTED_SLOT in slots else max(1, len(slots))  # at least one other worker runs beside that one
        return int(table_budget(self._limit, workers) * self._share)

    def divide(self) -> None:
        """Divides the worker's memory budget among the answer tables. Called once a second."""
        for table, budget in self._budgets():
            table.allow(budget)

    def allow(self, share: float) -> Iterator[None]:
        """Sets the budget of the answer tables to `share` of their usual budget.

        Returns an iterator that frees a few of the removed entries at each step.
        """
        self._share = share
        self.divide()
        return self.purge()

    def purge(self) -> Iterator[None]:
        """Frees the memory of removed entries of all answer tables, a little at each step of the iterator."""
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

    def _wanted(self, one: ListeningSocket) -> bool:
        about = one.description
        listener = self._listeners.get(one.place)
        return (
            self._sockets.get(about.id) is one
            and listener is not None
            and about.slot in self._slots
            and not (self._holds_datagrams and about.proto == "udp" and listener.transport != "dns")
        )

    def _reconcile(self) -> None:
        """Starts and stops readers and acceptors, so that the worker reads exactly the sockets that it must read."""
        for one in tuple(self._sockets.values()):
            if one.active and not self._wanted(one):
                self._stop(one)
            elif self._wanted(one) and not one.active:
                self._start(one)
        self._note_readers()
        self.divide()

    def _start(self, one: ListeningSocket) -> None:
        loop = asyncio.get_running_loop()
        server = self._listeners[one.place].server
        if one.description.proto == "udp" and self._listeners[one.place].transport != "dns":
            one.server = self._with_encrypted().serve(self._responder(one.key), one.sock)
            add_drain(loop, one.sock, one.server.drain)
            return
        if one.description.proto == "udp":
            responder = self._responder(one.key)
            errors = SocketErrors(self._counters, responder.listener.server, self._clock)
            one.reader = _reader_type(responder.listener)(
                one.sock, responder, errors, wildcard=one.description.wildcard
            )
            if responder.listener.records_traffic:
                self._sample(one.reader)
            add_drain(loop, one.sock, one.reader.drain)
            return
        errors = SocketErrors(self._counters, server, self._clock)
        shed = partial(self._shed, server)
        one.acceptor = Acceptor(
            one.sock, partial(self._accept, one), shed, errors.count, lambda: not self._has_proxy(one)
        )

    def _sample(self, reader: UdpReader) -> None:
        from svcdns.serving.transport.sampled import SampledReader, Sampler

        if isinstance(reader, SampledReader):
            self.sampler = self.sampler or Sampler(self.ring, self._clock)
            reader.use(self.sampler)

    def _has_proxy(self, one: ListeningSocket) -> bool:
        listener = self._listeners.get(one.place)
        return listener is not None and listener.proxy is not None

    def _shed(self, server: str, connections: int) -> None:
        self._counters.count(SHED, server, ShedReason.FLOOD, amount=connections)

    def _accept(self, one: ListeningSocket, sock: socket.socket, address: Any) -> None:
        """Starts a connection that was accepted at a socket."""
        listener = self._listeners.get(one.place)
        if listener is None:
            sock.close()
            return
        serve = partial(self._serve, listener, self._responder(one.key), sock, address)
        if listener.proxy is None:
            serve(None)
        else:
            HeaderReader(listener.proxy, sock, address, listener.timeouts.read, self.connections, serve).start()

    def _serve(
        self, listener: Listener, responder: Responder, sock: socket.socket, address: Any, proxied: Client | None
    ) -> None:
        """Serves a connection. `proxied` is the client that a proxy has named in a PROXY header, or None."""
        if listener.transport in ENCRYPTED:
            self._with_encrypted().accept(responder, sock, address, proxied)
        elif listener.transport == "tls":
            context = self.certificates.context(listener.security)
            self._tls_acceptor.accept(responder, context, sock, address, proxied)
        else:
            connection = TcpConnection(responder, self.connections, listener.timeouts, proxied=proxied)
            SocketTransport(self.connections.loop, sock, connection, address)

    def _stop(self, one: ListeningSocket) -> None:
        if one.reader is not None:
            remove_drain(asyncio.get_running_loop(), one.sock)
            one.reader.finish()
            one.reader = None
            self._note_readers()
        if one.acceptor is not None:
            one.acceptor.stop()
            one.acceptor = None
        if one.server is not None:
            remove_drain(asyncio.get_running_loop(), one.sock)
            self._with_encrypted().end(one.server)
            one.server = None

    def _with_encrypted(self) -> EncryptedListeners:
        """Returns the connections of the encrypted transports, whose modules are imported at the first call."""
        if self._encrypted is None:
            from svcdns.serving.encrypted_listeners import EncryptedListeners

            self._encrypted = EncryptedListeners(self.connections, self.certificates, self._tls_acceptor)
        return self._encrypted

    # -- servers of encrypted transports over UDP

    def hold_datagrams(self, *, hold: bool) -> None:
        """Leaves the datagrams for encrypted transports in their sockets while `hold` is true."""
        self._holds_datagrams = hold
        self._reconcile()

    def finish_servers(self) -> None:
        """Closes the connections of encrypted transports over UDP when their queries are answered."""
        if self._encrypted is not None:
            self._encrypted.finish()

    @property
    def servers_idle(self) -> bool:
        """Returns True if no encrypted transport over UDP has a connection."""
        return self._encrypted is None or self._encrypted.idle

    def _stop_other_readers(self, responder: Responder) -> None:
        """Stops the readers of a responder whose type does not fit its new listener."""
        for one in self._sockets.values():
            reader = one.reader
            if reader is None or reader.responder is not responder:
                continue
            if type(reader) is not _reader_type(responder.listener):
                self._stop(one)

    def _note_readers(self) -> None:
        self.readers = [one.reader for one in self._sockets.values() if one.reader is not None]

    def _responder(self, key: ResponderKey) -> Responder:
        responder = self._responders.get(key)
        if responder is None:
            listener = self._listeners[key.host, key.port, key.protocol]
            table = AnswerTable(0, self._clock)
            table.on_full = self.divide
            metrics = QueryMetrics(self._counters, listener.server, key.protocol, key.family)
            responder = self._responders[key] = Responder(
                listener, table, metrics, key.protocol, self.in_flight, self._cookies
            )
            if self._closing_soon:
                responder.announce_end()
        return responder

    def _remove_responder(self, key: ResponderKey) -> None:
        """Removes a responder, and closes its connections and readers."""
        responder = self._responders.pop(key)
        for one in self._sockets.values():
            reader = one.reader or one.server
            if reader is not None and reader.responder is responder:
                self._stop(one)
        for connection in tuple(self.connections.open):
            if connection.responder is responder:
                connection.finish()

    def dropped_packets(self) -> list[tuple[str, str, int, int]]:
        """Returns how many packets the kernel has dropped, for each UDP socket that this worker reads.

        Each item has the server label, the local address and port, the worker's slot, and the number of packets.
        """
        out = []
        for one in self._sockets.values():
            if one.reader is not None:
                local: Any = one.reader.local
                label = one.reader.responder.listener.server
                out.append((label, f"{local[0]}:{local[1]}", one.description.slot, one.reader.drops()))
        return out
