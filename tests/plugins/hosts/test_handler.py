"""The plugin *hosts* (docs/behaviour/plugins.md#hosts)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins.hosts import Hosts, gather
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from tests.support import world

INLINE = """hosts none {zones} {{
    10.0.0.1 box.example.org alias.example.org
    10.0.0.2 box.example.org
    ::ffff:10.0.0.3 mapped.example.org
    2001:db8::1%eth0 six.example.org
    10.0.0.9 *.wild.example.org
    10.0.0.8 own.wild.example.org
    10.0.0.7 host.example.net
    {more}
}}"""
NEXT_PLUGIN = Reply(rcode=Rcode.NXDOMAIN, lifetime=30.0)


class Server:
    """The plugin *hosts*, and the part of the control process that reads the hosts file."""

    def __init__(self, text: str) -> None:
        self.options = world.options("hosts", text)
        self.counters = Counters()
        self.invalidated: list[tuple[Dependency, ...]] = []
        self._calls: list[Callable[[bytes], None]] = []
        content = gather(self.options, {})
        self.plugin = Hosts(
            self.options,
            world.environment(
                counters=self.counters,
                data=lambda _plugin, key: content.get(key),
                on_data=lambda _plugin, _key, call: self._calls.append(call),
                invalidate=self.invalidated.append,
            ),
        )

    def change(self) -> None:
        """Passes the newly read file to the plugin, as control does."""
        for call in self._calls:
            call(gather(self.options, {})[self.options.data_key])

    def ask(self, name: str, rtype: str = "A") -> Reply:
        return world.now(world.handled(self.plugin, world.query(name, rtype), world.following(NEXT_PLUGIN)))

    def lines(self, name: str, rtype: str = "A") -> list[str]:
        """Returns the response code and the records of the reply."""
        return world.summary(self.ask(name, rtype))


def inline(zones: str = "", more: str = "") -> Server:
    """Returns the plugin *hosts* with entries in the Corefile and without a file."""
    return Server(INLINE.format(zones=zones, more=more))


@pytest.mark.parametrize(
    ("name", "rtype", "lines"),
    [
        pytest.param(
            "box.example.org.",
            "A",
            ["box.example.org. 3600 IN A 10.0.0.1", "box.example.org. 3600 IN A 10.0.0.2"],
            id="two",
        ),
        pytest.param("Alias.Example.ORG.", "A", ["alias.example.org. 3600 IN A 10.0.0.1"], id="lower case"),
        pytest.param("mapped.example.org.", "A", ["mapped.example.org. 3600 IN A 10.0.0.3"], id="mapped"),
        pytest.param("six.example.org.", "AAAA", ["six.example.org. 3600 IN AAAA 2001:db8::1"], id="zone id"),
        pytest.param("box.example.org.", "AAAA", [], id="other family"),
        pytest.param("box.example.org.", "TXT", [], id="other type"),
        pytest.param("x.wild.example.org.", "A", ["x.wild.example.org. 3600 IN A 10.0.0.9"], id="wildcard"),
        pytest.param(
            "own.wild.example.org.", "A", ["own.wild.example.org. 3600 IN A 10.0.0.8"], id="its own entry wins"
        ),
        pytest.param(
            "1.0.0.10.in-addr.arpa.",
            "PTR",
            [
                "1.0.0.10.in-addr.arpa. 3600 IN PTR box.example.org.",
                "1.0.0.10.in-addr.arpa. 3600 IN PTR alias.example.org.",
            ],
            id="names of an address",
        ),
    ],
)
def test_answers(name: str, rtype: str, lines: list[str]) -> None:
    """AA is set. A known name without the queried type has an empty answer."""
    reply = inline().ask(name, rtype)
    assert world.summary(reply) == ["NOERROR", *lines]
    assert reply.flags & AA
    assert reply.lifetime == UNTIL_CHANGED


def test_an_unknown_name_is_servfail() -> None:
    """NXDOMAIN would need an SOA record."""
    for name in ("none.example.org.", "a.b.wild.example.org.", "wild.example.org."):
        reply = inline().ask(name)
        assert (reply.rcode, reply.has_message) == (Rcode.SERVFAIL, False)


@pytest.mark.parametrize(
    ("more", "name", "rtype", "passed"),
    [
        pytest.param("fallthrough", "none.example.org.", "A", True, id="unknown"),
        pytest.param("fallthrough", "box.example.org.", "AAAA", False, id="known"),
        pytest.param("fallthrough", "box.example.org.", "TXT", False, id="known, other type"),
        pytest.param("fallthrough\nfallthrough_unsupported", "box.example.org.", "TXT", True, id="other types too"),
        pytest.param(
            "fallthrough\nfallthrough_unsupported", "box.example.org.", "AAAA", False, id="not the other family"
        ),
        pytest.param("fallthrough example.net", "none.example.net.", "A", True, id="zone"),
        pytest.param("", "9.0.0.10.in-addr.arpa.", "PTR", True, id="a wildcard has no PTR"),
        pytest.param("", "box.example.org.", "PTR", True, id="PTR of a forward name"),
        pytest.param("no_reverse", "1.0.0.10.in-addr.arpa.", "PTR", True, id="no_reverse"),
    ],
)
def test_fallthrough(more: str, name: str, rtype: str, passed: bool) -> None:
    """Unknown names in the zones of `fallthrough` go to the next plugin. Unknown addresses always do."""
    assert (inline(more=more).ask(name, rtype).rcode == Rcode.NXDOMAIN) is passed


def test_a_reply_of_the_next_plugin_depends_on_the_file() -> None:
    """The name may be added to the file later."""
    hosts = inline(more="fallthrough")
    reply = hosts.ask("none.example.org.")
    assert (reply.lifetime, reply.dependencies) == (30.0, hosts.ask("box.example.org.").dependencies)


def test_names_outside_the_zones() -> None:
    """Entries for names outside the zones are ignored. Queries for such names go to the next plugin."""
    hosts = inline("example.org")
    assert hosts.ask("host.example.net.").rcode == Rcode.NXDOMAIN
    assert hosts.ask("7.0.0.10.in-addr.arpa.", "PTR").rcode == Rcode.NXDOMAIN
    assert hosts.lines("1.0.0.10.in-addr.arpa.", "PTR")[0] == "NOERROR"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(
        b"# names\n10.1.0.1 Box.example.org extra.example.org # two\nx y\n10.1.0.2\n\n10.1.0.3 b\xff..d b.\r\n"
    )
    os.utime(path, (1000, 1000))
    return path


def test_the_file_comes_before_the_corefile(file: Path) -> None:
    """The file's addresses come before the Corefile's addresses in an answer."""
    hosts = Server(f"hosts {file} {{\n10.0.0.1 box.example.org\n ttl 77\n}}")
    assert hosts.lines("box.example.org.") == [
        "NOERROR",
        "box.example.org. 77 IN A 10.1.0.1",
        "box.example.org. 77 IN A 10.0.0.1",
    ]
    assert hosts.lines("b.") == ["NOERROR", "b. 77 IN A 10.1.0.3"]
    assert len(hosts.lines("1.0.1.10.in-addr.arpa.", "PTR")) == 3


def test_a_change_of_the_file_invalidates_its_replies(file: Path) -> None:
    hosts = Server(f"hosts {file} {{\n10.0.0.1 box.example.org\n}}")
    before = world.counted(hosts.counters)
    assert before["coredns_hosts_entries", str(file)] == 6 + 2
    assert before["coredns_hosts_reload_timestamp_seconds",] == 1000
    reply = hosts.ask("extra.example.org.")
    file.write_text("10.1.0.9 extra.example.org\n")
    os.utime(file, (2000.5, 2000.5))
    hosts.change()
    assert hosts.invalidated == [reply.dependencies]
    assert hosts.lines("extra.example.org.") == ["NOERROR", "extra.example.org. 3600 IN A 10.1.0.9"]
    after = world.counted(hosts.counters)
    assert (after["coredns_hosts_entries", str(file)], after["coredns_hosts_reload_timestamp_seconds",]) == (4, 2000.5)


def test_a_large_file(tmp_path: Path) -> None:
    """The first and the last of 5000 lines are found."""
    path = tmp_path / "many"
    path.write_text("".join(f"10.2.{n // 256}.{n % 256} n{n}.example.org\n" for n in range(5000)))
    hosts = Server(f"hosts {path}")
    found: dict[str, Any] = {
        name: hosts.lines(name)[1].split()[-1] for name in ("n0.example.org.", "n4999.example.org.")
    }
    assert found == {"n0.example.org.": "10.2.0.0", "n4999.example.org.": "10.2.19.135"}


@pytest.mark.parametrize(
    "more",
    [
        "fallthrough",
        "fallthrough wild.example.org in-addr.arpa",
        "no_reverse",
        "fallthrough\n fallthrough_unsupported",
    ],
)
@pytest.mark.parametrize("zones", ["", "example.org"])
def test_the_fast_path_and_the_cold_path_get_the_queries_that_are_passed_on(zones: str, more: str) -> None:
    """The function for these paths decides as `handle`, with the same dependencies."""
    server, fast_path, cold_path = Server(INLINE.format(zones=zones, more=more)), FastPath(), ColdPath()
    assert server.plugin.join_fast_path(fast_path)
    assert server.plugin.join_cold_path(cold_path)
    assert cold_path.passes == fast_path.passes
    [passes] = fast_path.passes
    asked = """. box.example.org. six.example.org. a.wild.example.org. a.b.wild.example.org. own.wild.example.org.
        x.example.org. host.example.net. x.example.net. 1.0.0.10.in-addr.arpa. 99.0.0.10.in-addr.arpa."""
    passed = 0
    for name in asked.split():
        for rtype in ("A", "AAAA", "PTR", "TXT"):
            reply, found = server.ask(name, rtype), passes(names.from_text(name), Type[rtype])
            assert (found is not None) == (reply.rcode == NEXT_PLUGIN.rcode), (name, rtype)
            if found is not None:
                assert found == reply.dependencies
                passed += 1
    assert passed
