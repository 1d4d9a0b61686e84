"""DNS over HTTP/3: requests by GET and POST, refused requests, limits of header fields, and GOAWAY."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived

from svcdns.serving.transport.https3 import MAX_HEADERS, TRANSPORT
from svcdns.serving.transport.quic_connection import MAX_RESETS
from tests.support.quic_server import QuicClient, Served, query, reply_to


class Http3Client:
    """A client that sends requests over a connection."""

    def __init__(self, served: Served, client: QuicClient) -> None:
        self.served, self.client = served, client
        self.http = H3Connection(client.quic)
        self.events: list[H3Event] = []
        self._handled = 0

    def request(
        self, target: bytes, method: bytes = b"GET", body: bytes | None = None, *extra: tuple[bytes, bytes]
    ) -> int:
        stream = self.client.quic.get_next_available_stream_id()
        fields = [
            (b":method", method),
            (b":scheme", b"https"),
            (b":authority", b"dns.test"),
            (b":path", target),
            *extra,
        ]
        self.http.send_headers(stream, fields, end_stream=body is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=True)
        return stream

    def look(self) -> None:
        for event in self.client.events[self._handled :]:
            self.events += self.http.handle_event(event)
        self._handled = len(self.client.events)

    async def response(self, stream: int) -> tuple[dict[bytes, bytes], bytes]:
        """Returns the header fields and the body of the response on a stream."""

        def ended() -> bool:
            self.look()
            return any(isinstance(e, DataReceived) and e.stream_id == stream and e.stream_ended for e in self.events)

        await self.served.until(ended)
        fields = next(e.headers for e in self.events if isinstance(e, HeadersReceived) and e.stream_id == stream)
        body = b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream_id == stream)
        return dict(fields), body


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(TRANSPORT)
    yield served
    served.close()


@pytest.fixture
async def client(served: Served) -> Http3Client:
    return Http3Client(served, await served.connected("h3"))


def target(packet: bytes) -> bytes:
    return b"/dns-query?dns=" + base64.urlsafe_b64encode(packet).rstrip(b"=")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_query_gets_its_reply(served: Served, client: Http3Client, method: bytes) -> None:
    packet = query(ident=77)
    if method == b"GET":
        stream = client.request(target(packet))
    else:
        stream = client.request(b"/dns-query", b"POST", packet, (b"content-type", b"application/dns-message"))
    fields, body = await client.response(stream)
    assert fields[b":status"] == b"200"
    assert fields[b"content-type"] == b"application/dns-message"
    assert fields[b"cache-control"] == b"max-age=5"
    assert fields[b"content-length"] == b"%d" % len(body)
    assert body == reply_to(packet)
    assert served.endpoint.clients[0].protocol == "udp"
    assert served.counts["coredns_dns_https3_responses_total", "200"] == 1


async def test_header_fields_of_a_trace_are_passed_on(served: Served, client: Http3Client) -> None:
    """Only the fields of a trace are, and only if queries of the listener are traced."""
    fields = ((b"x-b3-sampled", b"1"), (b"b3", b"0"), (b"x-other", b"1"))
    await client.response(client.request(target(query()), b"GET", b"", *fields))
    served.endpoint.responder.sampling = object()
    await client.response(client.request(target(query()), b"GET", b"", *fields))
    assert [list(one) for one in served.endpoint.headers] == [[], [(b"x-b3-sampled", b"1"), (b"b3", b"0")]]


async def test_requests_share_a_connection(client: Http3Client) -> None:
    streams = {client.request(target(query(b"\1" + bytes((letter,))))): letter for letter in b"abcdef"}
    for stream, letter in streams.items():
        _, body = await client.response(stream)
        assert body == reply_to(query(b"\1" + bytes((letter,))))


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        pytest.param(b"/other", b"GET", None, b"404", id="another path"),
        pytest.param(b"/dns-query", b"GET", None, b"400", id="no parameter"),
        pytest.param(b"/dns-query?dns=AA", b"GET", None, b"400", id="no message"),
        pytest.param(b"/dns-query?dns=%", b"GET", None, b"400", id="no base64url"),
        pytest.param(b"/dns-query", b"PUT", b"x", b"400", id="another method"),
        pytest.param(b"/dns-query", b"POST", b"short", b"400", id="short body"),
        pytest.param(b"/dns-query", b"POST", bytes(65536), b"400", id="long body"),
    ],
)
async def test_request_without_a_query_is_refused(
    served: Served, client: Http3Client, path: bytes, method: bytes, body: bytes | None, status: bytes
) -> None:
    fields, _ = await client.response(client.request(path, method, body))
    assert fields[b":status"] == status
    assert not served.endpoint.queries
    assert served.counts["coredns_dns_https3_responses_total", status.decode()] == 1
    fields, _ = await client.response(client.request(target(query())))
    assert fields[b":status"] == b"200"


async def test_long_body_is_refused_by_its_announced_length(served: Served, client: Http3Client) -> None:
    stream = client.client.quic.get_next_available_stream_id()
    client.http.send_headers(
        stream,
        [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"dns.test"),
            (b":path", b"/dns-query"),
            (b"content-length", b"70000"),
        ],
    )
    fields, _ = await client.response(stream)
    assert fields[b":status"] == b"400"


async def test_dropped_query_gets_status_500(served: Served, client: Http3Client) -> None:
    served.endpoint.reply = lambda _: b""
    fields, body = await client.response(client.request(target(query())))
    assert (fields[b":status"], body) == (b"500", b"No response\n")


async def test_reset_request_gets_no_response(served: Served, client: Http3Client) -> None:
    served.endpoint.reply = None
    stream = client.request(target(query()))
    await served.until(lambda: served.endpoint.held)
    client.client.quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
    await served.step()
    served.endpoint.held[0][1](reply_to(query()))
    served.endpoint.reply = reply_to
    fields, _ = await client.response(client.request(target(query())))
    assert fields[b":status"] == b"200"
    assert not client.client.data(stream)


async def test_client_that_resets_many_requests_is_disconnected(served: Served, client: Http3Client) -> None:
    for _ in range(MAX_RESETS + 2):
        stream = client.client.quic.get_next_available_stream_id()
        client.client.quic.send_stream_data(stream, b"\1")
        await served.step()
        client.client.quic.reset_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        await served.step()
        if client.client.closed_with is not None:
            break
    await served.until(lambda: client.client.closed_with is not None)
    assert client.client.closed_with == ErrorCode.H3_EXCESSIVE_LOAD
    assert served.counts["svcdns_shed_total", "misuse"] == 1


@pytest.mark.parametrize("kind", [FrameType.HEADERS, FrameType.SETTINGS], ids=["header fields", "settings"])
async def test_long_incomplete_frame_ends_the_connection(served: Served, client: Http3Client, kind: FrameType) -> None:
    quic = client.client.quic
    stream = quic.get_next_available_stream_id() if kind is FrameType.HEADERS else 14
    prefix = b"" if kind is FrameType.HEADERS else encode_uint_var(0)
    if kind is FrameType.SETTINGS:
        second = Http3Client.__new__(Http3Client)
        second.client = await served.connected("h3")
        quic, stream, client = second.client.quic, 2, second
    quic.send_stream_data(stream, prefix + encode_uint_var(kind) + encode_uint_var(1 << 20) + bytes(MAX_HEADERS + 1))
    await served.until(lambda: client.client.closed_with is not None)
    assert client.client.closed_with == ErrorCode.H3_EXCESSIVE_LOAD


async def test_dynamic_table_of_header_fields_is_refused(served: Served, client: Http3Client) -> None:
    encoder = client.http._local_encoder_stream_id
    assert encoder is not None
    client.client.quic.send_stream_data(encoder, b"\x3f\xe1\x1f" + b"\x41a\x01b")  # capacity 4096, and an insertion
    await served.until(lambda: client.client.closed_with is not None)
    assert client.client.closed_with == ErrorCode.QPACK_ENCODER_STREAM_ERROR


async def test_violation_of_the_framing_closes_the_connection(served: Served, client: Http3Client) -> None:
    stream = client.client.quic.get_next_available_stream_id()
    client.client.quic.send_stream_data(stream, encode_frame(FrameType.DATA, b"x"))
    await served.until(lambda: client.client.closed_with is not None)
    assert client.client.closed_with == ErrorCode.H3_FRAME_UNEXPECTED


async def test_end_sends_goaway_and_waits_for_requests(served: Served, client: Http3Client) -> None:
    served.endpoint.reply = None
    stream = client.request(target(query()))
    await served.until(lambda: served.endpoint.held)
    served.server.finish()
    for _ in range(3):
        await served.step()
    control = client.client.data(3)
    assert control.endswith(encode_frame(FrameType.GOAWAY, encode_uint_var(stream + 4)))
    assert client.client.closed_with is None
    served.endpoint.held[0][1](reply_to(query()))
    fields, _ = await client.response(stream)
    assert fields[b":status"] == b"200"
    await served.until(lambda: client.client.closed_with is not None)
    assert client.client.closed_with == ErrorCode.H3_NO_ERROR
