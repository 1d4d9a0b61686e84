"""Batches of datagrams, with recvmmsg and sendmmsg, and with portable code."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from svcdns.serving.transport.udp_batch import (
    LAYOUT,
    RECEIVE_SIZE,
    SLOTS,
    Batch,
    _PortableBatch,
    batch,
    destination_address,
)
from svcdns.supervisor.early_sockets import IP_PKTINFO, IPV6_RECVPKTINFO

FAMILIES = [pytest.param("0.0.0.0", "127.0.0.5", id="IPv4"), pytest.param("::", "::1", id="IPv6")]


class Ends:
    """A batch on a wildcard socket, and a client socket."""

    def __init__(self, host: str, *, portable: bool) -> None:
        """Creates the batch and the client socket. Failed system calls are recorded."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock, self.client = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        self.sock.setblocking(False)
        level, option = (41, IPV6_RECVPKTINFO) if family == socket.AF_INET6 else (0, IP_PKTINFO)
        self.sock.setsockopt(level, option, 1)
        self.sock.bind((host, 0))
        self.client.settimeout(10)
        self.failures: list[tuple[str, int | None]] = []
        made = _PortableBatch if portable else batch
        self.batch: Batch = made(
            self.sock, wildcard=True, failed=lambda call, error: self.failures.append((call, error.errno))
        )

    def send(self, to: str, *packets: bytes) -> None:
        for packet in packets:
            self.client.sendto(packet, (to, self.sock.getsockname()[1]))

    def received(self, count: int) -> list[bytes]:
        made = self.batch
        return [made.data[slot.at : slot.at + made.lengths[slot.length]] for slot in LAYOUT[:count]]

    def reply(self, number: int, octets: bytes) -> None:
        slot = LAYOUT[number]
        self.batch.replies[slot.reply_at : slot.reply_at + len(octets)] = octets
        self.batch.sizes[slot.size] = len(octets)


@pytest.fixture(params=[False, True], ids=["system", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    """Returns whether the batch uses portable code instead of recvmmsg and sendmmsg. Tests run with both."""
    return bool(request.param)


@pytest.fixture
def ends(portable: bool, host: str) -> Iterator[Ends]:
    """Yields two connected sockets, and closes them after the test."""
    made = Ends(host, portable=portable)
    with made.sock, made.client:
        yield made


@pytest.mark.parametrize(("host", "asked"), FAMILIES)
def test_replies_go_to_the_sender(ends: Ends, asked: str) -> None:
    """The source address of the reply is the destination address of the query. An empty reply is not sent."""
    ends.send(asked, b"one", b"two", b"three")
    count = ends.batch.receive()
    assert ends.received(count) == [b"one", b"two", b"three"]
    assert (
        ends.batch.address(ends.batch.sender(1))[:2] == ends.client.getsockname()[:2]
        or ends.batch.address(ends.batch.sender(1))[1] == ends.client.getsockname()[1]
    )
    assert destination_address(ends.batch.ancillary(ends.batch.sender(2))) == asked
    ends.reply(0, b"first")
    ends.reply(1, b"")
    ends.reply(2, b"third" * 200)
    ends.batch.send(count, whole=False)
    assert [ends.client.recvfrom(2000)[0] for _ in range(2)] == [b"first", b"third" * 200]
    ends.reply(1, b"second")
    ends.batch.send(count, whole=True)
    got = [ends.client.recvfrom(2000) for _ in range(3)]
    assert [octets for octets, _ in got] == [b"first", b"second", b"third" * 200]
    assert {sender[0] for _, sender in got} == {asked}
    assert ends.failures == []


@pytest.mark.parametrize("host", ["0.0.0.0"])
def test_a_batch_is_bounded(ends: Ends) -> None:
    assert ends.batch.receive() == 0
    ends.send("127.0.0.1", *[b"%d" % n for n in range(SLOTS + 3)], bytes(5000))
    assert ends.batch.receive() == SLOTS
    assert ends.received(SLOTS) == [b"%d" % n for n in range(SLOTS)]
    assert ends.batch.receive() == 4
    assert ends.received(4)[3] == bytes(RECEIVE_SIZE)
    assert ends.failures == []


@pytest.mark.parametrize("host", ["0.0.0.0"])
@pytest.mark.parametrize("portable", [False], ids=["system"])
def test_a_reply_that_cannot_be_sent(ends: Ends) -> None:
    """If the second of three replies cannot be sent, the other two are sent."""
    ends.send("127.0.0.1", b"1", b"2", b"3")
    count = ends.batch.receive()
    for number in range(3):
        ends.reply(number, b"%d" % number)
    real = ends.batch._sendmmsg  # type: ignore[attr-defined]
    calls: list[int] = []

    def sendmmsg(fd: int, at: int, size: int, flags: int) -> int:
        """Sends only the first message, fails in the second call, and then works."""
        calls.append(size)
        if len(calls) == 1:
            return int(real(fd, at, 1, flags))
        if len(calls) == 2:
            return -1
        return int(real(fd, at, size, flags))

    def sendmsg(*_: object) -> int:
        raise PermissionError(errno.EPERM, "no")

    ends.batch._sendmmsg = sendmmsg  # type: ignore[attr-defined]
    ends.batch._sock = SimpleNamespace(sendmsg=sendmsg)  # type: ignore[attr-defined]
    ends.batch.send(count, whole=True)
    assert [ends.client.recv(9) for _ in range(2)] == [b"0", b"2"]
    assert ends.failures == [("send", errno.EPERM)]
    assert calls == [3, 2, 1]
