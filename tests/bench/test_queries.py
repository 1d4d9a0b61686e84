"""The bench's cluster and query sets, and the configuration of the measured servers."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import dns.message
import dns.zone
import pytest

from bench import peers, queries
from bench.client import has_address, make_query
from bench.cluster import (
    Cluster,
    cluster_ips,
    external_address,
    external_name,
    headless,
    moved,
    service_object,
    slice_object,
)
from bench.upstream import reply

CLUSTER = Cluster(100, 3)


def config(**ports: int) -> peers.ServerConfig:
    return peers.ServerConfig(CLUSTER, 5300, 5301, 8001, 1, {"health": 1, "ready": 2, "metrics": 3})


def test_addresses_are_unique_and_agree_with_the_objects() -> None:
    found = [
        address
        for number in range(100)
        for address in (CLUSTER.pods(number) + ([] if headless(number) else cluster_ips(number)))
    ]
    assert len(found) == len(set(found))
    assert [item["addresses"][0] for item in slice_object(CLUSTER, 7)["endpoints"]] == CLUSTER.pods(7)
    assert service_object(11)["spec"]["clusterIPs"] == CLUSTER.addresses(11) == ["10.64.0.11", "fd00:10:64::b"]
    assert service_object(10)["spec"]["clusterIP"] == "None"
    assert CLUSTER.addresses(10) == CLUSTER.pods(10)


def test_a_change_replaces_only_the_first_address() -> None:
    before, after = (slice_object(CLUSTER, 10, variant)["endpoints"] for variant in (0, 5))
    assert after[0]["addresses"] == [moved(5)]
    assert after[1:] == before[1:]
    assert ipaddress.ip_address(moved(5)) not in map(ipaddress.ip_address, CLUSTER.pods(10))


def test_half_of_the_mix_is_external_names() -> None:
    """Three quarters of the external names do not exist. `warm_mix` contains every query."""
    mix = queries.mix(CLUSTER, 1600)
    nxdomain = [line for line in mix.lines if "www." in line and "cluster.local" in line]
    assert len(mix.lines) == 1600
    assert len(nxdomain) / 1600 == mix.nxdomain
    assert set(mix.lines) <= set(queries.warm_mix(CLUSTER).lines)


def test_the_search_domains_come_before_the_plain_name() -> None:
    assert queries.search_path(3, 4)[::2] == [
        "www.site-3.example.team-4.svc.cluster.local A",
        "www.site-3.example.svc.cluster.local A",
        "www.site-3.example.cluster.local A",
        "www.site-3.example A",
    ]


def test_misses_have_no_duplicates() -> None:
    lines = [*queries.misses(500, "a"), *queries.misses(500, "b")]
    assert len(set(lines)) == 1000


def test_hits_are_existing_names() -> None:
    assert set(queries.hits(CLUSTER, 300).lines) <= set(queries.every_name(CLUSTER).lines)


def test_zone_files_of_the_cluster(tmp_path: Path) -> None:
    found = {name: dns.zone.from_file(str(path), name) for name, path in peers.write_zones(CLUSTER, tmp_path).items()}
    cluster = found["cluster.local"]
    assert {str(one) for one in cluster.find_rdataset("service-11.team-11.svc", "AAAA")} == {"fd00:10:64::b"}
    assert {str(one) for one in cluster.find_rdataset("service-10.team-10.svc", "A")} == set(CLUSTER.pods(10))
    assert len(cluster.find_rdataset("_http._tcp.service-10.team-10.svc", "SRV")) == 3
    assert str(found["in-addr.arpa"].find_rdataset("11.0.64.10", "PTR")[0]) == "service-11.team-11.svc.cluster.local."
    assert str(found["example"].find_rdataset("www.site-3", "A")[0]) == external_address(3)


@pytest.mark.parametrize("name", [name for name in peers.CONFIGURED if name not in peers.WATCHERS])
def test_configuration_files_of_peers(name: str, tmp_path: Path) -> None:
    command = peers.CONFIGURED[name](config(), tmp_path)
    file = Path(command[-1].partition("=")[2] or command[-1])
    assert file.parent == tmp_path
    assert "5300" in file.read_text()


def test_svcdns_accepts_the_corefile(tmp_path: Path) -> None:
    from svcdns.corefile.directives import check_directives
    from svcdns.corefile.parser import parse
    from svcdns.plugins import BUILT, ORDER

    path = peers.corefile(config(), tmp_path)
    parsed = parse(path.read_text(), "Corefile", environ={})
    check_directives(parsed, known=ORDER, built=BUILT)
    assert [one.name.text for one in parsed.blocks[0].directives][:4] == ["errors", "health", "ready", "kubernetes"]


def test_the_reason_why_a_peer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("COREDNS", raising=False)
    assert peers.why_unavailable("knot") == "no knotd in PATH"
    assert "COREDNS" in peers.why_unavailable("coredns")
    assert peers.why_unavailable("svcdns") == ""


def test_responses_of_the_upstream() -> None:
    good = reply(make_query(external_name(7)))
    assert has_address(good, external_address(7))
    assert not has_address(good, external_address(8))
    assert dns.message.from_wire(good).answer[0].ttl == 3600
    nodata = dns.message.from_wire(reply(make_query(external_name(7), "AAAA")))
    assert not nodata.answer
    assert nodata.authority[0].name.to_text() == "example."
    assert dns.message.from_wire(reply(make_query("a.b.test"))).rcode() == 3


def test_help_names_every_scenario() -> None:
    import sys

    from bench.__main__ import SCENARIOS

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], check=True, capture_output=True, text=True, timeout=30
    )
    assert all(f"  {name} " in done.stdout for name in SCENARIOS)
