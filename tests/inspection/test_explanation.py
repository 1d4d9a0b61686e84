"""Explanations of answers in common situations. The first line of an explanation states the cause."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from svcdns.cli.offline_server import running
from svcdns.inspection.explanation import Explanation, explain, schema
from svcdns.inspection.reading import read_given
from svcdns.inspection.search_path import domains, expanded
from svcdns.wire.codes import Type

ROOT = Path(__file__).parents[2]

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {type: ExternalName, externalName: b.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {type: ExternalName, externalName: a.shop.svc.cluster.local}
"""
EXTERNAL = "".join(
    f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: target-{name}, namespace: shop}}\n"
    f"spec: {{type: ExternalName, externalName: {target}}}\n"
    for name, target in [
        ("nxdomain", "nxdomain.test"), ("nodata", "nodata.test"), ("servfail", "servfail.test"),
        ("chain", "target-nxdomain.shop.svc.cluster.local"), ("gone", "gone.shop.svc.cluster.local"),
        ("web", "web.shop.svc.cluster.local"), ("db", "db.shop.svc.cluster.local"),
    ]
)  # fmt: skip
KUBERNETES = " kubernetes cluster.local in-addr.arpa {\n  manifests %s\n  pods insecure\n }\n"


async def explained(
    tmp_path: Path,
    name: str,
    rtype: int = Type.A,
    more: str = "",
    *,
    client: str = "127.0.0.1",
    namespace: str = "default",
    options: str = "",
    zone: str = ".",
) -> Explanation:
    path = tmp_path / "cluster.yaml"
    path.write_text(MANIFEST + EXTERNAL)
    kubernetes = (KUBERNETES % path).replace(" }\n", f"{options} }}\n")
    reading = read_given(f"{zone}:53 {{\n{kubernetes}{more}}}\n", "Corefile", environ={})
    assert not reading.problems
    search = domains(namespace, "cluster.local.")
    async with running(reading) as server:
        candidates = expanded(name, search)
        return await explain(server, reading, candidates, rtype, client, search if len(candidates) > 1 else ())


@pytest.mark.parametrize(
    ("name", "rtype", "cause", "near"),
    [
        pytest.param(
            "web.default.svc.cluster.local.", Type.A,
            "namespace 'default' has no Service 'web'; there is one of this name in namespace shop",
            ["web.shop.svc.cluster.local."], id="wrong namespace",
        ),
        pytest.param(
            "web.shp.svc.cluster.local.", Type.A, "namespace 'shp' does not exist", ["web.shop.svc.cluster.local."],
            id="namespace misspelt",
        ),
        pytest.param(
            "wbe.shop.svc.cluster.local.", Type.A, "namespace 'shop' has no Service 'wbe'",
            ["web.shop.svc.cluster.local."], id="service misspelt",
        ),
        pytest.param(
            "db.shop.svc.cluster.local.", Type.A,
            "Service shop/db is headless and has no ready endpoint, so it has no records", [],
            id="headless without ready Pods",
        ),
        pytest.param(
            "_htpp._tcp.web.shop.svc.cluster.local.", Type.SRV,
            "Service shop/web has no port named 'htpp'; its ports are http/TCP, dns/UDP",
            ["_http._tcp.web.shop.svc.cluster.local."], id="port misspelt",
        ),
        pytest.param(
            "_dns._tcp.web.shop.svc.cluster.local.", Type.SRV,
            "port 'dns' of Service shop/web is not of protocol tcp; its ports are http/TCP, dns/UDP",
            ["_dns._udp.web.shop.svc.cluster.local."], id="protocol of the port",
        ),
        pytest.param(
            "a.shop.svc.cluster.local.", Type.A,
            "the ExternalNames form a loop: a.shop.svc.cluster.local. -> b.shop.svc.cluster.local. -> "
            "a.shop.svc.cluster.local.", [], id="ExternalName loop",
        ),
        pytest.param(
            "web.shop.svc.cluster.local.", Type.AAAA,
            "Service shop/web exists, but has no AAAA records; its addresses are IPv4 addresses", [], id="no IPv6",
        ),
        pytest.param(
            "web.shop.svc.cluster.local.", Type.A, "Service shop/web has the ClusterIP 10.96.0.10", [], id="found"
        ),
        pytest.param(
            "99.0.96.10.in-addr.arpa.", Type.PTR,
            "99.0.96.10.in-addr.arpa. is the address of no Service and of no named endpoint", [], id="reverse",
        ),
        pytest.param(
            "web.shop.cluster.local.", Type.A,
            "web.shop.cluster.local. has no 'svc' before the zone cluster.local., so it is no name of a Service",
            ["web.shop.svc.cluster.local."], id="svc is missing",
        ),
    ],
)  # fmt: skip
async def test_the_first_line_says_the_cause(
    tmp_path: Path, name: str, rtype: int, cause: str, near: list[str]
) -> None:
    found = await explained(tmp_path, name, rtype)
    assert (found.cause, found.near) == (cause, near)


