"""The cost of malformed and unusual packets: `python -m bench.packet_costs [--times N]`.

The program starts svcdns with one worker and a zone of *file*, and sends each packet N times over UDP, TCP and TLS. The
program prints the worker's CPU time for one packet, and the ratio to an ordinary query without a stored reply.
"""

from __future__ import annotations

import argparse
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

from bench.processes import children, free_ports, kill_tree, until

TRANSPORTS = ("udp", "tcp", "tls")
TIMEOUT = 5.0
COREFILE = """
example.test:{port} {{
    bind 127.0.0.1
    file {folder}/zone
}}
tls://example.test:{tls} {{
    bind 127.0.0.1
    tls {folder}/server.crt {folder}/server.key
    file {folder}/zone
}}
"""
ZONE = "@ 60 IN SOA ns root 7 2 3 4 30\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\nwww 60 IN A 192.0.2.2\n"
NAME = b"\3www\7example\4test\0"
QUESTION = NAME + b"\0\1\0\1"
PLAIN = struct.pack("!6H", 0, 0x0100, 1, 0, 0, 0) + QUESTION
"""A query for the address of `www.example.test.`."""
ORDINARY = PLAIN + b"\0"
"""The same query with one more octet. Its reply is not stored, so that each query goes through the plugins."""


def _message(*records: bytes, flags: int = 0x0100) -> bytes:
    return struct.pack("!6H", 0, flags, 1, 0, 0, len(records)) + QUESTION + b"".join(records)


def _record(owner: bytes, rdata: bytes = b"") -> bytes:
    return owner + struct.pack("!HHIH", 65280, 1, 0, len(rdata)) + rdata


def _options(*options: tuple[int, bytes], count: int = 1) -> bytes:
    rdata = b"".join(struct.pack("!HH", code, len(data)) + data for code, data in options) * count
    return b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(rdata)) + rdata


def _pointers(number: int) -> bytes:
    """Returns a query with two additional records. The owner of the second one is a chain of compression pointers."""
    begin = len(PLAIN) + 11
    chain = b"".join(struct.pack("!H", 0xC000 | begin + 2 * at) for at in range(number))
    return _message(_record(b"\0", b"\0\0" + chain), _record(chain[-2:]))


COSTLY: dict[str, Callable[[bool], bytes]] = {
    "a chain of pointers": lambda stream: _pointers(7000 if stream else 240),
    "many options": lambda stream: _message(_options((65001, b""), count=16000 if stream else 1000)),
    "512 options": lambda _: _message(_options((65001, b""), count=512)) + b"\0",
    "many cookies": lambda stream: _message(_options((10, bytes(8)), count=5000 if stream else 300)) + b"\0",
    "a cookie": lambda _: _message(_options((10, bytes(range(8))))),
    "octets after the message": lambda stream: PLAIN + bytes(60000 if stream else 4000),
    "two long names": lambda _: _message(_record(b"\1a" * 127 + b"\0"), _record(b"\1a" * 127 + b"\0")),
    "a question that is cut off": lambda _: PLAIN[:-1],
    "NOTIFY": lambda _: struct.pack("!6H", 0, 0x2000, 1, 0, 0, 0) + QUESTION,
    "another class": lambda _: PLAIN[:-1] + b"\3",
    "EDNS version 1": lambda _: _message(b"\0" + struct.pack("!HHIH", 41, 1232, 1 << 16, 0)),
}
"""Packets by their description. Each function gets True for TCP and TLS, where a packet may be longer."""


