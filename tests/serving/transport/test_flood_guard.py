"""The flood guard, which makes the kernel drop packets of busy clients while a receive buffer is full."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from time import perf_counter

import pytest

from svcdns.serving.transport import flood_guard, source_filter
from svcdns.serving.transport.flood_guard import FILLED, MAX_SHED, SHORT, AcceptQueue, FloodGuard, ReceiveBuffer

SIZE = 8 << 20
A, B = b"\x0a\0\0\1", b"\x0a\0\0\2"


class Socket(socket.socket):
    """A socket for which the test chooses how full the receive buffer is."""

    used = dropped = 0
    size = SIZE
    supported = True

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes:  # type: ignore[override]
        assert (level, option) == (socket.SOL_SOCKET, flood_guard.SO_MEMINFO)
        return struct.pack("=9I", self.used, self.size, *[0] * 6, self.dropped)[:size]


class Setup:
    """A flood guard, its socket, and the packets that the guard has reported as dropped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(flood_guard, "STEP", 0.0)
        monkeypatch.setattr(source_filter, "attach", self.attach)
        monkeypatch.setattr(source_filter, "detach", lambda _sock: self.filters.append({}))
        self.sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.filters: list[dict[bytes, float]] = []
        self.dropped: list[int] = []
        self.guard = FloodGuard(ReceiveBuffer(self.sock), self.dropped.append)

    def attach(self, sock: socket.socket, kept: dict[bytes, float]) -> None:
        if not self.sock.supported:
            raise OSError(errno.ENOPROTOOPT, "not supported")
        assert sock is self.sock
        self.filters.append(dict(kept))

    async def step(
        self, used: int, packets: dict[bytes, int], *, dropped: int = 0, shed: dict[bytes, int] | None = None
    ) -> None:
        """Runs one step of the guard after these packets. `used` is the fill level of the buffer, `dropped` and `shed`
        are the worker's drops.
        """
        self.sock.used = used
        self.sock.dropped += dropped
        self.guard.note_shed([client for client, count in (shed or {}).items() for _ in range(count)])
        if self.guard.active:
            self.guard.note([client for client, count in packets.items() for _ in range(count)])
        else:
            self.guard.look(1e9 + len(self.filters))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def steps(self, used: Sequence[int], packets: dict[bytes, int]) -> None:
        """Runs one step for each of these fill levels."""
        for octets in used:
            await self.step(octets, packets)


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    """Returns a guard whose steps follow one another without a pause."""
    return Setup(monkeypatch)


FLOOD = {A: 900, B: 10}


async def test_the_busiest_client_loses_packets(setup: Setup) -> None:
    """While the buffer stays full, the share of the busiest client becomes smaller. The kernel's drops are reported."""
    await setup.steps([FILLED + n for n in range(6)], FLOOD)
    assert setup.guard.active
    assert list(setup.guard.kept) == [A]
    before = setup.guard.kept[A]
    await setup.step(FILLED, FLOOD, dropped=77)
    assert setup.guard.kept[A] < before < 1
    assert sum(setup.dropped) == 77
    setup.guard.stop()
    setup.sock.close()


async def test_the_share_rises_again_and_the_filter_ends(setup: Setup) -> None:
    """When few packets wait, the share rises until the filter is removed."""
    await setup.steps([FILLED + n for n in range(6)], FLOOD)
    share = setup.guard.kept[A]
    await setup.step(SHORT, FLOOD)
    assert setup.guard.kept[A] > share
    for _ in range(200):
        await setup.step(0, {})
        if not setup.guard.active:
            break
    assert not setup.guard.active
    assert setup.filters[-1] == {}
    setup.sock.close()


@pytest.mark.parametrize(
    ("used", "packets"),
    [
        ([FILLED - 1] * 9, FLOOD),
        ([FILLED * 16 >> n for n in range(9)], FLOOD),
        ([FILLED] * 9, {A: 900}),
        ([FILLED] * 9, {A: 500, B: 400}),
        ([FILLED] * 9, {A: 1, B: 0}),
    ],
    ids=["not filled", "shrinks by itself", "one client", "equal clients", "hardly any packets"],
)
async def test_no_filter(setup: Setup, used: list[int], packets: dict[bytes, int]) -> None:
    """The guard adds a filter only for a lasting backlog, and only if some clients are much busier than the others."""
    await setup.steps(used, packets)
    assert not any(setup.filters)
    setup.guard.stop()
    setup.sock.close()