NO_SUCH_NAME = " template IN ANY . {\n  match ^([a-z_]+[.]){1,4}$\n  rcode NXDOMAIN\n  fallthrough\n }\n"
DEAD = " forward . 127.0.0.1:{port}\n"


@pytest.mark.parametrize("outside", [NO_SUCH_NAME, DEAD], ids=["outside names do not exist", "the upstream is dead"])
@pytest.mark.parametrize(
    ("name", "rtype", "cause"),
    [
        ("db.shop", Type.A, "Service shop/db is headless and has no ready endpoint"),
        ("a.shop", Type.A, "the ExternalNames form a loop"),
        ("_htpp._tcp.web.shop", Type.SRV, "Service shop/web has no port named 'htpp'"),
        ("web.shop", Type.AAAA, "Service shop/web exists, but has no AAAA records"),
        ("web.shp", Type.A, "no name of the search path exists: namespace 'shp' does not exist"),
        ("wbe.shop", Type.A, "no name of the search path exists: namespace 'shop' has no Service 'wbe'"),
    ],
)
async def test_the_first_line_about_a_short_name(
    tmp_path: Path, name: str, rtype: int, cause: str, outside: str
) -> None:
    """The last query of the search path goes outside of the cluster. Its reply is not the cause."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    found = await explained(tmp_path, name, rtype, outside.replace("{port}", str(port)))
    assert found.cause.startswith(cause)


async def test_the_search_path_of_another_namespace_finds_nothing(tmp_path: Path) -> None:
    found = await explained(
        tmp_path, "web", more=" template IN ANY . {\n  match ^[a-z]+[.]$\n  rcode NXDOMAIN\n  fallthrough\n }\n"
    )
    assert found.cause == (
        "no name of the search path exists: namespace 'default' has no Service 'web'; there is one of this name in "
        "namespace shop"
    )
    assert found.near == ["web.shop.svc.cluster.local."]
    assert [one.name for one in found.queries][:2] == ["web.default.svc.cluster.local.", "web.svc.cluster.local."]


async def test_a_name_found_later_in_the_search_path(tmp_path: Path) -> None:
    found = await explained(tmp_path, "web.shop")
    assert found.cause == "found after 1 search-path query: Service shop/web has the ClusterIP 10.96.0.10"
    assert found.queries[-1].records == ["web.shop.svc.cluster.local. 5 IN A 10.96.0.10"]


async def test_rewrite(tmp_path: Path) -> None:
    more = " rewrite type MX TXT\n rewrite name exact web.test wbe.shop.svc.cluster.local\n"
    found = await explained(tmp_path, "web.test.", more=more)
    assert found.cause == (
        "'rewrite' (Corefile:7) changes web.test. to wbe.shop.svc.cluster.local., and namespace 'shop' has no Service 'wbe'"
    )


@pytest.mark.parametrize(
    ("action", "verb"), [("block", "refuses"), ("filter", "empties the answer for"), ("drop", "drops")]
)
async def test_acl(tmp_path: Path, action: str, verb: str) -> None:
    more = f" acl {{\n  allow net 10.0.0.0/8\n  {action} net 192.0.2.0/24\n }}\n"
    found = await explained(tmp_path, "web.shop.svc.cluster.local.", more=more, client="192.0.2.7")
    assert (
        found.cause
        == f"'acl' (Corefile:8) {verb} 192.0.2.7 ({action} net 192.0.2.0/24) for web.shop.svc.cluster.local. A"
    )
    short = await explained(tmp_path, "web.shop", more=more, client="192.0.2.7")
    if action == "block":
        assert short.cause == "'acl' (Corefile:8) refuses 192.0.2.7 (block net 192.0.2.0/24) for web.shop. A"
    allowed = await explained(tmp_path, "web.shop.svc.cluster.local.", more=more, client="10.1.2.3")
    assert allowed.cause == "Service shop/web has the ClusterIP 10.96.0.10"


class Upstream(asyncio.DatagramProtocol):
    """Replies without records. The first label of a name says the response code."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        rcode = 3 if b"nxdomain" in data else 2 if b"servfail" in data or b"nope" in data else 0
        question = data[12 : data.index(b"\0", 12) + 5]
        self.transport.sendto(data[:2] + bytes((0x81, 0x80 | rcode, 0, 1)) + bytes(6) + question, source)


