"""DNS over gRPC: answers, statuses of calls, and the limits that it shares with DNS over HTTPS."""

from __future__ import annotations

from collections.abc import Sequence

import dns.message
import pytest
from h2.errors import ErrorCodes

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import TransportLimits
from svcdns.serving.transport import grpc
from svcdns.upstream import dns_packet
from svcdns.upstream.grpc_channel import GrpcChannel
from svcdns.wire.codes import Type
from svcdns.wire.protobuf import encode
from svcdns.wire.record import Record
from tests.support.certificates import authority
from tests.support.encrypted import Http2Client, Served, happens, packet, served

HEAD = (("content-type", "application/grpc"), ("te", "trailers"))


def body(message: bytes, flag: int = 0) -> bytes:
    """Returns the body of a call with one message."""
    return bytes((flag,)) + len(message).to_bytes(4, "big") + message


def call(wire: bytes | None = None, *, name: str = "a.b.") -> bytes:
    return body(dns_packet.to_packet(packet(name) if wire is None else wire))


def send(client: Http2Client, octets: bytes | None, *, path: str = dns_packet.METHOD, ends: bool = True) -> int:
    return client.send(octets, path=path, ends=ends, more=HEAD)


async def status(client: Http2Client, stream: int) -> tuple[str, str]:
    """Returns the status of a call, and its message."""
    head, _ = await client.response(stream)
    return head["grpc-status"], head.get("grpc-message", "")


async def test_a_real_client() -> None:
    """The chain sees the client's address and the protocol."""
    async with served(transport="grpc") as world:
        channel = GrpcChannel("127.0.0.1", world.port, 70000, context=authority().client(), server_name="dns.test")
        try:
            answer = await channel.call(dns_packet.METHOD, dns_packet.to_packet(packet()), 10)
            reply = dns.message.from_wire(dns_packet.from_packet(answer))
            assert [str(one[0]) for one in reply.answer] == ["10.0.0.1"]
        finally:
            channel.close()
        requestor = world.queries[0].requestor
        assert (requestor.address, requestor.protocol, requestor.local_port) == ("127.0.0.1", "tcp", world.port)


async def test_clear_text() -> None:
    """A listener without a certificate serves HTTP/2 in clear text."""
    async with served(transport="grpc", secured=False) as world:
        channel = GrpcChannel("127.0.0.1", world.port, 70000)
        try:
            answer = await channel.call(dns_packet.METHOD, dns_packet.to_packet(packet()), 10)
        finally:
            channel.close()
        assert dns.message.from_wire(dns_packet.from_packet(answer)).answer


async def test_a_reply_ends_with_trailers() -> None:
    async with served(transport="grpc") as world:
        client = await world.connect()
        head, octets = await client.response(send(client, call()))
        assert (head[":status"], head["content-type"], head["grpc-status"]) == ("200", "application/grpc", "0")
        assert octets[:1] == b"\0"
        assert len(octets) == 5 + int.from_bytes(octets[1:5], "big")


@pytest.mark.parametrize(
    ("octets", "path", "expected"),
    [
        pytest.param(call(), "/other/Query", ("12", "unknown service of /other/Query"), id="service"),
        pytest.param(call(), "/coredns.dns.DnsService/X", ("12", "unknown method of /coredns.dns.DnsService/X"), id="method"),
        pytest.param(b"", "", ("13", "a call has exactly one message"), id="no message"),
        pytest.param(call() * 2, "", ("13", "a call has exactly one message"), id="two messages"),
        pytest.param(call()[:-1], "", ("13", "a call has exactly one message"), id="cut off"),
        pytest.param(body(b"x", flag=1), "", ("12", "compressed messages are not supported"), id="compressed"),
        pytest.param(body(b"\x0a\x09x"), "", ("13", "error unmarshalling request: field 1 has 9 octets"), id="no DnsPacket"),
        pytest.param(body(encode([(2, 1)])), "", ("2", "the DNS message is too short"), id="no DNS message"),
        pytest.param(b"\0\xff\xff\xff\xff", "", ("8", "received message larger than max (4294967295 vs. 65539)"), id="large"),
    ],
)  # fmt: skip
async def test_calls_that_fail(octets: bytes, path: str, expected: tuple[str, str]) -> None:
    """The connection can be used afterwards."""
    async with served(transport="grpc") as world:
        client = await world.connect()
        code, text = await status(client, send(client, octets, path=path or dns_packet.METHOD))
        assert (code, text.replace("%2C", ",").replace("%28", "(").replace("%29", ")")[: len(expected[1])]) == expected
        assert (await status(client, send(client, call())))[0] == "0"
        assert len(world.queries) == 1


