"""The cluster, what is asked of it, and what the servers are given."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import dns.message
import dns.zone
import pytest

from bench import peers, questions
from bench.asking import holds, packet
from bench.cluster import Cluster, cluster_ips, headless, moved, outside, outside_address, service_object, slice_object
from bench.upstream import reply

CLUSTER = Cluster(100, 3)


def site(**ports: int) -> peers.Site:
    """Something to configure a server with."""
    return peers.Site(CLUSTER, 5300, 5301, 8001, 1, {"health": 1, "ready": 2, "metrics": 3})


def test_addresses_are_unique_and_those_of_the_objects() -> None:
    """No address is given twice; objects and records agree."""
    found = [address for number in range(100) for address in (CLUSTER.pods(number) + ([] if headless(number) else cluster_ips(number)))]
    assert len(found) == len(set(found))
    assert [item["addresses"][0] for item in slice_object(CLUSTER, 7)["endpoints"]] == CLUSTER.pods(7)
    assert service_object(11)["spec"]["clusterIPs"] == CLUSTER.addresses(11) == ["10.64.0.11", "fd00:10:64::b"]
    assert service_object(10)["spec"]["clusterIP"] == "None"
    assert CLUSTER.addresses(10) == CLUSTER.pods(10)


def test_a_change_moves_one_endpoint() -> None:
    """The first address is a new one, the others stay."""
    before, after = (slice_object(CLUSTER, 10, variant)["endpoints"] for variant in (0, 5))
    assert after[0]["addresses"] == [moved(5)]
    assert after[1:] == before[1:]
    assert ipaddress.ip_address(moved(5)) not in map(ipaddress.ip_address, CLUSTER.pods(10))


def test_the_mix_is_half_walks() -> None:
    """Half of the questions are of walks, three quarters of those NXDOMAIN, and warming asks all of them."""
    asked = questions.mix(CLUSTER, 1600)
    absent = [line for line in asked.lines if "www." in line and "cluster.local" in line]
    assert len(asked.lines) == 1600
    assert len(absent) / 1600 == asked.absent
    assert set(asked.lines) <= set(questions.warm_mix(CLUSTER).lines)


def test_a_walk_ends_at_the_name_itself() -> None:
    """The search domains of a Pod come first."""
    assert questions.walk(3, 4)[::2] == [
        "www.site-3.example.team-4.svc.cluster.local A",
        "www.site-3.example.svc.cluster.local A",
        "www.site-3.example.cluster.local A",
        "www.site-3.example A",
    ]


def test_misses_are_asked_once() -> None:
    """No name comes twice, not even in another round."""
    lines = [*questions.misses(500, "a"), *questions.misses(500, "b")]
    assert len(set(lines)) == 1000


def test_hits_are_names_that_exist() -> None:
    """Every question is about a Service of the cluster."""
    assert set(questions.hits(CLUSTER, 300).lines) <= set(questions.every_name(CLUSTER).lines)


def test_zone_files_hold_the_cluster(tmp_path: Path) -> None:
    """Addresses, SRV and PTR, readable by an implementation that is not ours."""
    found = {name: dns.zone.from_file(str(path), name) for name, path in peers.write_zones(CLUSTER, tmp_path).items()}
    cluster = found["cluster.local"]
    assert {str(one) for one in cluster.find_rdataset("service-11.team-11.svc", "AAAA")} == {"fd00:10:64::b"}
    assert {str(one) for one in cluster.find_rdataset("service-10.team-10.svc", "A")} == set(CLUSTER.pods(10))
    assert len(cluster.find_rdataset("_http._tcp.service-10.team-10.svc", "SRV")) == 3
    assert str(found["in-addr.arpa"].find_rdataset("11.0.64.10", "PTR")[0]) == "service-11.team-11.svc.cluster.local."
    assert str(found["example"].find_rdataset("www.site-3", "A")[0]) == outside_address(3)


@pytest.mark.parametrize("name", [name for name in peers.CONFIGURED if name not in peers.WATCHERS])
def test_peers_are_configured(name: str, tmp_path: Path) -> None:
    """Each has a file that its command names, with the port it is to listen on."""
    command = peers.CONFIGURED[name](site(), tmp_path)
    file = Path(command[-1].partition("=")[2] or command[-1])
    assert file.parent == tmp_path
    assert "5300" in file.read_text()


def test_the_corefile_is_accepted(tmp_path: Path) -> None:
    """svcdns reads the Corefile that it and CoreDNS get."""
    from svcdns.corefile.directives import check_directives
    from svcdns.corefile.parser import parse
    from svcdns.plugins import BUILT, ORDER

    path = peers.corefile(site(), tmp_path)
    parsed = parse(path.read_text(), "Corefile", environ={})
    check_directives(parsed, known=ORDER, built=BUILT)
    assert [one.name.text for one in parsed.blocks[0].directives][:4] == ["errors", "health", "ready", "kubernetes"]


def test_a_peer_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is one line; svcdns itself is always there."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("COREDNS", raising=False)
    assert peers.missing("knot") == "no knotd in PATH"
    assert "COREDNS" in peers.missing("coredns")
    assert peers.missing("svcdns") == ""


def test_the_upstream_answers() -> None:
    """A from the formula, other types NODATA with the SOA, other names NXDOMAIN; readable by others."""
    good = reply(packet(outside(7)))
    assert holds(good, outside_address(7))
    assert not holds(good, outside_address(8))
    assert dns.message.from_wire(good).answer[0].ttl == 3600
    nodata = dns.message.from_wire(reply(packet(outside(7), "AAAA")))
    assert not nodata.answer
    assert nodata.authority[0].name.to_text() == "example."
    assert dns.message.from_wire(reply(packet("a.b.test"))).rcode() == 3


def test_the_command_line_explains_itself() -> None:
    """Help names every scenario."""
    import sys

    from bench.__main__ import SCENARIOS

    done = subprocess.run([sys.executable, "-m", "bench", "--help"], check=True, capture_output=True, text=True, timeout=30)
    assert all(f"  {name} " in done.stdout for name in SCENARIOS)
