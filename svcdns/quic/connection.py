"""QUIC connections whose memory is bounded.

aioquic raises the flow-control windows of a peer without a limit, and keeps what arrives out of order. This class
replaces these rules:

1. A peer may send at most CONNECTION_WINDOW octets that the application has not taken yet.
2. The flow-control limit of a bidirectional stream does not grow. That of a unidirectional stream grows only as the
   application takes data.
3. A stream may have at most MAX_GAPS gaps, and a handshake at most MAX_CRYPTO octets out of order.
4. A peer that acknowledges nothing is disconnected after MAX_UNACKNOWLEDGED packets.
5. An acknowledgement goes out with the reply, not after a delay.
6. A peer may not migrate to another address (RFC 9000 §18.2), because plugins decide by a client's address.

The class uses attributes of aioquic that are not public. The tests of this module check each rule from outside.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicConnectionState, QuicReceiveContext
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

STREAM_WINDOW: Final = 72 << 10
"""The most octets of a stream: one DNS message, with HTTP/3 headers."""
CONNECTION_WINDOW: Final = 128 << 10
"""The most octets on all streams of a connection that a peer may send before the application takes them."""
MAX_GAPS: Final = 32
MAX_CRYPTO: Final = 32 << 10
MAX_UNACKNOWLEDGED: Final = 4096
_DISABLE_MIGRATION: Final = b"\x0c\x00"
"""The transport parameter disable_active_migration (RFC 9000 §18.2)."""

logging.getLogger("quic").setLevel(logging.CRITICAL)  # aioquic logs what any peer can cause, for each packet


class BoundedConnection(QuicConnection):
    """A QUIC connection of a server or a client, with the rules of this module."""

    def __init__(
        self, configuration: QuicConfiguration, *, max_streams: int = 0, max_uni_streams: int = 0, **options: Any
    ) -> None:
        """`max_streams` and `max_uni_streams` are the numbers of streams that the peer may have open.

        `options` are those of `QuicConnection`.
        """
        super().__init__(configuration=configuration, **options)
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = max_streams
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = max_uni_streams
        self._ack_delay = 0.0

    @property
    def unacknowledged(self) -> int:
        """Returns the number of octets that were written to streams, and that the peer has not acknowledged."""
        return sum(len(stream.sender._buffer) for stream in self._streams.values())  # noqa: SLF001 - see the module

    @property
    def is_started(self) -> bool:
        """Returns True if a packet of the peer could be decrypted."""
        return self._state is not QuicConnectionState.FIRSTFLIGHT

    @property
    def is_closing(self) -> bool:
        """Returns True if the connection is closed, or will be."""
        return self._close_event is not None

    @property
    def closed_because(self) -> str | None:
        """Returns the reason for which a side has closed the connection, or None while it is open."""
        event = self._close_event
        return None if event is None else event.reason_phrase or f"closed with error {event.error_code:#x}"

    def has_stream(self, stream: int) -> bool:
        """Returns True if the stream is open, so that data can be sent on it."""
        found = self._streams.get(stream)
        return found is not None and found.sender._reset_error_code is None  # noqa: SLF001 - see the module

    def _serialize_transport_parameters(self) -> bytes:
        return super()._serialize_transport_parameters() + (b"" if self._is_client else _DISABLE_MIGRATION)

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        number = stream.stream_id
        if number is not None and number & 2 and stream.max_stream_data_local:
            taken = stream.receiver.starting_offset()
            if taken + STREAM_WINDOW // 2 > stream.max_stream_data_local:
                stream.max_stream_data_local = taken + STREAM_WINDOW
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:
            super()._write_stream_limits(builder, space, stream)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        if limit.used + CONNECTION_WINDOW // 2 > limit.value:
            waiting = sum(
                stream.receiver.highest_offset - stream.receiver.starting_offset()
                for stream in self._streams.values()
                if not stream.receiver.is_finished
            )
            limit.value = max(limit.value, limit.used - waiting + CONNECTION_WINDOW)
        used, limit.used = limit.used, 0  # otherwise aioquic doubles the limit
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        at = buf.tell()
        number = buf.pull_uint_var()
        buf.seek(at)
        super()._handle_stream_frame(context, frame_type, buf)
        stream = self._streams.get(number)
        if stream is not None and len(stream.receiver._ranges) > MAX_GAPS:  # noqa: SLF001 - see the module
            raise QuicConnectionError(QuicErrorCode.INTERNAL_ERROR, frame_type, "too many gaps")

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_crypto_frame(context, frame_type, buf)
        receiver = self._crypto_streams[context.epoch].receiver
        if (
            receiver.highest_offset - receiver.starting_offset() > MAX_CRYPTO or len(receiver._ranges) > MAX_GAPS  # noqa: SLF001 - see the module
        ):
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too much out of order")

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Handles a datagram of the peer, as `QuicConnection` does."""
        super().receive_datagram(data, addr, now)
        space = self._spaces.get(Epoch.ONE_RTT)
        if space is not None and len(space.sent_packets) > MAX_UNACKNOWLEDGED:
            self.close(QuicErrorCode.INTERNAL_ERROR, None, "nothing is acknowledged")