@pytest.fixture
async def upstream() -> AsyncIterator[int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Upstream, local_addr=("127.0.0.1", 0)
    )  # fmt: skip
    yield transport.get_extra_info("sockname")[1]
    transport.close()
    await asyncio.sleep(0)  # the socket is closed in the next step of the event loop


@pytest.mark.parametrize(
    ("service", "rtype", "cause"),
    [
        ("nxdomain", Type.A, "nxdomain.test, which has no A records: the upstream {} answered nxdomain.test. with NXDOMAIN"),
        (
            "nodata", Type.A,
            "nodata.test, which has no A records: the upstream {} answered nodata.test. without records: "
            "the name exists, but not with the type A",
        ),
        (
            "servfail", Type.A,
            "servfail.test, whose A records cannot be found: the upstream {} answered servfail.test. with SERVFAIL",
        ),
        (
            "chain", Type.A,
            "target-nxdomain.shop.svc.cluster.local, which has no A records: the upstream {} answered nxdomain.test. "
            "with NXDOMAIN",
        ),
        (
            "gone", Type.A,
            "gone.shop.svc.cluster.local, which has no A records: namespace 'shop' has no Service 'gone'",
        ),
        (
            "db", Type.A,
            "db.shop.svc.cluster.local, which has no A records: Service shop/db is headless and has no ready endpoint, "
            "so it has no records",
        ),
        (
            "web", Type.AAAA,
            "web.shop.svc.cluster.local, which has no AAAA records: Service shop/web has the ClusterIP 10.96.0.10",
        ),
        ("web", Type.A, "web.shop.svc.cluster.local"),
    ],
)  # fmt: skip
async def test_the_target_of_an_external_name(
    tmp_path: Path, upstream: int, service: str, rtype: int, cause: str
) -> None:
    """If the target has no records of the type, the first line says why."""
    more = f" forward . 127.0.0.1:{upstream}\n"
    found = await explained(tmp_path, f"target-{service}.shop.svc.cluster.local.", rtype, more)
    expected = cause.format(f"127.0.0.1:{upstream}")
    assert found.cause == f"Service shop/target-{service} is an ExternalName for {expected}"


async def test_the_target_with_another_plugin_that_sends_queries(tmp_path: Path, upstream: int) -> None:
    more = f" dns64\n forward . 127.0.0.1:{upstream}\n"
    found = await explained(tmp_path, "target-nxdomain.shop.svc.cluster.local.", Type.AAAA, more)
    assert found.cause.endswith(
        f"no AAAA records: the upstream 127.0.0.1:{upstream} answered nxdomain.test. with NXDOMAIN"
    )


