"""A node with a bridge, DNAT for the address of a Service, and filters, in front of a server with the accelerator."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import pytest

from bench.accelerator_race import why_unavailable
from bench.client import has_address
from bench.cluster import Cluster
from bench.virtual_network import Namespace
from svcdns.accelerator import bpf
from svcdns.accelerator.elf import Program
from tests.support.accelerated import ADDRESSES, QUIET, Accelerated
from tests.support.server import TIMEOUT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

CLUSTER: Final = Cluster(100, 2)
SERVICE_IP: Final = "10.96.0.10"
NUMBERS: Final = range(1, 9)
DROP: Final = bytes.fromhex("b700000002000000 9500000000000000")
"""A program of two instructions: return TC_ACT_SHOT."""
needs_iptables = pytest.mark.skipif(not shutil.which("iptables"), reason="iptables is not installed here")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accelerated]:
    if reason := why_unavailable():
        pytest.skip(reason)
    with Accelerated(tmp_path_factory.mktemp("accelerated"), CLUSTER) as made:
        made.until_up()
        _add_bridge(made)
        yield made


def _add_bridge(lab: Accelerated) -> None:
    """Connects the Pod and another Pod to a bridge of the node, which has the address 10.99.0.1."""
    node, other = lab.node, lab.network["other"]
    lab.network.join("other", "eth0", "node", "veth1", left_addresses=["10.99.0.3/24"])
    other.ip("route", "add", "default", "via", ADDRESSES["IPv4"].node)
    node.ip("link", "add", "cni0", "address", node.mac("veth0").hex(":"), "type", "bridge")
    node.ip("addr", "flush", "dev", "veth0")
    for port in ("veth0", "veth1"):
        node.ip("link", "set", port, "master", "cni0")
    node.ip("addr", "add", "10.99.0.1/24", "dev", "cni0")
    node.ip("link", "set", "cni0", "up")
    node.ip("route", "add", "10.96.0.0/16", "dev", "cni0")  # DNAT takes place after the choice of a route
    node.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")


@contextmanager
def rules(lab: Accelerated, *rules: str) -> Iterator[None]:
    """Context manager with rules of iptables on the node. A rule begins with the table and the chain."""
    table_and_chain = [rule.split(" ", 2) for rule in rules]
    for table, chain, rule in table_and_chain:
        lab.node.run("iptables", "-w", "-t", table, "-A", chain, *rule.split())
    try:
        yield
    finally:
        for table, chain, rule in table_and_chain:
            lab.node.run("iptables", "-w", "-t", table, "-D", chain, *rule.split())


def right_answers(lab: Accelerated, namespace: Namespace, address: str, port: int, timeout: float = TIMEOUT) -> int:
    """Returns the number of right answers to queries for the Services `NUMBERS`, each from a socket of its own."""
    right = 0
    for number in NUMBERS:
        with namespace.socket() as sock:
            sock.settimeout(timeout)
            sock.connect((address, port))
            with suppress(OSError):  # a filter refuses to send, or no reply comes
                sock.send(lab.packet(number))
                right += has_address(sock.recv(4096), CLUSTER.addresses(number)[0])
    return right


@needs_iptables
@pytest.mark.parametrize("namespace", ["node", "other"])
def test_clients_of_the_service_address_get_the_replies_of_the_kernel(lab: Accelerated, namespace: str) -> None:
    """DNAT and connection tracking on the node see query and reply, as those of kube-proxy do."""
    lab.warm([lab.packet(number) for number in NUMBERS], ["IPv4"])
    target = f"-d {SERVICE_IP} -p udp --dport 53 -j DNAT --to-destination {ADDRESSES['IPv4'].pod}:{lab.server.port}"
    invalid = "filter FORWARD -m conntrack --ctstate INVALID -j DROP"
    with rules(lab, f"nat PREROUTING {target}", f"nat OUTPUT {target}", invalid), lab.only_kernel():
        assert right_answers(lab, lab.network[namespace], SERVICE_IP, 53) == len(NUMBERS)


@needs_iptables
def test_filters_of_the_node_hold(lab: Accelerated) -> None:
    lab.warm([lab.packet(number) for number in NUMBERS], ["IPv4"])
    address, port = ADDRESSES["IPv4"].pod, lab.server.port
    for chain, rule in (
        ("OUTPUT", f"-d {address} -p udp --dport {port} -j DROP"),
        ("INPUT", f"-s {address} -p udp --sport {port} -j DROP"),
    ):
        assert right_answers(lab, lab.node, address, port) == len(NUMBERS)
        with rules(lab, f"filter {chain} {rule}"):
            assert right_answers(lab, lab.node, address, port, QUIET / 3) == 0


def test_a_program_at_the_nodes_end_drops_the_replies(lab: Accelerated) -> None:
    """As a network plugin filters the packets of a Pod: with a program at the node's end of its interface."""
    lab.warm([lab.packet(number) for number in NUMBERS], ["IPv4"])
    address, port = ADDRESSES["IPv4"].pod, lab.server.port
    program = bpf.load_program(Program(DROP, ()), {})
    link = lab.node.inside(lambda: bpf.attach(program, socket.if_nametoindex("veth0")))
    try:
        assert right_answers(lab, lab.node, address, port, QUIET / 3) == 0
    finally:
        os.close(link)
        os.close(program)
    assert right_answers(lab, lab.node, address, port) == len(NUMBERS)
