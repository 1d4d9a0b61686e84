"""Runs `check_contract` for all built-in plugins, and for careless plugins whose mistakes the core makes harmless."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from svcdns.cluster.changes import Change, Put
from svcdns.cluster.objects import Pod
from svcdns.plugin_api import (
    AA,
    UNTIL_CHANGED,
    CacheScope,
    Edns,
    Environment,
    Following,
    Plugin,
    Query,
    Rcode,
    Record,
    Reply,
    then,
)
from svcdns.plugin_api.query import Answer
from svcdns.plugins import BUILT
from svcdns.testing import check_contract
from tests.plugins.k8s_external import fixture
from tests.support.geoip_database import database
from tests.support.zone_keys import KEYS

A = ("a.example.org.", "A")
AAAA = ("a.example.org.", "AAAA")
CHAOS = ("version.bind.", "CH TXT")
AUTHORS = ("authors.bind.", "CH TXT")

BLOCKS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "acl": ("acl {\n block type A net 10.0.0.0/8\n filter net 2001:db8::/32\n}", [A, AAAA]),
    "any": ("any", [A, ("a.example.org.", "ANY")]),
    "auto": (
        "auto {\n directory {zones}\n}",
        [A, ("www.example.org.", "A"), ("new.example.org.", "A"), ("no.example.org.", "A"), ("www.example.net.", "A")],
    ),
    "autopath": (
        "autopath @kubernetes\nkubernetes cluster.local {\n pods verified\n}",
        [("web.d.svc.cluster.local.", "A"), ("web.d.d.svc.cluster.local.", "A")],
    ),
    "bind": ("bind 127.0.0.1\nlocal", [A]),
    "bufsize": ("bufsize 512", [A]),
    "cache": ("cache 30", [A, AAAA, ("b.example.org.", "MX")]),
    "cancel": ("cancel 5s", [A, AAAA]),
    "chaos": ("chaos svcdns one two three", [A, CHAOS, AUTHORS]),
    "debug": ("debug", [A]),
    "dns64": ("dns64", [A, AAAA, ("v4.example.org.", "AAAA")]),
    "dnssec": (
        "dnssec example.org {\n key file {keys}/Kexample.org.+013+37031\n}",
        [A, AAAA, ("a.example.org.", "MX"), ("example.org.", "DNSKEY"), ("fails.example.org.", "A")],
    ),
    "erratic": ("erratic {\n drop 0\n}", [A, AAAA, ("a.example.org.", "TXT")]),
    "dnstap": ("dnstap /nonexistent/dnstap.sock full", [A, AAAA]),
    "errors": ("errors", [A, ("fails.example.org.", "A")]),
    "file": (
        "file {zone} example.org {\n fallthrough\n}",
        [A, ("new.example.org.", "A"), ("alias.example.org.", "A"), ("no.example.org.", "TXT")],
    ),
    "geoip": (
        "geoip {geoip}\nmetadata\nview de {\n expr metadata('geoip/country/code') == 'DE'\n}",
        [A, AAAA],
    ),
    "grpc_server": ("grpc_server {\n max_streams 5\n}", [A]),
    "header": ("header {\n response set aa\n response clear ra\n}", [A]),
    "health": ("health", [A]),
    "hosts": (
        "hosts {hosts} {\n 10.0.0.1 b.example.org\n fallthrough\n}",
        [A, ("b.example.org.", "A"), ("1.0.0.10.in-addr.arpa.", "PTR")],
    ),
    "https": ("https {\n max_connections 5\n}", [A]),
    "https3": ("https3 {\n max_streams 5\n}", [A]),
    "quic": ("quic {\n max_streams 5\n}", [A]),
    "k8s_external": (
        "k8s_external ext.test\nkubernetes cluster.local",
        [("web.d.ext.test.", "A"), ("no.d.ext.test.", "A")],
    ),
    "kubernetes": (
        "kubernetes cluster.local in-addr.arpa {\n pods insecure\n fallthrough\n}",
        [("web.d.svc.cluster.local.", "A"), ("no.d.svc.cluster.local.", "A"), ("1.0.96.10.in-addr.arpa.", "PTR"), A],
    ),
    "loadbalance": ("loadbalance round_robin", [A, ("many.example.org.", "A")]),
    "local": ("local", [("localhost.", "A"), ("1.0.0.127.in-addr.arpa.", "PTR"), A]),
    "log": ("log", [A]),
    "loop": ("loop", [A]),
    "metadata": (
        "metadata\nlog . {/view/name}\nrewrite edns0 local set 0xffee {kubernetes/client-pod-name}\n"
        "kubernetes cluster.local {\n pods verified\n fallthrough\n}",
        [A, AAAA, ("web.d.svc.cluster.local.", "A")],
    ),
    "minimal": ("minimal", [A, ("many.example.org.", "A")]),
    "multisocket": ("multisocket 2", [A]),
    "nsid": ("nsid x", [A]),
    "on": ("on startup true", [A]),
    "pprof": ("pprof", [A]),
    "admin": ("admin", [A]),
    "status": ("status", [A]),
    "prometheus": ("prometheus", [A]),
    "trace": ("trace 127.0.0.1:1 {\n every 3\n}", [A, AAAA, ("a.example.org.", "TXT")]),
    "proxyproto": ("proxyproto", [A]),
    "ready": ("ready", [A]),
    "reload": ("reload", [A]),
    "rewrite edns0": ("rewrite edns0 local set 0xffee {client_ip}", [A]),
    "rewrite": (
        "rewrite name exact b.example.org a.example.org answer auto\nrewrite ttl exact c.example.org 7-9",
        [A, ("b.example.org.", "A"), ("c.example.org.", "A")],
    ),
    "root": ("root /tmp", [A]),
    "rrl": ("rrl {\n responses-per-second 100000\n}", [A, ("many.example.org.", "A"), ("fails.example.org.", "A")]),
    "shed": ("shed", [A, AAAA]),
    "template": (
        'template IN TXT example.org {\n answer "{{ .Name }} 60 IN TXT {{ .Remote }}"\n}\n'
        'template IN A b.example.org {\n answer "{{ .Name }} 60 IN CNAME a.example.org."\n}',
        [A, ("a.example.org.", "TXT"), ("b.example.org.", "A")],
    ),
    "timeouts": ("timeouts {\n read 3s\n}", [A]),
    "traffic": ("traffic", [A, AAAA]),
    "transfer": ("transfer {\n to *\n}\nfile {zone} example.org", [A, ("www.example.org.", "A")]),
    "view": (
        "view inside {\n expr incidr(client_ip(), '10.0.0.0/8') or client_ip() == '192.0.2.7' and type() == 'A'\n}",
        [A, AAAA, ("a.example.org.", "TXT")],
    ),
    "visibility": (
        "visibility {\n own\n allow net 192.0.2.0/24\n}\n"
        "kubernetes cluster.local in-addr.arpa {\n fallthrough\n}\nk8s_external ext.test",
        [
            ("web.d.svc.cluster.local.", "A"),
            ("web.d.svc.cluster.local.", "SRV"),
            ("no.d.svc.cluster.local.", "A"),
            ("1.0.0.10.in-addr.arpa.", "PTR"),
            ("web.d.ext.test.", "A"),
            A,
        ],
    ),
    "whoami": ("whoami", [A]),
}
NOT_STORED = {"erratic", "metadata", "rewrite edns0", "whoami"}
"""Blocks whose replies are never stored."""
ELSEWHERE = {
    "tsig": "tests/plugins/tsig/test_handler.py: needs keys and signed queries",
    "azure": "tests/zones/test_hosted_zone_plugin.py: needs zones that control fetches",
    "clouddns": "tests/zones/test_hosted_zone_plugin.py: needs zones that control fetches",
    "route53": "tests/zones/test_hosted_zone_plugin.py: needs zones that control fetches",
    "etcd": "tests/plugins/etcd/test_handler.py: needs the data that control reads from etcd",
    "nomad": "tests/plugins/nomad/test_handler.py: needs Nomad's HTTP API",
    "secondary": "tests/plugins/secondary/test_handler.py: needs a primary server",
    "grpc": "tests/plugins/grpc/test_handler.py: needs an upstream; its replies are stored by cache alone",
    "forward": "tests/plugins/forward/test_handler.py: needs an upstream; its replies are stored by cache alone",
    "sign": "tests/plugins/sign/test_handler.py: needs keys, and handles no queries",
    "tls": "tests/end_to_end/test_tls.py: needs a certificate and listeners for TLS",
}
ZONE = (
    "$ORIGIN example.org.\n@ 3600 IN SOA ns a {serial} 2 3 4 5\n@ IN NS ns\n"
    "ns IN A 192.0.2.53\nwww IN A 192.0.2.1\nalias IN CNAME x.example.com.\n"
)


def rest(query: Query) -> Answer:
    """Answers queries that pass the tested block. Some replies depend on EDNS options, some have several addresses, one
    query fails.
    """
    first = query.key.split(b".")[0][1:].partition(b"\7")[0]
    terms: dict[str, Any] = {"lifetime": UNTIL_CHANGED, "dependencies": (("rest",),)}
    if first == b"fails":
        return Reply(rcode=Rcode.SERVFAIL, has_message=False, error="it fails")
    data = {1: [bytes((192, 0, 2, 1))], 28: [bytes(15) + b"\1"], 16: [b"\4rest"]}.get(query.rtype, [])
    if first == b"many":
        data = [bytes((192, 0, 2, number)) for number in range(1, 5)] if query.rtype == 1 else data
    if first == b"v4" and query.rtype == 28:
        data = []
    options = [data for code, data in (query.edns or Edns()).options if code == 0xFFEE]
    extra = tuple(Record(query.name, 16, 30, bytes((len(one),)) + one) for one in options)
    answer = tuple(Record(query.name, query.rtype, 30, one) for one in data)
    return Reply(flags=query.reply_flags, answer=answer, additional=extra, **terms)


def cluster() -> list[Change]:
    """Returns a Service, and a Pod with the address of one of the check's clients."""
    return [Put(one) for one in (*fixture.OBJECTS, Pod("d", "web-0", "10.1.2.3"))]


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_a_built_plugin_keeps_to_the_contract(name: str, tmp_path: Path) -> None:
    """The check uses several clients, transports, listeners, file contents and times."""
    zone, hosts = tmp_path / "zone", tmp_path / "hosts"
    zone.write_text(ZONE.format(serial=1))
    (tmp_path / "geoip").write_bytes(database({"10.0.0.0/8": {"country": {"iso_code": "DE"}}}))
    hosts.write_text("192.0.2.9 c.example.org\n")
    block, queries = BLOCKS[name]
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "db.example.org").symlink_to(zone)
    block = block.replace("{zone}", str(zone)).replace("{hosts}", str(hosts)).replace("{zones}", f"{tmp_path}/zones")
    block = block.replace("{keys}", str(KEYS))
    block = block.replace("{geoip}", f"{tmp_path}/geoip")

    def change() -> None:
        (tmp_path / "zones" / "db.example.net").symlink_to(zone)
        (tmp_path / "geoip").write_bytes(database({"192.0.2.0/24": {"country": {"iso_code": "DE"}}}))
        zone.write_text(ZONE.format(serial=2) + "new IN A 192.0.2.7\na IN A 192.0.2.8\n")
        hosts.write_text("192.0.2.9 a.example.org\n10.0.0.1 c.example.org\n")

    hits = check_contract(
        importlib.import_module(BUILT[name.split(maxsplit=1)[0]]),
        block,
        queries,
        rest=rest,
        changes=(change,),
        cluster=cluster(),
    )
    assert hits > 0 or name in NOT_STORED


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - NOT_STORED))
def test_a_built_plugin_before_replies_of_all_kinds(name: str, tmp_path: Path) -> None:
    """The check uses its default replies, *cache*, and names in two spellings."""
    (tmp_path / "zone").write_text(ZONE.format(serial=1))
    (tmp_path / "hosts").write_text("192.0.2.9 c.example.org\n")
    block, queries = BLOCKS[name]
    block = block.replace("{zone}", str(tmp_path / "zone")).replace("{hosts}", str(tmp_path / "hosts"))
    block = block.replace("{zones}", str(tmp_path / "zones")).replace("{geoip}", str(tmp_path / "geoip"))
    block = block.replace("{keys}", str(KEYS))
    (tmp_path / "geoip").write_bytes(database({"10.0.0.0/8": {"country": {"iso_code": "DE"}}}))
    block += "" if "cache" in block else "\ncache 30"
    queries = [*queries, *((query.upper(), rtype) for query, rtype in queries)]
    assert check_contract(importlib.import_module(BUILT[name]), block, queries, cluster=cluster()) > 0


