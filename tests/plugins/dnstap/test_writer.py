"""The writer of *dnstap*: queue, drops, connections and the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from svcdns.plugins.dnstap import writer as module
from svcdns.plugins.dnstap.encoding import Envelope
from svcdns.plugins.dnstap.writer import Writer
from svcdns.telemetry.counters import Counters
from tests.support import world
from tests.support.dnstap_reader import DnstapReader

FRAME = Envelope(b"i", b"v", b"").frame(b"\x08\x05")
LOG = logging.getLogger("svcdns.plugin.dnstap")


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(module, "FLUSH_INTERVAL", 0.01)


def made(path: Path, counters: Counters, limit: int = 100) -> Writer:
    def connect(make: Callable[[], asyncio.Protocol]) -> Awaitable[object]:
        return asyncio.get_running_loop().create_unix_connection(make, str(path))

    writer = Writer("here", limit, connect, counters, LOG, reports=True)
    writer.start()
    return writer


def total(counters: Counters, name: str) -> float:
    return world.counted(counters).get((f"svcdns_dnstap_{name}", "here"), 0)


async def test_messages_arrive_and_the_end_is_announced(tmp_path: Path) -> None:
    counters = Counters()
    async with DnstapReader(tmp_path / "s") as reader:
        writer = made(tmp_path / "s", counters)
        writer.put(FRAME, 1)
        writer.put(FRAME + FRAME, 2)
        await reader.messages_of(3)
        writer.put(FRAME, 1)
        await writer.finish()
        await reader.until(lambda: reader.finished)
        assert len(reader.messages) == 4
        assert total(counters, "messages_total") == 4
        assert total(counters, "dropped_messages_total") == total(counters, "connections") == 0


async def test_messages_wait_for_a_reader(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One failed connection is logged, however many fail."""
    writer = made(tmp_path / "s", Counters())
    writer.put(FRAME, 1)
    async with asyncio.timeout(10):
        while not caplog.messages:
            await asyncio.sleep(0)
    async with DnstapReader(tmp_path / "s") as reader:
        await reader.messages_of(1)
        await writer.finish()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("No connection to dnstap endpoint: here: ")


async def test_a_full_queue_refuses_messages(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    writer = made(tmp_path / "s", counters, limit=3)
    writer.put(FRAME + FRAME, 2)
    assert not writer.refuses
    writer.put(FRAME, 1)
    assert writer.refuses
    writer.drop(1)
    writer.tick()
    assert not [line for line in caplog.messages if "Dropped" in line]
    writer._reported_at -= module.REPORT_INTERVAL
    writer.tick()
    assert caplog.messages[-1] == "Dropped dnstap messages: 1"
    async with DnstapReader(tmp_path / "s") as reader:
        await reader.messages_of(3)
        assert not writer.refuses
        await writer.finish()
    assert total(counters, "dropped_messages_total") == 1


async def test_a_reader_that_hangs(tmp_path: Path) -> None:
    """The queue fills up, and the end comes after the time limit. Each message is written or dropped."""
    counters = Counters()
    async with DnstapReader(tmp_path / "s") as reader:
        reader.hangs = True
        writer = made(tmp_path / "s", counters, limit=1000)
        big, put = Envelope(b"i" * 1000, b"v", b"").frame(b"\x08\x05"), 0
        async with asyncio.timeout(10):
            while not writer.refuses:
                for _ in range(50):
                    if not writer.refuses:
                        writer.put(big, 1)
                        put += 1
                await asyncio.sleep(0)
        await writer.finish()
    written, dropped = total(counters, "messages_total"), total(counters, "dropped_messages_total")
    assert put > 1000
    assert dropped >= 1000
    assert written >= put - 1000


async def test_a_new_connection_after_a_loss(tmp_path: Path) -> None:
    async with DnstapReader(tmp_path / "s") as reader:
        writer = made(tmp_path / "s", Counters())
        writer.put(FRAME, 1)
        await reader.messages_of(1)
    (tmp_path / "s").unlink(missing_ok=True)
    async with DnstapReader(tmp_path / "s") as reader:
        await reader.until(lambda: reader.connections)
        writer.put(FRAME, 1)
        await reader.messages_of(1)
        await writer.finish()


async def test_a_writer_without_readers_counts_no_drops(tmp_path: Path) -> None:
    counters = Counters()
    writer = made(tmp_path / "s", counters)
    writer.admit(False)
    assert writer.refuses
    writer.drop(1)
    assert total(counters, "dropped_messages_total") == 0
    writer.admit(True)
    assert not writer.refuses
    await writer.finish()
