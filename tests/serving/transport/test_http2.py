"""DNS over HTTPS with HTTP/2: answers, the end of connections, and misuse."""

from __future__ import annotations

import asyncio

import dns.message
import pytest
from h2.errors import ErrorCodes

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import TransportLimits
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugin_api.tracing import Sampler
from svcdns.serving.transport import connections, http2
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from tests.support.certificates import authority
from tests.support.encrypted import happens, packet, served, target


async def test_queries_with_both_methods() -> None:
    """The chain sees the client's address and the protocol. The second equal query is answered from the table."""
    async with served() as world:
        client = await world.connect()
        streams = [client.send(packet()), client.send(method="GET", path=target(packet()))]
        for stream in streams:
            head, body = await client.response(stream)
            assert (head[":status"], head["content-type"], head["cache-control"]) == (
                "200", "application/dns-message", "max-age=300",
            )  # fmt: skip
            assert int(head["content-length"]) == len(body)
            assert [str(one[0]) for one in dns.message.from_wire(body).answer] == ["10.0.0.1"]
        requestor = world.queries[0].requestor
        assert (requestor.address, requestor.protocol, requestor.local_port) == ("127.0.0.1", "tcp", world.port)
        assert world.counted("coredns_dns_https_responses_total", "200") == 2


async def test_header_fields_of_a_trace() -> None:
    """The fields belong to the query of their request."""
    async with served(sampler=Sampler(1)) as world:
        client = await world.connect()
        await client.response(client.send(packet(), more=[("b3", "0"), ("x-other", "1")]))
        await client.response(client.send(packet()))
        assert [list(one) for one in world.headers] == [[(b"b3", b"0")], []]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("GET", "/dns-query?dns=AA", None, "400", id="not a message"),
        pytest.param("GET", "/other", None, "404", id="path"),
        pytest.param("POST", "/dns-query", b"\0" * 40, "400", id="no question"),
        pytest.param("PUT", "/dns-query", packet(), "400", id="method"),
    ],
)
async def test_refusals(method: str, path: str, body: bytes | None, status: str) -> None:
    async with served() as world:
        client = await world.connect()
        assert (await client.response(client.send(body, method=method, path=path)))[0][":status"] == status
        assert (await client.reply(packet())).answer
        assert not [query for query in world.queries if query.name == b"\0"]


async def test_a_body_that_is_too_long_is_refused_by_its_length() -> None:
    """The rest of the request is not read."""
    async with served() as world:
        client = await world.connect()
        stream = client.send(ends=False, more=[("content-length", "65536")])
        head, _ = await client.response(stream)
        await client.reply(packet())
        assert (head[":status"], client.reset) == ("400", {stream: ErrorCodes.NO_ERROR})


async def test_a_dropped_query() -> None:
    """CoreDNS answers 500 if no plugin writes a reply."""
    async with served(reply=lambda _query: Reply(dropped=True)) as world:
        client = await world.connect()
        assert await client.response(client.send(packet())) == (client.responses[1], b"No response\n")
        assert client.responses[1][":status"] == "500"


async def test_replies_come_as_they_are_made() -> None:
    async with served() as world:
        client = await world.connect()
        slow = client.send(packet("a.slow."))
        assert (await client.reply(packet())).answer
        assert slow not in client.responses
        world.release.set()
        assert (await client.response(slow))[0][":status"] == "200"


async def test_finish_answers_what_is_in_flight() -> None:
    """The client gets GOAWAY immediately, then its reply, and then the end of the connection."""
    async with served() as world:
        client = await world.connect()
        slow = client.send(packet("a.slow."))
        await happens(lambda: world.queries)
        world.listeners.connections.drain()
        while client.goodbye is None:
            await client.receive()
        assert (client.goodbye, slow in client.responses) == (ErrorCodes.NO_ERROR, False)
        world.release.set()
        assert (await client.response(slow))[0][":status"] == "200"
        assert await client.closed()


async def test_lame_duck_closes_after_a_reply() -> None:
    async with served() as world:
        client = await world.connect()
        await client.reply(packet())
        world.listeners.connections.close_after_reply()
        assert (await client.reply(packet())).answer
        assert await client.closed()
        assert client.goodbye == ErrorCodes.NO_ERROR


async def test_a_connection_survives_a_reload_and_a_new_certificate() -> None:
    async with served() as world:
        client = await world.connect()
        await client.reply(packet())
        world.swap()
        other = authority().pair("dns.test", days=90)
        world.certify(other)
        assert (await client.reply(packet("c.d."))).answer
        later = await world.connect()
        assert later.writer.get_extra_info("ssl_object").getpeercert(binary_form=True) != client.writer.get_extra_info(
            "ssl_object"
        ).getpeercert(binary_form=True)


