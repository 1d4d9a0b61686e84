"""Denials for random names of a cluster that changes: each is equal to the chain's reply in every octet."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from svcdns.accelerator.memory import Memory
from svcdns.accelerator.mirror import TableMirror
from svcdns.cluster.changes import Change, Gone, Kind, Put
from svcdns.cluster.objects import Endpoint, EndpointSlice, Namespace, Service
from svcdns.plugins.kubernetes.handler import Kubernetes
from svcdns.serving.responder import Responder
from tests.serving.test_negative_answers import STOCK, query, whole
from tests.support.kernel_program import KernelProgram, make_maps
from tests.support.worker_world import World, serving

LABELS = ["com", "org", "a", "bb", "ccc", "web", "dddd", "ns", "dns", "_tcp", "svc", "pod", "dns-version", "10-0-0-1"]
ENDS = ["d.svc.cluster.local.", "e.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "D.svc.Cluster.Local."]
SERVICES = ["com", "org", "bb"]
HOSTS = ["ccc", "eeeee", "eeeeeee"]
LEFT = [*HOSTS, "a.a", "bb.bb", "a.a.a", "a.a.a.a"]
"""The names of endpoints, and other names of the same lengths, some of which have more labels than a name can have."""
STEPS = 6000


@pytest.fixture
async def responders(tmp_path: Path) -> AsyncIterator[tuple[Responder, Responder]]:
    """Yields two responders for the same cluster."""
    made = []
    for name in ("mirrored", "plain"):
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        world.corefile = STOCK
        await serving(world, Service("d", "web", ("10.96.0.1",)))
        made.append(world)
    yield tuple(world.worker.listeners.responders[0] for world in made)  # type: ignore[misc]
    for world in made:
        await world.worker.drain()
        await world.worker.sockets([], [0, 1])


def change(chosen: random.Random) -> Change:
    """Returns a change of a namespace, a Service or its endpoints."""
    namespace, name = chosen.choice("de"), chosen.choice(SERVICES)
    kind = chosen.randrange(5)
    if kind == 0:
        return Put(Namespace(namespace)) if chosen.random() < 0.6 else Gone(Kind.NAMESPACE, "", namespace)
    if kind == 1:
        return Gone(Kind.SERVICE, namespace, name)
    if kind == 2:
        return Gone(Kind.ENDPOINT_SLICE, namespace, f"{name}-1")
    if kind == 3:
        return Put(Service(namespace, name, (chosen.choice(["None", "10.96.0.9"]),)))
    endpoint = Endpoint("10.0.0.9", hostname=chosen.choice(HOSTS))
    return Put(EndpointSlice(namespace, f"{name}-1", name, endpoints=(endpoint,)))


def random_name(chosen: random.Random) -> str:
    if chosen.random() < 0.5:
        return f"{chosen.choice(LEFT)}.{chosen.choice(SERVICES)}.{chosen.choice(ENDS)}"
    return ".".join([*(chosen.choice(LABELS) for _ in range(chosen.randrange(1, 5))), chosen.choice(ENDS)])


@pytest.mark.slow
async def test_denials_never_differ_from_the_chain(responders: tuple[Responder, Responder]) -> None:
    mirrored, plain = responders
    indexes = [
        next(handler.index for handler in one.listener.handlers if isinstance(handler, Kubernetes))
        for one in responders
    ]
    descriptors = make_maps(4096, 8)
    memory = Memory(descriptors, 4096, 8, 2, seed=1)
    program = KernelProgram(descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    mirrored.table.mirror = TableMirror(mirrored, memory, 0)
    memory.heartbeat(1e6)
    chosen, denied = random.Random(7), 0
    for step in range(STEPS):
        name = random_name(chosen)
        packet = query(name, chosen.choice(["A", "AAAA", "SRV", "TXT"]), use_edns=chosen.random() < 0.3)
        found = program.denial(packet[2:], 0, mirrored.table.now()) if len(packet) <= 98 else None
        assert found in (None, whole(plain, packet)[2:]), name
        denied += found is not None
        for _ in range(2):
            whole(mirrored, packet)
        if step % 20 == 0:
            one = change(chosen)
            for responder, index in zip(responders, indexes, strict=True):
                responder.table.invalidate(index.apply(one))
    assert denied > STEPS / 20
    mirrored.table.mirror = None
    memory.close()
    program.close()
