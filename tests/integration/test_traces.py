"""Traces of a running server, and of CoreDNS (the environment variable COREDNS) with the same Corefile, compared."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.collector import Collector
from tests.support.server import Server, free_port, until

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

COREFILE = """
.:{port} {
    bind 127.0.0.1
    trace zipkin COLLECTOR {
        service dns
        zipkin_max_batch_interval 50ms
    }
    errors
    log
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    kubernetes cluster.local {
        endpoint http://127.0.0.1:API
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    loop
    loadbalance
    forward . 127.0.0.1:{upstream}
}
example.net:{port} {
    bind 127.0.0.1
    whoami
}
.:{upstream} {
    bind 127.0.0.1
    hosts {
        192.0.2.7 www.example.org
    }
}
"""
QUERIES = [
    ("service-1.team-1.svc.cluster.local.", "A"),
    ("service-1.team-1.svc.cluster.local.", "A"),
    ("Service-1.Team-1.svc.cluster.local.", "AAAA"),
    ("no.team-1.svc.cluster.local.", "A"),
    ("www.example.org.", "A"),
    ("www.example.org.", "A"),
    ("www.example.org.", "MX"),
    ("example.net.", "TXT"),
]


class Traced(Server):
    """A server of svcdns with a collector, an API server and an upstream, which is the server itself."""

    def __init__(self, folder: Path, collector: str, api: int) -> None:
        folder.mkdir()
        self._places = {"COLLECTOR": collector, "API": str(api)}
        super().__init__(folder, COREFILE)

    def write(self, corefile: str) -> None:
        self.ports.setdefault("upstream", free_port())
        for name, value in self._places.items():
            corefile = corefile.replace(name, value)
        super().write(corefile)


class CoreDns(Traced):
    """CoreDNS with the same Corefile."""

    def command(self) -> list[str]:
        path = shutil.which(os.environ.get("COREDNS", ""))
        if path is None:
            pytest.skip("coredns is not installed")
        return [path]


def shown(span: dict[str, Any], inner: dict[str, list[dict[str, Any]]], ports: dict[str, int]) -> Any:
    """Returns a span without its times and identifiers, with the spans inside it. Ports are replaced by their names."""
    left = ("timestamp", "duration", "traceId", "id", "parentId")
    members = json.dumps({name: value for name, value in sorted(span.items()) if name not in left}, sort_keys=True)
    for name, port in ports.items():
        members = members.replace(str(port), name)
    return members, [shown(one, inner, ports) for one in inner[span["id"]]]


def traces(kind: type[Traced], folder: Path, api: int) -> list[Any]:
    """Starts a server, sends the queries, and returns their traces in this order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    asked = {name.lower() for name, _ in QUERIES}

    def firsts() -> list[dict[str, Any]]:
        every = [span for spans in found.values() for span in spans if "kind" in span]
        mine = [span for span in every if span["tags"]["coredns.io/name"] in asked]
        return sorted(mine, key=lambda span: int(span["timestamp"]))

    with Collector() as collector, kind(folder, collector.address, api) as server:

        def collected() -> bool:
            while not collector.requests.empty():
                request = collector.next()
                assert (request.method, request.path) == ("POST", "/api/v2/spans")
                for span in json.loads(request.body):
                    found[span["traceId"]].append(span)
            return len(firsts()) == len(QUERIES) - 1  # the last query is for a block without *trace*

        server.until_ready()
        server.until_serving()
        for number, (name, rtype) in enumerate(QUERIES):
            assert server.ask(name, rtype, tcp=number == 1) is not None, server.log
        until("all traces", collected)
    out = []
    for first in firsts():
        inner: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for span in found[first["traceId"]]:
            inner[span.get("parentId", "")].append(span)
        assert first["id"] == first["traceId"], "the first span has the identifier of the trace"
        out.append(shown(first, inner, server.ports))
    return out


def test_spans_are_those_of_coredns(tmp_path: Path) -> None:
    """Names, tags, kinds, services and parents agree: cluster names, denials, forwarded names and cached replies."""
    command = [sys.executable, "-m", "bench.api", "--services", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as api:
        assert api.stdout is not None
        port = int(api.stdout.readline())
        expected = traces(CoreDns, tmp_path / "coredns", port)
        assert traces(Traced, tmp_path / "svcdns", port) == expected
        api.terminate()
    assert "connect" in str(expected)


def test_a_trace_of_a_client_over_https(tmp_path: Path) -> None:
    """The first span is inside the span that an HTTP request names. The end of the server exports what waits."""
    corefile = """
https://.:{port} {
    bind 127.0.0.1
    trace COLLECTOR {
        zipkin_max_batch_interval 1h
    }
    whoami
}
.:{health} {
    bind 127.0.0.1
    ready 127.0.0.1:{ready}
    whoami
}
"""
    with Collector() as collector:
        with Server(tmp_path, corefile.replace("COLLECTOR", collector.address)) as server:
            server.until_ready()
            packet = struct.pack("!6H", 0, 0x100, 1, 0, 0, 0) + b"\1a\0" + struct.pack("!2H", 1, 1)
            request = urllib.request.Request(
                f"http://127.0.0.1:{server.ports['port']}/dns-query",
                packet,
                {"Content-Type": "application/dns-message", "b3": "00000000000000aa-00000000000000bb-1"},
            )
            with urllib.request.urlopen(request, timeout=10) as response:
                assert response.status == 200
            assert server.stop() == 0
        spans = json.loads(collector.next().body)
    assert [span["name"] for span in spans] == ["whoami", "servedns"]
    assert (spans[1]["traceId"], spans[1]["parentId"]) == ("00000000000000aa", "00000000000000bb")
    assert spans[1]["tags"]["coredns.io/proto"] == "tcp"
