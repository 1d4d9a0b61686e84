"""A namespace in a real cluster with a Service of every kind. The suite creates, changes and deletes its objects.

The Services have no selectors: the suite itself writes the EndpointSlices. The addresses of endpoints are from the
ranges for benchmarks and documentation (RFC 2544, RFC 3849). No load balancer is created.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from svcdns.conformance.api import NAMESPACES, SERVICES, SLICES, Api, path_of
from svcdns.conformance.cluster_model import SERVICE_LABEL, Cluster, Object, Service, from_objects
from svcdns.conformance.errors import ConformanceError

BIG: Final = 150
"""The number of endpoints of the headless Service `big`.

Its 150 A records take 2.4 kB, more than any usual UDP reply.
"""
PER_SLICE: Final = 75
CLEANING: Final = 30.0
"""The time limit for deleting all objects, in seconds."""
LABELS: Final = {"app.kubernetes.io/managed-by": "svcdns-conformance"}
EXTERNAL: Final = "www.conformance.invalid"
"""An external name that cannot exist (RFC 6761 §6.4), so that no other server is queried for it."""

HTTP: Final = {"name": "http", "port": 80, "protocol": "TCP"}
DNS: Final = {"name": "dns", "port": 53, "protocol": "UDP"}


def service(name: str, **spec: Any) -> Object:
    """Returns a Service without selector, in JSON form. The Service has one port unless `spec` has other ports."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"ports": [HTTP], **spec},
    }


def endpoint(address: str, hostname: str = "", *, ready: bool = True) -> Object:
    """Returns an endpoint of an EndpointSlice, in JSON form."""
    return {"addresses": [address], "conditions": {"ready": ready}, **({"hostname": hostname} if hostname else {})}


def endpoint_slice(name: str, of: str, endpoints: Sequence[Object], ports: Sequence[Object] = (HTTP,)) -> Object:
    """Returns an EndpointSlice of the Service with the name `of`, in JSON form."""
    first = endpoints[0]["addresses"][0]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {**LABELS, SERVICE_LABEL: of}},
        "addressType": "IPv6" if ":" in first else "IPv4",
        "ports": list(ports),
        "endpoints": list(endpoints),
    }


def objects(block: int) -> list[Object]:
    """Returns a Service of every kind, and their EndpointSlices, in JSON form.

    `block` (0 to 255) is a part of each address, so that two runs have different addresses.
    """
    admin = {"name": "admin", "port": 9100, "protocol": "TCP"}
    slices = [
        endpoint_slice("cluster-1", "cluster", [endpoint(f"198.18.{block}.1"), endpoint(f"198.18.{block}.2")]),
        endpoint_slice(
            "headless-1",
            "headless",
            [
                endpoint(f"198.18.{block}.11", "alpha"),
                endpoint(f"198.18.{block}.12", "beta"),
                endpoint(f"198.18.{block}.13"),
                endpoint(f"198.18.{block}.14", "later", ready=False),
            ],
            [HTTP, admin],
        ),
        endpoint_slice(
            "headless-both-1", "headless-both", [endpoint(f"198.18.{block}.21", "one"), endpoint(f"198.18.{block}.22")]
        ),
        endpoint_slice(
            "headless-both-2",
            "headless-both",
            [endpoint(f"2001:db8:{block:x}::21", "one"), endpoint(f"2001:db8:{block:x}::22")],
        ),
        endpoint_slice("unready-1", "unready", [endpoint(f"198.18.{block}.31", ready=False)]),
    ]
    many: list[Object] = [endpoint(f"198.19.{block}.{n}", f"pod-{n}") for n in range(1, BIG + 1)]
    slices += [
        endpoint_slice(f"big-{at // PER_SLICE + 1}", "big", many[at : at + PER_SLICE])
        for at in range(0, BIG, PER_SLICE)
    ]
    balanced = {"loadBalancerClass": "svcdns.invalid/none", "allocateLoadBalancerNodePorts": False}
    return [
        service("cluster", ports=[HTTP, DNS]),
        service("unnamed-port", ports=[{"port": 8080, "protocol": "TCP"}]),
        service("nodeport", type="NodePort"),
        service("loadbalancer", type="LoadBalancer", **balanced),
        service("external", type="ExternalName", externalName=EXTERNAL),
        service("dual", ipFamilyPolicy="PreferDualStack"),
        service("headless", clusterIP="None", ports=[HTTP, admin]),
        service("headless-both", clusterIP="None", ipFamilyPolicy="PreferDualStack"),
        service("unready", clusterIP="None"),
        service("empty", clusterIP="None"),
        service("big", clusterIP="None"),
        *slices,
    ]


