"""The plugin `autopath` (docs/behaviour/plugins.md#autopath)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins.autopath import Autopath, gather, search_path
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from tests.support import world

NXDOMAIN = Reply(rcode=Rcode.NXDOMAIN, lifetime=UNTIL_CHANGED, dependencies=(("absent",),))
POD, STRANGER = "10.244.0.1", "192.0.2.1"


class Cluster:
    """What *autopath* asks of *kubernetes*."""

    name = "kubernetes"

    def search_zone(self, key: bytes) -> bytes | None:
        """One zone."""
        zone = names.from_text("cluster.local.")
        return zone if names.is_within(key, zone) else None

    def pod_namespace(self, address: str) -> str:
        """One Pod."""
        return "web" if address == POD else ""


class Walking:
    """The plugin before a chain that knows some names."""

    def __init__(self, text: str = "autopath @kubernetes", search: str = "corp.example", **known: Any) -> None:
        """`known` has replies by name, with `_` for dots."""
        options = world.options("autopath", text, zones=".")
        self.asked: list[str] = []
        self.known = {name.replace("_", "."): reply for name, reply in known.items()}
        self.counters = Counters()
        content = b"".join(map(names.from_text, search.split()))
        environment = world.environment(counters=self.counters, data=lambda *_: content, peers=lambda _: (Cluster(),))
        self.plugin = Autopath(options, environment)
        self.plugin.start()

    def _following(self, query: Query) -> Answer:
        self.asked.append(names.to_text(query.name))
        found: Answer = self.known.get(names.to_text(query.key), NXDOMAIN)
        return found

    def ask(self, name: str, address: str = POD, rtype: str = "A") -> Answer:
        """The answer to a question."""
        client = Client(address, 40000, "192.0.2.53", 53, "udp")
        return self.plugin.handle(world.query(name, rtype, client=client, server="dns://:53"), self._following)


def found(name: str, **fields: Any) -> Reply:
    """A reply with an address of that name."""
    return Reply(answer=world.records(f"{name} 30 IN A 192.0.2.7"), **fields)


def test_walks_the_path_of_the_pod_that_asks() -> None:
    """Until something answers; a CNAME leads there."""
    walking = Walking(**{"Www_example_org_".lower(): found("www.example.org.", lifetime=20.0, next_second=0.5, increments=((9, 1.0),))})
    reply = world.now(walking.ask("Www.Example.org.web.svc.cluster.local."))
    assert walking.asked == [
        "Www.Example.org.web.svc.cluster.local.",
        "Www.Example.org.svc.cluster.local.",
        "Www.Example.org.cluster.local.",
        "Www.Example.org.corp.example.",
        "Www.Example.org.",
    ]
    assert world.summary(reply) == [
        "NOERROR",
        "Www.Example.org.web.svc.cluster.local. 30 IN CNAME www.example.org.",
        "www.example.org. 30 IN A 192.0.2.7",
    ]
    assert (reply.lifetime, reply.next_second) == (20.0, 0.5)
    assert set(reply.dependencies) == {("absent",), ("pod", POD)}
    assert reply.scope is CacheScope.CLIENT_CLASS
    assert len(reply.increments) == 2
    assert world.counted(walking.counters) == {("coredns_autopath_success_total", "dns://:53"): 1}


@pytest.mark.parametrize(
    ("known", "tries"),
    [
        pytest.param({"a_web_svc_cluster_local_": found("a.web.svc.cluster.local.")}, 1, id="the first"),
        pytest.param({"a_svc_cluster_local_": Reply()}, 2, id="NODATA counts"),
        pytest.param({"a_svc_cluster_local_": Reply(rcode=Rcode.REFUSED)}, 2, id="an rcode that was written"),
        pytest.param({"a_svc_cluster_local_": rcode_only(Rcode.REFUSED)}, 5, id="not one that was not"),
        pytest.param({"a_svc_cluster_local_": rcode_only(Rcode.SERVFAIL, "broken")}, 2, id="an error"),
        pytest.param({"a_cluster_local_": Reply(dropped=True)}, 3, id="silence"),
        pytest.param({}, 5, id="nothing"),
    ],
)
def test_stops(known: dict[str, Reply], tries: int) -> None:
    """At the first reply that is not NXDOMAIN, or at an error."""
    walking = Walking(**known)
    reply = world.now(walking.ask("a.web.svc.cluster.local."))
    assert len(walking.asked) == tries
    last = next(iter(known.values()), NXDOMAIN) if tries < 5 else NXDOMAIN
    assert (reply.rcode, reply.error, reply.dropped) == (last.rcode, last.error, last.dropped)


def test_no_cname_where_the_name_is_the_same() -> None:
    """In any case of letters."""
    walking = Walking(a_web_svc_cluster_local_=found("A.web.svc.cluster.local."))
    assert len(world.now(walking.ask("a.WEB.svc.cluster.local.")).answer) == 1


def test_the_first_reply_decides_where_nothing_is_found() -> None:
    """Written or not."""
    walking = Walking(a_web_svc_cluster_local_=rcode_only(Rcode.REFUSED))
    reply = world.now(walking.ask("a.web.svc.cluster.local."))
    assert (reply.rcode, reply.has_message) == (Rcode.REFUSED, False)


@pytest.mark.parametrize(
    ("name", "address", "scope"),
    [
        pytest.param("a.web.svc.cluster.local.", STRANGER, CacheScope.CLIENT_CLASS, id="no Pod"),
        pytest.param("a.other.svc.cluster.local.", POD, CacheScope.CLIENT_CLASS, id="another namespace"),
        pytest.param("svc.cluster.local.", POD, CacheScope.SHARED, id="no namespace"),
        pytest.param("a.web.pod.cluster.local.", POD, CacheScope.SHARED, id="not below svc"),
        pytest.param("a.web.svc.example.org.", POD, CacheScope.SHARED, id="not a zone of the cluster"),
    ],
)
def test_leaves_alone(name: str, address: str, scope: CacheScope) -> None:
    """What does not end in the client's namespace."""
    walking = Walking()
    reply = world.now(walking.ask(name, address))
    assert walking.asked == [name]
    assert reply.scope is scope
    assert (("pod", address) in reply.dependencies) is (scope is CacheScope.CLIENT_CLASS)


