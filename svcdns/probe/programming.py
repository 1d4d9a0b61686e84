"""Measures the time from a change at the API server to the new answer: the Kubernetes SLI of DNS programming latency.

The probe creates two Services, and deletes them at its end:

- A Service of type ExternalName, whose `externalName` is changed. The answer is a CNAME record.
- A headless Service without selector, and its EndpointSlice, whose address is changed. The answer is an A record.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from svcdns.conformance.api import SERVICES, SLICES, Api, path_of
from svcdns.conformance.errors import ConformanceError
from svcdns.probe.errors import ProbeError
from svcdns.probe.latency import Asked, query
from svcdns.probe.measurements import Measurements
from svcdns.wire import names
from svcdns.wire.codes import Type

LABELS: Final = {"app.kubernetes.io/managed-by": "svcdns-probe"}
SERVICE_LABEL: Final = "kubernetes.io/service-name"
LIMIT: Final = 30.0
"""Seconds after which a change counts as failed."""
INTERVAL: Final = 0.002
"""Seconds between two queries for a new answer, which is also the resolution of the result."""
FIRST: Final = int(ipaddress.IPv4Address("198.18.0.0"))
"""The first address of the range for benchmarks (RFC 2544), from which the endpoint's addresses are taken."""
ADDRESSES: Final = 1 << 17


class Change:
    """One object that the probe changes, and the answer that shows the change."""

    def __init__(
        self, kind: str, path: str, packet: bytes, content: Callable[[int], Any], shown: Callable[[int], bytes]
    ) -> None:
        """`content(number)` returns the merge patch of a change, and `shown(number)` octets of the new answer."""
        self.kind, self.path, self.packet, self.content, self.shown = kind, path, packet, content, shown
        self.number = secrets.randbelow(ADDRESSES)

    async def measure(self, api: Api, asked: Sequence[Asked], measurements: Measurements) -> None:
        """Changes the object, and waits until each server has the new answer. Raises ConformanceError."""
        self.number = (self.number + 1) % ADDRESSES
        started, octets = time.monotonic(), self.shown(self.number)
        patch = asyncio.create_task(api.patch(self.path, self.content(self.number)))
        try:
            await asyncio.gather(*(self._until_shown(one, octets, started, measurements) for one in asked))
        finally:
            await patch

    async def _until_shown(self, asked: Asked, octets: bytes, started: float, measurements: Measurements) -> None:
        while True:
            sent = time.monotonic()
            received = await asked.server.ask(self.packet)
            if received.octets is not None and octets in received.octets:
                measurements.visible(asked.label, self.kind, time.monotonic() - started)
                return
            if sent > started + LIMIT:
                measurements.missed(asked.label, self.kind)
                return
            await asyncio.sleep(INTERVAL)


def _address(number: int) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(FIRST + number)


def _target(number: int) -> str:
    return f"n{number}.probe.invalid"


def _slice(name: str, of: str, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {**LABELS, SERVICE_LABEL: of}},
        "addressType": "IPv4",
        "ports": [{"name": "probe", "port": 80, "protocol": "TCP"}],
        "endpoints": _endpoints(number),
    }


def _endpoints(number: int) -> list[dict[str, Any]]:
    return [{"addresses": [str(_address(number))], "conditions": {"ready": True}}]


def _service(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": LABELS}, "spec": spec}


@contextlib.asynccontextmanager
async def changes(api: Api, namespace: str, zone: str) -> AsyncIterator[list[Change]]:
    """Context manager in which the probe's objects exist. Yields the changes that it can measure. Raises ProbeError.

    `zone` is the cluster zone as absolute text.
    """
    name = f"svcdns-probe-{secrets.token_hex(4)}"
    headless = f"{name}-headless"
    services, slices = path_of(SERVICES, namespace), path_of(SLICES, namespace)
    made: list[str] = []
    try:
        for path, item in (
            (services, _service(name, type="ExternalName", externalName=_target(0))),
            (services, _service(headless, clusterIP="None", ports=[{"name": "probe", "port": 80}])),
            (slices, _slice(headless, headless, 0)),
        ):
            made.append(f"{path}/{item['metadata']['name']}")
            await api.create(path, item)
        yield [
            Change(
                "service",
                made[0],
                query(f"{name}.{namespace}.svc.{zone}", Type.CNAME),
                lambda number: {"spec": {"externalName": _target(number)}},
                lambda number: names.from_text(_target(number)).partition(b"\5probe")[0],
            ),
            Change(
                "endpoint",
                made[2],
                query(f"{headless}.{namespace}.svc.{zone}", Type.A),
                lambda number: {"endpoints": _endpoints(number)},
                lambda number: b"\0\4" + _address(number).packed,
            ),
        ]
    except ConformanceError as error:
        raise ProbeError(str(error)) from error
    finally:
        for path in reversed(made):
            with contextlib.suppress(ConformanceError):
                await api.delete(path)
