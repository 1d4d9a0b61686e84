"""Fuzzing targets for QUIC: datagrams of any sender, and frames of a client that has the keys of its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from aioquic.tls import Epoch

from svcdns.serving.transport.quic import TRANSPORT
from tests.fuzz.target import Target
from tests.support.quic_server import QuicClient, Served, query


def _run(act: Callable[[Served], Awaitable[None]]) -> None:
    async def run() -> None:
        served = Served(TRANSPORT)
        try:
            await act(served)
        finally:
            served.close()

    asyncio.run(run())


def run_datagrams(data: bytes) -> None:
    """Sends an input to a listener, by itself and written over the first datagram of a client."""

    async def act(served: Served) -> None:
        client = served.client()
        (first, _), *_ = client.quic.datagrams_to_send(1.0)
        at = data[0] if data else 0
        for datagram in (data, first[:at] + data[1:] + first[at + len(data) - 1 :]):
            client.socket.send(datagram[:4000])
            served.server.drain()
            for _ in range(4):
                await asyncio.sleep(0)
        assert len(served.server._ids) <= 4

    _run(act)


def run_frames(data: bytes) -> None:
    """Sends a packet with an input as its frames. Afterwards, another client gets a reply."""

    async def act(served: Served) -> None:
        send_frames(await served.connected(), data)
        await served.step()
        other = await served.connected()
        stream = other.ask(query())
        await served.until(lambda: other.ended(stream))
        assert len(served.server._ids) <= 20

    _run(act)


def send_frames(client: QuicClient, frames: bytes) -> None:
    """Sends a packet with these octets as its frames, encrypted with the client's keys."""
    quic = client.quic
    header = bytes((0x43,)) + quic._peer_cid.cid + quic._packet_number.to_bytes(4, "big")
    packet = quic._cryptos[Epoch.ONE_RTT].encrypt_packet(header, frames[:1100].ljust(24, b"\0"), quic._packet_number)
    quic._packet_number += 1
    client.socket.send(packet)


def _datagrams() -> Iterator[bytes]:
    yield from (b"", bytes(1200), b"\xc3\0\0\0\1\x08" + bytes(1200), b"\x40" + bytes(40))
    yield from (bytes((at, 0xFF)) for at in range(0, 40, 8))


def _frames() -> Iterator[bytes]:
    for kind in (2, 4, 5, 6, 8, 0x0F, 0x10, 0x12, 0x15, 0x18, 0x19, 0x1A, 0x1C, 0x1F):
        yield bytes((kind,)) + b"\x40\x04\x80\x01\0\0\x10" + bytes(20)


TARGETS: Final = (
    Target("quic-datagrams", run_datagrams, _datagrams, max_octets=1500),
    Target("quic-frames", run_frames, _frames, max_octets=400),
)