async def test_the_connections_of_a_listener_are_limited() -> None:
    async with served(limits=TransportLimits("https", max_connections=1)) as world:
        client = await world.connect()
        await client.reply(packet())
        with pytest.raises(ConnectionError):
            await world.connect()
        assert world.counted("svcdns_shed_total", "connections") == 1


# -- misuse


async def test_rapid_reset() -> None:
    """A client that resets its requests is disconnected."""
    async with served() as world:
        client = await world.connect()
        for _ in range(http2.MAX_RESETS + 1):
            client.http.reset_stream(client.send(packet("a.slow.")))
            client.flush()
        assert await client.closed()
        assert client.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
        assert world.counted("svcdns_shed_total", "misuse") == 1


@pytest.mark.parametrize("frame", ["ping", "settings", "window"])
async def test_a_flood_of_control_frames(frame: str) -> None:
    async with served() as world:
        client = await world.connect()
        for number in range(http2.MAX_CONTROL + 2):
            if frame == "ping":
                client.http.ping(number.to_bytes(8, "big"))
            elif frame == "settings":
                client.writer.write(b"\0\0\0\4\0\0\0\0\0")
            else:
                client.http.increment_flow_control_window(1)
            client.flush()
        assert await client.closed()
        assert world.counted("svcdns_shed_total", "misuse") == 1


@pytest.mark.parametrize("size", [100, 17_000], ids=["many fields", "large field"])
async def test_a_flood_of_header_fields(size: int) -> None:
    """The header of a request is limited, also with CONTINUATION frames."""
    async with served() as world:
        client = await world.connect()
        client.http.max_outbound_frame_size = 1000
        client.send(packet(), more=[(f"x-{number}", "y" * size) for number in range(40_000 // size)])
        assert await client.closed()
        assert not world.queries


async def test_continuation_without_end() -> None:
    async with served() as world:
        client = await world.connect()
        client.writer.write(b"\0\0\1\1\0\0\0\0\1\x83" + b"\0\0\0\x09\0\0\0\0\1" * 1000)
        assert await client.closed()
        assert not world.queries


async def test_zero_windows() -> None:
    """Replies that the client's flow control holds back are kept up to a limit. Then the connection is closed."""
    text = Record(b"\1a\1b\0", Type.TXT, 300, (b"\xff" + b"x" * 255) * 60)

    def long(query: Query) -> Reply:
        return Reply(answer=(text,), flags=query.reply_flags)

    async with served(reply=long) as world:
        client = await world.connect()
        client.acknowledges = False
        client.http.update_settings({4: 0})
        client.flush()
        await client.receive()
        held = [client.send(packet("a.b.", "TXT")) for _ in range(3)]
        await happens(lambda: len(world.queries) or world.counted("coredns_dns_https_responses_total", "200") == 3)
        assert not client.finished
        client.http.update_settings({4: 65535})
        client.flush()
        for stream in held:
            assert len((await client.response(stream))[1]) > 15_000
        client.http.update_settings({4: 0})
        client.flush()
        for _ in range(http2.MAX_HELD // 15_000 + 2):
            client.send(packet("a.b.", "TXT"))
        assert await client.closed()
        assert world.counted("svcdns_shed_total", "unread") == 1


async def test_connections_with_many_octets_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that have arrived in part take a bounded amount of memory, however many connections there are."""
    monkeypatch.setattr(connections, "MAX_LARGE", 2)
    async with served() as world:
        clients = [await world.connect() for _ in range(3)]
        for client in clients:
            client.send(bytes(15_000), ends=False)
        await happens(lambda: world.counted("svcdns_shed_total", "unread") == 1)
        assert len(world.listeners.connections.open) == 2


async def test_a_slow_body() -> None:
    async with served() as world:
        client = await world.connect()
        client.send(packet()[:5], ends=False)
        await world.expire_unfinished()
        assert await client.closed()
        assert world.counted("svcdns_shed_total", "slow_query") == 1


async def test_an_idle_connection_ends_with_goaway() -> None:
    async with served(timeouts=Timeouts(60, 0.05, 60)) as world:
        client = await world.connect()
        await client.reply(packet())
        assert await client.closed()
        assert client.goodbye == ErrorCodes.NO_ERROR


async def test_octets_that_are_not_http2() -> None:
    async with served() as world:
        client = await world.connect()
        client.writer.write(b"x" * 4000)
        assert await client.closed()
        assert world.listeners.connections.none or await asyncio.sleep(0) is None
