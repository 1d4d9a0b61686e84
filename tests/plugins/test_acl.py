"""The plugin *acl* (docs/behaviour/plugins.md#acl)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.query import Client
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugins.acl import Acl
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import AA, CD, RD, Rcode
from tests.support import world

BEHIND = Reply(flags=AA, answer=world.records("a.example.org. 5 IN A 10.0.0.1"), lifetime=UNTIL_CHANGED)


class Policed:
    """The plugin *acl*, followed by a plugin that answers every query."""

    def __init__(self, text: str) -> None:
        """Creates the plugins. `text` has the directives."""
        self.counters = Counters()
        self.plugin = Acl(world.options("acl", text), world.environment(counters=self.counters))

    def ask(self, name: str = "a.example.org.", rtype: str = "A", address: str = "192.0.2.1", **fields: Any) -> Reply:
        """Sends a query from this address, and returns the reply."""
        client = Client(address, 40000, "192.0.2.53", 53, "udp")
        query = world.query(name, rtype, client=client, server="dns://:53", **fields)
        return world.now(self.plugin.handle(query, world.following(BEHIND)))

    def verdict(self, *args: Any, **fields: Any) -> str:
        """Returns the action for a query as a word: allow, block, filter or drop."""
        reply = self.ask(*args, **fields)
        if reply.dropped:
            return "drop"
        if reply.edns is None:
            return "allow"
        return {(Rcode.REFUSED, b"\0\x0f"): "block", (Rcode.NOERROR, b"\0\x11"): "filter"}[
            reply.rcode, reply.edns.options[0][1]
        ]


@pytest.mark.parametrize(
    ("text", "question", "verdict"),
    [
        pytest.param("acl {\n block\n}", {}, "block", id="everything"),
        pytest.param("acl {\n Filter\n}", {}, "filter", id="actions in any case"),
        pytest.param("acl {\n drop net 192.0.2.1\n}", {}, "drop", id="an address"),
        pytest.param("acl {\n drop net 192.0.2.1\n}", {"address": "192.0.2.2"}, "allow", id="no line fits"),
        pytest.param("acl {\n block net 10.0.0.0/8 192.0.2.0/24\n}", {}, "block", id="one of the networks"),
        pytest.param("acl {\n block net *\n}", {}, "block", id="every network"),
        pytest.param(
            "acl {\n block net 10.0.0.0/8\n block net 2001:db8::/32\n}", {"address": "2001:db8::7"}, "block", id="IPv6"
        ),
        pytest.param("acl {\n block net 10.0.0.0/8\n}", {"address": "::ffff:10.0.0.1"}, "block", id="mapped"),
        pytest.param("acl {\n block type AAAA MX\n}", {"rtype": "MX"}, "block", id="one of the types"),
        pytest.param("acl {\n block type AAAA\n}", {}, "allow", id="another type"),
        pytest.param("acl {\n block type *\n}", {"rtype": "MX"}, "block", id="every type"),
        pytest.param("acl {\n filter type A net 10.0.0.0/8\n}", {}, "allow", id="type and network both"),
        pytest.param("acl {\n block net 10.0.0.0/8 type A net 192.0.2.0/24\n}", {}, "block", id="sections add up"),
        pytest.param("acl {\n allow net 192.0.2.0/24\n block\n}", {}, "allow", id="the first line that fits"),
        pytest.param("acl {\n block\n allow net 192.0.2.0/24\n}", {}, "block", id="not the one that is nearer"),
        pytest.param("acl example.org {\n allow\n}\nacl {\n block\n}", {}, "allow", id="allow ends all rules"),
        pytest.param("acl example.net {\n block\n}", {}, "allow", id="another zone"),
        pytest.param("acl example.net {\n block\n}\nacl example.org {\n drop\n}", {}, "drop", id="the next rule"),
        pytest.param(
            "acl example.org {\n block net 10.0.0.1\n}\nacl {\n filter\n}",
            {},
            "filter",
            id="no line of the first rule fits",
        ),
        pytest.param("acl example.org {\n block\n}", {"name": "B.Example.ORG."}, "block", id="names in any case"),
        pytest.param("acl {\n allow net *\n}", {"address": "nowhere"}, "block", id="no address"),
    ],
)
def test_decides(text: str, question: dict[str, Any], verdict: str) -> None:
    """Rules, and the lines in a rule, apply in file order. A query that matches no line is allowed."""
    assert Policed(text).verdict(**question) == verdict


def test_a_refusal_has_an_extended_error_and_is_reusable() -> None:
    reply = Policed("acl {\n block\n}").ask(flags=RD | CD)
    assert reply.edns == world.edns(4096, dnssec_ok=True, options=((15, b"\0\x0f"),))
    assert (reply.flags, reply.lifetime, reply.scope) == (RD | CD, UNTIL_CHANGED, CacheScope.SHARED)


@pytest.mark.parametrize(
    ("text", "name", "scope"),
    [
        pytest.param(
            "acl {\n block net 10.0.0.0/8\n}", "a.example.org.", CacheScope.CLIENT_CLASS, id="allowed to some"
        ),
        pytest.param(
            "acl {\n block net 192.0.2.0/24\n}", "a.example.org.", CacheScope.CLIENT_CLASS, id="blocked for some"
        ),
        pytest.param("acl {\n block net 10.0.0.0/8\n}\n", "a.example.org.", CacheScope.CLIENT_CLASS, id="no line fits"),
        pytest.param(
            "acl {\n block type MX net 10.0.0.0/8\n}", "a.example.org.", CacheScope.SHARED, id="types alone decide"
        ),
        pytest.param("acl {\n filter\n}", "a.example.org.", CacheScope.SHARED, id="all alike"),
        pytest.param(
            "acl example.net {\n block net 10.0.0.0/8\n}", "a.example.org.", CacheScope.SHARED, id="another zone"
        ),
    ],
)
def test_the_scope(text: str, name: str, scope: CacheScope) -> None:
    """The cache scope of a reply is shared, unless the client's address was compared with a network."""
    assert Policed(text).ask(name).scope is scope