def test_nothing_left_of_the_name() -> None:
    """The namespace's own name is SERVFAIL, as with CoreDNS."""
    reply = world.now(Walking().ask("web.svc.cluster.local."))
    assert (reply.rcode, reply.has_message) == (Rcode.SERVFAIL, False)


def test_names_that_would_be_too_long() -> None:
    """Are not tried."""
    walking = Walking(search="c" * 60 + "." + "d" * 60)
    walking.ask(".".join(["a" * 50] * 3) + ".web.svc.cluster.local.")
    assert len(walking.asked) == 4


def test_the_path_of_a_file() -> None:
    """Is that of every client."""
    walking = Walking("autopath example.net /x", "example.net example.org", a_example_org_=found("a.example.org."))
    reply = world.now(walking.ask("a.example.net.", STRANGER))
    assert walking.asked == ["a.example.net.", "a.example.org."]
    assert (reply.scope, reply.lifetime) == (CacheScope.SHARED, 0.0)
    walking.ask("a.example.org.")
    assert walking.asked[2:] == ["a.example.org."]


def test_classes() -> None:
    """The namespace, which rests on Pods."""
    plugin = Walking().plugin
    assert [plugin.client_class(address) for address in (POD, STRANGER)] == ["web", ""]
    assert plugin.client_class_dependencies == {"pod"}
    assert Walking("autopath /x").plugin.client_class(POD) == ""


async def test_replies_that_come_later() -> None:
    """In the midst of a walk."""

    async def later(reply: Reply) -> Reply:
        return reply

    walking = Walking(a_web_svc_cluster_local_=later(NXDOMAIN), a_cluster_local_=later(found("a.cluster.local.")))
    reply = await world.soon(walking.ask("a.web.svc.cluster.local."))
    assert len(walking.asked) == 3
    assert len(reply.answer) == 2


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        pytest.param("nameserver ::1\nsearch A.b c.\n# search x\noptions ndots:5", ["a.b.", "c."], id="search"),
        pytest.param("search a\ndomain b c\n", ["b."], id="the last line counts"),
        pytest.param("search a..b c", ["c."], id="no name"),
        pytest.param("search", [], id="empty"),
    ],
)
def test_reads_search_paths(text: str, elements: list[str]) -> None:
    """From files in the form of resolv.conf."""
    assert [names.to_text(name) for name in search_path(text)] == elements


def test_gathers_the_file(tmp_path: Path) -> None:
    """It has to be there; the machine's own need not."""
    path = tmp_path / "resolv"
    options = world.options("autopath", f"autopath a.b {path}")
    assert (options.zones, options.source) == (("a.b.",), "")
    with pytest.raises(CorefileError, match="failed to read"):
        gather(options, {})
    path.write_text("search a b.c")
    assert gather(options, {}) == {str(path): b"\1a\0\1b\1c\0"}
    assert list(gather(world.options("autopath", "autopath @kubernetes"), {})) == ["/etc/resolv.conf"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("autopath", "2:1 no resolv-conf specified", id="nothing"),
        pytest.param("autopath @cache\ncache", "2:10 'cache' does not know the search paths of clients", id="another plugin"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    """At the word that is wrong."""
    assert world.rejection("autopath", text).startswith(error)
