"""Building plugin chains from server blocks: the order of plugins, routes and listeners."""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.chain.build import Chains, build, chain
from svcdns.chain.plan import plan
from svcdns.corefile.parser import parse
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.errors import ContractError, HookError
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import Rcode
from tests.support import world

ORDER = ("reload", "prometheus", "log", "cache", "forward")


@dataclass(frozen=True)
class Options:
    words: tuple[str, ...]


class Marking(Plugin):
    """A plugin that records its name whenever it is started, called or stopped."""

    name = "plugin"
    offers = ("trail",)
    trail: list[str]

    def __init__(self, options: Options, environment: Any) -> None:
        self.options, self.environment = options, environment

    def handle(self, query: Query, following: Following) -> Answer:
        self.trail.append(self.name)
        return following(query)

    def start(self) -> None:
        self.trail.append(f"start {self.name}")

    def stop(self) -> None:
        self.trail.append(f"stop {self.name}")


def environment(block: Block, server: str, listen: Any, _name: str, peers: Any) -> Environment:
    return world.environment(block=block, server=server, listen_addresses=listen, peers=peers)


def built(text: str, **extra: Any) -> tuple[Chains, list[str]]:
    """Returns the chains of a Corefile, and the recorded calls. `extra` has class attributes for plugins."""
    trail: list[str] = []

    def load(name: str) -> Any:
        made = type(name, (Marking,), {"name": name, "trail": trail, **extra.get(name, {})})
        configuring = type(name, (Plugin,), {"name": name, "configures_only": True, **extra.get(name, {})})
        words = lambda block: Options(tuple(word.text for d in block.directives for word in d.arguments))  # noqa: E731
        return SimpleNamespace(PLUGIN=configuring if name in ("reload", "prometheus") else made, parse=words)

    plans = plan(parse(text, "Corefile", environ={}), ORDER, load)
    hosts = [("127.0.0.1",)] * len(plans)
    return build(plans, hosts, load, environment, HookCaller(Counters())), trail


def test_the_order_of_plugins_does_not_depend_on_the_corefile() -> None:
    chains, trail = built(". {\n forward a\n cache\n log\n}")
    chains.start()
    listener = chains.listeners["127.0.0.1", 53, "dns"]
    reply = world.now(listener.ask(world.query("a.b.")))
    chains.stop()
    names = ["log", "cache", "forward"]
    assert trail == [f"start {name}" for name in names] + names + [f"stop {name}" for name in names]
    assert (reply.rcode, reply.error) == (Rcode.SERVFAIL, "plugin/forward: no next plugin found")


def test_zones_of_a_block_share_their_plugins() -> None:
    chains, _ = built("a.b c.d:54 {\n log\n}")
    assert len(chains.handlers) == 1
    assert {where: list(listener.routes) for where, listener in chains.listeners.items()} == {
        ("127.0.0.1", 53, "dns"): [b"\1a\1b\0"],
        ("127.0.0.1", 54, "dns"): [b"\1c\1d\0"],
    }


def test_enclosers_are_found_in_zones_whose_names_all_plugins_treat_equally() -> None:
    """Elsewhere a plugin could treat names below the closest encloser differently, so none is found."""

    def load(name: str) -> SimpleNamespace:
        fields: dict[str, Any] = {"name": name, "zones": (b"\1a\0", b"\1b\0")}
        closest_encloser = {"closest_encloser": lambda _self, key, _rtype: Encloser(key[-3:], "", ())}
        fields |= {"name_independent": lambda _self, zone: zone == b"\1a\0"} if name == "cache" else closest_encloser
        return SimpleNamespace(PLUGIN=type(name, (Plugin,), fields), parse=lambda _block: None)

    def closest_encloser(text: str) -> Any:
        plans = plan(parse(text, "Corefile", environ={}), ORDER, load)
        chains = build(plans, [("",)], load, environment, HookCaller(Counters()))
        return chains.listeners["", 53, "dns"].routes[b"\0"].closest_encloser

    both, one = closest_encloser(". {\n forward\n}"), closest_encloser(". {\n forward\n cache\n}")
    assert [both(b"\1x" + zone, 1).key for zone in (b"\1a\0", b"\1b\0")] == [b"\1a\0", b"\1b\0"]
    assert [one(b"\1x" + zone, 1) for zone in (b"\1a\0", b"\1b\0")] == [Encloser(b"\1a\0", "", ()), None]


def test_a_route_has_its_observers_and_whether_it_counts_queries() -> None:
    chains, _ = built(
        "a {\n prometheus\n log\n cache\n}\nb {\n cache\n}",
        log={"observe": lambda *_: None},
        prometheus={"settings": lambda _: Settings(counts_queries=True)},
    )
    routes = chains.listeners["127.0.0.1", 53, "dns"].routes
    assert [(route.counted, route.writer, len(route.observers)) for route in routes.values()] == [
        (True, "log", 1),
        (False, "", 0),
    ]
    assert chains.listeners["127.0.0.1", 53, "dns"].observed


