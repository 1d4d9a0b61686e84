"""The taps of the `dnstap` plugin: make messages of queries and replies, and pass them to a writer."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from svcdns.plugin_api.placeholders import METADATA, compiled, of_packets
from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.tap import UpstreamExchange
from svcdns.plugins.dnstap.encoding import (
    PROTOCOLS,
    QUERY_MESSAGE,
    RESPONSE_MESSAGE,
    TYPES,
    Addresses,
    Envelope,
    Times,
    WallClock,
    octets,
    socket_fields,
    varint,
)
from svcdns.plugins.dnstap.options import Output
from svcdns.plugins.dnstap.writer import Writer
from svcdns.wire.codes import Rcode
from svcdns.wire.dnstap import Field, MessageType
from svcdns.wire.message import encode_query
from svcdns.wire.request import read_query_name

_OF_REPLIES: Final = ("{rcode}", "{rsize}", "{duration}", "{>rflags}")
"""The placeholders that become `-` in all messages, because CoreDNS does not fill them in."""
_UNANSWERED: Final = rcode_only(Rcode.NOERROR)

Extra = Callable[[bytes, Client, Query | None, Reply | None], bytes]
"""A function that returns the field `extra` for the packet of a query."""


def extra_of(template: str, largest: int) -> Extra | None:
    """Returns a function that fills in the placeholders of `template`, or None if it has none.

    `largest` is the largest UDP payload size that replies use.
    """
    if "{" not in template:
        return None
    for placeholder in _OF_REPLIES:
        template = template.replace(placeholder, "-")
    fill_in = compiled(template)

    def extra(packet: bytes, client: Client, query: Query | None, reply: Reply | None) -> bytes:
        name, end = read_query_name(packet)
        fields = of_packets(packet, packet, client, 0.0, name.lower(), end, largest)
        fields.query, fields.reply = query, reply or _UNANSWERED
        return fill_in(fields).encode()

    return extra


def needs_query(output: Output) -> bool:
    """Returns True if `extra` has metadata, which only query objects have."""
    return METADATA in output.extra


class ClientTap:
    """Makes the messages CLIENT_QUERY and CLIENT_RESPONSE of one zone for one output."""

    def __init__(
        self, output: Output, writer: Writer, clock: WallClock, zone: bytes, transport: str, largest: int
    ) -> None:
        """`transport` is that of the listener; `dns` stands for UDP and TCP."""
        self.needs_query = needs_query(output)
        self._writer, self._clock, self._full = writer, clock, output.full
        self._extra = extra_of(output.extra, largest)
        constant = b"" if self._extra is not None else output.extra.encode()
        self._envelope = Envelope(output.identity, output.version, constant)
        self._times = Times()
        protocols = {name: PROTOCOLS[name if transport == "dns" else transport] for name in ("udp", "tcp")}
        self._addresses = {name: Addresses(protocol) for name, protocol in protocols.items()}
        self._zone = octets(Field.QUERY_ZONE, zone)
        self._packet = self._wire = b""
        """The packet of the last query whose `extra` a reply needs, and the reply that `observed` belongs to."""

    def arrived(self, packet: bytes, client: Client, started: float, query: Query | None) -> None:
        """Queues CLIENT_QUERY."""
        writer = self._writer
        if writer.refuses:
            writer.drop(1)
            return
        addresses = self._addresses[client.protocol].of_client(client.address, client.port)
        when = self._times.of_query(self._clock.nanoseconds(started))
        message = TYPES[MessageType.CLIENT_QUERY] + addresses + when
        if self._full:
            message += QUERY_MESSAGE + varint(len(packet)) + packet
        writer.put(self._frame(message + self._zone, packet, client, query, None), 1)

    def answered(self, packet: bytes, wire: bytes, client: Client, started: float) -> None:
        """Queues CLIENT_RESPONSE. If `extra` has metadata, `observed` queues the message instead."""
        if self.needs_query:
            self._packet, self._wire = packet, wire
        else:
            self._answered(packet, wire, client, started, None, None)

    def observed(self, query: Query, reply: Reply, size: int, seconds: float) -> None:  # noqa: ARG002 - an observer
        """Queues CLIENT_RESPONSE for the reply that was passed to `answered` before."""
        if self._wire:
            started = query.started or perf_counter() - seconds
            self._answered(self._packet, self._wire, query.requestor, started, query, reply)
            self._packet = self._wire = b""

    def exchanged(self, packet: bytes, wire: bytes, client: Client, started: float, query: Query | None) -> None:
        """Queues both messages together. If `extra` has metadata, `observed` queues the second one."""
        writer = self._writer
        if self._extra is not None:
            self.arrived(packet, client, started, query)
            self.answered(packet, wire, client, started)
            return
        if writer.refuses:
            writer.drop(2)
            return
        clock, times, frame, zone = self._clock, self._times, self._envelope.frame, self._zone
        asked = self._addresses[client.protocol].of_client(client.address, client.port)
        asked += times.of_query(clock.nanoseconds(started))
        answer = asked + zone + times.of_response(clock.nanoseconds(perf_counter()))
        if self._full:
            asked += QUERY_MESSAGE + varint(len(packet)) + packet
            answer += RESPONSE_MESSAGE + varint(len(wire)) + wire
        writer.put(frame(_CLIENT_QUERY + asked + zone) + frame(_CLIENT_RESPONSE + answer), 2)

    def _answered(
        self, packet: bytes, wire: bytes, client: Client, started: float, query: Query | None, reply: Reply | None
    ) -> None:
        writer = self._writer
        if writer.refuses:
            writer.drop(1)
            return
        clock, times = self._clock, self._times
        addresses = self._addresses[client.protocol].of_client(client.address, client.port)
        message = _CLIENT_RESPONSE + addresses + times.of_query(clock.nanoseconds(started)) + self._zone
        message += times.of_response(clock.nanoseconds(perf_counter()))
        if self._full:
            message += RESPONSE_MESSAGE + varint(len(wire)) + wire
        writer.put(self._frame(message, packet, client, query, reply), 1)

    def _frame(self, message: bytes, packet: bytes, client: Client, query: Query | None, reply: Reply | None) -> bytes:
        if self._extra is None:
            return self._envelope.frame(message)
        return self._envelope.frame_with(self._extra(packet, client, query, reply), message)


_CLIENT_QUERY: Final = TYPES[MessageType.CLIENT_QUERY]
_CLIENT_RESPONSE: Final = TYPES[MessageType.CLIENT_RESPONSE]


class ForwarderTap:
    """Makes the messages FORWARDER_QUERY and FORWARDER_RESPONSE for one output."""

    def __init__(self, output: Output, writer: Writer, clock: WallClock, largest: int) -> None:
        self._writer, self._clock, self._full = writer, clock, output.full
        self._extra = extra_of(output.extra, largest)
        constant = b"" if self._extra is not None else output.extra.encode()
        self._envelope = Envelope(output.identity, output.version, constant)
        self._times = Times()

    def forwarded(self, exchange: UpstreamExchange) -> None:
        """Queues FORWARDER_QUERY, and FORWARDER_RESPONSE if there is a reply."""
        writer, count = self._writer, 2 if exchange.reply else 1
        if writer.refuses:
            writer.drop(count)
            return
        sockets = socket_fields(PROTOCOLS[exchange.transport], exchange.local, exchange.upstream)
        sockets += self._times.of_query(self._clock.nanoseconds(exchange.sent))
        zone = octets(Field.QUERY_ZONE, exchange.zone)
        message = TYPES[MessageType.FORWARDER_QUERY] + sockets
        if self._full:
            message += octets(Field.QUERY_MESSAGE, exchange.query)
        frames = self._frame(message + zone, exchange)
        if exchange.reply:
            message = TYPES[MessageType.FORWARDER_RESPONSE] + sockets + zone
            message += self._times.of_response(self._clock.nanoseconds(exchange.received))
            if self._full:
                message += octets(Field.RESPONSE_MESSAGE, exchange.reply)
            frames += self._frame(message, exchange)
        writer.put(frames, count)

    def _frame(self, message: bytes, exchange: UpstreamExchange) -> bytes:
        if self._extra is None:
            return self._envelope.frame(message)
        asked, reply = exchange.asked, Reply(source=exchange.source)
        if isinstance(asked, Query):
            packet = encode_query(asked.message_id, asked.flags, asked.name, asked.rtype, asked.rclass, asked.edns)
            extra = self._extra(packet, asked.requestor, asked, reply)
        else:
            extra = self._extra(asked.packet, asked.requestor, None, reply)
        return self._envelope.frame_with(extra, message)