def test_every_built_plugin_is_checked() -> None:
    """A plugin is checked in this module, or in the module that ELSEWHERE names."""
    assert {name.split()[0] for name in BLOCKS} | set(ELSEWHERE) == set(BUILT)


class Careless(Plugin):
    """A plugin that reads a clock and random numbers, and does not limit the reuse of its replies."""

    name = "careless"
    before = "cache"

    def __init__(self, options: Any, environment: Environment) -> None:
        self._clock, self._random = environment.clock, environment.random


class Refuses(Careless):
    """A plugin that refuses all clients outside one network, as a CoreDNS user would write it."""

    def handle(self, query: Query, following: Following) -> Answer:
        return following(query) if query.client.address.startswith("10.") else Reply.refused(query)


class Localizes(Careless):
    """A plugin that changes the addresses in a reply, depending on the client."""

    def handle(self, query: Query, following: Following) -> Answer:
        def change(reply: Reply) -> Reply:
            last = b"\1" if query.client.address.startswith("10.1.") else b"\2"
            changed = tuple(msgspec.structs.replace(one, rdata=one.rdata[:-1] + last) for one in reply.answer)
            return msgspec.structs.replace(reply, answer=changed, scope=CacheScope.CLIENT_CLASS)

        return then(following(query), change)


class Tells(Careless):
    """A plugin whose replies contain the transport, the server and the time."""

    def handle(self, query: Query, following: Following) -> Answer:
        text = f"{query.client.protocol} {query.server} {self._clock():.1f}".encode()
        return Reply(answer=(Record(query.name, 16, 5, bytes((len(text),)) + text),), lifetime=UNTIL_CHANGED)


