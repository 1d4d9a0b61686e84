"""The plugin `etcd`: answers from entries of etcd, and their reuse."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins import etcd
from svcdns.plugins.etcd import shards
from svcdns.plugins.etcd.handler import Etcd
from svcdns.plugins.etcd.options import Options
from svcdns.plugins.etcd.shards import State
from svcdns.testing import check_contract
from svcdns.wire.codes import AA, RD, Rcode
from tests.support import world
from tests.support.etcd_entries import data

BASE = "/skydns/local/skydns/"
SOA = "auth skydns.local. 30 IN SOA ns.dns.skydns.local. hostmaster.skydns.local. SERIAL 7200 1800 86400 30"
KEYS: dict[str, Any] = {
    BASE + "web/x1": {"host": "10.0.0.1", "ttl": 60},
    BASE + "web/x2": {"host": "2001:db8::1"},
    BASE + "alias": {"host": "web.skydns.local"},
    BASE + "east/web": {"host": "10.0.1.1"},
    BASE + "west/web": {"host": "10.0.1.2"},
    BASE + "broken/x": "{",
    "/skydns/arpa/in-addr/10/0/0/1": {"host": "web.skydns.local"},
}


class Worker:
    """A plugin with the data of the control process."""

    def __init__(self, text: str = "etcd", keys: dict[str, Any] | None = None, **fields: Any) -> None:
        self.options: Options = world.options("etcd", text, zones="skydns.local 10.0.0.0/8")
        self.data = {} if keys is None else data(self.options.source, keys, **fields)
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.clock = world.Clock()
        self.environment = world.environment(
            clock=self.clock,
            data=lambda _plugin, key: self.data.get(key),
            on_data=lambda _plugin, key, call: self.calls.update({key: call}),
            invalidate=self.invalidated.extend,
        )
        self.plugin = Etcd(self.options, self.environment)

    def put(self, keys: dict[str, Any]) -> set[str]:
        """Replaces the entries, and returns the paths whose replies were dropped."""
        self.invalidated.clear()
        for key, payload in data(self.options.source, keys).items():
            if payload != self.data.get(key):
                self.calls[key](payload)
                self.data[key] = payload
        return {one[2] for one in self.invalidated}

    def ask(self, name: str, rtype: str = "A", following: Reply | None = None) -> Reply:
        query = world.query(name, rtype, ask=lambda _: rcode_only(Rcode.REFUSED))
        return world.now(world.handled(self.plugin, query, world.following(following)))


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("Web.skydns.local.", "A", ["NOERROR", "Web.skydns.local. 60 IN A 10.0.0.1"], id="A"),
        pytest.param("web.skydns.local.", "AAAA", ["NOERROR", "web.skydns.local. 300 IN AAAA 2001:db8::1"], id="AAAA"),
        pytest.param("*.skydns.local.", "CNAME", ["NXDOMAIN", SOA], id="wildcard, exact"),
        pytest.param("web.*.skydns.local.", "AAAA", ["NOERROR", SOA], id="NODATA"),
        pytest.param("skydns.local.", "SOA", ["NOERROR", SOA.removeprefix("auth ")], id="SOA"),
        pytest.param("no.skydns.local.", "SOA", ["NOERROR", SOA.removeprefix("auth ")], id="SOA of any name"),
        pytest.param("web.skydns.local.", "HTTPS", ["NOERROR", SOA], id="another type"),
        pytest.param("web.skydns.local.", "NS", ["NOERROR", SOA], id="NS below the zone"),
        pytest.param("no.skydns.local.", "HTTPS", ["NXDOMAIN", SOA], id="another type, no name"),
        pytest.param("x.broken.skydns.local.", "A", ["SERVFAIL", SOA], id="broken"),
        pytest.param(
            "1.0.0.10.in-addr.arpa.",
            "PTR",
            ["NOERROR", "1.0.0.10.in-addr.arpa. 300 IN PTR web.skydns.local."],
            id="PTR",
        ),
        pytest.param("elsewhere.test.", "A", ["SERVFAIL"], id="a name of another plugin"),
    ],
)
def test_answers(name: str, rtype: str, expected: list[str]) -> None:
    reply = Worker(keys=KEYS).ask(name, rtype)
    assert world.summary(reply) == expected
    if name != "elsewhere.test.":
        assert reply.flags == AA | RD


def test_the_reason_of_a_failure() -> None:
    assert (
        Worker(keys=KEYS).ask("broken.skydns.local.").error.startswith(f"plugin/etcd: {BASE}broken/x: invalid JSON: ")
    )


def test_before_the_first_list() -> None:
    """Names of the zones get SERVFAIL, and the plugin is not ready."""
    worker = Worker()
    reply = worker.ask("web.skydns.local.")
    assert world.summary(reply)[0] == "SERVFAIL"
    assert (reply.error, reply.lifetime) == ("plugin/etcd: not connected yet", 0)
    assert not worker.plugin.ready()
    worker.put(KEYS)
    assert worker.plugin.ready()
    assert world.summary(worker.ask("web.skydns.local."))[0] == "NOERROR"


def test_falling_through() -> None:
    """Nonexistent names go to the next plugin, and names without records of the type do not."""
    worker, other = Worker("etcd {\n fallthrough skydns.local\n}", KEYS), Reply(rcode=Rcode.YXDOMAIN)
    assert worker.ask("no.skydns.local.", following=other).rcode == Rcode.YXDOMAIN
    assert worker.ask("web.skydns.local.", "MX", following=other).rcode == Rcode.NOERROR
    assert worker.ask("9.0.0.10.in-addr.arpa.", "PTR", following=other).rcode == Rcode.NXDOMAIN
    assert ("etcd", worker.options.source.key, "skydns/local/skydns/no") in worker.ask("no.skydns.local.").dependencies


@pytest.mark.parametrize(
    ("name", "rtype", "lifetime", "paths"),
    [
        pytest.param("web.skydns.local.", "A", UNTIL_CHANGED, {"web"}, id="one name"),
        pytest.param("x1.web.skydns.local.", "A", UNTIL_CHANGED, {"web"}, id="a name below"),
        pytest.param("alias.skydns.local.", "A", UNTIL_CHANGED, {"alias", "web"}, id="alias"),
        pytest.param("no.skydns.local.", "A", 30, {"no"}, id="nonexistent"),
        pytest.param("web.east.skydns.local.", "A", UNTIL_CHANGED, {"east"}, id="two labels"),
        pytest.param("web.*.skydns.local.", "A", UNTIL_CHANGED, {""}, id="wildcard"),
        pytest.param("skydns.local.", "SOA", 30, set(), id="SOA"),
    ],
)
def test_reuse(name: str, rtype: str, lifetime: float, paths: set[str]) -> None:
    """A reply depends on the keys below the first label after the zone. A wildcard there depends on the zone."""
    worker = Worker(keys=KEYS)
    reply = worker.ask(name, rtype)
    assert reply.lifetime == lifetime
    assert {one[2] for one in reply.dependencies} == {f"{BASE[1:]}{path}".removesuffix("/") for path in paths}


def test_changes_drop_the_replies_that_depend_on_them() -> None:
    """A change drops those of its zone, and of the first label after it."""
    worker = Worker(keys=KEYS)
    zone = BASE[1:-1]
    assert worker.put({**KEYS, BASE + "web/x3": {"host": "10.0.0.9"}}) >= {zone, f"{zone}/web"}
    assert worker.ask("x3.web.skydns.local.").answer
    dropped = worker.put(KEYS)
    assert f"{zone}/web" in dropped
    assert f"{zone}/east" not in dropped
    assert worker.ask("x3.web.skydns.local.").rcode == Rcode.NXDOMAIN
    assert worker.put(KEYS) == set()


@pytest.mark.parametrize(
    ("left", "value", "ttl"),
    [
        pytest.param(100, {"host": "10.0.0.1"}, 100, id="the lease"),
        pytest.param(5, {"host": "10.0.0.1"}, 60, id="the lowest"),
        pytest.param(5000, {"host": "10.0.0.1"}, 600, id="the highest"),
        pytest.param(100, {"host": "10.0.0.1", "ttl": 20}, 20, id="the value is smaller"),
        pytest.param(100, {"host": "10.0.0.1", "ttl": 200}, 100, id="the lease is smaller"),
        pytest.param(None, {"host": "10.0.0.1"}, 300, id="unknown lease"),
    ],
)
def test_leases(left: int | None, value: dict[str, Any], ttl: int) -> None:
    """The TTL is that of the lease or of the value, whichever is smaller. The reply is made again each second."""
    worker = Worker("etcd {\n min-lease-ttl 60\n max-lease-ttl 10m\n}", {BASE + "web": value}, lease=7)
    if left is not None:
        worker.calls[shards.leases_key(worker.options.source.key)](shards.encode_leases({7: 1000 + left}))
    reply = worker.ask("web.skydns.local.")
    assert [record.ttl for record in reply.answer] == [ttl]
    assert reply.lifetime == (UNTIL_CHANGED if left is None else 1.0)
    assert reply.scope is CacheScope.SHARED


def test_the_time_of_a_lease_passes() -> None:
    """The clock is read once a second."""
    worker = Worker("etcd", {BASE + "web": {"host": "10.0.0.1"}}, lease=7)
    worker.calls[shards.leases_key(worker.options.source.key)](shards.encode_leases({7: 1100}))
    worker.clock.turn(30)
    assert worker.ask("web.skydns.local.").answer[0].ttl == 100
    worker.plugin.tick()
    assert worker.ask("web.skydns.local.").answer[0].ttl == 70


def test_metrics() -> None:
    """While etcd is away, the gauge is 0, and answers go on."""
    worker = Worker(keys=KEYS)
    worker.plugin.start()
    counters = worker.environment.counters
    assert world.counted(counters)["svcdns_etcd_connected", "/skydns"] == 1
    assert world.counted(counters)["svcdns_etcd_keys", "/skydns"] == len(KEYS)
    state = State(1, "http://localhost:2379: connection refused", len(KEYS), 1)
    worker.calls[shards.state_key(worker.options.source.key)](shards.encode_state(state))
    worker.plugin.tick()
    assert ("svcdns_etcd_connected", "/skydns") not in world.counted(counters)
    assert world.counted(counters)["svcdns_etcd_invalid_values", "/skydns"] == 1
    assert worker.plugin.ready()
    assert worker.ask("web.skydns.local.").answer


def test_other_parts_of_the_block() -> None:
    """Names outside of the zones may take the fast path, and have negative answers that are shared."""
    plugin, fast_path = Worker().plugin, FastPath()
    assert plugin.join_fast_path(fast_path)
    assert set(fast_path.zones) == {b"\6skydns\5local\0", b"\x0210\7in-addr\4arpa\0"}
    assert plugin.own_zones == (b"\6skydns\5local\0",)
    assert plugin.name_independent(b"\7cluster\5local\0")
    assert not plugin.name_independent(b"\1x\6skydns\5local\0")


def rest(query: Query) -> Answer:
    return rcode_only(Rcode.REFUSED) if query.depth else rcode_only(Rcode.NXDOMAIN)


@pytest.mark.parametrize("more", ["", "\ncache 30"])
def test_it_keeps_to_the_plugin_contract(more: str) -> None:
    """The data change between rounds of queries, as files of other plugins do."""
    keys = dict(KEYS)
    module = SimpleNamespace(
        PLUGIN=Etcd,
        parse=etcd.parse,
        gather=lambda options, _known: data(options.source, keys),
        __name__="etcd",
    )

    def change() -> None:
        keys[BASE + "web/x1"] = {"host": "10.0.0.99"}
        keys[BASE + "no"] = {"host": "other.example.net"}
        del keys[BASE + "east/web"]

    names = ("web", "alias", "no", "web.east", "*", "web.any")
    queries = [(f"{name}.skydns.local.", rtype) for name in names for rtype in ("A", "TXT", "SRV")]
    queries += [("Skydns.local.", "A"), ("skydns.local.", "SOA"), ("no.example.org.", "A")]
    block = f"etcd skydns.local{more}"
    assert check_contract(module, block, queries, rest=rest, changes=[change]) > 0
