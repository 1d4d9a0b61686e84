"""The plugin *autopath* (docs/behaviour/plugins.md#autopath)."""

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

NXDOMAIN = Reply(rcode=Rcode.NXDOMAIN, lifetime=UNTIL_CHANGED, dependencies=(("service", "d", "a"),))
POD, STRANGER = "10.244.0.1", "192.0.2.1"


class Cluster:
    """The methods of *kubernetes* that *autopath* uses."""

    name = "kubernetes"

    def search_zone(self, key: bytes) -> bytes | None:
        """Returns cluster.local. for names in it, else None."""
        zone = names.from_text("cluster.local.")
        return zone if names.is_within(key, zone) else None

    def pod_namespace(self, address: str) -> str:
        """Returns `web` for the address of the only Pod, else an empty text."""
        return "web" if address == POD else ""


class Chain:
    """The plugin *autopath*, followed by a chain that answers some names."""

    def __init__(self, text: str = "autopath @kubernetes", search: str = "corp.example", **known: Any) -> None:
        """Creates the plugin. `known` maps names to the chain's replies. In these names, `_` stands for a dot."""
        options = world.options("autopath", text, zones=".")
        self.tried: list[str] = []
        self.known = {name.replace("_", "."): reply for name, reply in known.items()}
        self.counters = Counters()
        content = b"".join(map(names.from_text, search.split()))
        environment = world.environment(counters=self.counters, data=lambda *_: content, peers=lambda _: (Cluster(),))
        self.plugin = Autopath(options, environment)
        self.plugin.start()

    def _following(self, query: Query) -> Answer:
        self.tried.append(names.to_text(query.name))
        found: Answer = self.known.get(names.to_text(query.key), NXDOMAIN)
        return found

    def ask(self, name: str, address: str = POD, rtype: str = "A") -> Answer:
        client = Client(address, 40000, "192.0.2.53", 53, "udp")
        return self.plugin.handle(world.query(name, rtype, client=client, server="dns://:53"), self._following)


def found(name: str, **fields: Any) -> Reply:
    return Reply(answer=world.records(f"{name} 30 IN A 192.0.2.7"), **fields)