def test_a_block_whose_plugins_only_configure_refuses_queries() -> None:
    chains, _ = built(". {\n reload\n}")
    assert world.now(chains.listeners["127.0.0.1", 53, "dns"].ask(world.query("a."))).rcode == Rcode.REFUSED


def test_a_block_with_only_prometheus_returns_servfail() -> None:
    """CoreDNS returns SERVFAIL, too."""
    chains, _ = built(". {\n reload\n}", reload={"settings": lambda _: Settings(counts_queries=True)})
    assert world.now(chains.listeners["127.0.0.1", 53, "dns"].ask(world.query("a."))).rcode == Rcode.SERVFAIL


def test_other_classes_are_refused_unless_a_plugin_accepts_them() -> None:
    for text, rcode in ((". {\n log\n}", Rcode.REFUSED), (". {\n forward x\n}", Rcode.SERVFAIL)):
        listener = built(text, forward={"settings": lambda _: Settings(any_class=True)})[0].listeners[
            "127.0.0.1", 53, "dns"
        ]
        query = world.query("version.bind.", "TXT", rclass=3)
        assert world.now(listener.answer(query, listener.route(query))).rcode == rcode


def test_unready_plugins_by_name() -> None:
    chains, _ = built("a {\n log\n cache\n}\nb {\n cache\n}", cache={"ready": lambda _self: False})
    assert chains.unready() == ("cache",)


def test_options_that_plugins_have_echoed() -> None:
    chains, _ = built("a {\n log\n}\nb:54 {\n cache\n}", cache={"echoed_options": frozenset({65001})})
    assert [listener.echoed for listener in chains.listeners.values()] == [{65001}, {65001}]


def test_a_block_without_fast_path_says_why() -> None:
    def forwards(_self: Any, fast_path: FastPath) -> bool:
        fast_path.forwards, fast_path.ask, fast_path.keep = True, lambda _: None, lambda _key, reply, *_: reply.ttl
        return True

    joins: dict[str, Any] = {"join_fast_path": lambda _self, _fast_path: True}
    text = "a b {{\n log\n {}\n forward\n}}\nc {{\n log\n cache\n}}"
    chains, _ = built(text.format("cache"), forward={"join_fast_path": forwards}, cache=joins)
    assert chains.slow_blocks == [("a. b.", "plugins that do not support it: log (Corefile:2)")]
    chains, _ = built(text.format("cache"), forward={"join_fast_path": forwards}, log=joins)
    assert chains.slow_blocks == [("a. b.", "plugins that do not support it: cache (Corefile:3)")]
    chains, _ = built(text.format("cache"), forward={"join_fast_path": forwards}, log=joins, cache=joins)
    assert chains.slow_blocks == []
    observed = {**joins, "observe": lambda *_: None}
    chains, _ = built(text.format("cache"), forward={"join_fast_path": forwards}, log=observed, cache=joins)
    assert chains.slow_blocks == [("a. b.", "plugins that do not support it: log (Corefile:2)")]


def test_a_plugin_that_cannot_be_made_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """The error names the plugin and its directive. The traceback is in a DEBUG line."""

    def fails(_self: Any, _options: Any, _environment: Any) -> None:
        raise KeyError("x")

    caplog.set_level(logging.INFO, "svcdns")
    with pytest.raises(HookError, match=r"^Corefile:2:2 - plugin/log: __init__ failed: KeyError: 'x'$"):
        built(". {\n log\n}", log={"__init__": fails})
    assert not caplog.records
    caplog.set_level(logging.DEBUG, "svcdns")
    with pytest.raises(HookError):
        built(". {\n log\n}", log={"__init__": fails})
    assert [record.exc_info is not None for record in caplog.records] == [True]
    with pytest.raises(
        ContractError, match="plugin/log: 'ticks' is no hook of the plugin contract; did you mean 'tick'"
    ):
        built(". {\n log\n}", log={"ticks": 1})


def test_an_empty_chain_is_none() -> None:
    assert chain([]) is None
    assert isinstance(Reply(), Reply)


def test_a_listener_has_a_transport_a_certificate_and_timeouts() -> None:
    """If several blocks of a listener set timeouts, those of the last block apply."""
    text = (
        "a {\n timeouts {\n  read 5s\n }\n}\nb {\n timeouts {\n  idle 9s\n }\n}\nc {\n}\n"
        "tls://a {\n tls x y\n timeouts {\n  maxtcpqueries 7\n }\n}\ntls://b {\n tls z y\n}\ntls://c d {\n tls z y\n}\n"
    )
    load: Any = lambda name: importlib.import_module(f"svcdns.plugins.{name}")  # noqa: E731
    plans = plan(parse(text, "Corefile", environ={}), ("timeouts", "tls"), load)
    chains = build(plans, [("::1",)] * len(plans), load, environment, HookCaller(Counters()))
    plain, secure = chains.listeners["::1", 53, "dns"], chains.listeners["::1", 853, "tls"]
    assert (plain.server, plain.security, plain.timeouts) == ("dns://[::1]:53", "", Timeouts(idle=9.0))
    assert (secure.server, secure.security, secure.timeouts) == ("tls://[::1]:853", "z y  nocert ", Timeouts(queries=7))
