"""The options of *forward* (docs/behaviour/plugins.md#forward)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.forward.upstream_addresses import NamedUpstream, TlsUpstream
from tests.support import world


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(
            "forward . 192.0.2.1",
            {"zone": ".", "upstreams": (("192.0.2.1", 53),), "policy": "random", "max_fails": 2},
            id="one",
        ),
        pytest.param(
            "forward a.b dns://192.0.2.1:54 [::1]:55 ::2",
            {"upstreams": (("192.0.2.1", 54), ("::1", 55), ("::2", 53))},
            id="forms",
        ),
        pytest.param("forward . 192.0.2.1 192.0.2.1", {"upstreams": (("192.0.2.1", 53),)}, id="the same twice"),
        pytest.param("forward . /etc/resolv.conf", {"upstreams": (NamedUpstream("/etc/resolv.conf"),)}, id="file"),
        pytest.param(
            "forward . ns.a.b dns://ns.a.b:54",
            {"upstreams": (NamedUpstream("ns.a.b", "ns.a.b"), NamedUpstream("ns.a.b:54", "ns.a.b", 54))},
            id="hosts",
        ),
        pytest.param(
            "forward 10.0.0.0/15 ::1", {"zone": "0.10.in-addr.arpa.", "left_out": ("1.10.in-addr.arpa.",)}, id="network"
        ),
        pytest.param(
            "forward . ::1 {\n next nxdomain NOTIMPL\n next SERVFAIL\n next_on_nodata\n failover REFUSED\n}",
            {"next": frozenset({2, 3, 4}), "next_on_nodata": True, "failover": frozenset({5})},
            id="next",
        ),
        pytest.param(
            "forward . ::1 {\n resolver 192.0.2.1 [::1]:54\n}",
            {"resolvers": (("192.0.2.1", 53), ("::1", 54))},
            id="resolver",
        ),
        pytest.param(
            "forward . ::1 {\n except a.b c.d\n except e.f\n}", {"excepted": ("a.b.", "c.d.", "e.f.")}, id="except"
        ),
        pytest.param(
            "forward . ::1 {\n policy sequential\n max_concurrent 1000\n}",
            {"policy": "sequential", "max_concurrent": 1000},
            id="policy",
        ),
        pytest.param(
            "forward . ::1 {\n force_tcp\n prefer_udp\n}", {"force_tcp": True, "prefer_udp": True}, id="transport"
        ),
        pytest.param(
            "forward . ::1 {\n expire 5s\n max_age 1m\n max_idle_conns 3\n}",
            {"expire": 5.0, "max_age": 60.0, "max_idle_conns": 3},
            id="conns",
        ),
        pytest.param(
            "forward . ::1 {\n health_check 1s no_rec domain a.b\n}",
            {"health_check": 1.0, "health_recursion": False, "health_domain": "a.b."},
            id="health",
        ),
        pytest.param(
            "forward . ::1 {\n read_timeout 500ms\n max_connect_attempts 3\n}",
            {"read_timeout": 0.5, "max_connect_attempts": 3},
            id="attempts",
        ),
        pytest.param(
            "forward . ::1 {\n failfast_all_unhealthy_upstreams\n source_address 127.0.0.1\n}",
            {"failfast": True, "source_address": "127.0.0.1"},
            id="rest",
        ),
        pytest.param("forward . ::1", {"leak_guard": "count", "cluster_zones": ()}, id="leaks are counted"),
        pytest.param("forward . ::1 {\n leak_guard block\n}", {"leak_guard": "block"}, id="or stopped"),
        pytest.param(
            "kubernetes a.b in-addr.arpa 10.0.0.0/8 c.d\nforward . ::1",
            {"cluster_zones": ("a.b.", "c.d.")},
            id="zones of the cluster",
        ),
    ],
)
def test_reads(text: str, fields: dict[str, Any]) -> None:
    (rule,) = world.options("forward", text).rules
    assert {name: getattr(rule, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("place", "upstream"),
    [
        pytest.param("tls://192.0.2.1", TlsUpstream(("192.0.2.1", 853)), id="address"),
        pytest.param("tls://192.0.2.1:8853", TlsUpstream(("192.0.2.1", 8853)), id="port"),
        pytest.param("tls://192.0.2.1%dns.test", TlsUpstream(("192.0.2.1", 853), "dns.test"), id="name"),
        pytest.param("tls://192.0.2.1%dns.test:8853", TlsUpstream(("192.0.2.1", 8853), "dns.test"), id="name and port"),
        pytest.param("tls://::1%dns.test", TlsUpstream(("::1", 853), "dns.test"), id="IPv6 and name"),
        pytest.param("tls://[::1%dns.test]:8853", TlsUpstream(("::1", 8853), "dns.test"), id="IPv6, name and port"),
        pytest.param(
            "tls://[::1]%dns.test:8853", TlsUpstream(("::1", 8853), "dns.test"), id="IPv6, name after it, and port"
        ),
        pytest.param("tls://[::1]:8853", TlsUpstream(("::1", 8853)), id="IPv6 and port"),
        pytest.param("https://192.0.2.1", TlsUpstream(("192.0.2.1", 443), transport="https"), id="HTTPS"),
        pytest.param(
            "https://192.0.2.1%dns.test:8443",
            TlsUpstream(("192.0.2.1", 8443), "dns.test", transport="https"),
            id="HTTPS, name",
        ),
        pytest.param(
            "https://dns.test",
            NamedUpstream("https://dns.test", "dns.test", 443, "dns.test", transport="https"),
            id="HTTPS, host",
        ),
        pytest.param("tls://dns.test", NamedUpstream("tls://dns.test", "dns.test", 853, "dns.test"), id="host"),
        pytest.param(
            "tls://a.b%dns.test:8853",
            NamedUpstream("tls://a.b%dns.test:8853", "a.b", 8853, "dns.test"),
            id="host, name and port",
        ),
        pytest.param("quic://192.0.2.1", TlsUpstream(("192.0.2.1", 853), transport="quic"), id="QUIC"),
        pytest.param(
            "quic://[::1]%dns.test:8853", TlsUpstream(("::1", 8853), "dns.test", "quic"), id="QUIC, name and port"
        ),
        pytest.param(
            "quic://dns.test", NamedUpstream("quic://dns.test", "dns.test", 853, "dns.test", "quic"), id="QUIC, host"
        ),
    ],
)
def test_upstreams_over_tls(place: str, upstream: object) -> None:
    """An upstream with `tls://` may state a name. The upstream's certificate is verified for this name."""
    (rule,) = world.options("forward", f"forward . {place}").rules
    assert rule.upstreams == (upstream,)
    assert rule.tls_key == "tls   "


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        pytest.param("tls", ("", "", ""), id="the machine's authorities"),
        pytest.param("tls ca", ("", "", "/root/ca"), id="authorities"),
        pytest.param("tls c /k", ("/root/c", "/k", ""), id="own certificate"),
        pytest.param("tls c k ca", ("/root/c", "/root/k", "/root/ca"), id="both"),
    ],
)
def test_files_of_tls(line: str, paths: tuple[str, str, str]) -> None:
    """Paths in the option `tls` are relative to the folder of *root*."""
    (rule,) = world.options("forward", f"forward . ::1 {{\n {line}\n}}", root="/root").rules
    assert rule.tls == paths
    assert bool(rule.tls_key) == any(paths)


