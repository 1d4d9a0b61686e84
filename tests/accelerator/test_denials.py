"""Denials in the memory of the accelerator: which names get them, and when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from svcdns.accelerator.memory import Memory
from svcdns.accelerator.mirror import TableMirror
from svcdns.chain.routing import DROPPED
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.serving import answer_table
from svcdns.serving.answer_table import AnswerTable, Entry
from svcdns.serving.metrics import HitCounter, Origin
from svcdns.serving.responder import Responder
from tests.support.kernel_program import KernelProgram, make_maps
from tests.support.world import Clock

REST = "default.svc.cluster.local"
SERVICE: Dependency = ("service", "default", "com")
OPT = b"\0\0\x29\x04\xd0" + bytes(6)
TAIL = b"\xc0\x1b\0\6\0\1\0\0\0\5\0\4soa."


def octets(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


ENCLOSER = Encloser(octets(REST), "default", {("default", "web")}, b"\2ns\3dns", (("serial",),), "service")


def key(name: str, opt: bytes = b"", rtype: int = 1) -> bytes:
    return b"\1\0\0\1\0\0\0\0\0" + bytes([bool(opt)]) + octets(name) + bytes((0, rtype, 0, 1)) + opt


def reply(packet: bytes, rcode: int = 3) -> bytes:
    question = packet[10 : len(packet) - 11 * packet[9]]
    return bytes((0x85, rcode)) + b"\0\1\0\0\0\1\0" + packet[9:10] + question + TAIL + OPT[: 11 * packet[9]]


class World:
    """An answer table with a mirror, whose zone has one closest encloser."""

    def __init__(self) -> None:
        self.clock = Clock()
        descriptors = make_maps(64, 2)
        self.memory = Memory(descriptors, 64, 2, 2, self.clock)
        self.program = KernelProgram(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.table = AnswerTable(1 << 20, self.clock)
        self.encloser: Encloser | None = ENCLOSER
        self.route = replace(DROPPED, closest_encloser=lambda _name, _rtype: self.encloser)
        self.listener = SimpleNamespace(is_divided=lambda _key: False, records_traffic=False)
        responder: Any = SimpleNamespace(
            table=self.table, datagrams=True, uniform=True, sampling=None, listener=self.listener
        )
        self.mirror = self.table.mirror = TableMirror(cast("Responder", responder), self.memory, 3)
        self.memory.heartbeat(1e6)

    def put(
        self, packet: bytes, dependencies: tuple[Dependency, ...] = (SERVICE,), seconds: float = 30, rcode: int = 3
    ) -> None:
        counter = HitCounter((), Origin(self.route))
        ends = self.clock() + seconds
        self.table.put(Entry.of(packet, (reply(packet, rcode),), ends, dependencies, counter))

    def denies(self, name: str, opt: bytes = b"", rtype: int = 1) -> bool:
        """Returns True if the program has a denial for a name, which is then the reply that the chain would give."""
        packet = key(name, opt, rtype)
        found = self.program.denial(packet, 3, self.clock())
        assert found in (None, reply(packet))
        return found is not None


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.memory.close()
    made.program.close()


@pytest.mark.parametrize("opt", [b"", OPT], ids=["no EDNS", "EDNS"])
def test_names_below_the_label_share_a_denial(world: World, opt: bytes) -> None:
    world.put(key(f"www.example.com.{REST}", opt))
    names = ("api.letters.com", "x.y.z.words.com", "www.example.com")
    assert [world.denies(f"{name}.{REST}", opt) for name in names] == [True] * 3
    others = (f"ww.example.com.{REST}", f"www.example.org.{REST}", "www.example.com.other.svc.cluster.local")
    assert [world.denies(name, opt) for name in others] == [False] * 3
    assert not world.denies(f"www.example.com.{REST}", opt, rtype=28)
    assert not world.denies(f"www.example.com.{REST}", b"" if opt else OPT)


@pytest.mark.parametrize("dropped_at_once", [0, 64], ids=["all hidden", "dropped"])
def test_the_change_that_creates_the_label_ends_the_denial(
    world: World, dropped_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_table, "MAX_DROPPED_AT_ONCE", dropped_at_once)
    world.put(key(f"www.example.com.{REST}"))
    world.put(key(f"api.letters.com.{REST}"), (("kubernetes",),))
    assert world.denies(f"new.letters.com.{REST}")
    world.table.invalidate([SERVICE])
    assert not world.denies(f"new.letters.com.{REST}")


def test_a_denial_rests_on_several_entries(world: World) -> None:
    world.put(key(f"www.example.com.{REST}"), seconds=10)
    world.put(key(f"api.letters.com.{REST}"), seconds=30)
    entries = world.memory.entries
    assert entries == 3
    world.clock.now += 20
    assert world.denies(f"new.letters.com.{REST}")
    world.table.drop(key(f"www.example.com.{REST}"))
    assert world.denies(f"new.letters.com.{REST}")
    world.table.drop(key(f"api.letters.com.{REST}"))
    assert not world.denies(f"new.letters.com.{REST}")
    assert world.memory.entries == 0


def test_a_denial_expires_with_its_entry(world: World) -> None:
    world.put(key(f"www.example.com.{REST}"), seconds=30)
    world.clock.now += 29
    assert world.denies(f"new.letters.com.{REST}")
    world.clock.now += 2
    assert not world.denies(f"new.letters.com.{REST}")


ENCLOSERS = {
    "no closest encloser": None,
    "the label exists": Encloser(ENCLOSER.key, "default", {("default", "com")}, b"", (), "service"),
    "names with other replies": Encloser(ENCLOSER.key, "default", (), b"\1x", (), "service"),
    "not for other programs": Encloser(ENCLOSER.key, "default", ()),
    "another zone": Encloser(octets("default.svc.cluster.test"), "default", (), b"", (), "service"),
}


@pytest.mark.parametrize("encloser", ENCLOSERS.values(), ids=ENCLOSERS)
def test_enclosers_without_denials(world: World, encloser: Encloser | None) -> None:
    world.encloser = encloser
    world.put(key(f"www.example.com.{REST}"))
    assert (world.memory.entries, world.denies(f"www.example.com.{REST}")) == (1, False)


ENTRIES: dict[str, dict[str, Any]] = {
    "valid for ever": {"dependencies": ()},
    "the name exists": {"rcode": 0},
}


@pytest.mark.parametrize("change", ENTRIES.values(), ids=ENTRIES)
def test_entries_without_denials(world: World, change: dict[str, Any]) -> None:
    world.put(key(f"www.example.com.{REST}"), **change)
    assert (world.memory.entries, world.denies(f"www.example.com.{REST}")) == (1, False)


def test_names_of_the_traffic_are_counted_one_by_one(world: World) -> None:
    world.listener.records_traffic = True
    world.put(key(f"www.example.com.{REST}"))
    assert world.memory.entries == 1


@pytest.mark.parametrize("name", ["ns.dns.com", "NS.DNS.com"])
def test_names_that_may_be_name_servers(world: World, name: str) -> None:
    world.put(key(f"{name}.{REST}"))
    assert world.memory.entries == 1


def test_labels_that_never_exist_need_no_dependency(world: World) -> None:
    world.encloser = Encloser(octets("cluster.local"), "", {("", "svc")}, b"", (), "")
    world.put(key("www.example.com.cluster.local"), (("kubernetes",),))
    assert world.denies("api.letters.com.cluster.local")
    assert not world.denies("api.letters.org.cluster.local")


def test_eviction_and_clearing(world: World) -> None:
    world.put(key(f"www.example.com.{REST}"))
    unused = [placed for placed in world.memory.unused(is_large=False) if placed is not None]
    unused += [placed for placed in world.memory.unused(is_large=False) if placed is not None]
    [denial] = [placed for placed in unused if placed.is_denial]
    assert world.mirror.evict(denial)
    assert not world.denies(f"www.example.com.{REST}")
    assert not world.mirror.evict(denial)
    world.put(key(f"api.letters.com.{REST}"))
    assert world.denies(f"www.example.com.{REST}")
    world.table.clear()
    assert (world.memory.entries, world.denies(f"www.example.com.{REST}")) == (0, False)
    world.put(key(f"www.example.com.{REST}"))
    assert world.denies(f"www.example.com.{REST}")


def test_names_with_too_many_ends_have_no_denials(world: World) -> None:
    for turn in range(6):
        rest = f"{turn}.local"
        world.encloser = Encloser(octets(rest), "", (), b"", (), "")
        world.put(key(f"www.com.{rest}"))
        assert world.denies(f"abc.com.{rest}") is (turn < 4)


def test_labels_of_removed_denials_leave_the_filter(world: World) -> None:
    """Also if the memory has entries of another table."""
    responder = SimpleNamespace(**{**vars(world.mirror.responder), "table": AnswerTable(1 << 20, world.clock)})
    other = TableMirror(cast("Responder", responder), world.memory, 4)
    other.put(Entry.of(b"key", (b"reply",), float("inf"), (), HitCounter((), Origin(DROPPED))))
    world.put(key(f"www.example.com.{REST}"))
    assert any(world.memory.denials._denials)
    world.table.clear()
    assert not any(world.memory.denials._denials)
