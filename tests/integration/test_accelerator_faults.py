"""Faults of a server with the accelerator: processes that hang or end, reloads and upgrades."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from bench.accelerator_race import why_unavailable
from bench.client import has_address
from bench.cluster import Cluster
from tests.support.accelerated import QUIET, Accelerated, connect_pod
from tests.support.server import is_alive, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SERVICE = 7
HEADLESS = 10
VALIDITY = 0.75
"""The seconds for which a heartbeat of the worker lets the kernel answer."""
SLACK = 0.5


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accelerated]:
    if reason := why_unavailable():
        pytest.skip(reason)
    with Accelerated(tmp_path_factory.mktemp("accelerated"), Cluster(100, 2)) as made:
        made.until_up()
        yield made


def test_a_sidecar_without_rights(tmp_path: Path) -> None:
    """The server answers as without a sidecar. Server and sidecar say the reason in one line each."""
    if lacking := why_unavailable():
        pytest.skip(lacking)
    reason = "missing capabilities: BPF"
    with Accelerated(tmp_path, Cluster(10, 1), "+net_admin") as lab:
        until("the reason in the log", lambda: reason in lab.server.whole_log())
        assert lab.metric("svcdns_accelerator_up") == 0
        assert lab.reply(lab.packet(SERVICE))
        with lab.only_kernel():
            assert lab.reply(lab.packet(SERVICE), timeout=QUIET) == b""
        assert lab.server.whole_log().count(reason) == 1
        assert lab.sidecar.log.count("\n") == 1
        assert reason in lab.sidecar.log


class Asking:
    """A thread that queries one name. `replies` has the time of each query with a reply."""

    def __init__(self, lab: Accelerated, packet: bytes) -> None:
        self._lab, self._packet, self._over = lab, packet, threading.Event()
        self.replies: list[float] = []
        self.lost: list[float] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._client = self._lab.client()
        self._client.settimeout(QUIET)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        ident = 0
        while not self._over.wait(0.005):
            ident = ident + 1 & 0xFFFF
            packet = ident.to_bytes(2, "big") + self._packet[2:]
            begun = time.monotonic()
            try:
                self._client.send(packet)
                while self._client.recv(4096)[:2] != packet[:2]:
                    pass
            except OSError:
                self.lost.append(begun)
            else:
                self.replies.append(begun)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_hangs(lab: Accelerated) -> None:
    """The kernel stops to answer when the last heartbeat is too old. The next worker connects."""
    packet = lab.packet(SERVICE)
    lab.warm([packet])
    worker = lab.processes()["worker 0"]
    with Asking(lab, packet) as asking, stopped(worker):
        begun = time.monotonic()
        until("a lost query", lambda: asking.lost)
        until("another worker", lambda: lab.processes().get("worker 0", worker) != worker)
        lab.until_up()
    answered = [one for one in asking.replies if begun < one < asking.lost[0]]
    assert answered
    assert asking.lost[0] - begun < VALIDITY + SLACK
    lab.warm([packet])


def test_a_worker_that_is_killed(lab: Accelerated) -> None:
    """The program is detached with its worker."""
    packet = lab.packet(SERVICE)
    lab.warm([packet])
    worker = lab.processes()["worker 0"]
    detached = lab.sidecar.log.count("accelerator detached")
    with Asking(lab, packet) as asking:
        begun = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        until("the end of the link", lambda: lab.sidecar.log.count("accelerator detached") > detached)
        until("another worker", lambda: lab.processes().get("worker 0", worker) != worker)
        until("a reply", lambda: asking.replies and asking.replies[-1] > begun + 0.1)
    lab.until_up()
    lab.warm([packet])


def test_a_reload_keeps_the_kernel_answering(lab: Accelerated) -> None:
    packet = lab.packet(SERVICE)
    lab.warm([packet])
    with Asking(lab, packet) as asking:
        count = lab.server.whole_log().count("Reloading complete")
        lab.server.reload()
        until("the reload", lambda: lab.server.whole_log().count("Reloading complete") > count)
    assert asking.lost == []
    lab.until_up()
    lab.warm([packet])


def test_an_upgrade_in_place_loses_no_query(lab: Accelerated) -> None:
    """The new worker takes over: it gets memory of its own, and the old worker's connection is closed."""
    packet = lab.packet(SERVICE)
    lab.warm([packet])
    old = lab.processes()["worker 0"]
    attached = lab.sidecar.log.count("accelerator attached")
    with Asking(lab, packet) as asking:
        lab.server.process.send_signal(signal.SIGUSR2)
        until("the upgrade", lambda: "the upgrade is complete" in lab.server.whole_log(), 60.0)
    assert asking.lost == []
    assert not is_alive(old)
    assert lab.sidecar.log.count("accelerator attached") == attached + 1
    lab.until_up()
    lab.warm([packet])