class Connection:
    """A client with one socket. Each packet gets its own message id."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, *, stream: bool = True) -> None:
        """Connects to a port on loopback: over TLS if `context` is given, over UDP if `stream` is false, otherwise over
        TCP.
        """
        self._stream, self._received = stream, b""
        if stream:
            sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(("127.0.0.1", port))
        sock.settimeout(TIMEOUT)
        self._sock = sock if context is None else context.wrap_socket(sock, server_hostname="dns.test")

    def send(self, *packets: bytes) -> None:
        """Sends packets. Over TCP and TLS, each is sent after its length, and all in one write."""
        if self._stream:
            self._sock.sendall(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))
        else:
            for packet in packets:
                self._sock.send(packet)

    def receive(self) -> bytes:
        """Returns the next message. Raises OSError if none arrives in time, or if the connection ends."""
        if not self._stream:
            return self._sock.recv(65535)
        while len(self._received) < 2 or len(self._received) < 2 + int.from_bytes(self._received[:2], "big"):
            data = self._sock.recv(65535)
            if not data:
                raise ConnectionResetError("the connection was closed")
            self._received += data
        end = 2 + int.from_bytes(self._received[:2], "big")
        message, self._received = self._received[2:end], self._received[end:]
        return message

    def repeat(self, packet: bytes, times: int) -> None:
        """Sends a packet `times` times, and waits for the reply after each one."""
        for number in range(times):
            self.send(struct.pack("!H", number) + packet[2:])
            self.receive()

    def close(self) -> None:
        """Closes the socket."""
        self._sock.close()


def worker_time(pid: int) -> float:
    """Returns the CPU seconds of a server's only worker (`/proc/PID/schedstat`)."""
    (worker,) = [child for name, child in children(pid).items() if name.startswith("worker")]
    return int(Path(f"/proc/{worker}/schedstat").read_text().split()[0]) / 1e9


def ratios(pid: int, connection: Connection, *, stream: bool, times: int) -> tuple[float, dict[str, float]]:
    """Returns the CPU seconds of an ordinary query, and the ratio of each costly packet to it.

    `pid` is the process id of the server, which must have one worker.
    """

    def cost(packet: bytes) -> float:
        begun = worker_time(pid)
        connection.repeat(packet, times)
        return (worker_time(pid) - begun) / times

    cost(ORDINARY)
    ordinary = cost(ORDINARY)
    return ordinary, {name: cost(make(stream)) / ordinary for name, make in COSTLY.items()}


@contextmanager
def _server(folder: Path) -> Iterator[tuple[int, dict[str, Callable[[], Connection]]]]:
    authority = trustme.CA()
    leaf = authority.issue_cert("dns.test")
    leaf.cert_chain_pems[0].write_to_path(folder / "server.crt")
    leaf.private_key_pem.write_to_path(folder / "server.key")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port, tls = free_ports(2)
    (folder / "zone").write_text(ZONE)
    (folder / "Corefile").write_text(COREFILE.format(port=port, tls=tls, folder=folder))
    command = [sys.executable, "-m", "svcdns", "-conf", str(folder / "Corefile")]
    connect = {
        "udp": lambda: Connection(port, stream=False),
        "tcp": lambda: Connection(port),
        "tls": lambda: Connection(tls, context),
    }

    def answers() -> bool:
        try:
            with closing(connect["tls"]()) as connection:
                connection.repeat(PLAIN, 1)
        except OSError:
            return False
        return True

    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "GOMAXPROCS": "1"}, start_new_session=True
        )
    try:
        until("the first answer", answers, TIMEOUT * 3)
        yield process.pid, connect
    finally:
        kill_tree(process)


def main() -> int:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.packet_costs", description=__doc__)
    parser.add_argument("--times", type=int, default=1000, help="how often each packet is sent")
    times = parser.parse_args().times
    found: dict[str, dict[str, float]] = {}
    ordinary: dict[str, float] = {}
    with TemporaryDirectory() as folder, _server(Path(folder)) as (pid, connect):
        for transport in TRANSPORTS:
            with closing(connect[transport]()) as connection:
                ordinary[transport], found[transport] = ratios(pid, connection, stream=transport != "udp", times=times)
    print(f"{'CPU time of the worker':32}" + "".join(f"{transport:>10}" for transport in TRANSPORTS))
    print(f"{'an ordinary query':32}" + "".join(f"{ordinary[t] * 1e6:>7.0f} us" for t in TRANSPORTS))
    for name in COSTLY:
        print(f"{name:32}" + "".join(f"{found[t][name]:>8.1f} x" for t in TRANSPORTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
