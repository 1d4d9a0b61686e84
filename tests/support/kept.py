"""Clients that keep their TCP connections and send one query after another, like node-local caches. Half of the queries
come in two pieces.
"""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Self

import dns.message

REPLY_TIMEOUT = 20.0
"""Seconds that a reply may take."""
REST = 0.1
"""Seconds between two queries of a connection, and between two pieces of one, on average."""


class KeptConnections:
    """Connections in their own thread. `answered` is the number of replies, and `lost` has the failures."""

    def __init__(self, count: int, port: int, name: str, *, may_end: bool = False) -> None:
        """Sets up clients that query the address of `name`. If connections `may_end`, a client retries on a new
        connection (RFC 7766 §6.2.4).
        """
        self._count, self._port, self._name, self._may_end = count, port, name, may_end
        self.ended = 0
        self.answered = 0
        self.lost: list[str] = []
        self._over = threading.Event()
        self._open = threading.Semaphore(0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        """Starts the clients, and waits until each client has had its first reply."""
        self._thread.start()
        for _ in range(self._count):
            assert self._open.acquire(timeout=30), self.lost
        return self

    def __exit__(self, *_: object) -> None:
        """Stops each client after its last reply."""
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._keep(number) for number in range(self._count)))

    async def _keep(self, number: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            ident = number
            while not self._over.is_set():
                ident = (ident + self._count) % 65536
                try:
                    async with asyncio.timeout(REPLY_TIMEOUT):
                        await self._ask(reader, writer, ident)
                except (EOFError, ConnectionError):
                    if not self._may_end:
                        raise
                    self.ended += 1
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    continue
                self.answered += 1
                if ident == number + self._count:
                    self._open.release()
                await asyncio.sleep(random.uniform(0, 2 * REST))
            writer.close()
        except (OSError, EOFError, TimeoutError, AssertionError) as error:
            self.lost.append(f"connection {number}: {error!r}")
            self._open.release()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ident: int) -> None:
        packet = dns.message.make_query(self._name, "A", id=ident).to_wire()
        data = len(packet).to_bytes(2, "big") + packet
        if random.random() < 0.5:
            cut = random.randrange(1, len(data))
            writer.write(data[:cut])
            await asyncio.sleep(random.uniform(0, 2 * REST))
            data = data[cut:]
        writer.write(data)
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = dns.message.from_wire(await reader.readexactly(size))
        assert reply.id == ident
        assert reply.answer