class Lab:
    """The namespace with the objects of the suite.

    `block` is a part of all endpoint addresses. DNS must show a change within `bound` seconds.
    """

    def __init__(self, api: Api, namespace: str, block: int, bound: float) -> None:
        self.namespace, self.block, self.bound = namespace, block, bound
        self._api = api
        self._made: list[str] = []
        self._addresses = iter(range(200, 255))

    async def open(self) -> Cluster:
        """Creates the namespace and all objects. Raises ConformanceError.

        Returns the model of the objects as the API server stored them.
        """
        stored = await self._create(
            NAMESPACES,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": LABELS}},
        )
        made: list[Object] = [{**stored, "kind": "Namespace"}, {"kind": "Namespace", "metadata": {"name": "default"}}]
        made += [await self.create(item) for item in objects(self.block)]
        with contextlib.suppress(ConformanceError):  # the user may have no permission to read this Service
            made.append({**await self._api.get(path_of(SERVICES, "default", "kubernetes")), "kind": "Service"})
        cluster = from_objects(made)
        return Cluster(cluster.services, cluster.namespaces, complete=False)

    async def create(self, item: Object) -> Object:
        """Creates an object in the namespace. Returns the object as the API server stored it."""
        resource = SERVICES if item["kind"] == "Service" else SLICES
        return {**await self._create(path_of(resource, self.namespace), item), "kind": item["kind"]}

    async def service(self, item: Object) -> Service:
        """Creates a Service. Returns the model of the Service as the API server stored it."""
        return from_objects([await self.create(item)]).services[0]

    async def change(self, kind: str, name: str, change: Object) -> Object:
        """Changes an object by a merge patch. Returns the object as the API server stored it."""
        resource = SERVICES if kind == "Service" else SLICES
        return {**await self._api.patch(path_of(resource, self.namespace, name), change), "kind": kind}

    async def remove(self, kind: str, name: str) -> None:
        """Deletes an object of the namespace."""
        await self._api.delete(path_of(SERVICES if kind == "Service" else SLICES, self.namespace, name))

    def address(self) -> str:
        """Returns an IPv4 address that no endpoint has had in this run."""
        return f"198.18.{self.block}.{next(self._addresses)}"

    async def close(self) -> None:
        """Deletes all objects and the namespace, in reverse order of creation.

        Raises ConformanceError if something remains.
        """
        left = []
        try:
            async with asyncio.timeout(CLEANING):
                for path in reversed(self._made):
                    try:
                        await self._api.delete(path)
                    except ConformanceError as error:
                        left.append(str(error))
        except TimeoutError:
            left.append(f"not finished in {CLEANING:g} s")
        if left:
            raise ConformanceError(f"namespace {self.namespace} could not be removed: {left[0]}")

    async def _create(self, path: str, item: Object) -> Object:
        self._made.append(f"{path}/{item['metadata']['name']}")
        return await self._api.create(path, item)


@contextlib.asynccontextmanager
async def lab(api: Api, bound: float, rng: random.Random) -> AsyncIterator[tuple[Lab, Cluster]]:
    """Creates a Lab with all its objects, and yields it with the model of the cluster. Raises ConformanceError.

    The objects are deleted at the end, also after a failure or a cancellation.
    """
    one = Lab(api, f"svcdns-conformance-{rng.getrandbits(32):08x}", rng.randrange(256), bound)
    try:
        yield one, await one.open()
    finally:
        await asyncio.shield(asyncio.create_task(one.close()))