async def test_packets_of_a_lone_client_are_dropped_at_half_of_the_buffer(setup: Setup) -> None:
    await setup.steps([SIZE // 2 + n for n in range(6)], {A: 900})
    assert list(setup.filters[-1]) == [A]
    setup.guard.stop()
    setup.sock.close()


@pytest.mark.parametrize("packets", [{A: 900, B: 30}, {A: 900}], ids=["two clients", "one client"])
async def test_clients_whose_packets_the_worker_drops(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, packets: dict[bytes, int]
) -> None:
    """The kernel drops about the same share of a client's packets as the worker does."""
    monkeypatch.setattr(flood_guard, "STEP", 3600.0)
    guard, kept = setup.guard, []
    guard.note_shed([A] * 600)
    guard.look(1e9)
    for shed in (600, 600, 600, 600, 0, MAX_SHED):
        guard.note([client for client, count in packets.items() for _ in range(count)])
        guard.note_shed([A] * shed)
        guard._step()
        kept.append(guard.kept.get(A, 1))
    third = 1 / 3
    assert kept[:4] == pytest.approx([1, third, third, third**2]), "the third step waits for the effect of the second"
    assert kept[3] == kept[4] < kept[5], "a few dropped packets are no reason to lower the share"
    guard.stop()
    setup.sock.close()


async def test_few_dropped_packets_cause_no_filter(setup: Setup) -> None:
    crowd = {bytes((10, 0, 1, n)): 3 for n in range(200)}
    for packets, shed in ((FLOOD, {A: MAX_SHED}), (crowd, crowd)):
        for _ in range(9):
            await setup.step(0, packets, shed=shed)
        assert not any(setup.filters)
    setup.guard.stop()
    setup.sock.close()


async def test_the_numbers_of_clients_are_bounded(setup: Setup) -> None:
    crowd = {bytes((11, 0, n >> 8, n & 255)): 1 for n in range(flood_guard.MAX_COUNTED)}
    await setup.steps([FILLED + n for n in range(4)], crowd)
    for n in range(source_filter.MAX_CLIENTS + 20):
        await setup.step(FILLED * 2, {bytes((10, 0, 0, n)): 5000 << (n // 4)}, shed=crowd)
        assert len(setup.guard._counts) <= flood_guard.MAX_COUNTED
        assert len(setup.guard._shed) <= flood_guard.MAX_COUNTED
    assert len(setup.guard.kept) == source_filter.MAX_CLIENTS
    setup.guard.stop()
    setup.sock.close()


async def test_the_guard_gives_up_on_a_kernel_without_packet_filters(setup: Setup) -> None:
    setup.sock.supported = False
    await setup.steps([FILLED + n for n in range(6)], FLOOD)
    assert not any(setup.filters)
    setup.guard.stop()
    assert not setup.guard.active
    setup.sock.close()


def test_the_length_of_an_accept_queue() -> None:
    """The length is the number of connections that wait to be accepted. A socket that does not listen has none."""
    with socket.create_server(("127.0.0.1", 0), backlog=9) as server, contextlib.ExitStack() as stack:
        queue = AcceptQueue(server)
        assert queue.usage() == (0, 9, 0)
        for _ in range(3):
            stack.enter_context(socket.create_connection(server.getsockname()))
        assert queue.usage() == (3, 9, 0)
        server.accept()[0].close()
        assert queue.usage() == (2, 9, 0)
    assert queue.usage() == (0, 0, 0)


async def test_the_busiest_client_of_an_accept_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """While connections wait, the kernel drops new connections of the client that has the most."""
    monkeypatch.setattr(flood_guard, "STEP", 3600.0)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server, contextlib.ExitStack() as stack:
        dropped: list[int] = []
        guard = FloodGuard(AcceptQueue(server), dropped.append)
        guard.look(1e9)
        assert not guard.active
        for _ in range(AcceptQueue.filled):
            stack.enter_context(socket.create_connection(server.getsockname()))
        guard.look(2e9)
        assert guard.active
        for _ in range(flood_guard.STEPS):
            guard.note([A] * 30 + [B])
            guard._step()
        assert list(guard.kept) == [A]
        for _ in range(AcceptQueue.filled):
            server.accept()[0].close()
        for _ in range(20):
            guard._step()
        assert not guard.active
        assert guard.kept == {}
        guard.stop()


async def test_queries_that_waited_for_a_reader_are_no_overload(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the buffer is filled when a worker begins to read, nothing is dropped for GRACE seconds."""
    monkeypatch.setattr(Socket, "used", flood_guard.FILLED)
    setup = Setup(monkeypatch)
    begun = perf_counter()
    setup.guard.look(begun + flood_guard.GRACE / 2)
    assert not setup.guard.active
    setup.guard.look(begun + 2 * flood_guard.GRACE)
    assert setup.guard.active
    setup.guard.stop()
    setup.sock.close()
