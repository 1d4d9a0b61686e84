"""The records that services make. Expected replies are those that CoreDNS 1.14.7 gave for the same keys in etcd."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.etcd.handler import Etcd
from svcdns.wire import names
from svcdns.wire.codes import TC, Type
from tests.support import world
from tests.support.etcd_entries import data

BASE = "/skydns/local/skydns/"
KEYS: dict[str, Any] = {
    "a/x1": {"host": "1.1.1.1", "ttl": 60}, "a/x2": {"host": "1.1.1.2"}, "a/x3": {"host": "1.1.1.1"},
    "mapped": {"host": "::ffff:10.0.0.1"},
    "target": {"host": "10.9.9.9", "ttl": 77},
    "alias2": {"host": "alias.skydns.local", "ttl": 30}, "alias": {"host": "target.skydns.local"},
    "outside": {"host": "ext.example.net"}, "badalias": {"host": "nowhere.skydns.local"},
    "loop1": {"host": "loop2.skydns.local"}, "loop2": {"host": "loop1.skydns.local"}, "sub/x": {"host": "a.sub.skydns.local"},
    "both/x1": {"host": "10.0.0.1", "port": 80, "priority": 20, "weight": 50},
    "both/x2": {"host": "2001:db8::2", "port": 81, "weight": 30},
    "both/x3": {"host": "target.skydns.local", "port": 82},
    "both/x4": {"host": "ext.example.net", "port": 83, "priority": 5, "weight": 7},
    "noport/a": {"host": "10.3.3.3", "port": -1}, "noport/b": {"host": "10.3.3.4", "port": 99999},
    "txt/x1": {"text": "hello", "ttl": 9}, "txt/x2": {"text": "a" * 255}, "txt/x3": {"text": "hello"},
    "texts": {"host": "txt.skydns.local"},
    "texthost": {"text": "with host", "host": "target.skydns.local"},
    "mx/a": {"host": "mail.skydns.local", "mail": True, "priority": 5}, "mx/b": {"host": "10.0.0.25", "mail": True},
    "mx/d": {"host": "10.0.0.26"}, "mail": {"host": "10.0.0.27"},
    "strip/a/b/c": {"host": "10.1.1.1", "port": 1, "targetstrip": 2}, "strip/e": {"host": "deep.name.test", "port": 3, "targetstrip": 9},
    "group/a": {"host": "10.2.2.1", "group": "g1"}, "group/sub/b": {"host": "10.2.2.2", "group": "g1"},
    "group/sub/c": {"host": "10.2.2.3", "group": "g2"}, "group/d": {"host": "10.2.2.4"},
    "mixed/a": {"host": "10.2.3.1", "group": "g1"}, "mixed/b": {"host": "10.2.3.2", "group": "g2"},
    "dns/apex/x1": {"host": "9.9.9.1", "ttl": 60}, "dns/ns/ns1": {"host": "9.9.9.53", "ttl": 61}, "dns/ns/ns2": {"host": "2001:db8::53"},
    "east/prod/web": {"host": "10.5.0.1"}, "west/prod/web": {"host": "10.5.0.3"}, "west/prod/db": {"host": "10.5.0.4"},
    "badname": {"host": "a..b"}, "empty": {}, "badns": {"host": "1.1.1.1"},
}  # fmt: skip


def outside(query: Query) -> Answer:
    """Answers for names outside of the zone: a CNAME record, and an address."""
    name, other = query.name, names.from_text("other.example.net.")
    address = world.records("other.example.net. 44 IN A 192.0.2.44")
    if query.rtype == Type.AAAA:
        address = world.records("other.example.net. 44 IN AAAA 2001:db8::44")
    alias = world.records(f"{names.to_text(name)} 44 IN CNAME {names.to_text(other)}")
    return Reply(flags=TC if query.rtype == Type.AAAA else 0, answer=(*alias, *address))


def ask(name: str, rtype: str, keys: dict[str, Any] | None = None) -> Reply:
    options = world.options("etcd", "etcd", zones="skydns.local")
    found = data(options.source, {BASE + key: value for key, value in (KEYS if keys is None else keys).items()})
    plugin = Etcd(options, world.environment(data=lambda _plugin, key: found.get(key)))
    query = world.query(f"{name}skydns.local.", rtype, ask=outside)
    return world.now(world.handled(plugin, query, world.following()))


def lines(text: str) -> list[str]:
    """Returns lines of text with whole names: `@` stands for the zone."""
    return [line.strip().replace("@", "skydns.local.") for line in text.strip().splitlines()]


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("a.", "A", "a.@ 60 IN A 1.1.1.1\n a.@ 300 IN A 1.1.1.2", id="addresses, each once"),
        pytest.param("mapped.", "A", "mapped.@ 300 IN A 10.0.0.1", id="an IPv4 address in IPv6 form"),
        pytest.param("", "A", "@ 60 IN A 9.9.9.1", id="the zone's own name"),
        pytest.param("texthost.", "A", "", id="a host with a text has no address"),
        pytest.param("alias.", "A", "alias.@ 300 IN CNAME target.@\n target.@ 77 IN A 10.9.9.9", id="alias"),
        pytest.param("alias2.", "A", """
            alias2.@ 30 IN CNAME alias.@
            alias.@ 300 IN CNAME target.@
            target.@ 77 IN A 10.9.9.9""", id="a chain"),
        pytest.param("badalias.", "A", "", id="an alias without a target"),
        pytest.param("loop1.", "A", "", id="a loop"),
        pytest.param("sub.", "A", "", id="an alias below the name itself"),
        pytest.param("outside.", "A", """
            outside.@ 300 IN CNAME ext.example.net.
            ext.example.net. 44 IN CNAME other.example.net.
            other.example.net. 44 IN A 192.0.2.44""", id="an alias to the outside"),
        pytest.param("alias.", "CNAME", "alias.@ 300 IN CNAME target.@", id="CNAME"),
        pytest.param("a.", "CNAME", None, id="CNAME needs an exact key"),
        pytest.param("target.", "CNAME", "", id="CNAME of an address"),
        pytest.param("both.", "SRV", """
            both.@ 300 IN SRV 20 100 80 x1.both.@
            both.@ 300 IN SRV 10 23 81 x2.both.@
            both.@ 300 IN SRV 10 76 82 target.@
            both.@ 300 IN SRV 5 100 83 ext.example.net.
            add x1.both.@ 300 IN A 10.0.0.1
            add x2.both.@ 300 IN AAAA 2001:db8::2
            add target.@ 77 IN A 10.9.9.9
            add ext.example.net. 44 IN CNAME other.example.net.
            add other.example.net. 44 IN A 192.0.2.44
            add other.example.net. 44 IN AAAA 2001:db8::44""", id="SRV"),
        pytest.param("noport.", "SRV", "noport.@ 300 IN SRV 10 50 34463 b.noport.@\n add b.noport.@ 300 IN A 10.3.3.4", id="ports"),
        pytest.param("strip.", "SRV", """
            strip.@ 300 IN SRV 10 50 1 a.strip.@
            strip.@ 300 IN SRV 10 50 3 deep.name.test.
            add a.strip.@ 300 IN A 10.1.1.1
            add deep.name.test. 44 IN CNAME other.example.net.
            add other.example.net. 44 IN A 192.0.2.44
            add other.example.net. 44 IN AAAA 2001:db8::44""", id="targetstrip"),
        pytest.param("mx.", "MX", """
            mx.@ 300 IN MX 5 mail.@
            mx.@ 300 IN MX 10 b.mx.@
            add mail.@ 300 IN A 10.0.0.27
            add b.mx.@ 300 IN A 10.0.0.25""", id="MX"),
        pytest.param("txt.", "TXT", f'txt.@ 9 IN TXT "hello"\n txt.@ 300 IN TXT "{"a" * 255}" ""', id="TXT"),
        pytest.param("texts.", "TXT", f"""
            texts.@ 300 IN CNAME txt.@
            txt.@ 9 IN TXT "hello"
            txt.@ 300 IN TXT "{"a" * 255}" \"\"""", id="TXT of an alias"),
        pytest.param("", "NS", """
            @ 61 IN NS ns1.ns.dns.@
            @ 300 IN NS ns2.ns.dns.@
            add ns1.ns.dns.@ 61 IN A 9.9.9.53
            add ns2.ns.dns.@ 300 IN AAAA 2001:db8::53""", id="NS"),
        pytest.param("group.", "A", "group.@ 300 IN A 10.2.2.1\n group.@ 300 IN A 10.2.2.4\n group.@ 300 IN A 10.2.2.2", id="a group"),
        pytest.param("mixed.", "A", "mixed.@ 300 IN A 10.2.3.1\n mixed.@ 300 IN A 10.2.3.2", id="groups that disagree"),
        pytest.param("no.prod.*.", "A", "", id="a wildcard that matches no key"),
        pytest.param("web.prod.*.", "A", "web.prod.*.@ 300 IN A 10.5.0.1\n web.prod.*.@ 300 IN A 10.5.0.3", id="a wildcard"),
        pytest.param("*.prod.any.", "A", """
            *.prod.any.@ 300 IN A 10.5.0.1
            *.prod.any.@ 300 IN A 10.5.0.4
            *.prod.any.@ 300 IN A 10.5.0.3""", id="two wildcards"),
        pytest.param("empty.", "A", "", id="a value without a host"),
    ],
)  # fmt: skip
def test_records(name: str, rtype: str, expected: str | None) -> None:
    """An empty text stands for NODATA, and None for NXDOMAIN."""
    found = world.summary(ask(name, rtype))
    if expected:
        assert found == ["NOERROR", *lines(expected)]
    else:
        assert found[0] == ("NOERROR" if expected == "" else "NXDOMAIN")
        assert [line.split()[4] for line in found[1:]] == ["SOA"]


