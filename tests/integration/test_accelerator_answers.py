"""The recorded answers of CoreDNS, and the conformance suite, with the accelerator.

A few recorded cases are compared. `make accelerator-soak` compares all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bench.accelerator_race import why_unavailable
from tests.conformance.coredns import recorded
from tests.conformance.coredns.recorded import Case, cases
from tests.conformance.coredns.test_recorded_answers import compared, running
from tests.support.accelerated import ADDRESSES, SOCKET, Pod
from tests.support.server import Server, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

SAMPLE: Final = ("rewrite-suffix", "loadbalance")
CASES: Final = [case for case in cases() if os.environ.get("SVCDNS_TEST_RECORDED") == "all" or case.name in SAMPLE]
LOOPBACK: Final = ("acl", "autopath", "transfer-multicluster")
"""Cases that depend on the client's address. They are compared with a server without the accelerator."""
OWN: Final = recorded.own_address()
PASSES: Final = 3
"""The first two let the kernel have the replies."""
CLUSTER: Final = Path(__file__).parents[2] / "zones" / "cluster.yaml"
COREFILE: Final = f"""
cluster.local:{{port}} in-addr.arpa:{{port}} ip6.arpa:{{port}} {{
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        manifests {CLUSTER}
        pods insecure
        ttl 30
    }}
    prometheus 127.0.0.1:{{metrics}}
    forward . 127.0.0.1:9
    cache 30
    loadbalance
}}
"""


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    if reason := why_unavailable():
        pytest.skip(reason)
    with Pod(tmp_path_factory.mktemp("pod")) as made:
        if OWN != "127.0.0.1":
            made.pod.ip("addr", "add", f"{OWN}/32", "dev", "lo")
        yield made


def kernel_replies(pod: Pod, server: Server) -> float:
    return pod.pod.inside(lambda: server.metric("svcdns_accelerator_replies_total"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_answers(pod: Pod, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accelerator makes no difference."""
    monkeypatch.setattr(recorded, "own_address", lambda: OWN)
    accepted = Counter(query for group in case.accepted for query in group["queries"])
    if case.name in LOOPBACK:
        (tmp_path / "without").mkdir()
        accepted = differing(pod, case, tmp_path / "without")
    found = differing(pod, case, tmp_path, SVCDNS_ACCELERATOR=SOCKET)
    assert found == accepted


def differing(pod: Pod, case: Case, folder: Path, **environ: str) -> Counter[str]:
    """Returns the queries whose replies over the virtual interface differ from those of the case."""
    ends = ADDRESSES["IPv4"]
    bind = f"127.0.0.1 {ends.pod}"
    if "prometheus" not in case.corefile:
        bind += "\n    prometheus 127.0.0.1:{metrics}"
    with pod.pod.entered(), running(case, folder, cold_path=True, bind=bind, **environ) as server:
        if environ and "{metrics}" in case.corefile.replace("bind 127.0.0.1", bind):
            until("the accelerator", lambda: server.metric("svcdns_accelerator_up") == 1)
        found: list[list[tuple[str, str]]] = []

        def has_kernel_replies() -> bool:
            """All passes may be over before the first heartbeat lets the kernel answer."""
            with pod.node.entered():
                found[:] = [list(compared(case, server.ports["port"], ends.pod, ends.node)) for _ in range(PASSES)]
            return not environ or case.name not in SAMPLE or kernel_replies(pod, server) > len(case.lines) / 2

        until("replies of the kernel", has_kernel_replies)
    return Counter(query for query, _ in found[-1])


def test_the_conformance_suite(pod: Pod, tmp_path: Path) -> None:
    """The second run gets many of its replies from the kernel, and its outcome is that of the first run."""
    with pod.pod.entered(), Server(tmp_path, COREFILE, SVCDNS_ACCELERATOR=SOCKET) as server:
        until("the accelerator", lambda: server.metric("svcdns_accelerator_up") == 1)
        target = f"{ADDRESSES['IPv4'].pod}:{server.ports['port']}"
        words = [sys.executable, "-m", "svcdns", "conformance", "--server", target, "--manifests", str(CLUSTER)]
        results = []
        for _ in range(2):
            run = subprocess.run(
                pod.node.command(*words, "--output", "json"), capture_output=True, text=True, timeout=60, check=False
            )
            assert run.returncode == 0, run.stdout + run.stderr
            results.append([(check["id"], check["outcome"]) for check in json.loads(run.stdout)["checks"]])
        until("replies of the kernel", lambda: kernel_replies(pod, server) > 100)
    assert results[0] == results[1]
