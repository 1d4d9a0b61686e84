"""The leak guard, which finds internal names in forwarded queries."""

from __future__ import annotations

import pytest

from svcdns.plugins.forward.leak_guard import LeakGuard
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import RD, ExtendedError, Rcode
from tests.support import world

KUBERNETES = "kubernetes example.cluster in-addr.arpa 10.0.0.0/8 {\n fallthrough\n}"
BARE = "forward . 192.0.2.1"


class Guarded:
    """The leak guard of the first *forward* rule in a block."""

    def __init__(self, text: str, zones: str = ".") -> None:
        """Creates the guard. `text` has the directives of the block."""
        rule = world.options("forward", text, zones=zones).rules[0]
        self.zone, self.counters = names.from_text(zones), Counters()
        self.guard = LeakGuard(rule, world.environment(counters=self.counters))

    def leaks(self, name: str, rtype: str = "A") -> list[tuple[str, ...]]:
        """Returns the labels that are counted for a name, without the metric's name and the server."""
        assert self.guard.stopped(world.query(name, rtype, zone=self.zone, server="dns://:53")) is None
        return [labels[2:] for labels, value in world.counted(self.counters).items() if value == 1]


@pytest.mark.parametrize(
    ("text", "zones", "name", "kind"),
    [
        pytest.param(BARE, ".", "www.example.org.", "", id="an outside name"),
        pytest.param(BARE, ".", ".", "", id="the root"),
        pytest.param(BARE, ".", "web.", "single_label", id="one label"),
        pytest.param(BARE, ".", "web.default.svc.cluster.local.", "cluster", id="the usual cluster domain"),
        pytest.param(BARE, ".", "WEB.Default.SVC.Cluster.Local.", "cluster", id="in any spelling"),
        pytest.param(BARE, ".", "cluster.local.", "cluster", id="the domain itself"),
        pytest.param(BARE, ".", "mycluster.local.", "", id="no label boundary"),
        pytest.param(f"{KUBERNETES}\n{BARE}", ".", "x.example.cluster.", "cluster", id="a zone of kubernetes"),
        pytest.param(
            f"{KUBERNETES}\n{BARE}", "example.cluster.", "x.example.cluster.", "cluster", id="in a block of that zone"
        ),
        pytest.param(
            f"kubernetes\n{BARE}",
            "example.cluster.",
            "x.example.cluster.",
            "cluster",
            id="the block's zone is that of kubernetes",
        ),
        pytest.param(f"{KUBERNETES}\n{BARE}", ".", "1.0.0.10.in-addr.arpa.", "", id="an address"),
        pytest.param(f"kubernetes .\n{BARE}", ".", "www.example.org.", "", id="kubernetes for everything"),
        pytest.param("forward cluster.local 192.0.2.1", ".", "x.cluster.local.", "", id="FROM names the zone"),
        pytest.param(
            f"{KUBERNETES}\nforward a.example.cluster 192.0.2.1",
            ".",
            "x.a.example.cluster.",
            "",
            id="FROM names a part of it",
        ),
        pytest.param(BARE, "cluster.local.", "x.cluster.local.", "", id="the block names the zone"),
        pytest.param(BARE, "corp.", "corp.", "", id="the block names the label"),
        pytest.param("forward corp 192.0.2.1", ".", "corp.", "", id="FROM names the label"),
    ],
)
def test_what_counts_as_a_leak(text: str, zones: str, name: str, kind: str) -> None:
    """Cluster names and names of one label are leaks, unless the Corefile forwards them explicitly."""
    assert Guarded(text, zones).leaks(name) == ([(kind, "forwarded")] if kind else [])


@pytest.mark.parametrize(
    ("rtype", "leaks"), [("AAAA", True), ("MX", True), ("NS", False), ("DS", False), ("DNSKEY", False), ("SOA", False)]
)
def test_resolvers_may_walk_down_from_the_root(rtype: str, *, leaks: bool) -> None:
    """Queries of resolvers for top-level domains (NS, DS, DNSKEY, SOA) are not leaks, except for the cluster's own
    domain.
    """
    assert bool(Guarded(BARE).leaks("org.", rtype)) is leaks
    assert Guarded(BARE).leaks("cluster.local.", rtype)


def test_block() -> None:
    """With `leak_guard block`, internal names get NXDOMAIN with an extended error."""
    guarded = Guarded(BARE + " {\n leak_guard block\n}")
    reply = guarded.guard.stopped(world.query("web.", server="dns://:53"))
    assert reply is not None
    assert (reply.rcode, reply.flags, reply.extended, reply.has_message) == (
        Rcode.NXDOMAIN,
        RD,
        ExtendedError.BLOCKED,
        True,
    )
    assert world.counted(guarded.counters) == {
        ("svcdns_forward_leaked_total", "dns://:53", "single_label", "blocked"): 1
    }
    assert guarded.leaks("www.example.org.") == [("single_label", "blocked")]


def test_off() -> None:
    """With `leak_guard off`, names are neither counted nor blocked."""
    assert Guarded(BARE + " {\n leak_guard off\n}").leaks("web.") == []


@pytest.mark.parametrize(
    ("text", "zones", "notes"),
    [
        pytest.param(BARE, ".", True, id="the cluster domain"),
        pytest.param(f"{KUBERNETES}\n{BARE}", ".", True, id="beside another cluster zone"),
        pytest.param(f"kubernetes cluster.local\n{BARE}", ".", False, id="inside a cluster zone"),
        pytest.param("forward x.cluster.local 192.0.2.1", ".", False, id="FROM is in the domain"),
        pytest.param(BARE + " {\n leak_guard off\n}", ".", False, id="off"),
        pytest.param(BARE + " {\n leak_guard block\n}", ".", False, id="block"),
    ],
)
def test_queries_that_are_forwarded_without_the_chain(text: str, zones: str, *, notes: bool) -> None:
    """For names outside of `zones`, `note` counts the same queries as `stopped`."""
    for name in ("web.default.svc.cluster.local.", "cluster.local.", "mycluster.local.", "example.org."):
        guarded, noted = Guarded(text, zones), Guarded(text, zones)
        assert guarded.guard.notes is notes
        key = names.from_text(name)
        if not any(names.is_within(key, zone) for zone in guarded.guard.zones):
            if notes:
                noted.guard.note(key, noted.zone, "dns://:53")
            guarded.leaks(name)
            assert world.counted(noted.counters) == world.counted(guarded.counters)