@pytest.mark.parametrize(
    ("name", "rtype", "keys", "error"),
    [
        pytest.param("badname.", "A", KEYS, f"{BASE}badname: 'a..b' is no name", id="a host that is no name"),
        pytest.param("badname.", "CNAME", KEYS, f"{BASE}badname: 'a..b' is no name", id="CNAME"),
        pytest.param("", "NS", {"dns/ns/x": {"host": "b.test"}}, "NS record must be an IP address: b.test", id="NS"),
        pytest.param("a.", "SRV", {"a//x": {"host": "10.0.0.1"}}, f"{BASE}a//x: 'x..a.skydns.local' is no name", id="a key"),
    ],
)  # fmt: skip
def test_failures(name: str, rtype: str, keys: dict[str, Any], error: str) -> None:
    reply = ask(name, rtype, keys)
    assert world.summary(reply)[0] == "SERVFAIL"
    assert reply.error.startswith(f"plugin/etcd: {error}")


def test_a_truncated_reply_of_another_server() -> None:
    """The plugin's own reply then has the flag TC, except for TXT."""
    assert ask("outside.", "AAAA").flags & TC
    assert not ask("outside.", "A").flags & TC


def test_many_aliases_are_bounded() -> None:
    """Ten names that are aliases of each other could cause millions of look-ups."""
    keys = {f"n{a}/x{b}": {"host": f"n{b}.skydns.local"} for a in range(10) for b in range(10)}
    reply = ask("n0.", "A", keys)
    assert world.summary(reply)[0] == "NOERROR"
    assert reply.answer == ()


def test_many_records_are_bounded() -> None:
    """A name with thousands of keys has the first records."""
    keys = {f"n/{number}": {"host": f"10.0.{number // 250}.{number % 250}"} for number in range(1500)}
    assert len(ask("n.", "A", keys).answer) == 1000
