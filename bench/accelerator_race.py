"""Queries race with changes of the accelerator's memory: `python -m bench.accelerator_race [--seconds N]`.

A process puts versions of a reply under one name, and removes each version, as fast as possible. Replies are small or
large, with one rotation or several. Each slot is used again immediately, also for another name; a server waits for
0.1 s before. Another process sends queries through a pair of virtual interfaces, and checks each reply:

- older: the version had been removed before the query was sent.
- mixed: the reply has octets of two versions, of another name, or of another message ID.
- uncounted: the difference between the replies and the hits that the program has counted.

Prints a line of JSON. The exit code is 1 if one of these numbers is not 0. The command needs root.
"""

from __future__ import annotations

import argparse
import functools
import json
import mmap
import multiprocessing
import os
import shutil
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench import virtual_network
from bench.client import make_query
from bench.processes import end_with_parent
from bench.virtual_network import VirtualNetwork
from svcdns.accelerator import bpf, layout, memory
from svcdns.accelerator.elf import read_program
from svcdns.accelerator.memory import Memory, Place
from svcdns.accelerator.protocol import AcceleratorError
from svcdns.chain.routing import DROPPED
from svcdns.serving.metrics import HitCounter, Origin

ADDRESS, PORT = "10.99.0.2", 53
NAMES: Final = ("race.default.svc.cluster.local", "other.default.svc.cluster.local")
SLOTS: Final = 4
"""The number of slots of each size that are used: one for each rotation of a reply, and one more."""
ROTATIONS: Final = 3
HEAD: Final = bytes.fromhex("8500 0001 0001 0000 0000")
COPIES: Final = {False: 18, True: 140}
"""How often a version is in a reply, by `is_large`."""


@dataclass
class Result:
    """The numbers of one run."""

    versions: int = 0
    sent: int = 0
    answered: int = 0
    older: int = 0
    mixed: int = 0
    uncounted: int = 0
    dropped: int = 0


def question(name: str) -> bytes:
    """Returns the key of a query, which is the message without its ID."""
    return make_query(name)[2:]


def reply(key: bytes, version: int, *, is_large: bool) -> bytes:
    """Returns a reply to the query `key` that consists of copies of `version`, without its ID."""
    return HEAD + key[10:] + struct.pack("<Q", version) * COPIES[is_large]


