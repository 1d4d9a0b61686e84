"""Every check passes against a correct server, and fails against a server with the fault that it must find."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import AsyncIterator

import pytest

from svcdns.conformance.check import Check, Result
from svcdns.conformance.checks import CHECKS
from svcdns.conformance.client import Server
from svcdns.conformance.cluster_model import Cluster
from svcdns.conformance.examiner import Examiner
from svcdns.conformance.lab import Lab
from svcdns.conformance.outcome import Outcome, Severity
from svcdns.conformance.runner import run
from tests.conformance.faults import FAULTS, NS
from tests.conformance.model import ZONE, FakeApi, Fault, ModelServer

KUBERNETES = {
    "kind": "Service",
    "metadata": {"name": "kubernetes", "namespace": "default"},
    "spec": {
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1"],
        "ports": [{"name": "https", "port": 443, "protocol": "TCP"}],
    },
}
LONG_TIMEOUT, SHORT_TIMEOUT = 30.0, 0.3
"""Seconds for a reply: if all must arrive, and if one never does."""


SILENCE = re.compile("no reply|not all of|TCP connection")
CHECKS_WITHOUT_REPLY = {
    "type-unknown",
    "header-cd",
    "tcp-reuse",
    "tcp-pipelining",
    "tcp-pieces",
    "udp-many",
    "edns-large-query",
}
"""Checks whose fault is a missing reply."""


@contextlib.asynccontextmanager
async def examining(
    fault: Fault, timeout: float = LONG_TIMEOUT, no_reply_timeout: float = 0.05, bound: float = LONG_TIMEOUT
) -> AsyncIterator[Examiner]:
    """Yields an examiner of a model server with this fault. The Services of the lab exist already."""
    api = FakeApi(KUBERNETES, {"kind": "Namespace", "metadata": {"name": "default"}}, ignores=fault.ignores)
    async with ModelServer(api, fault).serving() as model:
        server = Server("127.0.0.1", model.port, timeout=timeout, tries=1, no_reply_timeout=no_reply_timeout)
        await server.resolve()
        lab = Lab(api, NS, 7, bound)
        yield Examiner(server, ZONE, await lab.open(), random.Random(1), lab)


async def result_of(name: str, fault: Fault, **limits: float) -> Result:
    """Runs one check against the fault, and returns the result."""
    async with examining(fault, **limits) as examiner:
        (result,) = await run(examiner, [CHECKS[name]], limit=30)
        return result


@pytest.mark.parametrize("name", CHECKS)
async def test_a_correct_server_passes(name: str) -> None:
    """The suite may create objects in its own namespace, so no check is skipped."""
    result = await result_of(name, Fault())
    assert result.outcome is Outcome.PASSED, (result.failure, result.note)


@pytest.mark.parametrize("name", CHECKS)
async def test_a_faulty_server_fails(name: str) -> None:
    """A failure has the query, the expected reply and the actual reply."""
    result = await result_of(
        name,
        FAULTS[name],
        timeout=SHORT_TIMEOUT if name in CHECKS_WITHOUT_REPLY else LONG_TIMEOUT,
        no_reply_timeout=0.5,
        bound=0.4,
    )
    assert result.outcome is Outcome.FAILED, result.note
    assert result.failure is not None
    assert result.failure.query
    assert result.failure.expected
    assert name in CHECKS_WITHOUT_REPLY or not SILENCE.search(result.failure.got), "the fault ended the server"
    assert result.failure.dig.startswith(("dig @127.0.0.1 -p ", "echo "))


def test_every_check_has_a_fault() -> None:
    assert set(FAULTS) == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.name)
def test_every_check_has_a_description(check: Check) -> None:
    """Each check has a sentence and a source. A rule that only CoreDNS has is never required."""
    assert check.explains.endswith(".")
    assert (
        "§" in check.rule
        or "ISC" in check.rule
        or "e2e" in check.rule
        or check.severity is not Severity.REQUIRED
        or "resolv.conf" in check.rule
    )
    assert not (check.severity is Severity.REQUIRED and "CoreDNS" in check.rule)


async def test_checks_are_skipped_without_a_cluster() -> None:
    async with examining(Fault()) as examiner:
        examiner.cluster, examiner.lab = Cluster(), None
        results = {r.check.name: r for r in await run(examiner, CHECKS.values(), limit=30)}
    assert results["clusterip-a"].outcome is Outcome.SKIPPED
    assert results["change-created"].note == "changes need --kubeconfig"
    assert results["isc-edns"].outcome is Outcome.PASSED
    assert Outcome.FAILED not in {r.outcome for r in results.values()}
