"""Random changes, reloads and queries: the program sends only replies that the plugin chain would give now.

A query with the header bit Z has the same reply, but another key. So its reply is always made by the plugin chain.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from random import Random

import dns.message
import pytest

from svcdns.accelerator import memory
from svcdns.accelerator.layout import KEY_MAX
from svcdns.cluster.changes import Change, Gone, Kind, Put
from svcdns.cluster.objects import Namespace, Service
from svcdns.eventloop.clock import monotonic
from svcdns.feed.frames import Swap
from svcdns.serving import answer_table
from tests.accelerator.test_owner import LOCAL, Accelerated
from tests.support.helper_double import greeting
from tests.support.worker_world import COREFILE, DB, WEB, serving, slice_of

STEPS = 1200
KUBERNETES = "    kubernetes cluster.local {{\n        endpoint http://127.0.0.1:1\n        ttl {ttl}\n    }}\n"
HOSTS = "    hosts {{\n        10.1.1.1 www.com.d.svc.cluster.local\n        fallthrough\n    }}\n"
COREFILES = {
    "cache": COREFILE,
    "loadbalance": f"cluster.local {{{{\n    bind {LOCAL}\n{KUBERNETES}    loadbalance\n}}}}\n",
    "hosts": f"cluster.local {{{{\n    bind {LOCAL}\n{HOSTS}{KUBERNETES}}}}}\n",
}
NAMES = [
    *[
        f"{prefix}{service}.{namespace}.svc.cluster.local."
        for prefix in ("", "www.", "a.www.")
        for service in ("web", "com", "db", "org")
        for namespace in "de"
    ],
    *[f"{prefix}{label}.svc.cluster.local." for prefix in ("", "x.") for label in ("d", "e", "com")],
    *[f"{prefix}{label}.cluster.local." for prefix in ("www.", "a.www.") for label in ("com", "svc", "pod", "dns")],
]


class Walk(Accelerated):
    """A worker with the accelerator, and the dice."""

    def __init__(self, folder: Path, corefile: str, seed: int) -> None:
        super().__init__(folder)
        self.corefile, self.dice, self.generation, self.answered = corefile, Random(seed), 1, 0

    async def send(self, packet: bytes) -> bytes:
        """Queries the worker."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((LOCAL, self.port))
            sock.send(packet)
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65535), 10)

    def by_kernel(self, packet: bytes) -> bytes | None:
        """Returns the program's reply, also that of a denial."""
        program = self.doubles[-1].program
        self.heartbeat()
        tables = [table for _, port, table in program.places() if port == self.port]
        wire = program.packet(packet, LOCAL, self.port, monotonic())
        if wire is None and tables and len(packet) <= KEY_MAX + 2:
            denial = program.denial(packet[2:], tables[0], monotonic())
            return None if denial is None else packet[:2] + denial
        return wire

    async def query(self) -> None:
        """Compares the replies of the program and of the plugin chain. Then the worker may store the reply."""
        name, rtype = self.dice.choice(NAMES), self.dice.choice(["A", "A", "A", "AAAA", "SRV"])
        name = name.upper() if self.dice.random() < 0.2 else name
        packet = dns.message.make_query(name, rtype, use_edns=False, id=7).to_wire()
        wire = self.by_kernel(packet)
        chain = await self.send(packet[:3] + b"\x40" + packet[4:])
        if wire is not None:
            self.answered += 1
            assert content(wire) == content(chain), name
        for _ in range(self.dice.choice([0, 2, 3])):
            await self.send(packet)

    async def step(self) -> None:
        dice = self.dice
        (what,) = dice.choices(
            ["query", "service", "namespace", "endpoints", "second", "age", "free", "reload"],
            [930, 25, 10, 10, 15, 5, 2, 3],
        )
        namespace, service = dice.choice("de"), dice.choice(["web", "com", "org"])
        table = self.worker.listeners.tables[0]
        changes: dict[str, tuple[Change, ...]] = {
            "service": (
                Put(Service(namespace, service, (f"10.96.0.{dice.randrange(2, 9)}",))),
                Gone(Kind.SERVICE, namespace, service),
            ),
            "namespace": (Put(Namespace("e")), Gone(Kind.NAMESPACE, "", "e")),
            "endpoints": (Put(slice_of(*[f"10.0.0.{dice.randrange(1, 200)}" for _ in range(dice.randrange(5))])),),
        }
        match what:
            case "query":
                await self.query()
            case "second":
                await self.second()
            case "age":
                table.start_generation_of_used()
            case "free":
                table.allow(0)
                table.allow(1 << 20)
            case "reload":
                self.generation += 1
                await self.configure(self.generation, ttl=dice.choice([5, 5, 30]))
                await self.feed(Swap(self.generation))
            case _:
                await self.change(dice.choice(changes[what]))


def content(wire: bytes) -> tuple[object, ...]:
    """Returns what must be equal. The SOA serial may be older, and the plugin *cache* keeps the case of a name."""
    reply = dns.message.from_wire(wire)
    answers = sorted((rrset.rdtype, rrset.ttl, str(rdata).lower()) for rrset in reply.answer for rdata in rrset)
    return reply.rcode(), answers, [(rrset.name, rrset.rdtype, rrset.ttl) for rrset in reply.authority]


@pytest.mark.slow
@pytest.mark.parametrize("dropped_at_once", [2, 256])
@pytest.mark.parametrize("corefile", COREFILES)
async def test_the_kernel_answers_as_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corefile: str, dropped_at_once: int
) -> None:
    monkeypatch.setattr(answer_table, "MAX_DROPPED_AT_ONCE", dropped_at_once)
    monkeypatch.setattr(memory, "REST", 0.0)  # the model of the program finishes each packet at once
    walk = Walk(tmp_path, COREFILES[corefile], dropped_at_once)
    await serving(walk, WEB, DB, slice_of("10.0.0.1", "10.0.0.2"))
    await walk.connect(walk.helper(greeting(LOCAL, small=walk.dice.choice([60, 600]))))
    try:
        for _ in range(STEPS):
            await walk.step()
    finally:
        await walk.worker.drain()
        await walk.worker.sockets([], [0, 1])
        for double in walk.doubles:
            double.close()
    assert walk.answered > STEPS / 20
