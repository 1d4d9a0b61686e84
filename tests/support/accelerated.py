"""A server with the accelerator in the network namespace of a Pod, and its clients at the node's end of the interface.

The Pod has the interface eth0, and the node has veth0. `svcdns accelerate` runs as root with the capabilities BPF and
NET_ADMIN. The server runs as another user.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple, Self

from bench.client import make_query
from bench.cluster import Cluster
from bench.processes import children
from bench.servers import Cores, Server, ServerGroup
from bench.virtual_network import Namespace, VirtualNetwork
from tests.support.server import TIMEOUT, until

ROOT: Final = Path(__file__).parents[2]
SOCKET: Final = "@svcdns-accelerator"
USER: Final = 65532
WITHOUT_RIGHTS: Final = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
    *(f"--{kind}=-all,+dac_read_search" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
)
"""Runs a command as the user of the image. The one capability lets it read the folders of this machine."""
QUIET: Final = 0.3
"""The seconds without a reply after which a query counts as not answered."""


class Ends(NamedTuple):
    """The addresses of a family: the Pod's and the node's."""

    pod: str
    node: str


ADDRESSES: Final = {"IPv4": Ends("10.99.0.2", "10.99.0.1"), "IPv6": Ends("fd99::2", "fd99::1")}


def make_network() -> VirtualNetwork:
    """Returns the namespaces `pod`, `node` and `other`. `pod` and `node` know each other's hardware address."""
    network = VirtualNetwork("pod", "node", "other")
    connect_pod(network)
    return network


def connect_pod(network: VirtualNetwork) -> None:
    """Joins `pod` and `node` with a pair of interfaces."""
    network.join(
        "pod", "eth0", "node", "veth0",
        left_addresses=["10.99.0.2/24", "fd99::2/64"], right_addresses=["10.99.0.1/24", "fd99::1/64"],
    )  # fmt: skip
    know_each_other(network)
    network["pod"].ip("route", "add", "default", "via", "10.99.0.1")


def know_each_other(network: VirtualNetwork) -> None:
    """Sets the hardware addresses of the neighbours, so that no test waits for a search."""
    for near, interface, far, other in (("pod", "eth0", "node", "veth0"), ("node", "veth0", "pod", "eth0")):
        mac = network[far].mac(other).hex(":")
        for ends in ADDRESSES.values():
            address = ends.node if far == "node" else ends.pod
            network[near].ip("neigh", "replace", address, "lladdr", mac, "dev", interface, "nud", "permanent")


class Sidecar:
    """A running `svcdns accelerate` in a namespace."""

    def __init__(self, pod: Namespace, log: Path, capabilities: str = "+bpf,+net_admin") -> None:
        rights = ["setpriv", f"--bounding-set=-all,{capabilities}", "--inh-caps=-all", "--no-new-privs"]
        command = [*rights, sys.executable, "-m", "svcdns", "accelerate", "--stay", "--interface", "eth0"]
        self._log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(pod.command(*command), cwd=ROOT, stdout=output, stderr=output)

    @property
    def log(self) -> str:
        """Returns the text that the sidecar has printed."""
        return self._log.read_text()

    def until_logged(self, text: str) -> None:
        until(f"{text!r} in the sidecar's log", lambda: text in self.log or self.process.poll() is not None)
        assert text in self.log

    def end(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal and waits for the end, if the process is still running."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(TIMEOUT)


class Pod:
    """The namespaces, with a sidecar in `pod`. A context manager."""

    def __init__(self, folder: Path, capabilities: str = "+bpf,+net_admin") -> None:
        """Starts the sidecar with these capabilities."""
        self._folder, self._capabilities = folder, capabilities
        with ExitStack() as stack:
            self.network = stack.enter_context(make_network())
            self.pod, self.node = self.network["pod"], self.network["node"]
            self.sidecar = self.start_sidecar()
            stack.callback(lambda: self.sidecar.end(signal.SIGKILL))
            self._stack = stack.pop_all()

    def start_sidecar(self) -> Sidecar:
        """Starts a sidecar, and waits until it serves its socket."""
        self.sidecar = Sidecar(self.pod, self._folder / "sidecar.log", self._capabilities)
        count = self.sidecar.log.count("\n")
        until("the sidecar", lambda: self.sidecar.log.count("\n") > count)
        return self.sidecar

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def only_kernel(self) -> Iterator[None]:
        """Context manager in which only the kernel's replies reach the node.

        The Pod then has no route to the node, which a socket needs, and the program in the kernel does not.
        """
        for ends in ADDRESSES.values():
            self.pod.ip("route", "add", "blackhole", ends.node)
        try:
            yield
        finally:
            for ends in ADDRESSES.values():
                self.pod.ip("route", "del", "blackhole", ends.node)


class Accelerated(Pod):
    """A server with the accelerator, of a cluster that tests can change."""

    def __init__(self, folder: Path, cluster: Cluster, capabilities: str = "+bpf,+net_admin") -> None:
        """Starts a sidecar with these capabilities, and the server. `until_up` waits until the kernel answers."""
        super().__init__(folder, capabilities)
        self.cluster = cluster
        cores = sorted(os.sched_getaffinity(0))
        prefix = (*WITHOUT_RIGHTS, "env", f"SVCDNS_ACCELERATOR={SOCKET}")
        with ExitStack() as stack:
            stack.callback(self._stack.close)
            with self.pod.entered():
                group = ServerGroup(cluster, ["svcdns"], Cores(cores, cores), prefix=prefix)
            stack.callback(group.close)
            self.server: Server = group.servers["svcdns"]
            self._stack = stack.pop_all()

    # -- the state of the server

    def metric(self, pattern: str) -> float:
        """Returns the sum of all series of a metric. Values are at most two seconds old."""
        return self.pod.inside(lambda: self.server.metric(pattern))

    def until_metric(self, pattern: str, value: float) -> None:
        """Waits until a metric has a value."""
        until(f"{pattern} to be {value}", lambda: self.metric(pattern) == value)

    def until_up(self) -> None:
        """Waits until the server says that the kernel answers."""
        self.until_metric("svcdns_accelerator_up", 1)

    def processes(self) -> dict[str, int]:
        """Returns the process ids of control and workers by name."""
        return children(self.server.process.pid)

    # -- queries

    def client(self, family: str = "IPv4") -> socket.socket:
        """Returns a socket of the node that is connected to the server."""
        sock = self.node.socket(socket.AF_INET6 if family == "IPv6" else socket.AF_INET)
        sock.settimeout(TIMEOUT)
        sock.connect((ADDRESSES[family].pod, self.server.port))
        return sock

    def packet(self, number: int, rtype: str = "A") -> bytes:
        """Returns a query for the address of a Service."""
        return make_query(self.cluster.fqdn(number), rtype, number)

    def reply(self, packet: bytes, family: str = "IPv4", timeout: float = TIMEOUT) -> bytes:
        """Sends a query. Returns the reply, or no octets after `timeout` seconds."""
        with self.client(family) as sock:
            sock.settimeout(timeout)
            sock.send(packet)
            try:
                return sock.recv(65535)
            except OSError:
                return b""

    def warm(self, packets: Sequence[bytes], families: Sequence[str] = tuple(ADDRESSES)) -> None:
        """Sends queries until the kernel answers each of them."""

        def all_answered() -> bool:
            for family in families:
                for packet in packets:
                    assert self.reply(packet, family)
            with self.only_kernel():
                return all(self.reply(packet, family, QUIET) for family in families for packet in packets)

        until("the kernel's replies", all_answered)
