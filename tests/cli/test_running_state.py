"""`svcdns explain --server PATH`: the explanation comes from the state of a running server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from svcdns.cli import commands, running_state
from svcdns.cluster.changes import Begin, Complete, Kind, Put
from svcdns.cluster.objects import Namespace, Port, Service
from svcdns.control import server_state
from svcdns.control.admin_pages import AdminPages
from svcdns.control.cluster_view import ClusterView
from svcdns.control.cluster_views import number_of
from svcdns.control.configuration import check
from svcdns.control.http import HttpPages
from svcdns.control.plugin_data import DataKey, gather, plugin_files
from svcdns.control.reload_log import ReloadLog
from svcdns.control.status import ServerParts, Upstream
from svcdns.control.traffic_samples import TrafficSamples
from svcdns.corefile.parser import parse
from svcdns.feed.tool_messages import WorkerStatus
from svcdns.plugin_api.stored import StoredReplies, StoredReply
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from tests.control.test_status import Workers

COREFILE = """.:53 {
    cache 30
    kubernetes cluster.local {
        fallthrough
        stale_after 5m
    }
    hosts hosts.txt {
        fallthrough
    }
}
"""
KINDS = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE)
OBJECTS = (Service("shop", "web", ("10.96.0.10",), (Port("http", "TCP", 80),)), Namespace("shop"))


class Server:
    """A server with a cluster, a hosts file, and stored replies."""

    def __init__(self, folder: Path) -> None:
        (folder / "hosts.txt").write_text("192.0.2.7 a.test\n")
        self.path, self.age, self.stored = f"{folder}/s", 3.0, list[StoredReply]()
        text = COREFILE.replace("hosts.txt", f"{folder}/hosts.txt")
        self.setup = check(parse(text, "Corefile", environ={}))
        (encoded,) = self.setup.views
        self.view = ClusterView(number_of(encoded), KINDS, lambda: 0.0)
        for kind in KINDS:
            self.view.apply(Begin(kind))
        for one in OBJECTS:
            self.view.apply(Put(one))
        for kind in KINDS:
            self.view.apply(Complete(kind))
        self.data = {**gather(plugin_files(self.setup.plans), {}), DataKey("tls", "x"): b"a private key"}

    def parts(self) -> ServerParts:
        workers: Any = Workers(status=WorkerStatus(1, 2, 3, 4), list_replies=self.listed)
        workers.plugin_data = lambda: self.data
        views: Any = SimpleNamespace(by_number={self.view.number: self.view}, age=lambda _: self.age)
        return ServerParts(
            lambda: self.setup, workers, views, [], 0, ReloadLog(), TrafficSamples(Counters(), views, list)
        )

    def listed(self, region: int, _argument: bytes) -> StoredReplies:
        found = self.stored if region == 0 else []
        return StoredReplies(len(found), found)

    def run(self, *arguments: str) -> int:
        """Runs `svcdns explain` while the server answers, and returns the exit code."""

        async def both() -> int:
            pages = HttpPages({"/v1/": AdminPages(self.parts()).page})
            await pages.serve({(f"unix:{self.path}", 0): frozenset({"/v1/"})})
            try:
                return await asyncio.to_thread(commands.run, ["explain", *arguments, "--server", self.path])
            finally:
                await pages.serve({})

        return asyncio.run(both())


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_service_and_a_stored_reply(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    name = names.from_text("web.shop.svc.cluster.local.")
    server.stored = [StoredReply("table", "dns://:53", name, 1, Rcode.NOERROR, 5)]
    assert server.run("web", "--namespace", "shop") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Service shop/web has the ClusterIP 10.96.0.10"
    assert [line for line in lines if line.startswith("server: ")] == [
        "server: web.shop.svc.cluster.local. A: the answer table of worker 0 has a reply with NOERROR, until its data change",
        "server: cluster in-cluster: all objects are known, confirmed 3 s ago",
    ]
    assert "    web.shop.svc.cluster.local. 5 IN A 10.96.0.10" in lines


def test_data_of_plugins(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.run("a.test.", "--output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["queries"][0]["records"] == ["a.test. 30 IN A 192.0.2.7"]
    assert found["running"]["stored"] == []
    assert found["server"][0] == "a.test. A: no stored reply"


def test_private_keys_stay_in_the_server(server: Server) -> None:
    made = asyncio.run(server_state.StatePage(server.parts()).state({}))
    state = msgspec.msgpack.decode(made, type=server_state.ServerState)
    assert {plugin for plugin, _, _ in state.data} == {"hosts"}
    assert b"a private key" not in made


def test_a_stale_view_is_the_cause(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.age = 301.0
    server.run("web.shop.svc.cluster.local.")
    cause = "Service shop/web has the ClusterIP 10.96.0.10 (the state is 301 s old: the server has no contact with "
    assert capsys.readouterr().out.startswith(cause)
    server.run("a.test.")
    assert "the state is" not in capsys.readouterr().out


def test_a_view_that_is_not_complete(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.view.completed.discard(Kind.SERVICE)
    assert server.run("web.shop") == 1
    assert capsys.readouterr().out.startswith("the server has not read the cluster (in-cluster) yet")


def test_a_stored_denial_is_the_cause(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.stored = [StoredReply("cache", "dns://:53", names.from_text("a.test."), 1, Rcode.NXDOMAIN, 9, 9.4)]
    assert server.run("a.test.") == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "the server's cache has NXDOMAIN for a.test. A for 9 s more, but a new query gives NOERROR; "
        "'svcdns cache flush a.test.' removes it\n"
    )
    assert "server: a.test. A: 'cache' of worker 0 has a reply with NXDOMAIN, for 9 s more\n" in out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--manifests", "x"], "it cannot be combined with others"),
        (["--client", "10.0.0.1", "--pod", "shop/no"], "both name the client"),
    ],
)
def test_what_cannot_run(server: Server, arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.run("web", *arguments) == 2
    assert error in capsys.readouterr().err


def test_a_pod_of_a_server_without_pods(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Its namespace is used. A remark says that its address is not known."""
    server.run("web", "--pod", "shop/no")
    out, failure = capsys.readouterr()
    assert "search path: shop.svc.cluster.local." in out
    assert "the address of shop/no is unknown" in failure


def test_a_cluster_that_is_too_large(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_state, "MAX_OCTETS", 10)
    assert server.run("web") == 2
    assert "use --kubeconfig with --conf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("circuits", "queries", "checks", "expected"),
    [
        (0, 2, 0, "upstream a replies; 2 queries, mean 1.5 ms"),
        (
            1,
            2,
            3,
            "upstream a gets no queries in 1 worker, because it does not reply; 2 queries, mean 1.5 ms, 3 failed checks",
        ),
        (2, 2, 0, "upstream a gets no queries in 2 workers, because it does not reply; 2 queries, mean 1.5 ms"),
        (0, 0, 1, "upstream a has not replied yet; 0 queries, mean 1.5 ms, 1 failed checks"),
        (0, 0, 0, "upstream a was not needed yet; 0 queries, mean 1.5 ms"),
    ],
)
def test_upstreams(circuits: int, queries: int, checks: int, expected: str) -> None:
    assert running_state._upstream(Upstream("forward", "a", circuits, checks, queries, {}, 0.0015)) == expected
