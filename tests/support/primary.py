"""A scripted primary server: answers SOA and AXFR queries over TCP with the messages that the test states."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from svcdns.wire import names
from svcdns.wire.codes import QR, Type
from svcdns.wire.record import Record

Script = Callable[[int, int], Sequence[bytes]]
"""Returns the messages for a query with this id and type. Over UDP, only the first of them is sent."""


def message(ident: int, records: Sequence[Record], question: tuple[bytes, int] | None = None, flags: int = QR) -> bytes:
    """Returns a message of a transfer, with or without a question."""
    out = struct.pack("!6H", ident, flags, int(question is not None), len(records), 0, 0)
    if question is not None:
        out += question[0] + struct.pack("!HH", question[1], 1)
    for record in records:
        out += (
            record.owner
            + struct.pack("!HHIH", record.rtype, record.rclass, record.ttl, len(record.rdata))
            + record.rdata
        )
    return out


def zone_script(zone: str, records: Callable[[], Sequence[Record]], per_message: int = 2) -> Script:
    """Returns a script that serves the present `records`, which begin with the SOA record."""
    apex = names.from_text(zone)

    def script(ident: int, rtype: int) -> Sequence[bytes]:
        found = list(records())
        if rtype == Type.SOA:
            return [message(ident, found[:1], (apex, rtype))]
        found.append(found[0])
        parts = [found[at : at + per_message] for at in range(0, len(found), per_message)]
        return [message(ident, part, None if number else (apex, rtype)) for number, part in enumerate(parts)]

    return script


@contextlib.asynccontextmanager
async def primary(script: Script, seen: Callable[[bytes], object] = bytes) -> AsyncIterator[tuple[str, int]]:
    """Yields the address of a primary server. Calls `seen` with each query."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            size = int.from_bytes(await reader.readexactly(2), "big")
            query = await reader.readexactly(size)
            seen(query)
            _, at = names.read_name(query, 12)
            rtype = int.from_bytes(query[at : at + 2], "big")
            for one in script(int.from_bytes(query[:2], "big"), rtype):
                writer.write(len(one).to_bytes(2, "big") + one)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, script: Script) -> None:
        self._script = script

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        _, at = names.read_name(data, 12)
        rtype = int.from_bytes(data[at : at + 2], "big")
        self._transport.sendto(self._script(int.from_bytes(data[:2], "big"), rtype)[0], addr)


@contextlib.asynccontextmanager
async def udp_primary(script: Script) -> AsyncIterator[tuple[str, int]]:
    """Yields the address of a primary server that answers over UDP only."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(script), ("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")
    finally:
        transport.close()
