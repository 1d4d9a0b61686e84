"""Starts the servers of `bench.accelerator`, each at its interface, and measures the core on which they run."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from bench import dnsperf, pacing
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Load
from bench.pacing import Pace
from bench.processes import free_ports, kill_tree, spawn, until
from bench.servers import Cores, Server, ServerGroup
from bench.virtual_network import VirtualNetwork
from svcdns.accelerator import bpf, elf
from svcdns.accelerator.layout import COUNT_SIZE, COUNT_WORDS, COUNTERS, PLACE, STATE, STATE_SIZE

OURS, WITHOUT, ECHO = "svcdns", "without", "echo"
INTERFACES: Final = {OURS: 0, ECHO: 2}
"""The number of a server's interface. Servers that are not named here share interface 1."""
CAPABILITIES: Final = ("setpriv", "--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all", "--no-new-privs")
PROGRAM: Final = Path(__file__).with_name("echo.bpf.o")
STATISTICS: Final = Path("/proc/sys/kernel/bpf_stats_enabled")
_PROG_GET_FD_BY_ID, _MAP_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD = 13, 14, 15
_INFO_SIZE: Final = 64
"""The octets of `struct bpf_prog_info` up to its list of maps."""
_MAPS: Final = 16
_FOREVER: Final = 2**63 - 1


@dataclass(frozen=True)
class Busy:
    """A moment: the seconds that a core was not idle since the machine started, and the clock."""

    busy: float
    clock: float


