"""The connections of one QUIC listener (RFC 9000): receives and sends their datagrams, and has their timers and limits.

`quic` (DNS over QUIC) and `https3` (DNS over HTTP/3) derive their connections from `ServerConnection`. Rules:

1. A datagram for an open connection is handled when it is read. The steps of handshakes wait in a queue in which the
   clients take turns, because one step takes some milliseconds.
2. If RETRY_FROM handshakes are open or waiting, a new client must first prove its address (RFC 9000 §8.1.2).
3. When a limit is reached, the client with the most connections, or the most handshakes, loses one.
4. A datagram from another address than the connection's is dropped: clients do not migrate (`svcdns.quic.connection`).
5. Before a client's address is proved, it gets at most three times the octets that it has sent (RFC 9000 §8.1).
6. No datagram raises an exception. If aioquic fails, the connection is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final, NamedTuple, TextIO, cast

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from svcdns.eventloop.fair_queue import FairQueue
from svcdns.eventloop.loop import after_drains
from svcdns.eventloop.timer_wheel import TimerWheel
from svcdns.log_line import LogLine
from svcdns.plugin_api.query import Client
from svcdns.plugin_api.settings import ProxyProtocol
from svcdns.quic.configuration import ID_LENGTH, MIN_IDLE, server_configuration
from svcdns.serving.metrics import SHED, ShedReason
from svcdns.serving.transport.connections import ByClient, client_key
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.flood_guard import FloodGuard, ReceiveBuffer
from svcdns.serving.transport.proxied import DatagramHeaders, Proxied
from svcdns.serving.transport.quic_connection import Kind, ServerConnection
from svcdns.serving.transport.tls import HANDSHAKES
from svcdns.serving.transport.udp import SocketErrors
from svcdns.serving.transport.udp_batch import LAYOUT, SLOTS, Sender, batch, destination_address
from svcdns.telemetry.logging import LineLimit
from svcdns.tls.errors import TlsError

MIN_INITIAL: Final = 1200
"""The octets of the smallest datagram that begins a connection (RFC 9000 §14.1)."""
RETRY_FROM: Final = 16
"""The handshakes, open or waiting, from which a new client must prove its address."""
MAX_HANDSHAKES: Final = 128
MAX_CLIENT_HANDSHAKES: Final = 32
"""The most open handshakes of all clients, and of one client."""
MAX_CONNECTIONS: Final = 1024
"""The most connections of a listener, also if the Corefile sets no limit."""
MAX_STEPS: Final = 512
"""The most datagrams of handshakes that wait. An address that is not proved has at most one of them."""
MAX_WAITING: Final = 4096
"""The most queries that wait because `worker_pool_size` queries are in the plugin chain."""
SLICE: Final = 0.001
"""The seconds for steps of handshakes in one iteration of the event loop."""
_VERSIONS: Final = (QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2)
_SHORTEST: Final = 21

log = logging.getLogger("svcdns")
_limit = LineLimit()


class _Step(NamedTuple):
    """A datagram of a handshake. `original` and `retried` are the IDs from a valid token, or empty without one."""

    packet: bytes
    sender: Sender
    destination: bytes
    original: bytes = b""
    retried: bytes = b""


class KeyLog:
    """A file to which aioquic writes the secrets of connections. The file is open only while a line is written."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def write(self, text: str) -> None:
        """Appends a line to the file."""
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            _limit.log(log, logging.ERROR, LogLine("the key log cannot be written", path=self._path), error=error)

    def flush(self) -> None:
        """Does nothing: `write` has written everything."""


