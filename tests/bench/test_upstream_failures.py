"""The bench of failing upstreams: its table, and the commands of its upstream."""

from __future__ import annotations

import pytest

from bench.client import make_query
from bench.cluster import external_name
from bench.upstream import LIES, _Datagrams
from bench.upstream_failures import table


class Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, _address: object) -> None:
        self.sent.append(data)


@pytest.mark.parametrize("lie", LIES)
def test_lies_replace_replies_but_not_health_checks(lie: str) -> None:
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


def test_the_table_has_a_column_for_each_server() -> None:
    """A server without a figure has a dash."""
    assert table({"a": {"x": "1"}, "b": {"x": "2", "y": "3"}}).splitlines() == [
        "|  | a | b |",
        "| --- | --- | --- |",
        "| x | 1 | 2 |",
        "| y | – | 3 |",
    ]


def test_an_upstream_drops_queries_between_drop_and_answer() -> None:
    """The command `count` returns the number of answered queries since the last `drop` or `answer`, without health
    checks.
    """
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
