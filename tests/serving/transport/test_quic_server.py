"""Datagrams of a QUIC listener: handshakes and their limits, address validation, hostile packets, timers."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType, pull_quic_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svcdns.plugin_api.settings import ProxyProtocol, TransportLimits
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.quic.doq import DoqError
from svcdns.serving.transport import quic_connection, quic_server
from svcdns.serving.transport.quic import TRANSPORT
from svcdns.serving.transport.quic_server import MAX_CONNECTIONS, RETRY_FROM
from svcdns.tls.material import Material
from tests.support.certificates import Authority
from tests.support.proxy_headers import version_2
from tests.support.quic import NAME, authority
from tests.support.quic_server import FakeEndpoint, QuicClient, Served, query


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(TRANSPORT)
    yield served
    served.close()


class Clock:
    """A clock that a test moves."""

    def __init__(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        served.server.timers.clock = lambda: self.now
        served.endpoint.timeouts = Timeouts(read=3.0, idle=10.0)
        for module in (quic_connection, quic_server):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)

    async def advance(self, served: Served, seconds: float) -> None:
        self.now += seconds
        for _ in range(10):
            served.server.timers.run_due()
            await asyncio.sleep(0)


@pytest.fixture
def clock(served: Served, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(served, monkeypatch)


def first_datagram(served: Served) -> bytes:
    """Returns the first datagram of a new client."""
    client = served.client()
    (datagram, _), *_ = client.quic.datagrams_to_send(1.0)
    return datagram


async def flood(served: Served, count: int, host: str = "127.0.0.1") -> list[QuicClient]:
    """Sends the first datagrams of `count` new clients that never go on."""
    clients = [QuicClient(served.address, "doq", host) for _ in range(count)]
    for client in clients:
        client.send()
        served.server.drain()
    for _ in range(8 * count):
        await asyncio.sleep(0)
    return clients


async def test_few_clients_need_no_second_round_trip(served: Served) -> None:
    client = await served.connected()
    assert client.quic._retry_count == 0
    assert served.counts["svcdns_tls_handshakes_total", "full"] == 1


async def test_new_client_proves_its_address_while_many_handshakes_are_open(served: Served) -> None:
    others = await flood(served, RETRY_FROM)
    client = await served.connected()
    assert client.quic._retry_count == 1
    stream = client.ask(query())
    await served.until(lambda: client.ended(stream))
    for other in others:
        other.socket.close()


@pytest.mark.parametrize(
    "change", [lambda token: token[:-1] + bytes((token[-1] ^ 1,)), lambda _: b"x"], ids=["altered", "short"]
)
async def test_wrong_token_proves_nothing(served: Served, change: Callable[[bytes], bytes]) -> None:
    others = await flood(served, RETRY_FROM)
    client = served.client()
    while not client.quic._retry_count:
        await served.step()
    client.quic._peer_token = change(client.quic._peer_token)
    for _ in range(20):
        await served.step()
    assert not client.quic._handshake_confirmed
    for other in others:
        other.socket.close()


async def test_token_of_another_client_proves_nothing(served: Served) -> None:
    others = await flood(served, RETRY_FROM)
    client, thief = served.client(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.send()
    served.server.drain()
    client.receive()
    for datagram, _ in client.quic.datagrams_to_send(client.now + 1):
        thief.sendto(datagram, served.address)
    before = len(served.server._ids)
    await served.step()
    assert len(served.server._ids) == before
    for one in (thief, *(other.socket for other in others)):
        one.close()


async def test_unproved_address_gets_at_most_three_times_its_octets(served: Served) -> None:
    others = await flood(served, RETRY_FROM - 1)
    clock = asyncio.get_running_loop()
    for _ in range(40):  # what probe timers send counts as well
        for connection in list(served.server._handshaking):
            connection.quic._loss_at = 0.0
            connection.quic.handle_timer(clock.time())
            served.server.note_change(connection)
        served.server.flush()
    for other in others:
        other.receive()
        assert 0 < other.received <= 3 * other.sent
        other.socket.close()


async def test_replies_without_state_are_shorter_than_their_datagrams(served: Served) -> None:
    others = await flood(served, RETRY_FROM)
    client = served.client()
    client.send()
    served.server.drain()
    client.receive()
    assert 0 < client.received < client.sent
    unknown = bytearray(first_datagram(served))
    unknown[1:5] = b"\x1a\x2a\x3a\x4a"
    client.socket.send(bytes(unknown))
    served.server.drain()
    reply = client.socket.recv(4096)
    assert reply[1:5] == b"\0\0\0\0"  # a Version Negotiation packet
    assert len(reply) < len(unknown)
    for other in others:
        other.socket.close()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda datagram: datagram[:1199], id="short"),
        pytest.param(lambda datagram: datagram[:1] + b"\0\0\0\0" + datagram[5:], id="version negotiation"),
        pytest.param(
            lambda datagram: datagram[:1] + b"\x0a\x0a\x0a\x0a" + datagram[5:100], id="unknown version, short"
        ),
        pytest.param(lambda datagram: datagram[:100] + bytes(len(datagram) - 100), id="cannot be decrypted"),
        pytest.param(lambda datagram: bytes((datagram[0] | 0x10,)) + datagram[1:], id="0-RTT"),
        pytest.param(lambda datagram: bytes((0x40,)) + datagram[1:], id="unknown connection"),
        pytest.param(lambda _: bytes(1200), id="zeros"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
async def test_datagram_that_begins_nothing_gets_no_reply(served: Served, change: Callable[[bytes], bytes]) -> None:
    datagram = change(first_datagram(served))
    client = served.client()
    client.socket.send(datagram)
    served.server.drain()
    for _ in range(8):
        await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        client.socket.recv(4096)
    assert served.server.idle
    assert not served.server._ids


async def test_datagram_from_another_address_is_dropped(served: Served) -> None:
    client = await served.connected()
    client.ask(query())
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for datagram, _ in client.quic.datagrams_to_send(client.now + 1):
        other.sendto(datagram, served.address)
    served.server.drain()
    assert not served.endpoint.queries
    other.close()


async def test_connection_ids_of_a_client_all_lead_to_its_connection(served: Served) -> None:
    client = await served.connected()
    await served.step()
    for _ in range(3):
        client.quic.change_connection_id()
        stream = client.ask(query())
        await served.until(lambda stream=stream: client.ended(stream))  # type: ignore[misc]
    assert len(served.server._ids) <= 10
    client.quic.close()
    await served.until(lambda: served.server.idle)
    assert not served.server._ids


async def test_client_is_the_one_in_the_header_of_a_proxy(served: Served) -> None:
    served.endpoint.responder.listener.proxy = ProxyProtocol()
    client = served.client()
    client.prefix = version_2("192.0.2.7", 4711)
    await served.until(lambda: client.quic._handshake_confirmed)
    stream = client.ask(query())
    await served.until(lambda: client.ended(stream))
    assert (served.endpoint.clients[0].address, served.endpoint.clients[0].port) == ("192.0.2.7", 4711)


async def test_no_session_tickets_are_sent(served: Served) -> None:
    tickets: list[object] = []
    client = served.client()
    client.quic._session_ticket_handler = tickets.append
    client.quic.tls.new_session_ticket_cb = client.quic._handle_session_ticket
    await served.until(lambda: client.quic._handshake_confirmed)
    for _ in range(3):
        await served.step()
    assert not tickets


# -- limits


async def test_client_with_the_most_connections_loses_one(served: Served) -> None:
    served.endpoint.limits = TransportLimits("quic", max_connections=4)
    many = [await served.connected(host="127.0.0.2") for _ in range(4)]
    other = await served.connected(host="127.0.0.3")
    await served.until(lambda: many[0].closed_with is not None)
    assert many[0].closed_with == DoqError.EXCESSIVE_LOAD
    assert [client.closed_with for client in (*many[1:], other)] == [None] * 4
    assert served.counts["svcdns_shed_total", "connections"] == 1


async def test_client_with_all_connections_gets_no_more(served: Served) -> None:
    served.endpoint.limits = TransportLimits("quic", max_connections=2)
    for _ in range(2):
        await served.connected()
    client = served.client()
    for _ in range(5):
        await served.step()
    assert not client.received
    assert served.counts["svcdns_shed_total", "connections"] >= 1


@pytest.mark.parametrize(
    ("configured", "most"), [(None, 200), (0, MAX_CONNECTIONS), (50, 50), (1 << 20, MAX_CONNECTIONS)]
)
async def test_limit_of_connections(served: Served, configured: int | None, most: int) -> None:
    served.endpoint.limits = TransportLimits("quic", max_connections=configured)
    assert served.server.most_connections == most


async def test_handshakes_of_one_client_are_limited(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_server, "MAX_CLIENT_HANDSHAKES", 3)
    others = await flood(served, 6)
    assert len(served.server._handshaking) == 3
    assert served.counts["svcdns_shed_total", "handshakes"] == 3
    for other in others:
        other.socket.close()


async def test_handshakes_of_all_clients_are_limited(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_server, "MAX_HANDSHAKES", 4)
    others = await flood(served, 4, "127.0.0.2")
    client = await served.connected(host="127.0.0.3")
    assert client.quic._handshake_confirmed
    assert served.counts["svcdns_shed_total", "handshakes"] == 1
    for other in others:
        other.socket.close()


async def test_streams_beyond_the_limit_wait_at_the_client(served: Served) -> None:
    served.endpoint.limits = TransportLimits("quic", max_streams=3)
    served.endpoint.reply = None
    client = await served.connected()
    streams = [client.ask(query()) for _ in range(5)]
    for _ in range(5):
        await served.step()
    assert len(served.endpoint.queries) == 3
    served.endpoint.reply = lambda packet: packet
    for packet, send in served.endpoint.held:
        send(packet)
    await served.until(lambda: all(client.ended(stream) for stream in streams))


async def test_client_that_exceeds_the_streams_is_disconnected(served: Served) -> None:
    served.endpoint.limits = TransportLimits("quic", max_streams=2)
    client = await served.connected()
    client.quic._remote_max_streams_bidi = 1 << 20
    client.quic.send_stream_data(4 * 5000, b"", end_stream=True)
    await served.until(lambda: client.closed_with is not None)
    assert client.closed_with == QuicErrorCode.STREAM_LIMIT_ERROR


async def test_unidirectional_stream_is_an_error(served: Served) -> None:
    client = await served.connected()
    client.quic._remote_max_streams_uni = 1
    client.quic.send_stream_data(2, b"x", end_stream=True)
    await served.until(lambda: client.closed_with is not None)
    assert client.closed_with == QuicErrorCode.STREAM_LIMIT_ERROR


# -- time


async def test_open_handshake_ends_after_the_read_timeout(served: Served, clock: Clock) -> None:
    others = await flood(served, 3)
    await clock.advance(served, 2.9)
    assert len(served.server._handshaking) == 3
    await clock.advance(served, 0.2)
    assert served.server.idle
    assert served.counts["svcdns_tls_handshakes_total", "failed"] == 3
    for other in others:
        other.socket.close()


async def test_slow_query_ends_the_connection_after_the_read_timeout(served: Served, clock: Clock) -> None:
    client = await served.connected()
    client.quic.send_stream_data(0, b"\0")
    await served.step()
    await clock.advance(served, 2.0)
    client.quic.send_stream_data(0, b"\x20")  # a further octet gives no more time
    await served.step()
    await clock.advance(served, 1.1)
    await served.until(lambda: client.closed_with is not None)
    assert client.closed_with == DoqError.EXCESSIVE_LOAD
    assert served.counts["svcdns_shed_total", "slow_query"] == 1


async def test_idle_connection_ends_without_a_message(served: Served, clock: Clock) -> None:
    client = await served.connected()
    await served.step()
    await clock.advance(served, 9.0)
    assert not served.server.idle
    await clock.advance(served, 2.0)
    assert served.server.idle
    assert client.closed_with is None


async def test_lost_reply_is_sent_again(served: Served, clock: Clock) -> None:
    client = await served.connected()
    stream = client.ask(query())
    client.send()
    served.server.drain()
    client.socket.recv(4096)  # the reply is lost
    for _ in range(10):
        await clock.advance(served, 0.5)
    await served.until(lambda: client.ended(stream))
    assert len(served.endpoint.queries) == 1


# -- certificates


async def test_new_certificate_is_for_new_connections(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await served.connected()
    other = Authority().pair(NAME)
    monkeypatch.setattr(served.endpoint, "material", lambda: Material(other.certificate, other.key))
    served.server.renew()
    stream = first.ask(query())
    await served.until(lambda: first.ended(stream))
    second = served.client()
    await served.until(lambda: second.closed_with is not None)
    assert second.closed_with is not None
    assert second.closed_with & 0xFF00 == QuicErrorCode.CRYPTO_ERROR  # unknown authority


async def test_secrets_of_connections_go_to_the_key_log(served: Served, tmp_path: Path) -> None:
    served.endpoint.keylog = str(tmp_path / "keys")
    served.server.renew()
    await served.connected()
    assert "SERVER_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


async def test_unusable_certificate_leaves_the_previous_one(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(served.endpoint, "material", lambda: Material(b"x", b"x"))
    served.server.renew()
    assert "cannot be served" in caplog.text
    client = await served.connected()
    assert client.quic._handshake_confirmed


async def test_connections_wait_for_the_first_certificate() -> None:
    """With ACME, a listener may have no certificate yet. Clients repeat their first packet."""
    endpoint = FakeEndpoint()
    endpoint.material = Material  # type: ignore[assignment]
    served = Served(TRANSPORT, endpoint)
    try:
        client = served.client()
        for _ in range(3):
            await served.step()
        assert not client.quic._handshake_confirmed
        del endpoint.material  # the certificate of the class
        served.server.renew()
        other = await served.connected()
        assert other.quic._handshake_confirmed
    finally:
        served.close()


# -- hostile packets


async def test_random_datagrams_raise_nothing_and_leave_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    sender, chance = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), random.Random(7)
    valid = first_datagram(served)
    for number in range(300):
        datagram = bytearray(valid if number % 2 else chance.randbytes(chance.choice((0, 1, 20, 60, 1200, 1500))))
        for _ in range(chance.randrange(4)):
            if datagram:
                datagram[chance.randrange(min(len(datagram), 60))] = chance.randrange(256)
        sender.sendto(bytes(datagram), served.address)
        served.server.drain()
        await asyncio.sleep(0)
    sender.close()
    assert len(served.server._ids) <= 3 * len(served.server._handshaking)
    assert not caplog.text


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=st.binary(min_size=1, max_size=200), kind=st.sampled_from(sorted(QuicFrameType)))
def test_any_frames_of_a_client_raise_nothing(payload: bytes, kind: QuicFrameType) -> None:
    """A client with keys sends any frame, well-formed or not."""

    async def run() -> None:
        served = Served(TRANSPORT)
        try:
            client = await served.connected()
            send_frames(client, encode_uint_var(kind) + payload)
            for _ in range(3):
                await served.step()
            assert len(served.server._ids) <= 10
            other = await served.connected()
            stream = other.ask(query())
            await served.until(lambda: other.ended(stream))
        finally:
            served.close()

    asyncio.run(run())


def send_frames(client: QuicClient, frames: bytes) -> None:
    """Sends a packet with these octets as its frames, encrypted with the client's keys."""
    quic = client.quic
    header = bytes((0x43,)) + quic._peer_cid.cid + quic._packet_number.to_bytes(4, "big")
    from aioquic.tls import Epoch

    crypto = quic._cryptos[Epoch.ONE_RTT]
    client.socket.send(crypto.encrypt_packet(header, frames.ljust(24, b"\0"), quic._packet_number))
    quic._packet_number += 1


async def test_error_in_the_library_ends_one_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await served.connected(), await served.connected()
    connection = next(iter(served.server._open))

    def fail(*_: object) -> None:
        raise AssertionError("a crafted packet")

    monkeypatch.setattr(connection.quic, "receive_datagram", fail)
    first.ask(query())
    await served.step()
    assert "a crafted packet" in caplog.text
    assert len(served.server._open) == 1
    stream = second.ask(query())
    await served.until(lambda: second.ended(stream))


def test_first_datagram_is_one_of_aioquic() -> None:
    """Guards the helpers of this file: the datagram that they change is an Initial packet of 1200 octets or more."""
    from aioquic._buffer import Buffer

    client = QuicClient(("127.0.0.1", 9), "doq", "127.0.0.1")
    (datagram, _), *_ = client.quic.datagrams_to_send(1.0)
    client.socket.close()
    header = pull_quic_header(Buffer(data=datagram), host_cid_length=8)
    assert header.packet_type is QuicPacketType.INITIAL
    assert len(datagram) >= 1200
    assert authority().pem
    assert FakeEndpoint().material().certificates