def version_of(message: bytes, key: bytes) -> int | None:
    """Returns the version in a reply, or None if the reply is mixed. `message` has no ID."""
    begin = len(HEAD) + len(key) - 10
    copies = message[begin:]
    if message[:begin] != HEAD + key[10:] or len(copies) not in {8 * count for count in COPIES.values()}:
        return None
    return int.from_bytes(copies[:8], "little") if copies == copies[:8] * (len(copies) // 8) else None


def write(descriptors: list[int], cpus: int, acknowledged: mmap.mmap, over: mmap.mmap) -> None:
    """Puts and removes versions until `over` begins with another octet than 0."""
    end_with_parent()
    memory.REST = 0.0  # type: ignore[misc]
    made = Memory(descriptors, layout.SMALL_SLOTS, layout.LARGE_SLOTS, cpus)
    for pool in made._pools:  # noqa: SLF001
        del pool.free[:-SLOTS]
    counter, other_counter = (HitCounter((), Origin(DROPPED)) for _ in range(2))
    made.place([Place(ADDRESS, PORT, 0)])
    key, other = map(question, NAMES)
    version = 0
    while not over[0]:
        made.heartbeat(time.monotonic() + 0.75)
        for _ in range(20):
            version += 1
            is_large = version % 5 == 0
            wires = [reply(key, version, is_large=is_large)] * (ROTATIONS if version % 3 == 0 else 1)
            placed = made.put(key, wires, 0, counter)
            for _ in range(version % 7 * 30):  # the reader meets the version at different moments
                pass
            if placed is not None:
                made.remove(placed)
            acknowledged[:8] = struct.pack("<Q", version)
            placed = made.put(other, [b"\xee" * (1200 if is_large else 200)], 0, other_counter)
            if placed is not None:
                made.remove(placed)
    made.stop()


def read(sock: socket.socket, acknowledged: mmap.mmap, seconds: float) -> Result:
    """Sends queries one at a time, and checks each reply. The kernel has the reply when `send` returns."""
    result, key = Result(), question(NAMES[0])
    end, last = time.monotonic() + seconds, 0
    sock.setblocking(False)
    while time.monotonic() < end:
        ident = os.urandom(2)
        removed = int.from_bytes(acknowledged[:8], "little")
        result.sent += 1
        try:
            sock.send(ident + key)
            message = sock.recv(4096)
        except OSError:  # the packet was passed on, and no process listens
            continue
        result.answered += 1
        version = version_of(message[2:], key)
        if version is None or message[:2] != ident:
            result.mixed += 1
            continue
        result.older += version <= removed or version < last
        last = version
    return result


@contextmanager
def attached(network: VirtualNetwork, cpus: int) -> Iterator[dict[str, int]]:
    """Context manager with the accelerator's program at the Pod's interface. Yields the descriptors of its maps."""
    with ExitStack() as stack:
        maps = {}
        for name, (size, elements) in layout.program_shapes(layout.SMALL_SLOTS, layout.LARGE_SLOTS, cpus).items():
            maps[name] = bpf.create_map(name, size, elements)
            stack.callback(os.close, maps[name])
        program = bpf.load_program(
            read_program(Path(bpf.__file__).with_name("answers.bpf.o").read_bytes(), "tcx"), maps
        )
        stack.callback(os.close, program)
        link = network["pod"].inside(lambda: bpf.attach(program, socket.if_nametoindex("eth0")))
        stack.callback(os.close, link)
        yield maps


@functools.cache
def why_unavailable() -> str:
    """Returns the reason why this process cannot use the accelerator, or an empty text if it can."""
    if not shutil.which("setpriv"):
        return "no setpriv in PATH"
    if reason := virtual_network.why_unavailable():
        return reason
    try:
        with VirtualNetwork("pod", "node") as network:
            network.join("pod", "eth0", "node", "veth0")
            with attached(network, os.cpu_count() or 1):
                return ""
    except (OSError, AcceleratorError) as error:
        return f"this machine does not permit programs for the kernel: {error}"


def count(descriptor: int, cpus: int) -> tuple[int, int]:
    """Returns the replies and the dropped queries that the program has counted."""
    size = -(-cpus * layout.COUNT_SIZE // mmap.PAGESIZE) * mmap.PAGESIZE
    with mmap.mmap(descriptor, size) as counts:
        words = struct.unpack_from(f"<{cpus * layout.COUNT_WORDS}Q", counts)
    hits = dropped = 0
    for cpu in range(cpus):
        at = cpu * layout.COUNT_WORDS
        hits += sum(words[at + len(layout.COUNTERS) : at + layout.COUNT_WORDS])
        dropped += words[at + layout.COUNTERS.index("torn")]
    return hits, dropped


def race(seconds: float) -> Result:
    """Runs writer and reader for `seconds`."""
    cpus = os.cpu_count() or 1
    with VirtualNetwork("pod", "node") as network:
        network.join("pod", "eth0", "node", "veth0", left_addresses=[f"{ADDRESS}/24"], right_addresses=["10.99.0.1/24"])
        with attached(network, cpus) as maps, network["node"].socket() as sock:
            sock.connect((ADDRESS, PORT))
            acknowledged, over = mmap.mmap(-1, mmap.PAGESIZE), mmap.mmap(-1, mmap.PAGESIZE)
            descriptors = [maps[name] for name in layout.MAPS]
            arguments = (descriptors, cpus, acknowledged, over)
            writer = multiprocessing.get_context("fork").Process(target=write, args=arguments)
            writer.start()
            try:
                result = read(sock, acknowledged, seconds)
            finally:
                over[0] = 1
                writer.join(10)
            result.versions = int.from_bytes(acknowledged[:8], "little")
            hits, result.dropped = count(maps["counts"], cpus)
            result.uncounted = abs(hits - result.answered)
    return result


def main() -> int:
    """Runs the race, and prints its numbers. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.accelerator_race")
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    if reason := why_unavailable():
        print(f"bench: {reason}", file=sys.stderr)
        return 2
    result = race(options.seconds)
    print(json.dumps(asdict(result)))
    return 1 if result.older or result.mixed or result.uncounted or not result.answered else 0


if __name__ == "__main__":
    sys.exit(main())
