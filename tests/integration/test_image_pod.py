"""The DNS container and the sidecar of the accelerator in one Pod, with the rights that deploy/ gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from bench.accelerator_race import why_unavailable
from svcdns.accelerator.helper import MAX_NEW, possible_cpus
from svcdns.accelerator.layout import LARGE_SLOTS, SMALL_SLOTS, program_shapes
from tests.support import certificates
from tests.support.api_double import service
from tests.support.container import USER, fields, why_not_possible, writable
from tests.support.image import Image
from tests.support.image_pod import ImagePod
from tests.support.in_cluster import cluster
from tests.support.server import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

COREFILE: Final = """
.:53 {
    errors
    ready
    prometheus :9153
    kubernetes cluster.local
    cache 30
}
"""
REFUSED: Final = "no permission for bpf(2) despite the capabilities: does the seccomp profile forbid it?"


def test_the_sidecar_loads_the_program(image: Image, tmp_path: Path) -> None:
    """The profile of the first sidecar refuses bpf(2). The server then finds the second sidecar, and loses it."""
    if reason := why_not_possible() or why_unavailable():
        pytest.skip(reason)
    tmp_path.chmod(0o755)
    tls = certificates.server(certificates.pair(), tmp_path)
    with ImagePod(image, tmp_path, cluster("10.96.0.1", "token", tls)) as pod:
        refused = pod.start_sidecar(permits_bpf=False)
        refused.until_logged(f'accelerator not available error="{REFUSED}"')
        server = pod.start_server(COREFILE, "token")
        server.until_logged(f'accelerator not used reason="{REFUSED}"')
        until("the address", lambda: server.addresses() == ["10.96.0.1"])
        refused.end()

        sidecar = pod.start_sidecar()
        server.until_logged("accelerator connected interface=eth0 addresses=2")
        sidecar.until_logged("accelerator attached interface=eth0 uid=65532")
        check_rights(sidecar.first, 0, {"BPF": 39, "NET_ADMIN": 12, "NET_BIND_SERVICE": 10})
        check_rights(server.first, USER, {"NET_BIND_SERVICE": 10})
        maps = program_shapes(SMALL_SLOTS, LARGE_SLOTS, possible_cpus()).values()
        assert sidecar.memory + MAX_NEW * sum(size * number for size, number in maps) <= sidecar.memory_limit

        until("replies of the kernel", lambda: server.addresses() == ["10.96.0.1"] and server.kernel_replies() > 0)
        pod.api.put(service("web", "10.96.0.2", 80, namespace="default"))
        until("the new address", lambda: server.addresses() == ["10.96.0.2"])
        before = server.kernel_replies()
        until(
            "more replies of the kernel",
            lambda: server.addresses() == ["10.96.0.2"] and server.kernel_replies() > before,
        )

        sidecar.end()
        server.until_logged('accelerator not used reason="the helper has closed the connection"')
        assert server.addresses() == ["10.96.0.2"]
        assert server.log.count("accelerator") == 3


def check_rights(pid: int, user: int, capabilities: Mapping[str, int]) -> None:
    """Checks that a process has these rights and no others. Each capability has its number."""
    found = fields(pid)
    assert set(found["Uid"].split()) == {str(user)}
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(found[name], 16) == sum(1 << number for number in capabilities.values())
    assert writable(pid) <= {"/proc", "/dev/null", "/dev/full", "/dev/shm", "/var/lib/svcdns"}