def test_the_search_path_of_the_pod_is_tried_until_a_name_is_found() -> None:
    """The reply has a CNAME record from the query name to the name that was found."""
    chain = Chain(www_example_org_=found("www.example.org.", lifetime=20.0, next_second=0.5, increments=((9, 1.0),)))
    reply = world.now(chain.ask("Www.Example.org.web.svc.cluster.local."))
    assert chain.tried == [
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
    assert set(reply.dependencies) == {("service", "d", "a"), ("pod", POD)}
    assert reply.scope is CacheScope.CLIENT_CLASS
    assert len(reply.increments) == 2
    assert world.counted(chain.counters) == {("coredns_autopath_success_total", "dns://:53"): 1}


@pytest.mark.parametrize(
    ("known", "tries"),
    [
        pytest.param({"a_web_svc_cluster_local_": found("a.web.svc.cluster.local.")}, 1, id="the first"),
        pytest.param({"a_svc_cluster_local_": Reply()}, 2, id="NODATA counts"),
        pytest.param({"a_svc_cluster_local_": Reply(rcode=Rcode.REFUSED)}, 2, id="a reply with an rcode"),
        pytest.param({"a_svc_cluster_local_": rcode_only(Rcode.REFUSED)}, 5, id="a bare rcode does not count"),
        pytest.param({"a_svc_cluster_local_": rcode_only(Rcode.SERVFAIL, "broken")}, 2, id="an error"),
        pytest.param({"a_cluster_local_": Reply(dropped=True)}, 3, id="a dropped query"),
        pytest.param({}, 5, id="nothing"),
    ],
)
def test_the_search_ends(known: dict[str, Any], tries: int) -> None:
    """The search stops at the first reply that is not NXDOMAIN, or at an error."""
    chain = Chain(**known)
    reply = world.now(chain.ask("a.web.svc.cluster.local."))
    assert len(chain.tried) == tries
    last = next(iter(known.values()), NXDOMAIN) if tries < 5 else NXDOMAIN
    assert (reply.rcode, reply.error, reply.dropped) == (last.rcode, last.error, last.dropped)


def test_no_cname_if_the_owner_is_the_query_name() -> None:
    """The two names may differ in letter case."""
    chain = Chain(a_web_svc_cluster_local_=found("A.web.svc.cluster.local."))
    assert len(world.now(chain.ask("a.WEB.svc.cluster.local.")).answer) == 1


def test_the_first_reply_is_sent_if_nothing_is_found() -> None:
    """The reply to the first name is sent, even if it consists of an rcode only."""
    chain = Chain(a_web_svc_cluster_local_=rcode_only(Rcode.REFUSED))
    reply = world.now(chain.ask("a.web.svc.cluster.local."))
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
def test_other_queries_go_to_the_next_plugin(name: str, address: str, scope: CacheScope) -> None:
    """*autopath* handles only names in the client's namespace."""
    chain = Chain()
    reply = world.now(chain.ask(name, address))
    assert chain.tried == [name]
    assert reply.scope is scope
    assert (("pod", address) in reply.dependencies) is (scope is CacheScope.CLIENT_CLASS)


def test_the_first_element_itself_is_servfail() -> None:
    """As in CoreDNS, a query for the first search domain itself gets SERVFAIL."""
    reply = world.now(Chain().ask("web.svc.cluster.local."))
    assert (reply.rcode, reply.has_message) == (Rcode.SERVFAIL, False)


def test_names_over_255_octets_are_not_tried() -> None:
    """RFC 1035 §3.1 limits names to 255 octets."""
    chain = Chain(search="c" * 60 + "." + "d" * 60)
    chain.ask(".".join(["a" * 50] * 3) + ".web.svc.cluster.local.")
    assert len(chain.tried) == 4


def test_the_search_path_of_a_file_is_for_every_client() -> None:
    chain = Chain("autopath example.net /x", "example.net example.org", a_example_org_=found("a.example.org."))
    reply = world.now(chain.ask("a.example.net.", STRANGER))
    assert chain.tried == ["a.example.net.", "a.example.org."]
    assert (reply.scope, reply.lifetime) == (CacheScope.SHARED, 0.0)
    chain.ask("a.example.org.")
    assert chain.tried[2:] == ["a.example.org."]


def test_the_client_class_is_the_namespace() -> None:
    plugin = Chain().plugin
    assert [plugin.client_class(address) for address in (POD, STRANGER)] == ["web", ""]
    assert plugin.client_class_dependencies == {"pod"}
    assert Chain("autopath /x").plugin.client_class(POD) == ""


async def test_deferred_replies() -> None:
    """The search continues when a deferred reply arrives."""

    async def later(reply: Reply) -> Reply:
        return reply

    chain = Chain(a_web_svc_cluster_local_=later(NXDOMAIN), a_cluster_local_=later(found("a.cluster.local.")))
    reply = await world.soon(chain.ask("a.web.svc.cluster.local."))
    assert len(chain.tried) == 3
    assert len(reply.answer) == 2


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        pytest.param("nameserver ::1\nsearch A.b c.\n# search x\noptions ndots:5", ["a.b.", "c."], id="search"),
        pytest.param("search a\ndomain b c\n", ["b."], id="the last line counts"),
        pytest.param("search a..b c", ["c."], id="not a name"),
        pytest.param("search", [], id="empty"),
    ],
)
def test_search_path(text: str, elements: list[str]) -> None:
    """The search path is read from the text of a resolv.conf(5) file."""
    assert [names.to_text(name) for name in search_path(text)] == elements


def test_gather(tmp_path: Path) -> None:
    """A file that the Corefile names must exist. The machine's own resolv.conf need not exist."""
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
        pytest.param(
            "autopath @cache\ncache", "2:10 'cache' does not know the search paths of clients", id="another plugin"
        ),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    assert world.rejection("autopath", text).startswith(error)