class Core:
    """Measures the CPU time of a core, with software interrupts. `rest` is the share that it uses at rest.

    The idle time comes from /proc/timer_list, in nanoseconds: /proc/stat counts in steps of 10 ms.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.rest = 0.0

    def now(self) -> Busy:
        """Returns the present moment."""
        text = Path("/proc/timer_list").read_text()
        (clock,) = re.findall(r"^now at (\d+) nsecs$", text, re.MULTILINE)
        (core,) = re.findall(rf"^cpu: {self._number}\n(.*?)(?:^cpu: |\Z)", text, re.MULTILINE | re.DOTALL)
        times = {name: int(value) for name, value in re.findall(r"\.(idle_\w+) *: (\d+) nsecs", core)}
        began, ended = times["idle_entrytime"], times["idle_exittime"]
        idle = times["idle_sleeptime"] + (max(0, int(clock) - began) if began > ended else 0)
        line = next(one for one in Path("/proc/stat").read_text().splitlines() if one.startswith(f"cpu{self._number} "))
        stolen = int(line.split()[8]) / os.sysconf("SC_CLK_TCK")
        return Busy(int(clock) / 1e9 - idle / 1e9 - stolen, int(clock) / 1e9)

    def since(self, begin: Busy) -> float:
        """Returns the seconds that the core was busy since `begin`, less the seconds at rest."""
        end = self.now()
        return end.busy - begin.busy - self.rest * (end.clock - begin.clock)

    def measure_rest(self, seconds: float) -> None:
        """Sets `rest` from the next `seconds`."""
        self.rest = 0.0
        begin = self.now()
        time.sleep(seconds)
        self.rest = self.since(begin) / seconds


@dataclass(frozen=True)
class Measured:
    """A server under measurement. `server` is None for `echo`."""

    name: str
    port: int
    server: Server | None

    @property
    def address(self) -> str:
        """Returns the address to which clients send."""
        return f"10.99.{INTERFACES.get(self.name, 1)}.2"


class Servers:
    """All servers, in the namespace `server`, and their clients' namespace. A context manager.

    The calling thread must be in the namespace `server`.
    """

    def __init__(self, network: VirtualNetwork, cluster: Cluster, names: Sequence[str], cores: Cores) -> None:
        self.client, self._namespace, self.cores = network["client"], network["server"], cores
        self.core = Core(cores.server[0])
        self.measured: dict[str, Measured] = {}
        self.helper: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="svcdns-accelerator-")))
        try:
            for name in names:
                self._start(name, cluster)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, name: str, cluster: Cluster) -> None:
        if name == ECHO:
            self.measured[name] = Measured(name, self._start_echo(), None)
            return
        program = "svcdns" if name == WITHOUT else name
        prefix: tuple[str, ...] = ()
        if name == OURS:
            self.helper = self._start_helper()
            prefix = ("env", "SVCDNS_ACCELERATOR=@svcdns-accelerator")
        addresses = ("127.0.0.1", "10.99.1.2")
        group = self._stack.enter_context(
            ServerGroup(cluster, [program], self.cores, prefix=prefix, addresses=addresses)
        )
        server = group.servers[program]
        if name == OURS:
            try:
                until("the accelerator", lambda: server.metric("svcdns_accelerator_up") == 1, 30, 0.1)
            except TimeoutError as error:
                raise BrokenError(f"{error}: {self.helper_log()}; {server.log()}") from error
        self.measured[name] = Measured(name, server.port, server)

    def _start_helper(self) -> subprocess.Popen[bytes]:
        command = [*CAPABILITIES, sys.executable, "-m", "svcdns", "accelerate", "--interface", "eth0"]
        with (self.folder / "helper.log").open("wb") as log:
            helper = spawn(self._namespace.command(*command), self.cores.client, stdout=log, stderr=log)
        self._stack.callback(kill_tree, helper)
        return helper

    def helper_log(self) -> str:
        """Returns what `svcdns accelerate` has printed."""
        return (self.folder / "helper.log").read_text(errors="replace").strip()[-1000:]

    def _start_echo(self) -> int:
        """Attaches the program that sends queries back. Returns its port."""
        (port,) = free_ports(1)
        state = bpf.create_map("echo", STATE_SIZE, 1)
        program = bpf.load_program(elf.read_program(PROGRAM.read_bytes(), "tcx"), {"state": state})
        link = bpf.attach(program, socket.if_nametoindex("eth2"))
        for descriptor in (state, program, link):
            self._stack.callback(os.close, descriptor)
        place = PLACE.pack(socket.inet_aton("10.99.2.2"), socket.htons(port), 4, 0)
        with mmap.mmap(state, mmap.PAGESIZE) as memory:
            memory[: STATE.size + PLACE.size] = STATE.pack(_FOREVER, 0, 1) + place
        return port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- loads

    def run_load(self, measured: Measured, path: Path, seconds: float) -> dnsperf.Figures:
        """Sends queries as fast as replies arrive, for `seconds`. With 0, sends each query in the file once."""
        load = Load(int(seconds), address=measured.address)
        return self._run_dnsperf(load, measured, path)

    def _run_dnsperf(self, load: Load, measured: Measured, path: Path) -> dnsperf.Figures:
        command = self.client.command(*load.command(measured.port, path))
        process = spawn(command, self.cores.client, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=load.seconds + 120)
        return dnsperf.parse_summary(output.decode())

    def run_pace(self, measured: Measured, path: Path, rate: int, seconds: float) -> pacing.Figures:
        """Sends one query at a time, at even intervals."""
        program = pacing.compiled("pace", self.folder)
        command = Pace(rate, seconds).command(program, measured.port, path, measured.address)
        return pacing.finish(spawn(self.client.command(*command), self.cores.client, stdout=subprocess.PIPE))

    def replies_from_the_kernel(self) -> int:
        """Returns the number of replies that the program has sent, from its own counters."""
        program = self._program()
        numbers = (ctypes.c_uint32 * _MAPS)()
        info = ctypes.create_string_buffer(struct.pack("<52xIQ", _MAPS, ctypes.addressof(numbers)), _INFO_SIZE)
        try:
            _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", program, _INFO_SIZE, ctypes.addressof(info)))
        finally:
            os.close(program)
        (count,) = struct.unpack_from("<I", info, 52)
        return sum(map(_hits, numbers[:count]))

    def program_statistics(self) -> tuple[int, int]:
        """Returns the nanoseconds that the accelerator's program has run, and the number of packets.

        The kernel counts them only while `bpf_stats_enabled` is 1.
        """
        program = self._program()
        try:
            fields = _fields(Path(f"/proc/self/fdinfo/{program}"))
        finally:
            os.close(program)
        return int(fields["run_time_ns"]), int(fields["run_cnt"])

    def _program(self) -> int:
        """Returns a descriptor of the program that `svcdns accelerate` has attached."""
        assert self.helper is not None
        for entry in Path(f"/proc/{self.helper.pid}/fdinfo").iterdir():
            fields = _fields(entry)
            if fields.get("link_type") == "tcx":
                return _bpf(_PROG_GET_FD_BY_ID, struct.pack("<3I", int(fields["prog_id"]), 0, 0))
        raise BrokenError("svcdns accelerate holds no link")


def _fields(path: Path) -> dict[str, str]:
    """Returns the fields of a file in /proc/PID/fdinfo."""
    return dict(re.findall(r"^(\w+):\s+(\S+)$", path.read_text(), re.MULTILINE))


def _hits(number: int) -> int:
    """Returns the replies that the map with this number has counted; 0 if it is another map."""
    descriptor = _bpf(_MAP_GET_FD_BY_ID, struct.pack("<3I", number, 0, 0))
    try:
        fields = _fields(Path(f"/proc/self/fdinfo/{descriptor}"))
        if int(fields["value_size"]) != COUNT_SIZE:
            return 0
        cpus = int(fields["max_entries"])
        with mmap.mmap(descriptor, -(-cpus * COUNT_SIZE // mmap.PAGESIZE) * mmap.PAGESIZE) as counts:
            words = struct.unpack_from(f"<{cpus * COUNT_WORDS}Q", counts)
    finally:
        os.close(descriptor)
    return sum(sum(words[at + len(COUNTERS) : at + COUNT_WORDS]) for at in range(0, len(words), COUNT_WORDS))


def _bpf(command: int, attributes: bytes) -> int:
    """Calls bpf(2) and returns its result. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(bpf.NUMBERS[platform.machine()], command, attributes, len(attributes))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def make_network() -> VirtualNetwork:
    """Returns the namespaces `server` and `client`, with three pairs of interfaces between them."""
    network = VirtualNetwork("server", "client")
    for number in range(3):
        network.join(
            "server", f"eth{number}", "client", f"veth{number}",
            left_addresses=[f"10.99.{number}.2/24"], right_addresses=[f"10.99.{number}.1/24"],
        )  # fmt: skip
    return network


def spread(network: VirtualNetwork, cores: Cores) -> None:
    """Makes each namespace receive packets on its own core, as the interrupts of a network card are spread."""
    for number in range(3):
        network["server"].receive_on(f"eth{number}", cores.server[0])
        network["client"].receive_on(f"veth{number}", cores.client[0])
