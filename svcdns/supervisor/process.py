"""The supervisor's loop: children, sockets, signals, and the order of a stop (spec L9).

It knows what processes there are, and nothing of DNS, Corefiles or clusters. Control says how many workers there are to be and where to
listen; every word that comes in is from a child of its own."""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from svcdns.supervisor.children import Child, keep_on_processor
from svcdns.supervisor.sockets import ListenError, Listening, Sockets
from svcdns.telemetry import shared
from svcdns.telemetry.channel import ChannelClosedError, Message
from svcdns.telemetry.shared import State

TICK: Final = 0.25
GAP: Final = 1.0
"""Seconds between two ticks after which the supervisor must have been stopped itself."""
DRAIN: Final = 7.0
"""Seconds that workers have to drain."""
FAREWELL: Final = 2.0
"""Seconds that control has to end."""
_HANDLED: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


class _ExitError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Supervisor:
    """Keeps control and workers alive until told to stop."""

    def __init__(self, control_arguments: list[str], *, pin: bool = False) -> None:
        """`control_arguments` are given to control as they are; `pin` keeps each worker on a processor of its own."""
        self._pin = pin
        self._shared = shared.make()
        os.set_inheritable(self._shared, True)
        self._regions = shared.regions(self._shared)
        self._control = Child("control", ["svcdns.control", *control_arguments], self._regions[shared.CONTROL], self._shared)
        self._workers: list[Child] = []
        self._wanted = 0
        self._sockets = Sockets(say)
        self._addresses: list[tuple[str, int]] = []
        self._covered: dict[int, int] = {}
        self._served = False
        self._stopping = self._draining = self._leaving = False
        self._interrupted = False
        self._deadline = 0.0
        self._signals: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._awake_since = self._last_tick = time.monotonic()

    def run(self) -> int:
        """Runs until a stop is through; the exit code."""
        self._catch_signals()
        try:
            self._start(self._control)
            self._set_workers(1)  # there is always one, and it takes as long to start as control does
            while True:
                self._turn()
        except _ExitError as end:
            for child in (*self._workers, self._control):
                child.kill()
            return end.code

    # -- the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(TICK):
            if key.data is None:
                self._wakeup.recv(4096)
            else:
                self._read(key.data)
        while self._signals:
            self._signalled(self._signals.pop(0))
        self._reap()
        self._tick(time.monotonic())

    def _catch_signals(self) -> None:
        self._wakeup, waker = socket.socketpair()
        self._wakeup.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, lambda caught, _frame: self._signals.append(caught))
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)

    def _signalled(self, number: int) -> None:
        if number == signal.SIGTERM:
            say("[INFO] SIGTERM: Shutting down servers then terminating")
            self._stop("SIGTERM")
        elif number == signal.SIGINT:
            if self._interrupted:
                raise _ExitError(2)
            self._interrupted = True
            say("[INFO] SIGINT: Shutting down")
            self._stop("SIGINT")
        elif number == signal.SIGQUIT:
            say("[INFO] SIGQUIT: Quitting process immediately")
            raise _ExitError(0)
        elif number == signal.SIGUSR1:
            say("[INFO] SIGUSR1: Reloading")
            self._control.send({"op": "reload"})
        elif number == signal.SIGUSR2:
            say("[WARNING] SIGUSR2: an upgrade in place is not built yet; nothing was done")

    def _tick(self, now: float) -> None:
        if now - self._last_tick > GAP:
            self._awake_since = now
        self._last_tick = now
        for child in (self._control, *self._workers):
            if not child.running:
                if child.start_at and now >= child.start_at and not self._stopping:
                    self._start(child)
            elif child.is_silent(now, self._awake_since):
                say(f"[ERROR] {child.name} does not answer: killed, to be replaced")
                child.kill()
        for slot in [slot for slot in self._covered if self._workers[slot].state in (State.SERVING, State.SERVING_UNSYNCED)]:
            del self._covered[slot]
            self._assign()
        self._advance_stop(now)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in (self._control, *self._workers):
                if child.pid == pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    # -- children

    def _start(self, child: Child) -> None:
        child.start(time.monotonic(), *(["--again"] if child is self._control and self._served else []))
        assert child.channel is not None
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        if child is self._control:
            for slot, worker in enumerate(self._workers):
                if worker.running:
                    self._connect(slot)
        else:
            slot = self._workers.index(child)
            if self._pin:
                keep_on_processor(child.pid, slot)
            self._send_sockets([child], self._sockets.all, [])
            self._assign()
            self._connect(slot)

    def _ended(self, child: Child, code: int) -> None:
        if child.channel is not None:
            self._read(child)
        if child.channel is not None:
            self._selector.unregister(child.channel)
        child.died(time.monotonic())
        if child is self._control and not self._served:
            raise _ExitError(1 if code == 0 else abs(code))
        if not self._stopping:
            reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            say(f"[ERROR] {child.name} ended ({reason}): starting it again")
        if child is not self._control and not self._draining:
            self._cover(self._workers.index(child))

    def _connect(self, slot: int) -> None:
        """A fresh feed between control and a worker."""
        if not self._control.running:
            return
        to_worker, to_control = socket.socketpair()
        self._workers[slot].send({"op": "feed"}, [to_worker.fileno()])
        self._control.send({"op": "worker", "slot": slot}, [to_control.fileno()])
        to_worker.close()
        to_control.close()

    def _cover(self, slot: int) -> None:
        """Lets another worker read the sockets of one that is down."""
        others = [other for other, worker in enumerate(self._workers) if worker.running and other not in self._covered and other != slot]
        if others:
            self._covered[slot] = others[slot % len(others)]
            self._assign()

    def _assign(self) -> None:
        for slot, worker in enumerate(self._workers):
            if worker.running:
                mine = [slot] if not self._draining else []
                worker.send({"op": "read", "slots": mine + [down for down, cover in self._covered.items() if cover == slot]})

    # -- what control says

    def _read(self, child: Child) -> None:
        if child.channel is None:
            return
        try:
            messages = child.channel.receive()
        except ChannelClosedError:
            if child.channel in self._selector.get_map():
                self._selector.unregister(child.channel)
                child.channel.close()
                child.channel = None
            return
        for message in messages:
            self._told(message)

    def _told(self, message: Message) -> None:
        match message["op"]:
            case "workers":
                self._set_workers(message["count"])
            case "listen":
                self._listen([(host, port) for host, port in message["addresses"]])
            case "fatal":
                raise _ExitError(message["code"])
            case "stopping-done":
                self._drain_workers()

    def _set_workers(self, count: int) -> None:
        self._wanted = count
        while len(self._workers) < count:
            slot = len(self._workers)
            region = self._regions[slot + 1]
            self._workers.append(Child(f"worker {slot}", ["svcdns.serving", "--slot", str(slot)], region, self._shared))
            self._start(self._workers[slot])

    def _listen(self, addresses: list[tuple[str, int]]) -> None:
        try:
            added, removed = self._sockets.change(addresses, max(1, len(self._workers)))
        except ListenError as error:
            self._control.send({"op": "listening", "ok": False, "error": str(error)})
            return
        self._addresses = addresses
        self._send_sockets(self._workers, added, removed)
        self._sockets.close(removed)
        self._served = True
        self._control.send({"op": "listening", "ok": True})

    @staticmethod
    def _send_sockets(workers: list[Child], added: list[Listening], removed: list[Listening]) -> None:
        gone = [one.id for one in removed]
        for worker in workers:
            for start in range(0, max(1, len(added)), 200):
                part = added[start : start + 200]
                message: dict[str, Any] = {"op": "sockets", "add": [one.described() for one in part], "remove": gone}
                worker.send(message, [one.sock.fileno() for one in part])

    # -- stopping

    def _stop(self, name: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._control.running:
            self._control.send({"op": "stop", "signal": name})
        else:
            self._drain_workers()

    def _drain_workers(self) -> None:
        if not self._draining:
            self._draining = True
            self._deadline = time.monotonic() + DRAIN
            for worker in self._workers:
                worker.send({"op": "drain"})

    def _advance_stop(self, now: float) -> None:
        if not self._stopping:
            return
        if not self._draining:
            if not self._control.running:
                self._drain_workers()
            return
        alive = [worker for worker in self._workers if worker.running]
        if alive:
            if now > self._deadline:
                for worker in alive:
                    worker.kill()
            return
        if not self._leaving:
            self._leaving = True
            self._deadline = now + FAREWELL
            self._control.send({"op": "exit"})
        if not self._control.running or now > self._deadline:
            raise _ExitError(0)


def say(line: str) -> None:
    """Writes a log line if standard output takes it; a reader that does not read must not hold the supervisor up."""
    try:
        if select.select([], [1], [], 0)[1]:
            os.write(1, line.encode() + b"\n")
    except OSError:
        return


def run(control_arguments: list[str], pidfile: str | None = None, *, pin: bool = False) -> int:
    """Runs the program; the exit code. `pidfile` gets the process id; `pin` keeps each worker on a processor of its own."""
    if pidfile:
        try:
            with open(pidfile, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            sys.stderr.write(f"cannot write the pidfile {pidfile}: {error.strerror}\n")
            return 1
    return Supervisor(control_arguments, pin=pin).run()
