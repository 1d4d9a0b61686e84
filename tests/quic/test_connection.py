"""The memory of a QUIC connection is bounded, whatever its peer sends."""

from __future__ import annotations

import pytest
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from svcdns.quic import connection as module
from svcdns.quic.connection import CONNECTION_WINDOW, MAX_GAPS, STREAM_WINDOW
from tests.support.quic import Pair, connect


def send_part(client: QuicConnection, stream: int, at: int, octets: int = 1) -> None:
    """Makes a client send some octets of a stream without those before them."""
    if stream not in client._streams:
        client._get_or_create_stream_for_send(stream)
    sender = client._streams[stream].sender
    missing = at + octets - sender._buffer_stop
    if missing > 0:
        sender.write(bytes(missing))
    for part in list(sender._pending):
        sender._pending.subtract(part.start, part.stop)
    sender._pending.add(at, at + octets)
    sender.buffer_is_empty = False


def closed_with(pair: Pair) -> int | None:
    """Returns the error code with which the server has closed the connection, or None."""
    event = pair.client._close_event
    return None if event is None else event.error_code


def held(pair: Pair) -> int:
    """Returns the octets in the server's buffers for streams."""
    return sum(len(stream.receiver._buffer) for stream in pair.server._streams.values())


def test_handshake_offers_the_configured_streams_and_forbids_migration() -> None:
    pair = connect(max_streams=7, max_uni_streams=3)
    assert any(isinstance(event, HandshakeCompleted) for event in pair.client_events)
    assert (pair.client._remote_max_streams_bidi, pair.client._remote_max_streams_uni) == (7, 3)
    assert b"\x0c\x00" in pair.server._serialize_transport_parameters()


def test_closed_streams_make_room_for_new_ones() -> None:
    pair = connect(max_streams=2)
    for number in range(10):
        pair.client.send_stream_data(4 * number, b"query", end_stream=True)
        pair.pass_on()
        pair.server.send_stream_data(4 * number, b"reply", end_stream=True)
        pair.pass_on()
    assert pair.replies == {4 * number: b"reply" for number in range(10)}
    assert pair.client._remote_max_streams_bidi <= 12


def test_window_of_a_stream_does_not_grow_with_its_gaps() -> None:
    pair = connect()
    for at in (STREAM_WINDOW // 2 + 1, STREAM_WINDOW - 2):
        send_part(pair.client, 0, at)
        pair.pass_on()
    assert held(pair) <= STREAM_WINDOW
    assert pair.client._streams[0].max_stream_data_remote == STREAM_WINDOW
    assert closed_with(pair) is None


def test_window_of_a_connection_moves_only_with_data_that_was_taken() -> None:
    pair = connect(max_streams=64)
    for number in range(16):
        send_part(pair.client, 4 * number, STREAM_WINDOW - 2)
        pair.pass_on()
    assert pair.client._remote_max_data == CONNECTION_WINDOW
    assert held(pair) <= CONNECTION_WINDOW


def test_more_data_than_the_window_arrives_in_order() -> None:
    pair = connect(max_streams=64)
    size = 60_000
    for number in range(8):
        pair.client.send_stream_data(4 * number, bytes(size), end_stream=True)
    pair.pass_on(rounds=800)
    assert {stream: len(data) for stream, data in pair.received.items()} == {4 * n: size for n in range(8)}


def test_window_of_a_unidirectional_stream_moves_with_its_data() -> None:
    pair = connect()
    size = 3 * STREAM_WINDOW
    pair.client.send_stream_data(2, bytes(size))
    pair.pass_on(rounds=800)
    assert len(pair.received[2]) == size


def test_stream_with_many_gaps_ends_the_connection() -> None:
    pair = connect()
    for number in range(MAX_GAPS + 1):
        send_part(pair.client, 0, 10 + 2 * number)
        pair.to_server()
    pair.pass_on()
    assert closed_with(pair) == QuicErrorCode.INTERNAL_ERROR


@pytest.mark.parametrize("at", [module.MAX_CRYPTO, 1 << 18], ids=["limit", "far"])
def test_handshake_octets_out_of_order_end_the_connection(at: int) -> None:
    pair = connect()
    sender = pair.client._crypto_streams[Epoch.ONE_RTT].sender
    sender.write(bytes(at + 2))
    sender._pending.subtract(0, at + 1)
    pair.pass_on()
    assert closed_with(pair) == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED


def test_client_that_acknowledges_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNACKNOWLEDGED", 20)
    pair = connect()
    for number in range(25):
        pair.client.send_ping(number)
        pair.to_server()
        pair.server.datagrams_to_send(pair.now)  # the client gets none of them
    assert pair.server.is_closing


def test_reply_carries_the_acknowledgement_of_its_query() -> None:
    pair = connect()
    pair.client.send_stream_data(0, b"query", end_stream=True)
    pair.to_server()
    pair.server.send_stream_data(0, b"reply", end_stream=True)
    assert pair.to_client() == 1
    assert not pair.client._spaces[Epoch.ONE_RTT].ack_eliciting_in_flight
    assert pair.replies[0] == b"reply"
    pair.pass_on()
    assert not pair.server.unacknowledged


def test_stream_is_known_until_its_reply_or_its_reset() -> None:
    pair = connect()
    pair.client.send_stream_data(0, b"query", end_stream=True)
    pair.client.send_stream_data(4, b"query", end_stream=True)
    pair.to_server()
    assert pair.server.has_stream(0)
    pair.client.stop_stream(4, 3)
    pair.to_server()
    assert not pair.server.has_stream(4)
    assert not pair.server.has_stream(8)
