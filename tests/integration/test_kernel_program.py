"""The program of the accelerator in the kernel, asked through a pair of virtual Ethernet interfaces."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import virtual_network
from bench.virtual_network import VirtualNetwork
from svcdns.accelerator import bpf, layout
from svcdns.accelerator.elf import read_program
from tests.support.server import TIMEOUT
from tests.support.shared_answers import SharedAnswers

pytestmark = pytest.mark.integration

OBJECT = Path(bpf.__file__).with_name("answers.bpf.o")
PORT = 53
ADDRESSES = {"IPv4": "10.99.0.2", "IPv6": "fd99::2"}
SMALL, LARGE, CPUS = 4096, 512, os.cpu_count() or 1


@pytest.fixture(scope="module")
def network() -> Iterator[VirtualNetwork]:
    if reason := virtual_network.why_unavailable():
        pytest.skip(reason)
    with VirtualNetwork("pod", "node") as made:
        made.join(
            "pod", "eth0", "node", "veth0",
            left_addresses=["10.99.0.2/24", "fd99::2/64"], right_addresses=["10.99.0.1/24", "fd99::1/64"],
        )  # fmt: skip
        yield made


@pytest.fixture
def answers(network: VirtualNetwork) -> Iterator[SharedAnswers]:
    """The memory of a program that is attached to the interface of the Pod: IPv4 is table 0, IPv6 table 1."""
    shapes = layout.map_shapes(SMALL, LARGE, CPUS)
    maps = {name: bpf.create_map(name, *shapes[name]) for name in layout.MAPS}
    program = bpf.load_program(read_program(OBJECT.read_bytes(), "tcx"), maps)
    link = network["pod"].inside(lambda: bpf.attach(program, socket.if_nametoindex("eth0")))
    answers = SharedAnswers(maps, SMALL, LARGE, CPUS)
    for table, address in enumerate(ADDRESSES.values()):
        answers.listen(address, PORT, table)
    yield answers
    answers.close()
    for descriptor in (link, program, *maps.values()):
        os.close(descriptor)


def client(network: VirtualNetwork, family: str) -> socket.socket:
    sock = network["node"].socket(socket.AF_INET6 if family == "IPv6" else socket.AF_INET)
    sock.settimeout(TIMEOUT)
    sock.connect((ADDRESSES[family], PORT))
    return sock


def entries(count: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Random keys and replies, of all lengths that are possible."""
    chance = random.Random(seed)
    for number in range(count):
        length = chance.randint(15, layout.KEY_MAX)
        limit = layout.LARGE if number % 8 == 0 else layout.SMALL
        yield chance.randbytes(length), chance.randbytes(chance.randint(length + 1, limit))


@pytest.mark.parametrize("family", ADDRESSES)
def test_replies_are_octet_for_octet_those_in_the_memory(
    network: VirtualNetwork, answers: SharedAnswers, family: str
) -> None:
    table = list(ADDRESSES).index(family)
    stored = [pair for pair in entries(2000, table) if answers.put(pair[0], [pair[1]], table) >= 0]
    assert len(stored) > 1990
    with client(network, family) as sock:
        for number, (key, reply) in enumerate(stored):
            sock.send(number.to_bytes(2) + key)
            assert sock.recv(4096) == number.to_bytes(2) + reply
    assert (answers.hits(0), answers.count("octets")) == (len(stored), sum(len(reply) + 2 for _, reply in stored))
    assert sum(answers.uses()) == len(stored)