class Bounds(Careless):
    """A plugin that raises low TTLs without declaring it."""

    def handle(self, query: Query, following: Following) -> Answer:
        def change(reply: Reply) -> Reply:
            changed = tuple(msgspec.structs.replace(one, ttl=max(one.ttl, 25)) for one in reply.answer)
            return Reply(flags=reply.flags, answer=changed, lifetime=UNTIL_CHANGED)

        return then(following(query), change)


@pytest.mark.parametrize(
    "block", ["careless", "careless\ncache 30", "careless\ndns64", "careless\nacl {\n allow net 10.0.0.0/8\n}"]
)
@pytest.mark.parametrize("plugin", [Refuses, Localizes, Tells, Bounds])
def test_a_plugin_that_declares_nothing_keeps_to_the_contract(plugin: type[Plugin], block: str) -> None:
    """The plugin is checked without other plugins, before *cache*, and with client classes."""
    module = SimpleNamespace(PLUGIN=plugin, parse=lambda _block: None)
    check_contract(module, block, [A, ("a.example.org.", "TXT")], rest=rest)
    plugin_behind = SimpleNamespace(PLUGIN=type("Behind", (plugin,), {"before": "header"}), parse=module.parse)
    check_contract(plugin_behind, block, [A, ("a.example.org.", "TXT")], rest=rest)


