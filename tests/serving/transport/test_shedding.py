"""UDP readers that keep replies while the kernel takes none (docs/plugins/shed.md)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any

import dns.message
import pytest

from svcdns.serving.transport import shedding
from svcdns.serving.transport.shedding import DEPTH, SheddingReader
from svcdns.serving.transport.udp import SocketErrors
from tests.support.responder import ResponderSetup, bound
from tests.support.world import Clock, counted

SERVER = "dns://:53"


class FullSocket:
    """A UDP socket whose send buffer is full while `error` is set."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.error = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendmsg(self, *arguments: Any) -> int:
        if self.error:
            raise OSError(self.error, "full")
        return self._sock.sendmsg(*arguments)


class Served:
    """A shedding reader on a socket that can be full, and a client."""

    def __init__(self) -> None:
        self.place = ResponderSetup("udp")
        self.client, self.server = bound(), bound()
        self.client.setblocking(True)
        self.client.settimeout(10)
        self.sock = FullSocket(self.server)
        errors = SocketErrors(self.place.counters, SERVER, Clock())
        self.reader = SheddingReader(self.sock, self.place.responder, errors, wildcard=False)  # type: ignore[arg-type]
        real = self.reader.batch._sendmmsg  # type: ignore[attr-defined]
        self.reader.batch._sendmmsg = lambda *call: -1 if self.sock.error else real(*call)  # type: ignore[attr-defined]

    def ask(self, *idents: int) -> None:
        for ident in idents:
            wire = dns.message.make_query("a.b.", "A", id=ident).to_wire()
            self.client.sendto(wire, self.server.getsockname())
        while self.reader.drain():
            pass
        self.reader.batch.flush()

    def idents(self, count: int) -> list[int]:
        return [int.from_bytes(self.client.recv(512)[:2], "big") for _ in range(count)]

    def dropped(self) -> dict[str, float]:
        found = counted(self.place.counters)
        return {key[2]: value for key, value in found.items() if key[0] == "coredns_shed_dropped_total"}


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.close()
    made.client.close()


async def test_the_newest_reply_is_sent_first(served: Served) -> None:
    """Replies that the kernel did not take are sent when it takes replies again. Nothing is counted as an error."""
    served.sock.error = errno.EAGAIN
    served.ask(1, 2, 3)
    await asyncio.sleep(0)
    served.sock.error = 0
    async with asyncio.timeout(10):
        while served.reader._stack:
            await asyncio.sleep(shedding.RETRY)
    assert served.idents(3) == [3, 2, 1]
    assert served.dropped() == {}
    assert not any(key[0] == "svcdns_socket_errors_total" for key in counted(served.place.counters))


async def test_queries_are_dropped_while_the_stack_is_full(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest reply goes when another one comes. New queries are not handled."""
    monkeypatch.setattr(shedding, "DEPTH", 2)
    served.sock.error = errno.ENOBUFS
    served.ask(1, 2, 3)
    assert served.dropped() == {"response": 1}
    served.ask(4, 5)
    assert served.dropped() == {"response": 1, "query": 2}
    served.sock.error = 0
    served.reader.finish()
    assert served.idents(2) == [3, 2]


async def test_other_errors(served: Served) -> None:
    """A reply that cannot be sent for another reason is dropped, and the error is counted."""
    served.sock.error = errno.EPERM
    served.ask(1)
    assert served.dropped() == {"response": 1}
    assert counted(served.place.counters)["svcdns_socket_errors_total", SERVER, "send", "EPERM"] == 1


async def test_the_end(served: Served) -> None:
    """Replies that still wait when the reader stops are counted, and no timer remains."""
    served.sock.error = errno.EAGAIN
    served.ask(1, 2)
    served.reader.finish()
    assert served.dropped() == {"response": 2}
    assert served.reader._timer is None or served.reader._timer.cancelled()
    assert DEPTH == 1024
