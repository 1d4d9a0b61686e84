"""Clients that misbehave, for `bench.attacks`.

The command is `python -m bench.attackers ATTACK SECONDS PORT TLS_PORT HTTPS_PORT GRPC_PORT`. The attacks come from one
address, ATTACKER, and go to a server at 127.0.0.1. Duration, connections and rates of the attacks are bounded. The
program prints one line when the attack is in progress.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import selectors
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import NamedTuple

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated

from bench import http_attackers
from bench.cluster import EXTERNAL_ZONE, ZONE, Cluster, namespace
from bench.http_attackers import ATTACKER
from bench.processes import end_with_parent

FLOOD_RATE = 100_000
"""Queries a second of the floods over UDP."""
HUGE_RATE = 5_000
SLOW_CONNECTIONS = 2_000
UNREAD_CONNECTIONS = 200
OUTSIDE_RATE = 20_000
HALF_OPEN = 1_000
HANDSHAKES_AT_ONCE = 32
IDLE_TLS = 4_096
IDLE_TLS_EVERY = 5.0
"""The seconds between two queries on an idle TLS connection, so that the server does not close it."""
QUIC_CLIENTS = 400
QUIC_RATE = 5_000
QUIC_CONNECTIONS = 20
QUIC_STREAMS = 50
CONNECTS_AT_ONCE = 3_000
CONNECT_RATE = 20_000
TICK = 0.001
LATE = 0.02
"""A packet of a flood that is late by more than this number of seconds is not sent."""
_PART = 512
"""Queries that are encoded together."""


class Target:
    """The ports of the attacked server, and the time when the attack ends."""

    def __init__(self, seconds: float, port: int, tls_port: int, https_port: int, grpc_port: int) -> None:
        self.port, self.tls_port, self.https_port, self.grpc_port = port, tls_port, https_port, grpc_port
        self._seconds, self.ends = seconds, math.inf

    def begin(self) -> None:
        """Prints that the attack is in progress, and sets its end."""
        self.ends = time.monotonic() + self._seconds
        print("in progress", flush=True)

    @property
    def over(self) -> bool:
        """Returns True if the attack must end."""
        return time.monotonic() >= self.ends


def main() -> None:
    """Runs the attack that the command line names."""
    end_with_parent()
    name, seconds, *ports = sys.argv[1:]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    ATTACKS[name].run(Target(float(seconds), *map(int, ports)))


# -- floods over UDP


def denied(target: Target) -> None:
    """Attack: queries nonexistent names of the cluster over UDP, each once."""
    _flood(target, FLOOD_RATE, (f"no-{n}.{namespace(n)}.svc.{ZONE}" for n in itertools.count()))


def pods(target: Target) -> None:
    """Attack: queries names of Pod addresses over UDP, each once. The names exist, and each has its own reply."""
    parts = (divmod(n, 256) for n in itertools.count())
    _flood(target, FLOOD_RATE, (f"10-{a >> 8 & 255}-{a & 255}-{b}.default.pod.{ZONE}" for a, b in parts))


def outside(target: Target) -> None:
    """Attack: queries names outside the cluster over UDP, each once. The upstream for these names does not reply."""
    _flood(target, OUTSIDE_RATE, (f"silent-{os.getpid()}-{n}.{EXTERNAL_ZONE}" for n in itertools.count()))


def huge(target: Target) -> None:
    """Attack: sends SRV queries over UDP for headless Services with many endpoints, whose replies are large."""
    cluster = Cluster(1000)
    queries = [_query(f"_http._tcp.{cluster.fqdn(n)}", 33, 65_535) for n in cluster.headless()]
    _send(target, HUGE_RATE, itertools.cycle(queries))


def _flood(target: Target, rate: float, names: Iterator[str]) -> None:
    _send(target, rate, (_query(name) for name in names))


def _query(name: str, rtype: int = 1, size: int = 0) -> bytes:
    """Returns an encoded query. If `size` is not 0, the query has an OPT record with this UDP payload size."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    opt = b"\0\0\x29" + size.to_bytes(2, "big") + bytes(6) if size else b""
    return b"\0\1\1\0\0\1\0\0\0\0\0" + bytes((bool(size),)) + labels + b"\0\0" + bytes((rtype,)) + b"\0\1" + opt