@pytest.mark.parametrize(
    ("method", "more", "expected"),
    [("GET", HEAD, "405"), ("POST", (("content-type", "application/json"),), "415"), ("POST", (), "415")],
)
async def test_requests_that_are_no_calls(method: str, more: Sequence[tuple[str, str]], expected: str) -> None:
    async with served(transport="grpc") as world:
        client = await world.connect()
        stream = client.send(call(), method=method, path=dns_packet.METHOD, more=more)
        assert (await client.response(stream))[0][":status"] == expected


async def test_a_message_that_is_too_long_is_refused_by_its_length() -> None:
    """The rest of the message is not read."""
    async with served(transport="grpc") as world:
        client = await world.connect()
        stream = send(client, b"\0\0\1\0\5" + bytes(100), ends=False)
        assert (await status(client, stream))[0] == "8"
        assert (await status(client, send(client, call())))[0] == "0"
        assert client.reset == {stream: ErrorCodes.NO_ERROR}


async def test_a_dropped_query() -> None:
    async with served(transport="grpc", reply=lambda _query: Reply(dropped=True)) as world:
        client = await world.connect()
        assert await status(client, send(client, call())) == ("14", "no response")


async def test_a_large_reply_waits_for_the_client() -> None:
    """The parts that the client's flow control holds back follow, and then the trailers. Nothing is truncated."""
    large = tuple(Record(b"\1a\1b\0", Type.TXT, 60, b"\xff" + b"%03d" % number + b"x" * 252) for number in range(230))
    async with served(transport="grpc", reply=lambda query: Reply(answer=large, flags=query.reply_flags)) as world:
        client = await world.connect()
        client.acknowledges = False
        streams = [send(client, call()) for _ in range(2)]
        await happens(lambda: len(world.queries) >= 1)
        while len(client.bodies) < 2 and await client.receive():
            pass
        client.acknowledges = True
        client.http.increment_flow_control_window(1 << 20)
        for stream in set(streams) - client.finished:
            client.http.increment_flow_control_window(1 << 20, stream)
        client.flush()
        for stream in streams:
            head, octets = await client.response(stream)
            assert head["grpc-status"] == "0"
            reply = dns.message.from_wire(dns_packet.from_packet(octets[5:]))
            assert len(reply.answer[0]) == len(large)


async def test_a_cancelled_call() -> None:
    """The reply of a call that the client has reset is dropped, and the connection goes on."""
    async with served(transport="grpc") as world:
        client = await world.connect()
        slow = send(client, call(name="a.slow."))
        await happens(lambda: world.queries)
        client.http.reset_stream(slow)
        client.flush()
        assert (await status(client, send(client, call())))[0] == "0"
        world.release.set()
        assert (await status(client, send(client, call(name="c.d."))))[0] == "0"
        assert slow not in client.finished


async def test_finish_answers_what_is_in_flight() -> None:
    """The client gets GOAWAY immediately, then its reply, and then the end of the connection."""
    async with served(transport="grpc") as world:
        client = await world.connect()
        slow = send(client, call(name="a.slow."))
        await happens(lambda: world.queries)
        world.listeners.connections.drain()
        while client.goodbye is None:
            await client.receive()
        world.release.set()
        assert (await status(client, slow))[0] == "0"
        assert await client.closed()


@pytest.mark.parametrize(("configured", "announced"), [(None, 256), (5, 5), (0, 2**31 - 1)])
async def test_max_streams(configured: int | None, announced: int) -> None:
    """The server announces the limit. 0 is no limit."""
    limits = TransportLimits("grpc", max_streams=configured)
    async with served(transport="grpc", limits=limits) as world:
        client = await world.connect()
        await status(client, send(client, call()))
        assert client.http.remote_settings.max_concurrent_streams == announced


async def misused(world: Served, client: Http2Client) -> bool:
    """Returns True if the connection was closed because of misuse."""
    await client.closed()
    return client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM and world.counted("svcdns_shed_total", "misuse") == 1


async def test_rapid_resets() -> None:
    async with served(transport="grpc") as world:
        client = await world.connect()
        for _ in range(300):
            client.http.reset_stream(send(client, None, ends=False))
        client.flush()
        assert await misused(world, client)


async def test_messages_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The incomplete messages of a connection have a limit together."""
    monkeypatch.setattr(grpc, "MAX_BODIES", 1000)
    async with served(transport="grpc") as world:
        client = await world.connect()
        for _ in range(2):
            send(client, b"\0\0\0\xff\xff" + bytes(600), ends=False)
        assert await misused(world, client)


async def test_pings_without_calls() -> None:
    async with served(transport="grpc") as world:
        client = await world.connect()
        for _ in range(300):
            client.http.ping(bytes(8))
        client.flush()
        assert await misused(world, client)