def test_each_directive_is_a_rule() -> None:
    assert [rule.zone for rule in world.options("forward", "forward a.b ::1\nforward . ::2").rules] == ["a.b.", "."]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            "forward . ::1 {\n leak_guard on\n}",
            "3:13 'on' is unknown; one of count, block, off was expected",
            id="leak_guard",
        ),
        pytest.param("forward .", "2:9 Wrong argument count", id="no upstream"),
        pytest.param("forward . no..where", "2:11 not an IP address, file, or valid domain: 'no..where'", id="name"),
        pytest.param("forward . ::1:70000", "2:11 not an IP address, file, or valid domain: '::1:70000'", id="port"),
        pytest.param("forward . ::1 {\n next\n}", "3:2 Wrong argument count", id="no rcode"),
        pytest.param(
            "forward . ::1 {\n next NXDOMAN\n}",
            "3:7 'NXDOMAN' is not a response code (did you mean 'NXDOMAIN'?)",
            id="rcode",
        ),
        pytest.param("forward . ::1 {\n failover NoError\n}", "3:11 NOERROR cannot be used in failover", id="failover"),
        pytest.param(
            "forward . ::1 {\n resolver ns.a.b\n}", "3:11 'ns.a.b' is not a resolver; IP or IP:PORT", id="resolver"
        ),
        pytest.param(
            "forward . https://192.0.2.1/dns-query", "2:11 paths are not allowed in HTTPS upstream addresses", id="path"
        ),
        pytest.param(
            "forward . tls:///etc/resolv.conf", "2:11 not an IP address or host, with a name to verify", id="tls file"
        ),
        pytest.param(
            "forward . tls://192.0.2.1%", "2:11 not an IP address or host, with a name to verify", id="empty name"
        ),
        pytest.param(
            "forward . tls://192.0.2.1%a..b", "2:11 not an IP address or host, with a name to verify", id="bad name"
        ),
        pytest.param(
            "forward . tls://::1%a.b {\n tls_servername c\n}",
            "2:11 both tls_servername 'c' and a name of its own",
            id="both",
        ),
        pytest.param("forward . ::1 {\n tls a b c d\n}", "3:12 Wrong argument count", id="tls arguments"),
        pytest.param("forward . ::1 {\n tls_servername a..b\n}", "3:17 'a..b' is not a host name", id="server name"),
        pytest.param("forward . ftp://192.0.2.1", "2:11 'ftp' is not supported as a destination protocol", id="scheme"),
        pytest.param(
            "forward . " + " ".join(f"192.0.2.{n}" for n in range(16)),
            "2:166 more than 15 TOs configured: 16",
            id="too many",
        ),
        pytest.param(
            "forward . ::1 {\n policy best\n}",
            "3:9 'best' is unknown; one of random, round_robin, sequential",
            id="policy",
        ),
        pytest.param("forward . ::1 {\n max_fails -1\n}", "3:12 -1 is out of range", id="negative"),
        pytest.param("forward . ::1 {\n read_timeout 0\n}", "3:15 read_timeout '0' is not above 0", id="zero"),
        pytest.param(
            "forward . ::1 {\n health_check 1s domain\n}", "3:18 health_check: a name was expected", id="health"
        ),
        pytest.param(
            "forward . ::1 {\n max_age 5s\n}", "2:1 max_age (5s) must not be less than expire (10s)", id="max_age"
        ),
        pytest.param("forward . ::1 {\n source_address lo\n}", "3:17 'lo' is not an IP address", id="source"),
        pytest.param(
            "forward . ::1 {\n doh_method PUT\n}", "3:13 'PUT' is unknown; one of GET, POST was expected", id="method"
        ),
        pytest.param(
            "forward . ::1 {\n polcy random\n}", "3:2 unknown property 'polcy' (did you mean 'policy'?)", id="unknown"
        ),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("forward", text).startswith(error)


