"""The bench of upstreams that fail: its table, and the upstream that is told to be silent."""

from __future__ import annotations

from bench.asking import packet
from bench.cluster import outside
from bench.upstream import _Datagrams
from bench.upstreams import table


class Transport:
    """Notes down what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, _address: object) -> None:
        """A reply."""
        self.sent.append(data)


def test_table() -> None:
    """A column for each server; what one has not measured is a dash."""
    assert table({"a": {"x": "1"}, "b": {"x": "2", "y": "3"}}).splitlines() == [
        "|  | a | b |",
        "| --- | --- | --- |",
        "| x | 1 | 2 |",
        "| y | – | 3 |",
    ]


def test_an_upstream_is_silent_until_it_is_told_to_speak() -> None:
    """It counts what it answers since then, without health checks."""
    upstream, transport = _Datagrams(), Transport()
    upstream.connection_made(transport)  # type: ignore[arg-type]
    question, check = packet(outside(1)), b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1"
    upstream.told("silent")
    upstream.datagram_received(question, ("127.0.0.1", 1))
    assert (transport.sent, upstream.told("asked")) == ([], 0)
    upstream.told("speak")
    for data in (question, check, question):
        upstream.datagram_received(data, ("127.0.0.1", 1))
    assert (len(transport.sent), upstream.told("asked")) == (3, 2)