def _send(target: Target, rate: float, queries: Iterator[bytes], port: int = 0) -> None:
    """Sends `rate` datagrams a second from one socket, and reads no replies. `port` is another port than that of DNS
    over UDP.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind((ATTACKER, 0))
        sock.connect(("127.0.0.1", port or target.port))
        target.begin()
        begun = due = time.monotonic()
        send, sent = sock.send, 0
        ready = list(itertools.islice(queries, _PART))
        while ready and not target.over:
            for query in ready:
                with suppress(OSError):
                    send(query)
            sent += len(ready)
            due = max(due + len(ready) / rate, time.monotonic() - LATE)
            ready = list(itertools.islice(queries, min(_PART, max(1, int(rate / 200)))))
            ahead = due - time.monotonic()
            if ahead > TICK:
                time.sleep(ahead)
        print(f"{sent / (time.monotonic() - begun):,.0f} queries a second", file=sys.stderr)


# -- connections


def idle(target: Target) -> None:
    """Attack: opens TCP connections, and sends nothing on them. Replaces closed connections."""
    _connections(target, SLOW_CONNECTIONS, target.port, lambda _: None)


def octets(target: Target) -> None:
    """Attack: opens TCP connections, and sends one octet of a query a second on each. Replaces closed connections."""
    message = b"\0\x40" + b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\1a" * 30
    sent: dict[socket.socket, int] = {}

    def one_octet(sock: socket.socket) -> None:
        at = sent[sock] = sent.get(sock, -1) + 1
        sock.send(message[at % len(message) : at % len(message) + 1])

    _connections(target, SLOW_CONNECTIONS, target.port, one_octet)


def unread(target: Target) -> None:
    """Attack: opens TCP connections, sends as many queries as possible on each, and never reads a reply."""
    query = _query(f"_http._tcp.{Cluster(1000).fqdn(0)}", 33)
    block = (len(query).to_bytes(2, "big") + query) * 500
    _connections(target, UNREAD_CONNECTIONS, target.port, lambda sock: sock.send(block), 0.05)


def half_open(target: Target) -> None:
    """Attack: opens TLS connections, and sends only half of the first handshake message on each."""
    hello = _client_hello()

    def begin(sock: socket.socket) -> None:
        with suppress(OSError):
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY):
                sock.send(hello[: len(hello) // 2])
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 1)

    _connections(target, HALF_OPEN, target.tls_port, begin)


def handshakes(target: Target) -> None:
    """Attack: starts TLS handshakes, HANDSHAKES_AT_ONCE at a time, and closes each one after the server's first
    message.
    """
    hello, done = _client_hello(), 0
    target.begin()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.EpollSelector())
        opened: set[socket.socket] = set()
        while not target.over:
            while len(opened) < HANDSHAKES_AT_ONCE:
                sock = _connected(target.tls_port)
                opened.add(sock)
                selector.register(sock, selectors.EVENT_READ)
                with suppress(OSError):
                    sock.send(hello)
            for key, _ in selector.select(0.1):
                found = key.fileobj
                assert isinstance(found, socket.socket)
                selector.unregister(found)
                opened.discard(found)
                found.close()
                done += 1
        for sock in opened:
            sock.close()
    print(f"{done} handshakes", file=sys.stderr)


def connects(target: Target) -> None:
    """Attack: opens TCP connections as fast as a server can accept them, and resets each one soon afterwards."""
    opened: deque[socket.socket] = deque()
    reset = struct.pack("ii", 1, 0)
    target.begin()
    begun = due = time.monotonic()
    done = 0
    while not target.over:
        for _ in range(_PART // 8):
            if len(opened) >= CONNECTS_AT_ONCE:
                opened.popleft().close()
            sock = _connected(target.port)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            opened.append(sock)
            done += 1
        due = max(due + _PART // 8 / CONNECT_RATE, time.monotonic() - LATE)
        time.sleep(max(0.0, due - time.monotonic()))
    print(f"{done / (time.monotonic() - begun):,.0f} connections a second", file=sys.stderr)
    for sock in opened:
        sock.close()


def idle_tls(target: Target) -> None:
    """Attack: opens as many TLS connections as a worker of svcdns accepts, and sends a query on each from time to
    time.
    """
    query = _query(Cluster(1000).fqdn(0))
    message = len(query).to_bytes(2, "big") + query
    context = tls_context()
    with ExitStack() as stack:

        def connect(_: int) -> ssl.SSLSocket | None:
            try:
                raw = socket.create_connection(("127.0.0.1", target.tls_port), 5, source_address=(ATTACKER, 0))
                sock = stack.enter_context(context.wrap_socket(raw))
                sock.sendall(message)
            except OSError:
                return None
            return sock

        with ThreadPoolExecutor(8) as threads:
            opened = [sock for sock in threads.map(connect, range(IDLE_TLS)) if sock is not None]
        for sock in opened:
            sock.setblocking(False)
        target.begin()
        while not target.over:
            begun = time.monotonic()
            for number, sock in enumerate(opened):
                with suppress(OSError):
                    sock.send(message)
                with suppress(OSError):
                    sock.recv(4096)
                ahead = begun + number * IDLE_TLS_EVERY / len(opened) - time.monotonic()
                if ahead > TICK:
                    time.sleep(ahead)
        print(f"{len(opened)} TLS connections", file=sys.stderr)


def quic_initials(target: Target) -> None:
    """Attack: sends the first datagrams of QUIC connections, and never goes on."""
    datagrams = []
    for _ in range(QUIC_CLIENTS):
        quic = quic_client()
        quic.connect(("127.0.0.1", target.tls_port), 0.0)
        datagrams += [datagram for datagram, _ in quic.datagrams_to_send(0.0)]
    _send(target, QUIC_RATE, itertools.cycle(datagrams), target.tls_port)


def quic_garbage(target: Target) -> None:
    """Attack: sends random octets to a QUIC listener, and datagrams that look like first ones."""
    plain = [os.urandom(length) for length in (30, 60, 300, 1200) for _ in range(64)]
    first = [b"\xc3\0\0\0\1\x08" + os.urandom(8) + b"\0\0\x44\x80" + os.urandom(1200) for _ in range(64)]
    _send(target, FLOOD_RATE // 4, itertools.cycle(plain + first), target.tls_port)


def quic_streams(target: Target) -> None:
    """Attack: opens QUIC connections, and sends one octet of a query on each of many streams, again and again."""
    opened = [(quic_client(), _datagram_socket(target.tls_port)) for _ in range(QUIC_CONNECTIONS)]
    for quic, _ in opened:
        quic.connect(("127.0.0.1", target.tls_port), time.monotonic())
    target.begin()
    while not target.over:
        for number, (quic, sock) in enumerate(opened):
            now = time.monotonic()
            with suppress(OSError):
                while True:
                    quic.receive_datagram(sock.recv(4096), ("127.0.0.1", target.tls_port), now)
            timer = quic.get_timer()
            if timer is not None and timer <= now:
                quic.handle_timer(now)
            while (event := quic.next_event()) is not None:
                if isinstance(event, ConnectionTerminated):
                    opened[number] = quic_client(), sock
                    opened[number][0].connect(("127.0.0.1", target.tls_port), now)
            for _ in range(QUIC_STREAMS if quic.tls.alpn_negotiated else 0):
                quic.send_stream_data(quic.get_next_available_stream_id(), b"\0")
            with suppress(OSError):
                for datagram, _ in quic.datagrams_to_send(now):
                    sock.send(datagram)
        time.sleep(TICK)
    for _, sock in opened:
        sock.close()


def quic_client() -> QuicConnection:
    """Returns a connection of a client that accepts any certificate."""
    return QuicConnection(configuration=QuicConfiguration(alpn_protocols=["doq"], verify_mode=ssl.CERT_NONE))


def over_http(frames: http_attackers.Frames, *, grpc: bool = False, reads: bool = True) -> Callable[[Target], None]:
    """Returns an attack over HTTP/2, on the port for HTTPS or for gRPC."""

    def run(target: Target) -> None:
        target.begin()
        port = target.grpc_port if grpc else target.https_port
        opened = http_attackers.attack(port, frames, lambda: target.over, reads=reads)
        print(f"{opened} connections", file=sys.stderr)

    return run


def _datagram_socket(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((ATTACKER, 0))
    sock.connect(("127.0.0.1", port))
    return sock


def tls_context() -> ssl.SSLContext:
    """Returns a TLS context for clients that accept any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = tls_context()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def _connections(
    target: Target, count: int, port: int, act: Callable[[socket.socket], object], every: float = 1.0
) -> None:
    """Keeps `count` TCP connections open, and calls `act` with the socket of each one every `every` seconds."""
    opened: list[socket.socket] = []
    target.begin()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.EpollSelector())
        while not target.over:
            begun = time.monotonic()
            while len(opened) < count and time.monotonic() < begun + every / 2:
                sock = _connected(port)
                selector.register(sock, selectors.EVENT_READ)
                opened.append(sock)
            for sock in opened:
                with suppress(OSError):
                    act(sock)
            _close_ended(selector, opened)
            time.sleep(max(0.01, begun + every - time.monotonic()))
        print(f"{len(opened)} connections at the end", file=sys.stderr)
        for sock in opened:
            sock.close()


