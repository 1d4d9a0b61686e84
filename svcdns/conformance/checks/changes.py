"""Checks of changes in the cluster. A change made through the API must be visible in DNS within the run's time bound.

Each check has its own Service in the suite's namespace, and sends the same query before and after the change. So every
cache on the way has the old answer. These checks need a kubeconfig with permission to write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import E2E, SPEC, Check, checker
from svcdns.conformance.cluster_model import Service, from_objects
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.lab import HTTP, Lab, endpoint, endpoint_slice, service
from svcdns.conformance.outcome import Failed, Severity, Skipped
from svcdns.wire.codes import Type

CHECKS: Final[dict[str, Check]] = {}
check = checker("changes", CHECKS)
REQUIRED: Final = Severity.REQUIRED
POLL: Final = 0.1


def _lab(examiner: Examiner) -> Lab:
    if examiner.lab is None:
        raise Skipped("changes need --kubeconfig")
    return examiner.lab


async def _until(examiner: Examiner, probe: Callable[[], Awaitable[Answer]]) -> None:
    """Calls `probe` until it does not raise Failed. At the end of the time bound, raises the last Failed."""
    bound = _lab(examiner).bound
    clock = asyncio.get_running_loop().time
    end = clock() + bound
    while True:
        try:
            await probe()
        except Failed as failure:
            if clock() >= end:
                failure.expected = f"within {bound:g} s of the change: {failure.expected}"
                raise
        else:
            return
        await asyncio.sleep(POLL)


async def _seen(examiner: Examiner, name: str, *addresses: str) -> None:
    async def probe() -> Answer:
        return (await examiner.query(name)).exactly(Type.A, addresses)

    await _until(examiner, probe)


async def _gone(examiner: Examiner, name: str, rtype: int = Type.A) -> None:
    async def probe() -> Answer:
        return (await examiner.query(name, rtype)).no_name()

    await _until(examiner, probe)


async def _points_to(examiner: Examiner, name: str, target: str) -> None:
    async def probe() -> Answer:
        return (await examiner.query(name, Type.CNAME)).exactly(Type.CNAME, [target])

    await _until(examiner, probe)


async def _headless(examiner: Examiner, name: str, count: int) -> tuple[str, list[str]]:
    """Creates a headless Service with `count` endpoints, whose hostnames are pod-0, pod-1 and so on.

    Waits until the server answers with them. Returns the Service's DNS name and the addresses of the endpoints.
    """
    lab = _lab(examiner)
    made = await lab.service(service(name, clusterIP="None"))
    addresses = [lab.address() for _ in range(count)]
    await lab.create(
        endpoint_slice(f"{name}-1", name, [endpoint(address, f"pod-{n}") for n, address in enumerate(addresses)])
    )
    full = expected.service_name(made, examiner.zone)
    await _seen(examiner, full, *addresses)
    return full, addresses


def _endpoints(addresses: list[str], unready: str = "") -> dict[str, object]:
    return {
        "endpoints": [endpoint(address, f"pod-{n}", ready=address != unready) for n, address in enumerate(addresses)]
    }


@check("change-created", REQUIRED, f"{SPEC} §2.3.1", writes=True)
async def change_created(examiner: Examiner) -> None:
    """A new Service has its records, also directly after a query for its name that got NXDOMAIN."""
    lab = _lab(examiner)
    name = examiner.under("made-later", lab.namespace, "svc")
    (await examiner.query(name)).no_name()
    made = await lab.service(service("made-later"))
    await _seen(examiner, name, *_ipv4(made))


@check("change-deleted", REQUIRED, "RFC 2308 §2.1", writes=True)
async def change_deleted(examiner: Examiner) -> None:
    """The name of a deleted Service gets NXDOMAIN, and its ClusterIP has no PTR record with that name."""
    lab = _lab(examiner)
    made = await lab.service(service("deleted-later"))
    name = expected.service_name(made, examiner.zone)
    address = _ipv4(made)[0]
    await _seen(examiner, name, address)
    await lab.remove("Service", "deleted-later")
    await _gone(examiner, name)

    async def reverse() -> Answer:
        answer = await examiner.query(expected.reverse_name(address), Type.PTR)
        return answer.require(name not in answer.reply.data(Type.PTR), f"no PTR record with {name}")

    await _until(examiner, reverse)


@check("change-endpoint-deleted", REQUIRED, f"{SPEC} §2.4.1", writes=True)
async def change_endpoint_deleted(examiner: Examiner) -> None:
    """An endpoint that is removed, as when its Pod is deleted, is in no answer of its Service, and its own name does
    not exist.
    """
    name, addresses = await _headless(examiner, "loses-a-pod", 3)
    await _seen(examiner, f"pod-2.{name}", addresses[2])
    await _lab(examiner).change("EndpointSlice", "loses-a-pod-1", _endpoints(addresses[:2]))
    await _seen(examiner, name, *addresses[:2])
    await _gone(examiner, f"pod-2.{name}")


@check("change-endpoint-unready", REQUIRED, f"{SPEC} §2.1, §2.4.1", writes=True)
async def change_endpoint_unready(examiner: Examiner) -> None:
    """An endpoint that becomes unready is removed from the answers, and added again when it is ready again."""
    name, addresses = await _headless(examiner, "has-a-probe", 2)
    await _lab(examiner).change("EndpointSlice", "has-a-probe-1", _endpoints(addresses, unready=addresses[1]))
    await _seen(examiner, name, addresses[0])
    await _lab(examiner).change("EndpointSlice", "has-a-probe-1", _endpoints(addresses))
    await _seen(examiner, name, *addresses)


@check("change-scaled-up", REQUIRED, f"{SPEC} §2.4.1", writes=True)
async def change_scaled_up(examiner: Examiner) -> None:
    """Endpoints that are added to a headless Service are in its answers, have their own names, and are in its SRV
    records.
    """
    name, addresses = await _headless(examiner, "grows", 1)
    more = [*addresses, _lab(examiner).address(), _lab(examiner).address()]
    await _lab(examiner).change("EndpointSlice", "grows-1", _endpoints(more))
    await _seen(examiner, name, *more)
    await _seen(examiner, f"pod-2.{name}", more[2])

    async def srv() -> Answer:
        answer = (await examiner.query(f"_http._tcp.{name}", Type.SRV)).rcode(0)
        return answer.require(len(answer.reply.data(Type.SRV)) == 3, "3 SRV records")

    await _until(examiner, srv)


@check("change-scaled-to-zero", REQUIRED, f"{SPEC} §2.4.1", writes=True)
async def change_scaled_to_zero(examiner: Examiner) -> None:
    """The name of a headless Service that loses its last endpoint gets NXDOMAIN."""
    name, _ = await _headless(examiner, "shrinks", 2)
    await _lab(examiner).remove("EndpointSlice", "shrinks-1")
    await _gone(examiner, name)


@check(
    "change-externalname", REQUIRED, f"{SPEC} §2.5; {E2E}, should provide DNS for ExternalName services", writes=True
)
async def change_externalname(examiner: Examiner) -> None:
    """An ExternalName whose external name changes has the new name in its CNAME record."""
    lab = _lab(examiner)
    made = await lab.service(service("moves", type="ExternalName", externalName="foo.conformance.invalid"))
    name = expected.service_name(made, examiner.zone)
    await _points_to(examiner, name, "foo.conformance.invalid.")
    await lab.change("Service", "moves", {"spec": {"externalName": "bar.conformance.invalid"}})
    await _points_to(examiner, name, "bar.conformance.invalid.")


@check("change-to-clusterip", REQUIRED, f"{E2E}, should provide DNS for ExternalName services", writes=True)
async def change_to_clusterip(examiner: Examiner) -> None:
    """An ExternalName that becomes a Service of type ClusterIP has an A record and no CNAME record."""
    lab = _lab(examiner)
    made = await lab.service(service("becomes-clusterip", type="ExternalName", externalName="foo.conformance.invalid"))
    name = expected.service_name(made, examiner.zone)
    await _points_to(examiner, name, "foo.conformance.invalid.")
    stored = await lab.change(
        "Service", "becomes-clusterip", {"spec": {"type": "ClusterIP", "externalName": None, "ports": [HTTP]}}
    )
    await _seen(examiner, name, *_ipv4(from_objects([stored]).services[0]))

    async def no_cname() -> Answer:
        return (await examiner.query(name, Type.CNAME)).no_data()

    await _until(examiner, no_cname)


@check("change-to-externalname", REQUIRED, f"{SPEC} §2.5", writes=True)
async def change_to_externalname(examiner: Examiner) -> None:
    """A Service of type ClusterIP that becomes an ExternalName has a CNAME record and no A record of its own."""
    lab = _lab(examiner)
    made = await lab.service(service("becomes-external"))
    name = expected.service_name(made, examiner.zone)
    await _seen(examiner, name, *_ipv4(made))
    spec = {"type": "ExternalName", "externalName": "foo.conformance.invalid"}
    dropped = dict.fromkeys(("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"))
    await lab.change("Service", "becomes-external", {"spec": {**spec, **dropped}})
    await _points_to(examiner, name, "foo.conformance.invalid.")

    async def no_address() -> Answer:
        answer = await examiner.query(name)
        return answer.require(
            not set(answer.reply.data(Type.A)) & set(_ipv4(made)), f"no A record with {', '.join(_ipv4(made))}"
        )

    await _until(examiner, no_address)


def _ipv4(made: Service) -> list[str]:
    """Returns the IPv4 ClusterIPs of a Service. Raises Skipped if there are none."""
    found = list(made.of_family(4))
    if not found:
        raise Skipped("the API server assigned no IPv4 ClusterIP")
    return found
