"""The queries that servers write as dnstap messages, from sockets and from files."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from svcdns.plugins.dnstap.encoding import Envelope, number, octets, socket_fields
from svcdns.shadow import dnstap_source
from svcdns.shadow.asking import Server
from svcdns.shadow.dnstap_source import LiveQueries, OwnSockets, is_dnstap, is_socket, queries, reading
from svcdns.shadow.errors import ShadowError
from svcdns.wire.frame_streams import ControlType, WriterHandshake, control
from tests.support.outside import query

PACKET = query()
STARTED = control(ControlType.START, (b"protobuf:dnstap.Dnstap",))
WITHOUT_ID = b"\0\0" + PACKET[2:]
NEEDS_FULL = "a message without the packet of the query (the server needs the option 'full')"


def frame(kind: int = 5, packet: bytes = PACKET, port: int = 40000) -> bytes:
    """Returns the data frame of a message with a query."""
    body = number(1, kind) + socket_fields(1, ("192.0.2.1", port), None) + (octets(10, packet) if packet else b"")
    return Envelope(b"i", b"v", b"").frame(body)


@pytest.mark.parametrize(
    ("frames", "expected", "left_out"),
    [
        pytest.param(frame() + frame(1), [WITHOUT_ID, WITHOUT_ID], {}, id="of clients"),
        pytest.param(frame(6) + frame(7), [], {}, id="other types"),
        pytest.param(frame(packet=b""), [], {NEEDS_FULL: 1}, id="without packets"),
        pytest.param(frame(packet=b"abc"), [], {"shorter than a header": 1}, id="short"),
        pytest.param(frame(packet=PACKET[:2] + b"\x80" + PACKET[3:]), [], {"a reply, or no query by its opcode": 1}, id="reply"),
        pytest.param(b"\0\0\0\3abc", [], {"a malformed dnstap message": 1}, id="malformed"),
    ],
)  # fmt: skip
def test_a_file(frames: bytes, expected: list[bytes], left_out: dict[str, int]) -> None:
    content, counts = STARTED + frames + control(ControlType.STOP), Counter[str]()
    assert is_dnstap(content)
    assert list(queries(content, counts)) == expected
    assert counts == left_out


def test_a_malformed_file() -> None:
    with pytest.raises(ShadowError, match="cannot be read"):
        list(queries(bytes(4) + b"\xff\xff\xff\xff", Counter()))


def test_places() -> None:
    assert [is_socket(text) for text in ("unix:///a", "tcp://127.0.0.1:1", "/a", "a.log")] == [True, True, False, False]


class Writer(asyncio.Protocol):
    """A server that writes frames, and then STOP."""

    def __init__(self, frames: bytes) -> None:
        self.frames, self.handshake = frames, WriterHandshake()
        self.finished = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.handshake.first)

    def data_received(self, data: bytes) -> None:
        out = self.handshake.receive(data)
        if out:
            self.transport.write(out + self.frames + self.handshake.last)
        if self.handshake.finished:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.finished.set()


async def test_a_server_connects(tmp_path: Path) -> None:
    loop, own = asyncio.get_running_loop(), {(bytes((192, 0, 2, 1)), 5)}
    async with reading(f"unix://{tmp_path / 's'}", own, connects=False) as found:
        _, writer = await loop.create_unix_connection(lambda: Writer(frame(port=5) + frame()), str(tmp_path / "s"))
        assert await found.take(10) == WITHOUT_ID
        await asyncio.wait_for(writer.finished.wait(), 10)
        assert writer.handshake.finished
        assert await found.take(0) is None
        assert not found.left_out


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
async def test_a_server_that_listens(scheme: str, tmp_path: Path) -> None:
    """The queries end with the connection."""
    loop, writers = asyncio.get_running_loop(), list[Writer]()

    def make() -> Writer:
        writers.append(Writer(frame()))
        return writers[-1]

    if scheme == "unix":
        server = await loop.create_unix_server(make, str(tmp_path / "s"))
        place = f"unix://{tmp_path / 's'}"
    else:
        server = await loop.create_server(make, "127.0.0.1", 0)
        place = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with reading(place, (), connects=True) as found:
        assert [await found.take(10), await found.take(10), await found.take(10)] == [WITHOUT_ID, None, None]
        await asyncio.wait_for(writers[0].finished.wait(), 10)
    server.close()


async def test_a_socket_that_cannot_be_opened(tmp_path: Path) -> None:
    for connects in (True, False):
        with pytest.raises(ShadowError, match="cannot be opened"):
            async with reading(f"unix://{tmp_path / 'missing' / 's'}", (), connects=connects):
                pass


async def test_the_number_of_waiting_queries_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnstap_source, "MAX_WAITING", 2)
    found = LiveQueries(())
    for _ in range(3):
        found.add(frame()[4:])
    assert found.left_out == {"more queries than could be asked": 1}


def test_the_sockets_of_this_process() -> None:
    server = Server("127.0.0.1", 53, 1, 1)
    assert (b"", 0) not in OwnSockets(server)
    server._tcp_names.append(("::ffff:192.0.2.1", 7))
    assert (bytes((192, 0, 2, 1)), 7) in OwnSockets(server)