class QuicServer:
    """The connections of one listening socket."""

    def __init__(self, endpoint: Endpoint, sock: socket.socket, kind: Kind) -> None:
        """`kind` is the application protocol. The socket is non-blocking, and the caller closes it."""
        self.endpoint, self.kind, self.responder = endpoint, kind, endpoint.responder
        self._loop = asyncio.get_running_loop()
        errors = SocketErrors(endpoint.counters, endpoint.server, monotonic)
        self._local: tuple[str, int] = sock.getsockname()[:2]
        wildcard = self._local[0] in ("0.0.0.0", "::")
        self._batch = batch(sock, wildcard=wildcard, failed=errors.count)
        self._guard = FloodGuard(ReceiveBuffer(sock), partial(self.count_shed, ShedReason.FLOOD))
        self._headers: DatagramHeaders | None = None
        self.timers = TimerWheel(monotonic)
        self._tokens = QuicRetryTokenHandler()
        self._ids: dict[bytes, ServerConnection] = {}
        self._open: ByClient[ServerConnection] = ByClient()
        self._handshaking: ByClient[ServerConnection] = ByClient()
        self._steps: FairQueue[_Step] = FairQueue(MAX_STEPS)
        self._stepping = self._flushing = False
        self._finishing = False
        self._changed: dict[ServerConnection, None] = {}
        """Connections that may have datagrams to send."""
        self.queries = 0
        """The queries of all connections that are in the plugin chain."""
        self._waiting: FairQueue[tuple[ServerConnection, int, bytes]] = FairQueue(
            MAX_WAITING, lambda item: item[0].give_up(item[1])
        )
        self._configuration: QuicConfiguration | None = None
        self.renew()

    # -- the frame's side

    def renew(self) -> None:
        """Uses the listener's present certificate for new connections. Keeps the previous one if it is unusable.

        Until a listener with ACME has its first certificate, the datagrams of new connections are dropped.
        """
        if not self.endpoint.material().certificates:
            return
        try:
            configuration = server_configuration(self.endpoint.material(), self.kind.alpn, self.endpoint.timeouts.idle)
            if path := self.endpoint.keylog:
                configuration.secrets_log_file = cast("TextIO", KeyLog(path))
            self._configuration = configuration
        except TlsError as error:
            log.error(LogLine("the certificate cannot be served", server=self.endpoint.server, error=error))

    def drain(self) -> None:
        """Receives one batch of datagrams, and sends the datagrams that answer them."""
        data, now, protocol = self._batch, monotonic(), self.responder.listener.proxy
        count = data.receive()
        if protocol is None:
            if count == SLOTS:
                self._guard.look(perf_counter())
            if self._guard.active:
                self._guard.note(data.client_keys(count))
        for slot in LAYOUT[:count]:
            packet, sender = data.data[slot.at : slot.at + data.lengths[slot.length]], data.sender(slot.number)
            if protocol is None:
                self._receive(packet, sender, now)
            elif (found := self._headers_of(protocol).read(packet, self._client(sender))) is not None:
                self._receive(found[0], Proxied(sender, found[1]), now)
        self.flush()

    def _headers_of(self, protocol: ProxyProtocol) -> DatagramHeaders:
        """Returns the reader of PROXY headers (plugin *proxyproto*)."""
        if self._headers is None or self._headers.protocol != protocol:
            self._headers = DatagramHeaders(protocol, monotonic)
        return self._headers

    def finish(self) -> None:
        """Refuses new connections, and closes each connection when its queries are answered."""
        self._finishing = True
        for connection in (*self._handshaking, *self._open):
            connection.finish()
        self.flush()

    @property
    def idle(self) -> bool:
        """Returns True if no connection is left."""
        return not self._open and not self._handshaking

    def close(self) -> None:
        """Closes all connections now, and stops the timers."""
        self._finishing = True
        for connection in (*self._handshaking, *self._open):
            connection.close(self.kind.no_error)
        self.flush()
        self.timers.stop()
        self._guard.stop()

    @property
    def is_finishing(self) -> bool:
        """Returns True if each connection is closed when its queries are answered."""
        return self._finishing or self.endpoint.connections.closing_tls

    @property
    def most_connections(self) -> int:
        """Returns the most connections of this listener."""
        configured = self.endpoint.limits.max_connections
        most = self.kind.default_connections if configured is None else configured
        return min(most or MAX_CONNECTIONS, MAX_CONNECTIONS)

    # -- datagrams

    def _receive(self, packet: bytes, sender: Sender, now: float) -> None:
        if len(packet) < _SHORTEST:
            return
        if not packet[0] & 0x80:
            connection = self._ids.get(packet[1 : 1 + ID_LENGTH])
            if connection is not None and connection.sender == sender:
                if connection.established:
                    connection.receive(packet, now)
                else:
                    self._add_step(_Step(packet, sender, packet[1 : 1 + ID_LENGTH]))
            return
        try:
            header = pull_quic_header(Buffer(data=packet), host_cid_length=ID_LENGTH)
        except ValueError:
            return
        connection = self._ids.get(header.destination_cid)
        if connection is not None:
            if connection.sender == sender:
                self._add_step(_Step(packet, sender, header.destination_cid))
        elif len(packet) >= MIN_INITIAL and not self.is_finishing:
            self._first(packet, header, sender, now)

    def _first(self, packet: bytes, header: QuicHeader, sender: Sender, now: float) -> None:
        """Handles the first datagram of a connection: answers it without state, or queues it."""
        if header.packet_type is QuicPacketType.VERSION_NEGOTIATION:
            return
        if header.version not in _VERSIONS:
            self._send(
                sender,
                encode_quic_version_negotiation(
                    source_cid=header.destination_cid,
                    destination_cid=header.source_cid,
                    supported_versions=[*_VERSIONS],
                ),
            )
            return
        if header.packet_type is not QuicPacketType.INITIAL:
            return
        original = self._original(header, sender, now) if header.token else b""
        if original:
            self._add_step(_Step(packet, sender, header.destination_cid, original, header.destination_cid))
        elif len(self._handshaking) + len(self._steps) < RETRY_FROM:
            self._add_step(_Step(packet, sender, header.destination_cid))
        elif header.version is not None:
            self._retry(header, header.version, sender, now)

    def _original(self, header: QuicHeader, sender: Sender, now: float) -> bytes:
        """Returns the first ID of the connection from a token of this server, or empty octets without a valid token."""
        assert header.token is not None
        try:
            return self._tokens.validate_token(
                address=self._address(sender),
                destination_cid=header.destination_cid,
                token=header.token,
                now=now,
            )
        except ValueError:
            return b""

    def _retry(self, header: QuicHeader, version: int, sender: Sender, now: float) -> None:
        """Asks a new client to prove its address (RFC 9000 §8.1.2). Keeps no state."""
        source = os.urandom(ID_LENGTH)
        token = self._tokens.create_token(
            address=self._address(sender),
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=source,
            now=now,
        )
        self._send(
            sender,
            encode_quic_retry(
                version=version,
                source_cid=source,
                destination_cid=header.source_cid,
                original_destination_cid=header.destination_cid,
                retry_token=token,
            ),
        )

    def _send(self, sender: Sender, datagram: bytes) -> None:
        self._batch.queue_reply(sender.sender if type(sender) is Proxied else sender, datagram)

    def _address(self, sender: Sender) -> tuple[str, int]:
        """Returns the address and port of a client."""
        if type(sender) is Proxied:
            return sender.client.address, sender.client.port
        address = self._batch.address(sender)
        return address[0].partition("%")[0], address[1]

    def _key(self, sender: Sender) -> bytes:
        """Returns the `client_key` of a client."""
        return client_key(sender.client.address) if type(sender) is Proxied else self._batch.client_key(sender)

    # -- handshakes

    def _add_step(self, step: _Step) -> None:
        if self._steps.add(self._key(step.sender), step) is not None:
            self.count_shed(ShedReason.HANDSHAKES)
        if not self._stepping:
            self._stepping = True
            self._loop.call_soon(self._run_steps)

    def _run_steps(self) -> None:
        steps, now = self._steps, perf_counter()
        ends = now + SLICE
        try:
            while steps.turns and now < ends:
                self._step(steps.pop(), monotonic())
                before, now = now, perf_counter()
                steps.charge(now - before)
        finally:
            self.flush()
            self._stepping = bool(steps.turns)
            if self._stepping:
                self._loop.call_soon(self._run_steps)

    def _step(self, step: _Step, now: float) -> None:
        connection = self._ids.get(step.destination)
        if connection is None:
            connection = self._new(step, now)
        if connection is not None and connection.sender == step.sender:
            connection.receive(step.packet, now)

    def _new(self, step: _Step, now: float) -> ServerConnection | None:
        """Begins a connection, unless there are too many. The step must be the first datagram of its client."""
        client = self._key(step.sender)
        if self._configuration is None:
            return None
        if self._configuration.idle_timeout != max(MIN_IDLE, self.endpoint.timeouts.idle):
            self.renew()
        if len(step.packet) < MIN_INITIAL or self.is_finishing or not self._admit(client):
            return None
        connection = self.kind.connection(self, self._client(step.sender), client, step.sender)
        connection.begin(self._configuration, step.original or step.destination, step.retried or None, now)
        self._handshaking.add(connection, client)
        self.add_id(step.destination, connection)
        return connection

    def _client(self, sender: Sender) -> Client:
        if type(sender) is Proxied:
            return sender.client
        address = self._batch.address(sender)
        local = destination_address(self._batch.ancillary(sender)) or self._local[0]
        return self.endpoint.client(address, (local, self._local[1]), "udp")

    def _admit(self, client: bytes) -> bool:
        """Returns True if a client may begin a connection. May close a connection of a client that has more."""
        handshaking, connections = self._handshaking, self._open
        if handshaking.of(client) >= MAX_CLIENT_HANDSHAKES:
            next(iter(handshaking.items(client))).shed(ShedReason.HANDSHAKES)
        if len(handshaking) >= MAX_HANDSHAKES:
            return self._make_room(handshaking, client, ShedReason.HANDSHAKES)
        if len(connections) + len(handshaking) >= self.most_connections:
            return self._make_room(connections or handshaking, client, ShedReason.CONNECTIONS)
        return True

    def _make_room(self, connections: ByClient[ServerConnection], client: bytes, reason: ShedReason) -> bool:
        candidates = connections.most()
        if len(candidates) <= connections.of(client) + 1:
            self.count_shed(reason)
            return False
        next(iter(candidates)).shed(reason)
        return True

    # -- what connections call

    def add_id(self, number: bytes, connection: ServerConnection) -> None:
        """From this call on, datagrams with the connection ID `number` go to `connection`."""
        if self._ids.setdefault(number, connection) is connection:
            connection.ids.add(number)

    def remove_id(self, number: bytes, connection: ServerConnection) -> None:
        """From this call on, datagrams with the connection ID `number` are dropped."""
        if number in connection.ids:
            connection.ids.discard(number)
            self._ids.pop(number, None)

    def established(self, connection: ServerConnection) -> None:
        """Counts the handshake of a connection as complete."""
        self._handshaking.discard(connection)
        self._open.add(connection, connection.key)
        self.endpoint.counters.count(HANDSHAKES, self.endpoint.server, "full")

    def uncount(self, connection: ServerConnection) -> None:
        """Leaves a connection out of the limits, because it is about to be closed."""
        if connection in self._handshaking:
            self._handshaking.discard(connection)
            self.endpoint.counters.count(HANDSHAKES, self.endpoint.server, "refused")
        self._open.discard(connection)

    def remove(self, connection: ServerConnection) -> None:
        """Removes a connection that has ended."""
        if connection in self._handshaking:
            self._handshaking.discard(connection)
            self.endpoint.counters.count(HANDSHAKES, self.endpoint.server, "failed")
        self._open.discard(connection)
        self._changed.pop(connection, None)
        for number in connection.ids:
            self._ids.pop(number, None)
        connection.ids.clear()

    def failed(self, error: Exception) -> None:
        """Logs an error that a datagram has caused in aioquic, at most once a minute."""
        line = LogLine("a QUIC connection failed", server=self.endpoint.server)
        _limit.log(log, logging.WARNING, line, error=error)

    def count_shed(self, reason: ShedReason, amount: int = 1) -> None:
        """Counts, in a metric, connections or datagrams that were dropped because of a limit."""
        self.endpoint.counters.count(SHED, self.endpoint.server, reason, amount=amount)

    def note_change(self, connection: ServerConnection) -> None:
        """Sends the connection's datagrams soon: after the sockets that are ready now were read."""
        self._changed[connection] = None
        if not self._flushing:
            self._flushing = True
            after_drains(self._loop, self.flush)

    def flush(self) -> None:
        """Sends the datagrams of all connections that have changed."""
        self._flushing = False
        while self._changed:
            changed, self._changed = self._changed, {}
            now = monotonic()
            for connection in changed:
                for datagram, sender in connection.datagrams(now):
                    self._send(sender, datagram)
        self._batch.flush()

    # -- queries

    def answer(self, connection: ServerConnection, stream: int, packet: bytes) -> None:
        """Passes a query to the plugin chain once fewer than `worker_pool_size` queries of this listener are there.

        Call `answered` after the query's reply.
        """
        if self._has_room:
            self.queries += 1
            connection.pass_on(stream, packet)
        else:
            self._waiting.add(connection.key, (connection, stream, packet))

    def answered(self) -> None:
        """Counts a query as answered, and passes the next waiting query to the plugin chain."""
        self.queries -= 1
        if self._waiting.turns:
            self._loop.call_soon(self._next)

    @property
    def _has_room(self) -> bool:
        size = self.endpoint.limits.worker_pool_size or self.kind.default_pool
        return not size or self.queries < size

    def _next(self) -> None:
        while self._waiting.turns and self._has_room:
            self.queries += 1
            connection, stream, packet = self._waiting.pop()
            connection.pass_on(stream, packet)
