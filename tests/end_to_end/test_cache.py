"""The cache of a running server. It survives reloads and upgrades, and policies apply to cached answers."""

from __future__ import annotations

import signal
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.end_to_end.test_upgrade import upgrade
from tests.support.installed import install
from tests.support.server import Server, until
from tests.support.zone_upstream import ZoneUpstream

ZONE = "example.org. 600 IN SOA ns.example.org. admin.example.org. 1 2 3 4 5"
NAMES = [f"n{number}.example.org." for number in range(40)]
RECORDS = [ZONE, *[f"{name} 600 IN A 192.0.2.{number}" for number, name in enumerate(NAMES)]]
CACHE = "cache {\n  success 9984\n }"


def corefile(upstream: ZoneUpstream, cache: str = CACHE, more: str = "") -> str:
    """Returns a Corefile with a *cache* directive and an upstream."""
    return (
        f".:{{port}} {{\n bind 127.0.0.1\n ready 127.0.0.1:{{ready}}\n prometheus 127.0.0.1:{{metrics}}\n {cache}\n"
        f" {more}\n forward . 127.0.0.1:{upstream.port}\n}}\n"
    )


def warm(server: Server) -> None:
    """Queries all names until *cache* and the answer table have them."""
    for _ in range(3):
        for number, name in enumerate(NAMES):
            assert server.records(name) == [f"192.0.2.{number}"]


OTHER_OPTIONS = {
    "a smaller store": "cache {\n  success 1024\n }",
    "a larger store": "cache {\n  success 50000\n  prefetch 10\n }",
    "other times": "cache 300 {\n  serve_stale 1h verify 100ms\n }",
}


def test_cached_answers_stay_through_reloads(tmp_path: Path) -> None:
    """The reloads change options of *cache*. The upstream gets no further query."""
    with ZoneUpstream(RECORDS) as upstream, Server(tmp_path, corefile(upstream)) as server:
        server.until_ready()
        warm(server)
        asked = upstream.asked
        for number, options in enumerate(OTHER_OPTIONS.values(), 1):
            server.write(corefile(upstream, options))
            server.process.send_signal(signal.SIGUSR1)
            until("the reload", lambda: server.log.count("Reloading complete") == number)  # noqa: B023
            warm(server)
            assert upstream.asked == asked


@pytest.mark.slow
def test_cached_answers_stay_through_an_upgrade(tmp_path: Path) -> None:
    install(tmp_path)
    with ZoneUpstream(RECORDS) as upstream, Server(tmp_path, corefile(upstream)) as server:
        server.until_ready()
        warm(server)
        before = server.children()
        asked = upstream.asked
        until("the TTL to go down", lambda: all(server.ask(NAMES[-1]).answer[0].ttl < 600 for _ in range(4)))
        assert upstream.asked == asked
        upgrade(server)
        assert not set(before.values()) & set(server.children().values())
        warm(server)
        assert upstream.asked == asked
        assert max(server.ask(name).answer[0].ttl for name in NAMES) < 600


def test_a_policy_applies_to_every_hit(tmp_path: Path) -> None:
    """*acl* refuses a client although another client has filled the cache and the answer table."""
    blocking = "acl {\n  block net 127.0.0.2\n }"
    with ZoneUpstream(RECORDS) as upstream, Server(tmp_path, corefile(upstream, more=blocking)) as server:
        server.until_ready()
        warm(server)
        for name in NAMES:
            for tcp in (False, True):
                assert server.records(name, tcp=tcp, source="127.0.0.2") == ["REFUSED"]
                assert server.records(name, tcp=tcp) != ["REFUSED"]


@pytest.mark.parametrize("mode", ["immediate", "verify"])
def test_stale_answers_while_no_upstream_answers(tmp_path: Path, mode: str) -> None:
    """An expired answer has extended error 3 (RFC 8767). Other names get SERVFAIL."""
    cache = f"cache {{\n  success 9984 1 1\n  serve_stale 1h {mode}\n }}"
    with Server(tmp_path, ".:{port} {\n bind 127.0.0.1\n whoami\n}\n") as server:
        with ZoneUpstream(RECORDS) as upstream:
            server.write(corefile(upstream, cache))
            server.process.kill()
            server.process.wait()
            server.process = server.launch()
            server.until_ready()
            warm(server)
        query = dns.message.make_query(NAMES[0], "A", use_edns=0)

        def codes() -> list[int]:
            reply = dns.query.udp(query, "127.0.0.1", 10, server.ports["port"])
            assert reply.answer[0][0].to_text() == "192.0.2.0"
            return [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)]

        until("the end of the entry", lambda: codes() == [3])
        assert server.records("new.example.org.", timeout=15.0) == ["SERVFAIL"]


def test_the_leak_guard_by_environment(tmp_path: Path) -> None:
    """With an environment variable, the Corefile has no option that CoreDNS rejects."""
    with ZoneUpstream(RECORDS) as upstream, Server(tmp_path, corefile(upstream), SVCDNS_LEAK_GUARD="block") as server:
        server.until_ready()
        asked = upstream.asked
        query = dns.message.make_query("web.default.svc.cluster.local.", "A", use_edns=0)
        reply = dns.query.udp(query, "127.0.0.1", 10, server.ports["port"])
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert [int(option.code) for option in reply.options if isinstance(option, dns.edns.EDEOption)] == [15]
        assert upstream.asked == asked
        leaked = 'svcdns_forward_leaked_total{action="blocked",kind="cluster"'
        until("the count", lambda: server.metric(leaked) == 1)


def test_a_denial_is_confirmed_by_another_upstream(tmp_path: Path) -> None:
    """If only one of two upstreams has the name, the client gets the answer of this upstream."""
    cache = "cache {\n  success 9984 1 1\n  denial 9984 1 1\n  confirm_denials 0s\n }"
    with ZoneUpstream(RECORDS) as upstream, ZoneUpstream(RECORDS) as other:
        text = corefile(upstream, cache).replace(
            f":{upstream.port}", f":{upstream.port} 127.0.0.1:{other.port} {{\n  policy sequential\n }}"
        )
        with Server(tmp_path, text) as server:
            server.until_ready()
            warm(server)
            assert other.asked == 0
            upstream.lose(NAMES[0])
            overruled = 'svcdns_cache_denial_confirmations_total{outcome="overruled"'

            def is_overruled() -> bool:
                assert server.records(NAMES[0]) == ["192.0.2.0"]
                return server.metric(overruled) > 0

            until("the denial to be overruled", is_overruled)
            other.lose(NAMES[0])
            until("the end of the name", lambda: server.records(NAMES[0]) == ["NXDOMAIN"])
            assert server.records(NAMES[1]) == ["192.0.2.1"]
