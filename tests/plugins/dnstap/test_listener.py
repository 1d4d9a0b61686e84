"""`dnstap listen`: readers that connect to the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from svcdns.plugins.dnstap import listener as module
from svcdns.plugins.dnstap import watch, writer
from svcdns.plugins.dnstap.connecting import Connector
from svcdns.plugins.dnstap.data import drops_key, inlet_key
from svcdns.plugins.dnstap.encoding import Envelope
from svcdns.plugins.dnstap.options import Endpoint
from svcdns.plugins.dnstap.writer import Writer
from svcdns.telemetry.counters import Counters
from svcdns.wire.frame_streams import ReaderHandshake
from tests.plugins.dnstap.test_writer import FRAME, LOG
from tests.support import world

PAYLOAD = FRAME[4:]


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(writer, "FLUSH_INTERVAL", 0.01)
    monkeypatch.setattr(module, "RETRY", 0.01)


class Place:
    """The control process with a listener, and one worker."""

    def __init__(self, path: Path) -> None:
        self.endpoint = Endpoint("unix", path=str(path), listens=True)
        self.data: dict[str, bytes] = {}
        self.calls: dict[str, list[object]] = {}
        self.counters = Counters()
        environment = world.environment(
            data=lambda _plugin, key: self.data.get(key),
            on_data=lambda _plugin, key, call: self.calls.setdefault(key, []).append(call),
        )
        connector = Connector(self.endpoint, environment)
        self.writer = Writer("here", 10000, connector.connect, self.counters, LOG, reports=False)
        connector.follow(self.writer)

    async def publish(self, changed: Mapping[str, bytes]) -> None:
        for key, payload in changed.items():
            self.data[key] = payload
            for call in self.calls.get(key, ()):
                call(payload)  # type: ignore[operator]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.ensure_future(watch(self.endpoint, self.publish))
        self.writer.start()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.writer.finish()


class Reader:
    """A reader that connects to the listener."""

    def __init__(self, path: str) -> None:
        self.path, self.handshake = path, ReaderHandshake()
        self.payloads: list[bytes] = []

    async def connect(self) -> None:
        async with asyncio.timeout(10):
            while True:
                try:
                    self.reader, self.writer = await asyncio.open_unix_connection(self.path)
                    break
                except OSError:
                    await asyncio.sleep(0.001)
        await self.read()

    async def close(self) -> None:
        """Closes the connection."""
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def read(self) -> None:
        """Reads once. Leaves the connection open at its end."""
        async with asyncio.timeout(10):
            payloads, out = self.handshake.receive(await self.reader.read(65536))
        self.payloads += payloads
        self.writer.write(out)


async def until_wanted(writer: Writer) -> None:
    async with asyncio.timeout(10):
        while writer.refuses:
            await asyncio.sleep(0.001)


async def test_readers_get_the_messages_from_their_connection_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "s")
    async with place.running():
        assert place.writer.refuses
        one, two = Reader(place.endpoint.path), Reader(place.endpoint.path)
        await one.connect()
        await until_wanted(place.writer)
        assert place.data[inlet_key(place.endpoint)]
        place.writer.put(FRAME + FRAME, 2)
        while len(one.payloads) < 2:
            await one.read()
        await two.connect()
        await two.read()
        place.writer.put(FRAME, 1)
        while not two.payloads:
            await two.read()
        while len(one.payloads) < 3:
            await one.read()
        assert (one.payloads, two.payloads) == ([PAYLOAD] * 3, [PAYLOAD])
        await one.close()
        await two.close()
        async with asyncio.timeout(10):
            while not place.writer.refuses:
                await asyncio.sleep(0.001)
        assert place.data[inlet_key(place.endpoint)] == b""


async def test_the_end_is_announced(tmp_path: Path) -> None:
    place, reader = Place(tmp_path / "s"), Reader(str(tmp_path / "s"))
    async with place.running() as task:
        await reader.connect()
        await until_wanted(place.writer)
        task.cancel()
        while not reader.handshake.finished:
            await reader.read()
    await reader.close()
    assert reader.handshake.finished


async def test_a_reader_that_hangs_loses_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drops are reported to the worker, which counts them."""
    monkeypatch.setattr(module, "READER_OCTETS", 1)
    monkeypatch.setattr(module, "REPORT_INTERVAL", 0.01)
    monkeypatch.setattr(module, "FINISH_TIMEOUT", 0.01)
    place, reader = Place(tmp_path / "s"), Reader(str(tmp_path / "s"))
    big = Envelope(b"i" * 50000, b"v", b"").frame(b"\x08\x05")
    async with place.running():
        await reader.connect()
        await until_wanted(place.writer)
        name = ("svcdns_dnstap_dropped_messages_total", "here")
        async with asyncio.timeout(10):
            while not world.counted(place.counters).get(name):
                if not place.writer.refuses:
                    place.writer.put(big, 1)
                await asyncio.sleep(0)
        assert int(place.data[drops_key(place.endpoint)]) > 0
        await reader.close()


async def test_an_address_that_cannot_be_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged once, and the address is tried again."""
    place = Place(tmp_path / "missing" / "s")
    async with place.running():
        async with asyncio.timeout(10):
            while not caplog.messages:
                await asyncio.sleep(0.001)
        (tmp_path / "missing").mkdir()
        reader = Reader(place.endpoint.path)
        await reader.connect()
        await until_wanted(place.writer)
        await reader.close()
    assert [line for line in caplog.messages if line.startswith("Failed to start dnstap listener: unix://")] == [
        caplog.messages[0]
    ]
