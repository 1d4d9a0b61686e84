"""The namespaces and virtual interfaces of bench/virtual_network.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench import virtual_network
from bench.virtual_network import OFFLOADS, VirtualNetwork
from tests.support.raw_packets import Datagram, RawInterface
from tests.support.server import TIMEOUT

pytestmark = pytest.mark.integration

ADDRESSES = {"10.99.0.1": "10.99.0.2", "fd99::1": "fd99::2"}


@pytest.fixture
def network() -> Iterator[VirtualNetwork]:
    if reason := virtual_network.why_unavailable():
        pytest.skip(reason)
    with VirtualNetwork("pod", "node") as made:
        made.join(
            "pod", "eth0", "node", "veth0",
            left_addresses=["10.99.0.2/24", "fd99::2/64"], right_addresses=["10.99.0.1/24", "fd99::1/64"],
        )  # fmt: skip
        yield made


@pytest.mark.parametrize("source", ADDRESSES)
def test_sockets_of_two_namespaces_reach_each_other(network: VirtualNetwork, source: str) -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with network["pod"].socket(family) as server, network["node"].socket(family) as client:
        for sock in (server, client):
            sock.settimeout(TIMEOUT)
        server.bind((ADDRESSES[source], 5300))
        client.sendto(b"one", (ADDRESSES[source], 5300))
        assert server.recvfrom(100) == (b"one", (source, *client.getsockname()[1:]))


@pytest.mark.parametrize("source", ADDRESSES)
def test_raw_datagrams_are_right(network: VirtualNetwork, source: str) -> None:
    """A socket receives the payload, except if the checksum is wrong."""
    pod, node = network["pod"], network["node"]
    target = ADDRESSES[source]
    with pod.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as server:
        server.settimeout(TIMEOUT)
        server.bind((target, 5300))
        raw = RawInterface(node, "veth0")
        for payload, error in ((b"wrong", 1), (b"right", 0)):
            sent = Datagram(source, target, 4000, 5300, payload, node.mac("veth0"), pod.mac("eth0"))
            raw.send(replace(sent, checksum_error=error))
        assert server.recvfrom(100) == (b"right", (source, 4000, *server.getsockname()[2:]))
        raw.close()


def test_offloads_can_be_switched(network: VirtualNetwork) -> None:
    pod = network["pod"]
    for on in (False, True):
        pod.set_offload("eth0", on, "tx")
        assert pod.offload("eth0", "tx") is on
    assert {name: pod.offload("eth0", name) for name in OFFLOADS}["gso"]


def test_the_calling_thread_comes_back(network: VirtualNetwork) -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    inside = network["pod"].inside(lambda: Path("/proc/thread-self/ns/net").readlink())
    assert before == Path("/proc/thread-self/ns/net").readlink() != inside
    assert "eth0" in network["pod"].run("ip", "link")


def test_namespaces_of_a_killed_process_are_removed(network: VirtualNetwork) -> None:
    code = "import os; from bench.virtual_network import VirtualNetwork; VirtualNetwork('left'); os._exit(0)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as process:
        process.wait(TIMEOUT)
    names = {path.name for path in Path("/run/netns").iterdir()}
    assert any(name.startswith(f"svcdns-{process.pid}-") for name in names)
    with VirtualNetwork("other"):
        names = {path.name for path in Path("/run/netns").iterdir()}
    assert not any(name.startswith(f"svcdns-{process.pid}-") for name in names)
    assert any(name.startswith(f"svcdns-{os.getpid()}-") for name in names)