@pytest.mark.parametrize(
    ("word", "upstream"),
    [
        ("192.0.2.1:0", ("192.0.2.1", 0)),
        ("192.0.2.1:65536", ("192.0.2.1", 0)),
        ("192.0.2.1:" + "9" * 5000, ("192.0.2.1", 0)),
        ("192.0.2.1:x", ("192.0.2.1", 0)),
        ("192.0.2.1:", ("192.0.2.1", 0)),
        ("dns://[::1]:70000", ("::1", 0)),
        ("tls://192.0.2.1:0", TlsUpstream(("192.0.2.1", 0))),
        ("host:0", NamedUpstream("host:0", "host", 0)),
    ],
)
def test_an_unusable_port_is_a_warning(word: str, upstream: object) -> None:
    """As in CoreDNS, the server starts."""
    options = world.options("forward", f"forward . ::1 {word}")
    assert options.rules[0].upstreams == (("::1", 53), upstream)
    text = f"the port of '{word}' is not a number from 1 to 65535, so this server answers no query"
    assert options.warnings == (f"Corefile:2:15 - {text}",)


def test_an_unusable_port_of_a_resolver_is_a_warning() -> None:
    options = world.options("forward", "forward . ::1 {\n resolver ::2 192.0.2.1:0\n}")
    assert options.rules[0].resolvers == (("::2", 53), ("192.0.2.1", 0))
    text = "the port of '192.0.2.1:0' is not a number from 1 to 65535, so this server answers no query"
    assert options.warnings == (f"Corefile:3:15 - {text}",)
