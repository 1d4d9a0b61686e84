"""Servers for the row `floor` of `bench.attacks`: the latency that the machine itself causes.

`python -m bench.floor echo FOLDER` returns each query over UDP, TCP and TLS as a reply, for the well-behaved clients.
FOLDER has `cert.pem` and `key.pem`. `python -m bench.floor sink` is the target of the attacker. `sink` reads nothing
except the first message of a TLS handshake. Both print the port for UDP and TCP, and the port for TLS. Both end when
standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, cast

from bench.processes import end_with_parent, free_ports

_QR = 0x80
_HELLO = 400
"""The octets after which the sink takes the first message of a handshake as complete."""


class _Datagrams(asyncio.DatagramProtocol):
    """Returns each datagram with the bit QR set."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(_reply(data), addr)


def _reply(query: bytes) -> bytes:
    return query[:2] + bytes((query[2] | _QR,)) + query[3:]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Returns each message of a connection with the bit QR set."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            length = await reader.readexactly(2)
            writer.write(length + _reply(await reader.readexactly(int.from_bytes(length, "big"))))
    writer.close()


async def _refuse_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads the first message of a handshake, sends one octet, and closes the connection."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        await reader.readexactly(_HELLO)
        writer.write(b"\0")
    writer.close()


async def echo(folder: Path) -> None:
    """Runs the server `echo` until standard input ends."""
    port, tls_port = free_ports(2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Datagrams, local_addr=("127.0.0.1", port))
    await asyncio.start_server(_echo, "127.0.0.1", port)
    await asyncio.start_server(_echo, "127.0.0.1", tls_port, ssl=context)
    await _until_stopped(port, tls_port)


async def sink() -> None:
    """Runs the server `sink` until standard input ends."""
    port, tls_port = free_ports(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread, socket.socket() as unaccepted:
        unread.bind(("127.0.0.1", port))
        unaccepted.bind(("127.0.0.1", port))
        unaccepted.listen(4096)
        await asyncio.start_server(_refuse_handshake, "127.0.0.1", tls_port)
        await _until_stopped(port, tls_port)


async def _until_stopped(port: int, tls_port: int) -> None:
    print(port, tls_port, flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, stopped.set)
    await stopped.wait()


def main() -> None:
    """Runs the server that the command line names."""
    end_with_parent()
    asyncio.run(echo(Path(sys.argv[2])) if sys.argv[1] == "echo" else sink())


if __name__ == "__main__":
    main()