@pytest.mark.parametrize(
    ("zone", "more", "cause"),
    [
        ("cluster.local", "", "no server block serves nodata.test., so it is REFUSED; the blocks serve cluster.local."),
        (".", "", "nodata.test. is SERVFAIL, because 'kubernetes' (Corefile:2) does not answer it and no plugin follows"),
        (
            ".", " forward a.test 127.0.0.1:1\n",
            "nodata.test. is SERVFAIL, because 'forward' (Corefile:6) does not answer it and no plugin follows",
        ),
        (
            ".", " forward . 127.0.0.1:1 {\n  max_fails 0\n }\n",
            "no upstream of 'forward' (Corefile:6) answered for nodata.test.: 127.0.0.1:1: connection refused",
        ),
    ],
)  # fmt: skip
async def test_a_target_that_no_upstream_gets(tmp_path: Path, zone: str, more: str, cause: str) -> None:
    found = await explained(tmp_path, "target-nodata.shop.svc.cluster.local.", more=more, zone=zone)
    start = "Service shop/target-nodata is an ExternalName for nodata.test, whose A records cannot be found: "
    assert found.cause == start + cause


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        (
            "", "nope.shop.svc.cluster.local. is SERVFAIL, because 'kubernetes' (Corefile:2) does not answer it and no "
            "plugin follows",
        ),
        (" forward . 127.0.0.1:{}\n", "the upstream 127.0.0.1:{} answered nope.shop.svc.cluster.local. with SERVFAIL"),
    ],
    ids=["no plugin follows", "an upstream"],
)  # fmt: skip
async def test_fallthrough(tmp_path: Path, upstream: int, more: str, cause: str) -> None:
    """The first line says why the cluster has no answer, and what happens to the query then."""
    name = "nope.shop.svc.cluster.local."
    found = await explained(tmp_path, name, more=more.format(upstream), options="  fallthrough\n")
    assert found.cause == (
        "namespace 'shop' has no Service 'nope', and 'fallthrough' (Corefile:5) passes the query on; "
        + cause.format(upstream)
    )
    assert found.queries[0].rcode == "SERVFAIL"


async def test_an_upstream_that_is_dead(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    more = f" forward . 127.0.0.1:{port} {{\n  max_fails 0\n }}\n"
    found = await explained(tmp_path, "example.com.", more=more)
    assert found.cause.startswith("no upstream of 'forward' (Corefile:6) answered for example.com.: ")
    assert found.cause.count(f"127.0.0.1:{port}") == 1


async def test_a_name_that_no_block_serves(tmp_path: Path) -> None:
    reading = read_given("a.test:53 {\n whoami\n}\n", "Corefile", environ={})
    async with running(reading) as server:
        found = await explain(server, reading, ("b.test.",), Type.A, "127.0.0.1", ())
    assert found.cause == "no server block serves b.test., so it is REFUSED; the blocks serve a.test."


@pytest.mark.parametrize(
    ("client", "cause"),
    [
        (
            "10.1.2.3",
            "Service shop/web has the ClusterIP 10.96.0.10 (10.1.2.3 gets the server block with the view 'inner', Corefile:1)",
        ),
        (
            "192.0.2.7",
            "answered with NXDOMAIN by 'template' (Corefile:12) "
            "(192.0.2.7 gets the server block without a view, Corefile:11)",
        ),
    ],
)
async def test_a_view_chooses_the_server_block_by_client(tmp_path: Path, client: str, cause: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(MANIFEST)
    view = " view inner {\n  expr incidr(client_ip(), '10.0.0.0/8')\n }\n"
    text = f".:53 {{\n{view}{KUBERNETES % path}\n}}\n.:53 {{\n template IN ANY . {{\n  rcode NXDOMAIN\n }}\n}}\n"
    reading = read_given(text, "Corefile", environ={})
    assert not reading.problems
    async with running(reading) as server:
        found = await explain(server, reading, ("web.shop.svc.cluster.local.",), Type.A, client, ())
    assert found.cause == cause


async def test_steps_have_the_place_of_each_plugin(tmp_path: Path) -> None:
    found = await explained(tmp_path, "web.shop.svc.cluster.local.", more=" errors\n log\n")
    assert [(one.plugin, one.place) for one in found.queries[0].steps] == [
        ("errors", "Corefile:6"),
        ("log", "Corefile:7"),
        ("kubernetes", "Corefile:2"),
    ]
    assert found.queries[0].objects[0] == "Service shop/web: ClusterIP 10.96.0.10; ports http 80/TCP, dns 53/UDP"


def test_the_documented_schema_is_that_of_the_explanation() -> None:
    assert json.loads((ROOT / "docs/schemas/explain.json").read_text()) == schema()