def test_clients_of_one_class_get_the_same_decision() -> None:
    """The class of a client is the set of networks in the rules that contain its address."""
    policed = Policed(
        "acl {\n allow net 10.1.0.0/16\n block net 10.0.0.0/8 type A\n}\nacl a.example.org {\n drop net 10.2.0.0/16\n}"
    )
    plugin = policed.plugin
    addresses = ["10.1.0.1", "10.1.9.9", "10.2.0.1", "10.3.0.1", "192.0.2.1", "::1", "x"]
    classes = {address: plugin.client_class(address) for address in addresses}
    assert list(classes.values()) == ["110", "110", "011", "010", "000", "000", "?"]
    for address in addresses:
        for other in addresses:
            if classes[address] == classes[other]:
                for rtype in ("A", "MX"):
                    assert policed.verdict(address=address, rtype=rtype) == policed.verdict(address=other, rtype=rtype)


def test_counts() -> None:
    """Requests are counted with the zone of the *acl* rule. A reused reply is counted again."""
    policed = Policed("acl example.org org {\n block type MX\n filter type TXT\n drop type SRV\n}")
    for rtype in ("MX", "MX", "TXT", "SRV", "A"):
        policed.ask(rtype=rtype)
    assert world.counted(policed.counters) == {
        ("coredns_acl_blocked_requests_total", "dns://:53", "example.org.", ""): 2,
        ("coredns_acl_filtered_requests_total", "dns://:53", "example.org.", ""): 1,
        ("coredns_acl_dropped_requests_total", "dns://:53", "example.org.", ""): 1,
        ("coredns_acl_allowed_requests_total", "dns://:53", ""): 1,
    }
    for rtype in ("MX", "A"):
        before = world.counted(policed.counters)
        ((cell, amount),) = policed.ask(rtype=rtype).increments
        once = world.counted(policed.counters)
        policed.counters.add(cell, amount)
        twice = world.counted(policed.counters)
        assert [once[key] - before[key] for key in before] == [twice[key] - once[key] for key in before]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            "acl {\n deny\n}", "3:2 'deny' is not an action; allow, block, filter or drop was expected", id="action"
        ),
        pytest.param("acl {\n alow\n}", "3:2 'alow' is not an action (did you mean 'allow'?)", id="misspelt"),
        pytest.param("acl {\n block A\n}", "3:8 'A' was found, 'type' or 'net' was expected", id="no section"),
        pytest.param("acl {\n block type\n}", "3:8 'type' needs a word after it", id="empty"),
        pytest.param(
            "acl {\n block type net ::1\n}",
            "3:13 'type' needs a word after it, 'net' was found",
            id="empty before another",
        ),
        pytest.param("acl {\n block type a\n}", "3:13 'a' is not a record type", id="type"),
        pytest.param("acl {\n block net 10.0.0.0/33\n}", "3:12 '10.0.0.0/33' is not a network", id="network"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("acl", text).startswith(error)
