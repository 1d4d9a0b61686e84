"""Answers from hosted zones of a provider (docs/behaviour/plugins.md#route53)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.testing import check_contract
from svcdns.wire.codes import AA, Rcode
from svcdns.zones import hosted_zone_refresh
from svcdns.zones.hosted_zones import Options
from tests.support import world
from tests.support.hosted_zones import PUBLIC, SOA, Cloud, CloudPlugin, Worker, group

NS = "auth example.org. 60 IN NS ns.example.org."
DENIED = "auth example.org. 30 IN SOA ns.example.org. root.example.org. SERIAL 2 3 4 30"


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("www.example.org.", "A", ["NOERROR", "www.example.org. 60 IN A 192.0.2.1", NS], id="record"),
        pytest.param("www.example.org.", "AAAA", ["NOERROR", DENIED], id="no such type"),
        pytest.param("no.example.org.", "A", ["NXDOMAIN", DENIED], id="no such name"),
        pytest.param("b.example.org.", "A", ["NOERROR", DENIED], id="empty non-terminal"),
        pytest.param(
            "alias.example.org.",
            "A",
            ["NOERROR", "alias.example.org. 60 IN CNAME www.example.org.", "www.example.org. 60 IN A 192.0.2.1", NS],
            id="alias",
        ),
        pytest.param(
            "x.wild.example.org.", "A", ["NOERROR", "x.wild.example.org. 60 IN A 192.0.2.2", NS], id="wildcard"
        ),
        pytest.param(
            "x.sub.example.org.",
            "A",
            [
                "NOERROR",
                "auth sub.example.org. 60 IN NS ns.sub.example.org.",
                "add ns.sub.example.org. 60 IN A 192.0.2.3",
            ],
            id="delegation",
        ),
        pytest.param("www.example.net.", "A", ["REFUSED"], id="outside of the zones"),
    ],
)
def test_answers(name: str, rtype: str, expected: list[str]) -> None:
    worker = Worker(Cloud({"Z1": PUBLIC}), group("example.org.:Z1"))
    reply = worker.ask(name, rtype)
    assert world.summary(reply) == expected
    assert bool(reply.flags & AA) == (name not in ("x.sub.example.org.", "www.example.net."))


def test_an_alias_out_of_the_zone_is_resolved_by_the_server() -> None:
    worker = Worker(Cloud({"Z1": PUBLIC}), group("example.org.:Z1"))
    found = Reply(answer=world.records("host.example.net. 30 IN A 192.0.2.9"))
    assert world.summary(worker.ask("out.example.org.", elsewhere=found)) == [
        "NOERROR",
        "out.example.org. 60 IN CNAME host.example.net.",
        "host.example.net. 30 IN A 192.0.2.9",
        NS,
    ]


def test_an_alias_whose_target_cannot_be_resolved_is_servfail() -> None:
    worker = Worker(Cloud({"Z1": PUBLIC + "loop 60 IN CNAME loop\n"}), group("example.org.:Z1", fallthrough=(".",)))
    failure = Reply(rcode=Rcode.SERVFAIL)
    assert world.summary(worker.ask("out.example.org.", elsewhere=failure)) == ["SERVFAIL"]
    assert world.summary(worker.ask("loop.example.org.")) == ["SERVFAIL"]


TWO = {"PRIVATE": f"{SOA}www 60 IN A 10.0.0.1\nboth 60 IN TXT x\n", "PUBLIC": f"{PUBLIC}both 60 IN A 192.0.2.4\n"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("www", ["NOERROR", "www.example.org. 60 IN A 10.0.0.1"], id="the first zone's record"),
        pytest.param("both", ["NOERROR", DENIED], id="no such type in the first zone"),
        pytest.param("ns", ["NOERROR", "ns.example.org. 60 IN A 192.0.2.53", NS], id="a record of the second zone"),
        pytest.param("no", ["NXDOMAIN", DENIED], id="in no zone"),
    ],
)
def test_zones_of_one_name_are_searched_in_order(name: str, expected: list[str]) -> None:
    worker = Worker(Cloud(TWO), group("example.org.:PRIVATE", "example.org.:PUBLIC"))
    assert world.summary(worker.ask(f"{name}.example.org.")) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("no", "REFUSED", id="no such name"),
        pytest.param("b", "REFUSED", id="empty non-terminal"),
        pytest.param("x.sub", "REFUSED", id="delegation"),
        pytest.param("a.b", "NOERROR", id="no such type"),
        pytest.param("www", "NOERROR", id="a record"),
    ],
)
def test_fallthrough(name: str, expected: str) -> None:
    """A query goes on unless there is a record, or a record of another type (docs/plugins/route53.md)."""
    worker = Worker(Cloud({"Z1": PUBLIC}), group("example.org.:Z1", fallthrough=(".",)))
    assert world.summary(worker.ask(f"{name}.example.org."))[0] == expected


def test_fallthrough_to_the_next_directive() -> None:
    cloud = Cloud({"Z1": PUBLIC, "Z2": f"{SOA}more 60 IN A 192.0.2.7\n"})
    worker = Worker(
        cloud, group("example.org.:Z1", fallthrough=("more.example.org.",)), group("example.org.:Z2", "example.net.:Z2")
    )
    assert world.summary(worker.ask("more.example.org."))[1] == "more.example.org. 60 IN A 192.0.2.7"
    assert world.summary(worker.ask("more.example.net."))[1] == "more.example.net. 60 IN A 192.0.2.7"
    assert worker.ask("no.example.org.").rcode == Rcode.NXDOMAIN


def test_a_zone_without_a_soa_record_is_servfail() -> None:
    cloud = Cloud({"Z1": "www 60 IN A 192.0.2.1\n"})
    assert Worker(cloud, group("example.org.:Z1")).ask("www.example.org.").rcode == Rcode.SERVFAIL
    through = Worker(cloud, group("example.org.:Z1", fallthrough=(".",)))
    assert through.ask("www.example.org.").rcode == Rcode.REFUSED


def test_a_reply_is_stored_until_a_zone_that_was_searched_changes() -> None:
    cloud = Cloud(dict(TWO))
    worker = Worker(cloud, group("example.org.:PRIVATE", "example.org.:PUBLIC"))
    private, public = worker.ask("www.example.org."), worker.ask("ns.example.org.")
    assert private.lifetime == public.lifetime == UNTIL_CHANGED
    cloud.zones["PUBLIC"] = TWO["PUBLIC"].replace("192.0.2.53", "192.0.2.54")
    changed = worker.take(hosted_zone_refresh.gather(cloud.provider(), worker.options))
    assert len(changed) == 1
    assert changed[0] in public.dependencies
    assert changed[0] not in private.dependencies
    assert "192.0.2.54" in world.summary(worker.ask("ns.example.org."))[1]


def test_the_wildcard_that_answers_is_metadata() -> None:
    cloud = Cloud({"PRIVATE": f"{SOA}www.wild 60 IN A 10.0.0.1\n", "PUBLIC": PUBLIC, "NONE": ""})
    plugin = Worker(cloud, group("example.org.:NONE", "example.org.:PRIVATE", "example.org.:PUBLIC")).plugin
    found = {
        name: plugin.metadata(world.query(f"{name}.example.org."), "zone/wildcard")
        for name in ("x.wild", "www.wild", "no", "www")
    }
    assert found == {"x.wild": "*.wild.example.org.", "www.wild": "", "no": "", "www": ""}
    assert plugin.metadata(world.query("x.wild.example.org."), "cloud/wildcard") == ""
    assert plugin.metadata(world.query("x.wild.example.net."), "zone/wildcard") == ""


def test_metrics_have_a_series_for_each_zone() -> None:
    worker = Worker(Cloud({"Z1": PUBLIC}), group("example.org.:Z1"))
    worker.plugin.start()
    counted = world.counted(worker.environment.counters)
    assert list(counted) == [("svcdns_hosted_zone_last_fetch_timestamp_seconds", "cloud", "example.org.", "Z1")]


def test_other_names_may_take_the_fast_paths() -> None:
    plugin = Worker(Cloud({"Z1": PUBLIC}), group("example.org.:Z1")).plugin
    fast, cold = FastPath(), ColdPath()
    assert plugin.join_fast_path(fast)
    assert plugin.join_cold_path(cold)
    assert fast.zones == (b"\7example\3org\0",)
    assert [passes(b"\3www\7example\3org\0", 1) for passes in cold.passes] == [None]
    assert [passes(b"\3www\7example\3net\0", 1) for passes in cold.passes] == [()]
    assert plugin.name_independent(b"\7example\3net\0")
    assert not plugin.name_independent(b"\3org\0")


@pytest.mark.parametrize("more", ["", pytest.param("\ncache 30", marks=pytest.mark.slow)])
def test_it_keeps_to_the_plugin_contract(more: str) -> None:
    cloud = Cloud({"Z1": PUBLIC, "Z2": PUBLIC})
    options = Options((group("example.org.:Z1", "example.com.:Z2", fallthrough=("example.org.",)),))
    module: Any = SimpleNamespace(
        PLUGIN=CloudPlugin,
        Options=Options,
        parse=lambda _block: options,
        gather=lambda found, _known: hosted_zone_refresh.gather(cloud.provider(), found),
        __name__="cloud",
    )

    def change() -> None:
        cloud.zones["Z1"] = PUBLIC.replace("192.0.2.1", "192.0.2.99") + "no 60 IN A 192.0.2.98\n"

    queries = [(f"{name}.example.org.", "A") for name in ("www", "no", "out")] + [("www.example.com.", "A")]
    assert check_contract(module, f"cloud{more}", queries, changes=[change]) > 0