def plain(before: str = "cache") -> Any:
    """Returns the module of a plugin that only calls the rest of the chain."""
    plugin = type("Plain", (Plugin,), {"name": "careless", "before": before})
    return SimpleNamespace(PLUGIN=plugin, parse=lambda _block: None)


def passing(lifetime: float, flags: int = 0) -> Callable[[Query], Answer]:
    """Returns a function that answers queries with this lifetime and these flags."""

    def rest(query: Query) -> Answer:
        return Reply(
            flags=query.reply_flags | flags,
            answer=(Record(query.name, 1, 30, bytes((192, 0, 2, 1))),),
            lifetime=lifetime,
        )

    return rest


@pytest.mark.parametrize("before", ["cache", "header"])
@pytest.mark.parametrize("flags", [0, AA])
@pytest.mark.parametrize("lifetime", [3.0, 30.0, UNTIL_CHANGED])
def test_replies_with_a_lifetime_beside_a_cache(lifetime: float, flags: int, before: str) -> None:
    """Replies have any lifetime, before and after *cache*. On a hit, *cache* sets AA."""
    queries = [A, ("A.Example.ORG.", "A")]
    assert check_contract(plain(before), "careless\ncache 30", queries, rest=passing(lifetime, flags)) > 0


class Counts(Careless):
    """A plugin that wrongly declares that the TTLs of its replies stay constant."""

    def handle(self, query: Query, following: Following) -> Answer:
        """Removes from the reply the time when its TTLs go down next."""
        return then(following(query), lambda reply: msgspec.structs.replace(reply, next_second=UNTIL_CHANGED))


def test_the_default_replies_count_down() -> None:
    """With such replies, the check finds a plugin that keeps TTLs from going down."""
    module = SimpleNamespace(PLUGIN=Counts, parse=lambda _block: None)
    for block in ("careless", "careless\ncache 30"):
        with pytest.raises(AssertionError, match=r" IN A 192\.0\.2\.1\] came from the answer table"):
            check_contract(module, block, [A])


@pytest.mark.parametrize("trusted", [Refuses, Tells])
def test_the_check_finds_a_plugin_that_gives_replies_to_others(trusted: type[Plugin]) -> None:
    """The plugin declares `states_reuse`, but does not set the scope of its replies."""
    plugin = type("Trusted", (trusted,), {"states_reuse": True})
    module: Any = SimpleNamespace(PLUGIN=plugin, parse=lambda _block: None)
    with pytest.raises(AssertionError, match="came from the answer table"):
        check_contract(module, "careless", [A], rest=rest)


def test_the_check_finds_a_plugin_that_fails() -> None:
    """The core caught the exception, and the check reports it."""

    class Fails(Careless):
        def tick(self) -> None:
            raise KeyError

    module: Any = SimpleNamespace(PLUGIN=Fails, parse=lambda _block: None)
    with pytest.raises(
        AssertionError, match=r"^plugin/careless: KeyError:  \(.*test_contract.py, line \d+, in tick\)$"
    ):
        check_contract(module, "careless", [A], rest=rest)