def test_a_sidecar_that_is_killed_and_started_again(lab: Accelerated) -> None:
    """The server answers all queries, and says each change in one line."""
    packet = lab.packet(SERVICE)
    lab.warm([packet])
    before = lab.server.whole_log().splitlines()
    with Asking(lab, packet) as asking:
        lab.sidecar.end(signal.SIGKILL)
        lab.until_metric("svcdns_accelerator_up", 0)
        lab.start_sidecar()
        lab.until_up()
    assert asking.lost == []
    lab.warm([packet])
    lines = [line for line in lab.server.whole_log().splitlines()[len(before) :] if "accelerator" in line]
    assert len(lines) == 2
    assert "Traceback" not in lab.server.whole_log()


def test_an_api_server_that_is_lost(lab: Accelerated) -> None:
    """The kernel goes on answering with the last known addresses. Afterwards it answers with the new address."""
    packet = lab.packet(HEADLESS)
    lab.warm([packet])
    lab.server.api.request("break refused")
    until("the loss in the log", lambda: "cannot reach the Kubernetes API" in lab.server.whole_log())
    with lab.only_kernel(), Asking(lab, packet) as asking:
        begun = time.monotonic()
        until("replies after the validity", lambda: asking.replies and asking.replies[-1] > begun + 2 * VALIDITY)
    assert asking.lost == []
    address = lab.server.api.request(f"repair {HEADLESS}")
    until("the new address", lambda: has_address(lab.reply(packet), address))
    lab.warm([packet])
    assert has_address(lab.reply(packet), address)


def test_an_address_that_is_added_and_removed(lab: Accelerated) -> None:
    """The kernel answers at an address that is added late, and never at an address that is removed."""
    packet = lab.packet(SERVICE)
    lab.warm([packet])
    late = "10.99.0.5"
    with lab.client() as sock:
        sock.settimeout(QUIET)
        sock.connect((late, lab.server.port))
        lab.pod.ip("addr", "add", f"{late}/24", "dev", "eth0")
        lab.node.ip(
            "neigh", "replace", late, "lladdr", lab.pod.mac("eth0").hex(":"), "dev", "veth0", "nud", "permanent"
        )

        def answers() -> bool:
            try:
                sock.send(packet)
                return bool(sock.recv(4096))
            except OSError:
                return False

        def kernel_answers() -> bool:
            with lab.only_kernel():
                return answers()

        until("the kernel's reply at the new address", lambda: answers() and kernel_answers())
        detached = lab.sidecar.log.count("have changed")
        lab.pod.ip("addr", "del", f"{late}/24", "dev", "eth0")
        until("the detachment", lambda: lab.sidecar.log.count("have changed") > detached)
        assert not answers()
        lab.until_up()
        lab.warm([packet])
        assert not answers()


def test_an_interface_that_is_made_again(lab: Accelerated) -> None:
    """The server says that the kernel does not answer, and connects to the new interface."""
    lab.warm([lab.packet(SERVICE)])
    lab.pod.ip("link", "del", "eth0")
    lab.until_metric("svcdns_accelerator_up", 0)
    connect_pod(lab.network)
    lab.until_up()
    lab.warm([lab.packet(SERVICE)])
    assert "Traceback" not in lab.sidecar.log
