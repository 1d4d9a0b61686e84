"""The cold path. Each reply, stored entry and counter must be equal to that of the plugin chain."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import msgspec.json
import pytest

from svcdns.cluster.changes import Confirmed, Serials
from svcdns.cluster.objects import HEADLESS, ClusterObject, Endpoint, EndpointSlice, Namespace, Port, Service
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.handler import Cache
from svcdns.plugins.kubernetes.cold_path import ClusterAnswers
from svcdns.serving import rotations
from svcdns.serving.metrics import HitCounter
from svcdns.serving.transport.udp import SocketErrors, UdpReader
from svcdns.sources.api import decoding
from svcdns.wire import names
from svcdns.wire.codes import AD, CD, RD, Class, Type
from svcdns.wire.message import encode_query
from svcdns.wire.record import Edns
from tests.conformance.coredns.client import packet as packet_of
from tests.conformance.coredns.recorded import Case, cases, manifests
from tests.support import clusters
from tests.support.chains import Chains
from tests.support.responder import bound
from tests.support.world import counted, records

KUBERNETES = """
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
        {}
    }}
"""
STOCK = (
    """
.:53 {{
    errors
    prometheus
    loadbalance
    {cache}
    forward . 192.0.2.1
"""
    + KUBERNETES.replace("{}", "{kubernetes}")
    + "}}\n"
)
DISABLED = "cache 30 {\n disable success cluster.local\n disable denial cluster.local\n }"


def stock(cache: str = DISABLED, kubernetes: str = "") -> str:
    """Returns kubeadm's Corefile with other options of *cache* and *kubernetes*."""
    return STOCK.format(cache=cache, kubernetes=kubernetes)


def alone(kubernetes: str, zones: str = "cluster.local", more: str = "") -> str:
    """Returns a Corefile with the plugin *kubernetes*, without the metrics of the server."""
    return f".:53 {{\n kubernetes {zones} {{\n{kubernetes}\n}}\n forward . 192.0.2.1\n{more}\n}}\n"


def hosts(*options: str) -> str:
    """Returns kubeadm's Corefile with the plugin *hosts*, which has these options."""
    return stock().replace("loadbalance", "\n".join(("loadbalance", "hosts /none {", *options, "}")))


COREFILES = {
    "stock": stock(),
    "everything cached": stock("cache 30"),
    "short denials": stock("cache {\n success 100 20\n denial 100 3 1\n }"),
    "denials disabled": stock("cache 30 {\n disable denial cluster.local\n }"),
    "successes disabled": stock("cache 30 {\n disable success cluster.local\n }"),
    "a part disabled": stock("cache 30 {\n disable success d.svc.cluster.local\n }"),
    "no cache": stock(""),
    "cache of another zone": stock("cache 30 example.org"),
    "cache of a part": stock("cache 30 svc.cluster.local"),
    "empty Services ignored": stock(kubernetes="ignore empty_service"),
    "namespaces": stock(kubernetes="namespaces d pod"),
    "Pod names": stock(kubernetes="endpoint_pod_names"),
    "no endpoints": stock(kubernetes="noendpoints"),
    "alone": alone("pods insecure"),
    "no Pods": alone("pods disabled\nttl 0"),
    "verified Pods": alone("pods verified"),
    "zonal": alone("zonal"),
    "fallthrough": alone("fallthrough"),
    "fallthrough below": alone("fallthrough d.svc.cluster.local"),
    "multicluster": alone("multicluster clusterset.local", "cluster.local clusterset.local"),
    "zones in zones": alone("", "cluster.local d.svc.cluster.local local"),
    "another block": alone("") + "svc.cluster.local:53 {\n forward . 192.0.2.1\n}\n",
    "a large size": alone("", more="bufsize 4096"),
    "log": alone("", more="log"),
    "rewrite": alone("", more="rewrite name web.d.svc.cluster.local db.e.svc.cluster.local"),
    "preferred networks": alone("", more="loadbalance round_robin {\n prefer 10.244.0.0/16\n}"),
    "other types and classes": alone("", more="any\nchaos\nnsid\nerrors\ntransfer {\n to *\n}"),
}
LOOKING: dict[str, str] = {
    "hosts": hosts("10.1.1.1 web.d.svc.cluster.local x.cluster.local", "fallthrough"),
    "hosts for some": hosts("10.1.1.1 *.d.svc.cluster.local", "fallthrough svc.cluster.local in-addr.arpa").replace(
        DISABLED, "cache 30"
    ),
    "hosts, unsupported": hosts("10.1.1.1 db.d.svc.cluster.local", "fallthrough", "fallthrough_unsupported"),
    "a part in hosts": alone(
        "", more="bufsize 600\nhosts /none d.svc.cluster.local {\n 10.244.0.1 db.d.svc.cluster.local\n fallthrough\n}"
    ),
}
"""Corefiles whose blocks have a cold path although a plugin looks at every query."""
ONLY_CHAIN = (
    "a part disabled",
    "cache of another zone",
    "cache of a part",
    "another block",
    "rewrite",
    "preferred networks",
)
"""The Corefiles whose blocks have no cold path, at least for cluster.local."""
TYPES = (
    *["A", "AAAA"] * 6, *["SRV", "PTR"] * 2, "HTTPS", "TXT", "SOA", "NS", "CNAME", "ANY", "DS", "MX", "AXFR",
)  # fmt: skip
API_OBJECTS: dict[str, Any] = {
    "Service": (decoding.ApiService, decoding.service),
    "EndpointSlice": (decoding.ApiSlice, decoding.endpoint_slice),
    "Namespace": (decoding.ApiNamespace, decoding.namespace),
    "Pod": (decoding.ApiPod, decoding.pod),
    "ServiceImport": (decoding.ApiServiceImport, decoding.service_import),
}
SIZES = (0, 0, 512, 1232, 1232, 1232, 4096, 100)


class Pair:
    """Two servers for the same cluster. Only one of them has the cold path."""

    def __init__(self, corefile: str, objects: Any = (), *, synced: bool = True) -> None:
        """Starts both servers."""
        made = [Chains(corefile, objects, synced=synced, cold_path=cold_path) for cold_path in (True, False)]
        self.cold, self.chain = made
        self._seed = 0

    def send(self, packet: bytes, protocol: str = "udp") -> bytes:
        """Sends a packet to both servers, checks that the replies are the same, and returns the reply."""
        self._seed += 1
        replies = []
        for server in (self.cold, self.chain):
            rotations.random.seed(self._seed)
            replies.append(server.send(packet, protocol=protocol))
        assert replies[0] == replies[1], packet
        return replies[0]

    def apply(self, *changes: Any) -> None:
        """Applies changes of the cluster to both servers."""
        self.cold.apply(*changes)
        self.chain.apply(*changes)

    def turn(self, seconds: float) -> None:
        """Moves the clocks of both servers forward."""
        self.cold.clock.turn(seconds)
        self.chain.clock.turn(seconds)

    def check(self) -> None:
        """Checks that stored replies and metrics of both servers are the same."""
        for protocol in ("udp", "tcp"):
            assert stored(self.cold, protocol) == stored(self.chain, protocol)
        assert spellings(self.cold) == spellings(self.chain)
        self.cold.flush()
        self.chain.flush()
        assert counted(self.cold.counters) == counted(self.chain.counters)


def stored(server: Chains, protocol: str) -> Any:
    """Returns all entries and negative answers of a server's answer table."""
    table = server.responder(protocol).table
    series = {cell: key for key, cell in server.counters._cells.items()}

    def named(counter: HitCounter) -> list[Any]:
        """Returns the increments of a counter with the names of the series."""
        starts = {cell: max(start for start in series if start <= cell) for cell, _ in counter.increments}
        return [(series[starts[cell]], cell - starts[cell], amount) for cell, amount in counter.increments]

    entries = {
        key: (
            entry.wires,
            entry.deadline,
            entry.dependencies,
            named(entry.hit_counter),
            0 if entry.details is None else entry.details.uses,
        )
        for generation in (table.current, *table.previous)
        for key, entry in generation.items()
    }
    negative = {
        key: (answer.head, answer.tail, answer.encloser.key, named(answer.hit_counter))
        for key, answer in table.negative._answers.items()
    }
    return entries, negative, table.negative._dependencies


def spellings(server: Chains) -> Any:
    """Returns the letter cases that a server's cache has stored."""
    assert server.chains is not None
    caches = [handler for handler in server.chains.handlers if isinstance(handler, Cache)]
    return [(cache._replies._spellings._newer, cache._replies._spellings._older) for cache in caches]


def packets(rng: Random, known: list[str]) -> Iterator[tuple[bytes, str]]:
    """Yields packets with random names of the cluster, and the protocol to send them over."""
    sent: list[bytes] = []
    while True:
        if sent and rng.random() < 0.4:
            packet = rng.choice(sent[-50:])
        else:
            packet = query(rng, known)
            sent.append(packet)
        yield packet, rng.choice(("udp", "udp", "udp", "tcp"))


def query(rng: Random, known: list[str]) -> bytes:
    """Returns a query for a random name. Some queries have unusual flags, types, OPT records or lengths."""
    name = rng.choice(known)
    if rng.random() < 0.2:
        name = f"{rng.choice(('a', 'b.c', 'www.example.org', 'x.ns.dns', 'ns.dns', 'web', 'dns', 'hostmaster'))}.{name}"
    if rng.random() < 0.2:
        name = "".join(rng.choice((char, char.upper())) for char in name)
    flags = (
        RD if rng.random() < 0.9 else rng.choice((0, RD | AD, RD | CD, CD, RD | AD | CD, 0x8000, 0x2800, 0x40, 0x400))
    )
    size, rtype = rng.choice(SIZES), Type[rng.choice(TYPES)]
    rclass = rng.choice((Class.CH, Class.ANY)) if rng.random() < 0.02 else Class.IN
    edns = Edns(size, rng.random() < 0.2, int(rng.random() < 0.02)) if size else None
    packet = encode_query(7, flags, names.from_text(name), rtype, rclass, edns)
    unusual = rng.random()
    if unusual < 0.02:
        return packet[: rng.randrange(12, len(packet))]
    if unusual < 0.04:
        return packet + rng.choice((b"\0", b"\0\0", bytes(11)))
    if unusual < 0.08:
        at = rng.randrange(2, len(packet))
        return packet[:at] + bytes((rng.randrange(256),)) + packet[at + 1 :]
    return packet


@pytest.mark.parametrize(
    ("corefile", "seed"), [*((name, seed) for name in COREFILES for seed in range(3)), *((name, 0) for name in LOOKING)]
)
def test_replies_of_random_clusters(corefile: str, seed: int) -> None:
    """The cold path and the chain give the same replies, stored replies and metrics."""
    rng = Random(seed)
    pair = Pair((COREFILES | LOOKING)[corefile], clusters.cluster(rng).values())
    state: clusters.State = {}
    known = clusters.names(("cluster.local.", "clusterset.local."))
    for number, (packet, protocol) in zip(range(1200), packets(rng, known), strict=False):
        pair.send(packet, protocol)
        if number % 20 == 0:
            change = clusters.change(rng, state)
            clusters.apply(state, change)
            pair.apply(change, *([Serials(number, number)] if rng.random() < 0.3 else []))
        if number % 30 == 0:
            pair.turn(rng.choice((0.5, 2.0, 4.0, 31.0)))
        if number % 100 == 0:
            pair.check()
    pair.check()
    assert pair.cold.chained < pair.chain.chained or corefile in ONLY_CHAIN


def recorded_objects() -> list[ClusterObject]:
    """Returns the objects of the cluster of the recorded answers."""
    found: list[ClusterObject] = []
    for document in manifests():
        kind = API_OBJECTS.get(document["kind"])
        if kind is not None:
            decode, trim = kind
            trimmed = trim(msgspec.convert(document, decode))
            found += [] if trimmed is None else [trimmed]
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_recorded_queries(case: Case) -> None:
    """Each recorded query is sent twice over each protocol. Both servers give the same replies and metrics."""
    corefile = re.sub(r"^ *loop$", "", case.corefile, flags=re.MULTILINE)
    pair = Pair(re.sub(r"\{\w+\}", "53", corefile), recorded_objects())
    for line in case.lines:
        for protocol in ("udp", "udp", "tcp", "tcp"):
            if line.query.type not in ("AXFR", "IXFR"):
                pair.send(packet_of(line.query, 7), protocol)
    pair.check()


def service(*addresses: str) -> list[ClusterObject]:
    """Returns a headless Service with these endpoints, and a Service with a cluster IP."""
    endpoints = tuple(map(Endpoint, addresses))
    return [
        Namespace("d"),
        Service("d", "db", (HEADLESS,)),
        EndpointSlice("d", "db-1", "db", endpoints=endpoints),
        Service("d", "web", ("10.96.0.1", "fd00:96::1"), (Port("http", "TCP", 80), Port("dns", "UDP", 53))),
    ]


def packet(name: str, rtype: str = "A", size: int = 1232) -> bytes:
    """Returns a query. Without a `size`, the query has no OPT record."""
    return encode_query(7, RD, names.from_text(name), Type[rtype], Class.IN, Edns(size) if size else None)


@pytest.mark.parametrize(
    ("size", "chained"), [(0, True), (512, True), (1232, True), (4096, False)], ids=["none", "512", "1232", "4096"]
)
def test_replies_that_do_not_fit_go_through_the_chain(size: int, *, chained: bool) -> None:
    """The chain truncates the reply. A reply that fits is made on the cold path, with the same rotations as in the
    chain.
    """
    pair = Pair(stock(), service(*(f"10.244.1.{number}" for number in range(100))))
    for _ in range(40):
        pair.send(packet("db.d.svc.cluster.local.", size=size))
    pair.check()
    assert bool(pair.cold.chained) is chained


def test_very_large_services_go_through_the_chain() -> None:
    """On the cold path, reading very large EndpointSlices would delay other clients."""
    pair = Pair(stock(), service(*(f"10.{a}.{b}.1" for a in range(20) for b in range(100))))
    pair.send(packet("db.d.svc.cluster.local.", size=65000), "tcp")
    assert pair.cold.chained == 1


def test_stale_data_go_through_the_chain() -> None:
    """While the data is stale, replies have an extended error, and the chain makes them."""
    pair = Pair(stock(), service("10.244.0.1"))
    pair.send(packet("web.d.svc.cluster.local."))
    assert pair.cold.chained == 0
    pair.apply(Confirmed(0.0))
    for _ in range(2):
        pair.turn(301.0)
        for server in (pair.cold, pair.chain):
            assert server.chains is not None
            server.chains.tick()
        for name in ("db.d.svc.cluster.local.", "x.d.svc.cluster.local.", "x.cluster.local."):
            pair.send(packet(name))
        pair.send(packet("web.d.svc.cluster.local.", "SRV"))
        assert pair.cold.chained == 4
        pair.apply(Confirmed(pair.cold.clock()))
        for server in (pair.cold, pair.chain):
            assert server.chains is not None
            server.chains.tick()
        pair.send(packet("db.d.svc.cluster.local.", "AAAA"))
        assert pair.cold.chained == 4
        pair.cold.chained = 0
        pair.apply(Confirmed(0.0))


def test_nothing_is_nonexistent_before_the_first_lists() -> None:
    """Until the first lists are complete, the chain answers queries for names without objects."""
    pair = Pair(stock(), service("10.244.0.1"), synced=False)
    pair.send(packet("web.d.svc.cluster.local."))
    assert pair.cold.chained == 0
    for name in ("x.d.svc.cluster.local.", "x.y.svc.cluster.local.", "x.cluster.local.", "x.pod.cluster.local."):
        pair.send(packet(name))
    assert pair.cold.chained == 4


def test_names_that_are_escaped_as_text() -> None:
    """If the name of one object needs escapes in domain names, the chain answers all queries."""
    pair = Pair(stock(), [*service("10.244.0.1"), Service("d", "a.b", ("10.96.0.9",))])
    for name in (r"a\.b.d.svc.cluster.local.", "web.d.svc.cluster.local."):
        pair.send(packet(name))
    assert pair.cold.chained == 2


def test_an_error_in_the_source_is_counted_and_the_chain_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception on the cold path is counted. The chain answers the query."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ClusterAnswers, "name", fails)
    server = Chains(stock(), service("10.244.0.1"))
    assert server.send(packet("x.cluster.local."))
    assert server.chained == 1
    assert counted(server.counters)["coredns_panics_total",] == 1


def test_entries_of_the_older_half_of_the_table() -> None:
    """A reply in the older half of the answer table is used again."""
    pair = Pair(stock(), service("10.244.0.1"))
    for _ in range(2):
        pair.send(packet("web.d.svc.cluster.local."))
    for server in (pair.cold, pair.chain):
        table = server.responder("udp").table
        table._start_generation()
        entry = table.previous[0][packet("web.d.svc.cluster.local.")[2:]]
        assert server.responder("udp").lookup_new(packet("web.d.svc.cluster.local.")[2:]) in (entry.wire, b"")
    assert pair.cold.responder("udp").table.current


def test_a_batch_is_answered_in_one_pass() -> None:
    """The reader of a UDP socket sends replies of the cold path with the stored replies, before any other work."""
    server, chain = Chains(stock(), service("10.244.0.1")), Chains(stock(), service("10.244.0.1"), cold_path=False)
    responder = server.responder("udp")
    sock, client = bound(), bound()
    reader = UdpReader(sock, responder, SocketErrors(server.counters, "dns://:53", server.clock), wildcard=False)
    queries = [packet(f"{name}.d.svc.cluster.local.", rtype) for name in ("web", "x", "db") for rtype in ("A", "AAAA")]
    for query in (*queries, *queries, *queries):
        client.sendto(query, sock.getsockname())
    assert reader.drain() == 18
    assert not reader.waiting
    expected = [chain.send(query) for query in (*queries, *queries, *queries)]
    assert [client.recv(4096) for _ in range(18)] == expected
    assert chain.chained
    sock.close()
    client.close()


def test_the_second_query_for_an_outside_name_is_stored() -> None:
    """A reply of an upstream counts as the first reply for its key, although the table does not store it."""
    outside = Reply(answer=records("www.example.org. 9 IN A 192.0.2.1"), source="192.0.2.53:53")
    server = Chains(stock(), outside=lambda _: outside)
    for _ in range(3):
        server.send(packet("www.example.org."))
    assert server.chained == 2


LOG = """log cluster.local {combined}
log . "{type} {name} {local} {rsize} {>rflags} {rcode} {>bufsize} {>do}" {
    class denial error
}
"""


@pytest.mark.parametrize("more", ["", "bufsize 600\n"])
def test_log_lines(more: str) -> None:
    """With *log*, both servers write the same lines, whether the cold path, the answer table or the chain answers."""
    rng = Random(7)
    corefile = stock("cache 30").replace("errors", f"errors\n{more}{LOG}")
    pair = Pair(corefile, [*clusters.cluster(rng).values(), *service(*(f"10.244.1.{number}" for number in range(90)))])
    pair.chain.listener.observed = True  # so all replies are observed with objects
    lines: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("svcdns")
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    written = 0
    try:
        known = [*clusters.names(("cluster.local.",)), *["www.example.org.", "db.d.svc.cluster.local."] * 9]
        for packet, protocol in islice(packets(rng, known), 1500):
            pair.send(packet, protocol)
            shown = [re.sub(r" [0-9.]+s( |$)", " TIME ", line) for line in lines]
            assert len(shown) in (0, 2), packet
            assert shown[: len(shown) // 2] == shown[len(shown) // 2 :], packet
            written += len(lines)
            lines.clear()
        for server in (pair.cold, pair.chain):
            server.flush()
        assert counted(pair.cold.counters) == counted(pair.chain.counters)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert written > 1000
    assert pair.cold.chained < pair.chain.chained / 2
