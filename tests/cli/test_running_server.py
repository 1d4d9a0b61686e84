"""Comparing an explanation with the answers of a running server."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from svcdns.cli.errors import CannotRun
from svcdns.cli.running_server import compared
from svcdns.conformance.client import NoReply
from svcdns.inspection.explanation import ExplainedQuery
from svcdns.wire.codes import Rcode, Type


class Server(asyncio.DatagramProtocol):
    """A server that answers every query with an rcode and no records, and with an extended error if one is given."""

    def __init__(self, rcode: int, extended: int | None) -> None:
        self.rcode, self.extended = rcode, extended

    def connection_made(self, transport: Any) -> None:
        """Keeps the transport."""
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answers one query."""
        end = data.index(b"\0", 12) + 5
        option = b"" if self.extended is None else struct.pack("!HHH", 15, 2, self.extended)
        opt = b"\0" + struct.pack("!HHIH", Type.OPT, 1232, 0, len(option)) + option
        header = struct.pack("!HHHHHH", int.from_bytes(data[:2], "big"), 0x8180 | self.rcode, 1, 0, 0, 1)
        self.transport.sendto(header + data[12:end] + opt, addr)


def explained(rcode: str) -> ExplainedQuery:
    return ExplainedQuery("a.test.", "A", ".", rcode, [], "why", [], [], [])


@pytest.mark.parametrize(
    ("rcode", "extended", "cause"),
    [
        (Rcode.NXDOMAIN, None, ""),
        (Rcode.NXDOMAIN, 3, "(the server's state of the cluster is old (Stale Answer)"),
        (Rcode.SERVFAIL, 22, "no upstream of the server answers"),
        (Rcode.SERVFAIL, None, "the server answers a.test. with SERVFAIL and 0 records, but this Corefile"),
    ],
)
async def test_the_cause_is_that_of_the_reply(rcode: int, extended: int | None, cause: str) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(rcode, extended), ("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        found, lines = await compared(f"127.0.0.1:{port}", [explained("NXDOMAIN")], Type.A)
    finally:
        transport.close()
    assert found.startswith(cause) if cause else found == ""
    assert lines[0].startswith("a.test.: ")


async def test_a_failure_that_the_explanation_has_too_keeps_its_cause() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(Rcode.SERVFAIL, 22), ("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        found, lines = await compared(f"127.0.0.1:{port}", [explained("SERVFAIL")], Type.A)
    finally:
        transport.close()
    assert (found, lines) == ("", ["a.test.: SERVFAIL, extended error 22"])


async def test_a_wrong_address() -> None:
    with pytest.raises(CannotRun, match="--server"):
        await compared("127.0.0.1:x", [], Type.A)


async def test_a_server_that_does_not_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(self: object, packet: bytes) -> None:
        raise NoReply("no reply over UDP")

    monkeypatch.setattr("svcdns.conformance.client.Server.udp", silent)
    with pytest.raises(CannotRun, match=r"the server 127\.0\.0\.1:9 does not answer a\.test\.: no reply over UDP"):
        await compared("127.0.0.1:9", [explained("NXDOMAIN")], Type.A)
