"""The bench of failing upstreams: its table, and the commands of the upstream."""

from __future__ import annotations

import pytest

from bench.client import make_query
from bench.cluster import external_name
from bench.upstream import LIES, _Datagrams
from bench.upstream_failures import table


class Transport:
    """Records the packets sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, _address: object) -> None:
        """Records a packet."""
        self.sent.append(data)


@pytest.mark.parametrize("lie", LIES)
def test_lies(lie: str) -> None:
    """After the command `lie`, other packets than the reply are sent, but not to health checks."""
    datagrams, transport = _Datagrams(), Transport()
    datagrams._transport = transport  # type: ignore[assignment]
    query, check = make_query(external_name(1)), make_query(".")
    datagrams.datagram_received(query, None)
    [right] = transport.sent
    datagrams.command(f"lie {lie}")
    datagrams.datagram_received(query, None)
    assert transport.sent[1] != right
    assert (transport.sent[-1] == right) is lie.endswith("-then-right")
    transport.sent.clear()
    datagrams.datagram_received(check, None)
    assert [packet[:2] for packet in transport.sent] == [check[:2]]
    datagrams.command("answer")
    datagrams.datagram_received(query, None)
    assert transport.sent[-1] == right


def test_table() -> None:
    """The table has a column for each server, and a dash where a server has no figure."""
    assert table({"a": {"x": "1"}, "b": {"x": "2", "y": "3"}}).splitlines() == [
        "|  | a | b |",
        "| --- | --- | --- |",
        "| x | 1 | 2 |",
        "| y | – | 3 |",
    ]


def test_an_upstream_drops_queries_between_drop_and_answer() -> None:
    """The command `count` returns the queries answered since the last `drop` or `answer`, without health checks."""
    upstream, transport = _Datagrams(), Transport()
    upstream.connection_made(transport)  # type: ignore[arg-type]
    query, check = make_query(external_name(1)), b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1"
    upstream.command("drop")
    upstream.datagram_received(query, ("127.0.0.1", 1))
    assert (transport.sent, upstream.command("count")) == ([], 0)
    upstream.command("answer")
    for data in (query, check, query):
        upstream.datagram_received(data, ("127.0.0.1", 1))
    assert (len(transport.sent), upstream.command("count")) == (3, 2)