def _close_ended(selector: selectors.BaseSelector, opened: list[socket.socket]) -> None:
    for key, _ in selector.select(0):
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        with suppress(BlockingIOError):
            try:
                ended = not sock.recv(1, socket.MSG_PEEK)
            except ConnectionError:
                ended = True
            if ended:
                selector.unregister(sock)
                sock.close()
                opened.remove(sock)
            else:
                selector.unregister(sock)  # replies wait, and are never read


def _connected(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.bind((ATTACKER, 0))
    sock.connect_ex(("127.0.0.1", port))
    return sock


class Attack(NamedTuple):
    """An attack, and its name in the table."""

    title: str
    run: Callable[[Target], None]


ATTACKS = {
    "denied": Attack(f"{FLOOD_RATE:,} queries a second for names that do not exist, each once", denied),
    "pods": Attack(f"{FLOOD_RATE:,} queries a second for names of Pod addresses, each once", pods),
    "huge": Attack(f"{HUGE_RATE:,} queries a second with large answers", huge),
    "outside": Attack(f"{OUTSIDE_RATE:,} queries a second for outside names, whose upstream is silent", outside),
    "connects": Attack(f"{CONNECT_RATE:,} new TCP connections a second", connects),
    "idle": Attack(f"{SLOW_CONNECTIONS:,} idle TCP connections", idle),
    "octets": Attack(f"{SLOW_CONNECTIONS:,} TCP connections that send one octet a second", octets),
    "unread": Attack(f"{UNREAD_CONNECTIONS} TCP connections that pipeline queries and never read", unread),
    "half-open": Attack(f"{HALF_OPEN:,} half-open TLS handshakes", half_open),
    "handshakes": Attack(f"TLS handshakes, {HANDSHAKES_AT_ONCE} at a time", handshakes),
    "quic-initials": Attack(f"{QUIC_RATE:,} first QUIC datagrams a second, without the rest", quic_initials),
    "quic-garbage": Attack(f"{FLOOD_RATE // 4:,} datagrams a second that are no QUIC", quic_garbage),
    "quic-streams": Attack(
        f"{QUIC_CONNECTIONS} QUIC connections, each with {QUIC_STREAMS} new streams with one octet of a query at a time",
        quic_streams,
    ),
    "https-resets": Attack("HTTP/2 streams that are opened and reset", over_http(http_attackers.resets)),
    "https-continuations": Attack("HTTP/2 header blocks without an end", over_http(http_attackers.continuations)),
    "https-slow": Attack("HTTPS requests whose body never comes", over_http(http_attackers.slow_bodies)),
    "https-long": Attack("HTTPS requests with bodies of 80 KiB", over_http(http_attackers.long_bodies)),
    "https-pings": Attack("HTTP/2 PING frames, never read", over_http(http_attackers.pings, reads=False)),
    "grpc-slow": Attack("gRPC calls whose message never comes", over_http(http_attackers.grpc_calls, grpc=True)),
    "idle-tls": Attack(f"{IDLE_TLS:,} TLS connections, each with a query every {IDLE_TLS_EVERY:.0f} s", idle_tls),
}

if __name__ == "__main__":
    main()
