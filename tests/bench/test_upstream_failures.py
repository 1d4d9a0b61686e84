"""The bench of failing upstreams: its table, and the commands of the upstream."""

from __future__ import annotations

from bench.client import make_query
from bench.cluster import external_name
from bench.upstream import _Datagrams
from bench.upstream_failures import table


class Transport:
    """Records the packets sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, _address: object) -> None:
        """Records a packet."""
        self.sent.append(data)


def test_table() -> None:
    """The table has a column for each server, and a dash where a server has no figure."""
    assert table({"a": {"x": "1"}, "b": {"x": "2", "y": "3"}}).splitlines() == [
        "|  | a | b |",
        "| --- | --- | --- |",
        "| x | 1 | 2 |",
        "| y | – | 3 |",
    ]


def test_an_upstream_drops_queries_between_drop_and_answer() -> None:
    """The count has the queries answered since then, without health checks."""
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
